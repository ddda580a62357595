//! `policy: DIR` or `{dir: DIR, decision: NAME}`.

use std::path::PathBuf;

use sekisho_policy::DEFAULT_DECISION;

use super::{error::Report, field::Field, keys};

/// Which policy decides, and which of its rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PolicyConfig {
    /// Every `*.rego` below it.
    pub(crate) dir: PathBuf,
    /// The rule, without `data`, its segments separated by `/`. Default: `sekisho/authz/allow`.
    pub(crate) decision: String,
}

/// Reads a `policy`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<PolicyConfig> {
    if let Some(text) = field.as_text() {
        if matches!(text, "none" | "off" | "false") {
            field.rule(
                format!("a policy cannot be switched off; a folder of that name is ./{text}"),
                report,
            );
            return None;
        }
        return Some(PolicyConfig {
            dir: field.path(keys::POLICY.of, report)?,
            decision: DEFAULT_DECISION.into(),
        });
    }
    let map = field.map(&keys::POLICY, report)?;
    let dir = map
        .required("dir", "the folder of the policy", report)
        .and_then(|field| field.path("the folder of the policy", report));
    let decision = match map.get("decision") {
        Some(field) => {
            let expected = "the name of a rule, as in sekisho/authz/allow";
            field.parse(expected, report, decision)
        }
        None => Some(DEFAULT_DECISION.into()),
    };
    Some(PolicyConfig {
        dir: dir?,
        decision: decision?,
    })
}

/// `data.a.b`, `a.b` and `a/b` all become `a/b`.
fn decision(text: &str) -> Option<String> {
    let text = text.strip_prefix('/').unwrap_or(text);
    let mut segments: Vec<_> = text.split(['.', '/']).collect();
    if segments.first() == Some(&"data") {
        segments.remove(0);
    }
    let is_name = |segment: &&str| {
        let mut bytes = segment.bytes();
        bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    // A package and a rule at least.
    (segments.len() >= 2 && segments.iter().all(is_name)).then(|| segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_written_in_three_ways() {
        for text in [
            "data.envoy.authz.allow",
            "envoy.authz.allow",
            "envoy/authz/allow",
            "/data/envoy/authz/allow",
        ] {
            assert_eq!(
                decision(text).as_deref(),
                Some("envoy/authz/allow"),
                "{text}"
            );
        }
        for text in [
            "",
            "allow",
            "data.allow",
            "data",
            "a..b",
            "a/b/",
            "a.1b",
            "-a.b",
            "a b.c",
        ] {
            assert_eq!(decision(text), None, "{text}");
        }
    }
}
