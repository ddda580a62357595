//! Values as they are written on a command line. What is malformed is refused there, with the exit code
//! of a wrong command line and before anything is asked.

use sekisho_certs::{
    TrustDomain,
    id::{id_below, parse_trust_domain, parse_workload_id},
};
use sekisho_spire_api::types;

use crate::cli::duration;

/// A SPIFFE ID: whole, or a path below the site.
#[derive(Clone, Debug)]
pub(crate) struct Id(String);

/// Reads an ID.
pub(crate) fn id(text: &str) -> Result<Id, String> {
    let expected = "expected a whole SPIFFE ID, or a path below the site as in /node/local";
    if !text.starts_with('/') {
        parse_workload_id(text).map_err(|error| format!("{error}; {expected}"))?;
    } else {
        // Whose site it is only the authority says; the path is right or wrong without it.
        let anybody = parse_trust_domain("site").map_err(|error| error.to_string())?;
        id_below(&anybody, text).map_err(|_| format!("no path of a SPIFFE ID; {expected}"))?;
    }
    Ok(Id(text.into()))
}

impl Id {
    /// The ID at this site.
    ///
    /// # Errors
    /// When it is too long with the name of the site before it.
    pub(crate) fn at(&self, site: &TrustDomain) -> anyhow::Result<types::Spiffeid> {
        let whole = if self.0.starts_with('/') {
            id_below(site, &self.0)?
        } else {
            parse_workload_id(&self.0)?
        };
        Ok(types::Spiffeid {
            trust_domain: whole.trust_domain().to_string(),
            path: whole.path().into(),
        })
    }

    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads a whole ID, of any trust domain.
pub(crate) fn whole_id(text: &str) -> Result<String, String> {
    let parsed = parse_workload_id(text).map_err(|error| error.to_string())?;
    Ok(parsed.to_string())
}

/// Reads the name of a trust domain: bare, or as `spiffe://NAME`.
pub(crate) fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    let name = text.strip_prefix("spiffe://").unwrap_or(text);
    parse_trust_domain(name).map_err(|error| error.to_string())
}

/// Reads whose bundles an entry gets: a trust domain, or `*` for all.
pub(crate) fn federated(text: &str) -> Result<String, String> {
    match text {
        "*" => Ok("*".into()),
        name => trust_domain(name).map(|domain| domain.to_string()),
    }
}

/// Reads a selector.
pub(crate) fn selector(text: &str) -> Result<types::Selector, String> {
    match text.split_once(':') {
        Some((kind, value)) if !kind.is_empty() && !value.is_empty() => Ok(types::Selector {
            r#type: kind.into(),
            value: value.into(),
        }),
        _ => Err("expected TYPE:VALUE, as in unix:uid:1000".into()),
    }
}

/// Reads a time in whole seconds: SPIRE's API has no shorter ones.
pub(crate) fn seconds(text: &str) -> Result<i32, String> {
    let time = duration(text)?;
    if time.subsec_nanos() != 0 {
        return Err("expected whole seconds, as in 30s or 1h: the authority knows no less".into());
    }
    i32::try_from(time.as_secs()).map_err(|_| format!("expected at most {}s", i32::MAX))
}

/// Reads a word that is not empty.
pub(crate) fn word(text: &str) -> Result<String, String> {
    match text {
        "" => Err("expected something".into()),
        text => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_whole_or_a_path() {
        let site = parse_trust_domain("a.example").unwrap();
        for (text, domain) in [
            ("/node/local", "a.example"),
            ("spiffe://b.example/w", "b.example"),
        ] {
            let read = id(text).unwrap().at(&site).unwrap();
            assert_eq!(read.trust_domain, domain, "{text}");
        }
        for text in [
            "",
            "w",
            "/",
            "//w",
            "/w/",
            "/../w",
            "spiffe://a.example",
            "SPIFFE://a/w",
        ] {
            assert!(id(text).unwrap_err().contains("/node/local"), "{text}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("0s"), Ok(0));
        assert!(seconds("500ms").unwrap_err().contains("whole seconds"));
        assert!(seconds("1s1ms").unwrap_err().contains("whole seconds"));
        assert!(seconds("100000d").unwrap_err().contains("at most"));
        assert!(seconds("5").unwrap_err().contains("unit"));
    }

    #[test]
    fn a_trust_domain_may_have_its_scheme() {
        for text in ["b.example", "spiffe://b.example"] {
            assert_eq!(trust_domain(text).unwrap().as_str(), "b.example");
        }
        for text in ["", "B.example", "spiffe://b.example/w", "*"] {
            trust_domain(text).unwrap_err();
        }
        assert_eq!(federated("*"), Ok("*".into()));
    }

    #[test]
    fn a_selector_has_a_type_and_a_value() {
        let read = selector("unix:uid:1").unwrap();
        assert_eq!(
            (read.r#type.as_str(), read.value.as_str()),
            ("unix", "uid:1")
        );
        for text in ["unix", ":uid", "unix:", ""] {
            selector(text).unwrap_err();
        }
    }
}
