//! SPIFFE IDs and the lists an endpoint keeps of them.

mod list;

pub use list::{IdList, IdPattern};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};

/// Most bytes of a SPIFFE ID (SPIFFE-ID §2.3).
const MAX_BYTES: usize = 2048;

/// What is wrong with an ID or a pattern written in a file or a certificate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IdError {
    /// SPIFFE-ID §2: not a SPIFFE ID.
    #[error("{0:?} is not a SPIFFE ID: {1}")]
    Invalid(String, #[source] SpiffeIdError),
    /// Scheme and trust domain must be written in lower case here.
    #[error("{0:?} must be written in lower case up to its path: {1:?}")]
    NotCanonical(String, String),
    /// X509-SVID §3.1: a workload's ID has a path.
    #[error("{0:?} has no path: only a CA may carry a bare trust domain")]
    NoPath(String),
    /// `*` stands for one or more whole segments at the end, nowhere else.
    #[error("{0:?}: `*` may only be the whole last segment, as in spiffe://site.example/kafka/*")]
    Wildcard(String),
    /// SPIFFE-ID §2.3: nobody has to accept more than 2048 bytes, and we do not.
    #[error("the SPIFFE ID has {0} bytes, at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// `/spire/…` is reserved for servers and agents.
    #[error("{0:?}: `*` never stands for /spire/…, name such an ID in full")]
    Reserved(String),
    /// A line by a mark that is none.
    #[error(transparent)]
    Mark(#[from] crate::members::MemberError),
    /// The path after a mark is none.
    #[error("{0:?}: after the mark comes a path, as in mark:hpci/kafka/*, or nothing")]
    MarkPath(String),
    /// A mark stands for many sites, whose servers and agents no line names at once.
    #[error("{0:?}: a mark never stands for /spire/…")]
    MarkReserved(String),
}

/// Parses a trust domain as written in a file: the bare lower-case name.
///
/// # Errors
/// When SPIFFE-ID §2.1 forbids it, or when it is not in lower case or carries a scheme.
pub fn parse_trust_domain(text: &str) -> Result<TrustDomain, IdError> {
    let domain = TrustDomain::new(text).map_err(|error| IdError::Invalid(text.into(), error))?;
    if domain.as_str() == text {
        Ok(domain)
    } else {
        Err(IdError::NotCanonical(text.into(), domain.as_str().into()))
    }
}

/// Parses the ID of a workload, from a file or a certificate: SPIFFE-ID §2, lower case in scheme
/// and trust domain, with a path (X509-SVID §3.1).
///
/// # Errors
/// Each of [`IdError`]'s variants but those of patterns.
pub fn parse_workload_id(text: &str) -> Result<SpiffeId, IdError> {
    let id = parse_any_id(text)?;
    if id.path().is_empty() {
        return Err(IdError::NoPath(text.into()));
    }
    Ok(id)
}

/// Parses an ID that may lack a path, as a CA's does (X509-SVID §3.2).
pub(crate) fn parse_any_id(text: &str) -> Result<SpiffeId, IdError> {
    if text.len() > MAX_BYTES {
        return Err(IdError::TooLong(text.len()));
    }
    let id = SpiffeId::new(text).map_err(|error| IdError::Invalid(text.into(), error))?;
    let canonical = id.to_string();
    if canonical == text {
        Ok(id)
    } else {
        Err(IdError::NotCanonical(text.into(), canonical))
    }
}

/// `spiffe://<trust domain><path>`, for a path from a file such as `/broker/osaka`.
///
/// # Errors
/// When the path is not one of SPIFFE-ID §2.2.
pub fn id_below(domain: &TrustDomain, path: &str) -> Result<SpiffeId, IdError> {
    parse_workload_id(&format!("spiffe://{domain}{path}"))
}

fn is_reserved(path: &str) -> bool {
    path == "/spire" || path.starts_with("/spire/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, id: &str) -> bool {
        pattern
            .parse::<IdPattern>()
            .unwrap()
            .matches(&parse_workload_id(id).unwrap())
    }

    #[test]
    fn wildcard_is_one_or_more_whole_segments() {
        assert!(matches("spiffe://c.example/*", "spiffe://c.example/a"));
        assert!(matches("spiffe://c.example/*", "spiffe://c.example/a/b"));
        assert!(matches("spiffe://c.example/k/*", "spiffe://c.example/k/b"));
        assert!(!matches("spiffe://c.example/k/*", "spiffe://c.example/k"));
        assert!(!matches(
            "spiffe://c.example/k/*",
            "spiffe://c.example/kb/c"
        ));
        assert!(!matches("spiffe://c.example/*", "spiffe://d.example/a"));
    }

    #[test]
    fn wildcard_never_reaches_servers_and_agents() {
        assert!(!matches(
            "spiffe://c.example/*",
            "spiffe://c.example/spire/server"
        ));
        assert!(matches(
            "spiffe://c.example/spire/server",
            "spiffe://c.example/spire/server"
        ));
        assert!("spiffe://c.example/spire/*".parse::<IdPattern>().is_err());
        let id = parse_workload_id("spiffe://c.example/spire/agent/x").unwrap();
        assert!(!IdList::Federated.contains(&id));
    }

    #[test]
    fn refuses_what_is_not_an_id_or_not_lower_case() {
        for text in [
            "spiffe://C.example/a",
            "SPIFFE://c.example/a",
            "spiffe://c.example",
            "spiffe://c.example/",
            "spiffe://c.example/a/",
            "spiffe://c.example//a",
            "spiffe://c.example/./a",
            "spiffe://c.example/../a",
            "spiffe://c.example/a%20b",
            "spiffe://c.example:8443/a",
            "spiffe://me@c.example/a",
            "spiffe://c.example/a?b",
            "spiffe://c.example/a#b",
            "spiffe:///a",
            "https://c.example/a",
            "spiffe://c.example/a*",
            "spiffe://*/a",
            "spiffe://c.example/*/a",
            "",
        ] {
            assert!(text.parse::<IdPattern>().is_err(), "{text}");
        }
    }
}
