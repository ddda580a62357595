//! The issuer: whom tokens name as `iss`, and below which the documents are.

use std::{fmt, str::FromStr};

use url::{Host, Url};

/// Most bytes of an issuer.
const MOST: usize = 255;

/// An `https` URL of a host, with a port and a path where it has them, and nothing else (OpenID Connect
/// Discovery 1.0 §3). Compared byte by byte, and so kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    host: String,
    path: String,
}

/// What is wrong with an issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// It is no URL, or too long.
    #[error("is no URL")]
    NotUrl,
    /// It is not written as everybody would write it.
    #[error("would be read as {0:?}: write it so, since issuers are compared byte by byte")]
    Other(String),
    /// A part that an issuer does not have.
    #[error("must be https://HOST, with a port or a path if it has one, and nothing else")]
    Part,
    /// It ends with a slash.
    #[error("must not end with a slash: the paths of the documents are put behind it")]
    Slash,
}

impl FromStr for Issuer {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, IssuerError> {
        if text.len() > MOST {
            return Err(IssuerError::NotUrl);
        }
        let url = Url::parse(text).map_err(|_| IssuerError::NotUrl)?;
        let plain = url.scheme() == "https"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let host = match url.host() {
            Some(Host::Domain(host)) if plain => host.to_owned(),
            _ => return Err(IssuerError::Part),
        };
        if text.ends_with('/') {
            return Err(IssuerError::Slash);
        }
        // An empty path is read as a slash.
        let (read, path) = (url.as_str(), url.path());
        let read = read.strip_suffix('/').unwrap_or(read);
        if read != text {
            return Err(IssuerError::Other(read.into()));
        }
        let path = path.strip_suffix('/').unwrap_or(path).into();
        Ok(Self {
            text: text.into(),
            host,
            path,
        })
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Issuer {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host, in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its path: empty, or with a slash in front and none at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_taken_as_it_is_written_or_not_at_all() {
        for (text, host, path) in [
            ("https://oidc.example.org", "oidc.example.org", ""),
            ("https://a.example:8443", "a.example", ""),
            ("https://a.example/site/b", "a.example", "/site/b"),
        ] {
            let issuer: Issuer = text.parse().unwrap();
            assert_eq!((issuer.host(), issuer.path()), (host, path));
            assert_eq!(issuer.to_string(), text);
        }
        let other = |text: &str| IssuerError::Other(text.into());
        for (text, error) in [
            ("oidc.example", IssuerError::NotUrl),
            ("http://a.example", IssuerError::Part),
            ("https://u@a.example", IssuerError::Part),
            ("https://a.example?x", IssuerError::Part),
            ("https://a.example#x", IssuerError::Part),
            ("https://127.0.0.1", IssuerError::Part),
            ("https://[::1]", IssuerError::Part),
            ("https://a.example/", IssuerError::Slash),
            ("https://A.example", other("https://a.example")),
            ("https://a.example:443", other("https://a.example")),
            ("https://a.example/./b", other("https://a.example/b")),
            ("https://a.example/b c", other("https://a.example/b%20c")),
        ] {
            assert_eq!(text.parse::<Issuer>(), Err(error), "{text}");
        }
        let long = format!("https://a.example/{}", "a".repeat(MOST));
        assert_eq!(long.parse::<Issuer>(), Err(IssuerError::NotUrl));
    }
}
