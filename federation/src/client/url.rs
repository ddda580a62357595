//! Addresses of bundle endpoints.

use std::{fmt, str::FromStr, sync::Arc};

use url::{Host, Url};

/// Most bytes of an address: those of a redirect come from afar.
pub(super) const MAX_URL: usize = 2048;

/// The address of a bundle endpoint: `https`, a host, no user (§5.2.1.1, §5.2.2.1). Told as it was
/// written: whoever compares it with what they have sent finds no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUrl(Arc<Written>);

#[derive(Debug, PartialEq, Eq)]
struct Written {
    url: Url,
    text: String,
}

/// What is wrong with the address of a bundle endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It names no host.
    #[error("bundle endpoint URL must specify a host")]
    NoHost,
    /// It is none, or too long.
    #[error("bundle endpoint URL is not valid: {0}")]
    NotUrl(String),
    /// Another scheme.
    #[error("bundle endpoint URL must use the https scheme, not {0:?}")]
    Scheme(String),
    /// It has a name or a password in it.
    #[error("bundle endpoint URL must not contain user info")]
    UserInfo,
}

impl FromStr for EndpointUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL {
            return Err(UrlError::NotUrl(format!("longer than {MAX_URL} bytes")));
        }
        // They would be left out without a word.
        if text.contains(|one: char| one.is_ascii_control() || one == ' ') {
            return Err(UrlError::NotUrl("it has spaces in it".into()));
        }
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::EmptyHost => UrlError::NoHost,
            error => UrlError::NotUrl(error.to_string()),
        })?;
        let url = checked(url)?;
        // Browsers look for a host behind any number of slashes.
        let behind = text.get("https:".len()..).unwrap_or_default();
        let host = behind.strip_prefix("//").unwrap_or_default();
        if host.is_empty() || host.starts_with(['/', '\\']) {
            return Err(UrlError::NoHost);
        }
        let text = text.to_owned();
        Ok(Self(Arc::new(Written { url, text })))
    }
}

fn checked(url: Url) -> Result<Url, UrlError> {
    if url.scheme() != "https" {
        return Err(UrlError::Scheme(url.scheme().into()));
    }
    if url.host().is_none() {
        return Err(UrlError::NoHost);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::UserInfo);
    }
    Ok(url)
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.text.fmt(f)
    }
}

impl EndpointUrl {
    /// Another document of the same endpoint.
    ///
    /// # Errors
    /// When that is no address.
    pub fn with_path(&self, path: &str) -> Result<Self, UrlError> {
        self.join(path)
    }

    /// Host and port to connect to.
    pub(super) fn address(&self) -> (String, u16) {
        let host = match self.0.url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        (host, self.0.url.port_or_known_default().unwrap_or(443))
    }

    /// Where a redirect leads.
    pub(super) fn join(&self, location: &str) -> Result<Self, UrlError> {
        let joined = self.0.url.join(location);
        let joined = joined.map_err(|error| UrlError::NotUrl(error.to_string()))?;
        joined.as_str().parse()
    }

    /// What is asked for: path and query.
    pub(super) fn target(&self) -> String {
        let mut target = self.0.url.path().to_owned();
        if let Some(query) = self.0.url.query() {
            target.push('?');
            target.push_str(query);
        }
        target
    }

    /// Whom it is asked of, as it stands in `Host`.
    pub(super) fn host(&self) -> &str {
        &self.0.url[url::Position::BeforeHost..url::Position::AfterPort]
    }
}
