//! DNS names of an entry, by SPIRE's rules.

/// What is wrong with a DNS name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsNameError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// A label is empty or too long, or the name ends with a dot.
    #[error("a label has to have 1 to 63 characters")]
    Label,
    /// RFC 5891 §4.2.3.1.
    #[error("a label must not begin or end with a dash, nor have two in third and fourth place")]
    Dash,
    /// It is too long.
    #[error("it is longer than 253 characters")]
    TooLong,
    /// A character that a name does not have.
    #[error("letters, digits, dashes and underscores are expected")]
    Character,
    /// A star is the whole first label.
    #[error("`*` may only be the whole first label, with another behind it")]
    Wildcard,
}

/// Whether it is one: ASCII; capitals, underscores and labels such as `xn--…` pass.
pub(super) fn check(name: &str) -> Result<(), DnsNameError> {
    if name.is_empty() {
        return Err(DnsNameError::Empty);
    }
    if name.len() > 253 {
        return Err(DnsNameError::TooLong);
    }
    let rest = match name.strip_prefix('*') {
        Some(rest) => rest.strip_prefix('.').ok_or(DnsNameError::Wildcard)?,
        None => name,
    };
    rest.split('.').try_for_each(label)
}

fn label(label: &str) -> Result<(), DnsNameError> {
    if label.contains('*') {
        return Err(DnsNameError::Wildcard);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !label.bytes().all(allowed) {
        return Err(DnsNameError::Character);
    }
    if label.is_empty() || label.len() > 63 {
        return Err(DnsNameError::Label);
    }
    let in_the_middle = label.get(2..4) == Some("--") && !label.starts_with("xn");
    if label.starts_with('-') || label.ends_with('-') || in_the_middle {
        return Err(DnsNameError::Dash);
    }
    Ok(())
}
