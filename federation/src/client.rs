//! A client of SPIFFE bundle endpoints (SPIFFE_Federation.md §5), both profiles.

#[cfg(test)]
mod tests;
mod tls;

use std::{fmt, io, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName};
use sekisho_certs::{BundleError, Clock, SpiffeId, TrustBundle, TrustDomain};
use tokio::{net::TcpStream, task::AbortHandle};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Most bytes of an answer.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of an address: those of a redirect come from afar.
const MAX_URL: usize = 2048;
/// Redirects that are followed, one after another.
const REDIRECTS: usize = 10;
/// Most bytes of the head of an answer.
const HEAD: usize = 64 * 1024;
/// How long everything may take, redirects included, where nothing else is said.
pub const DEADLINE: Duration = Duration::from_secs(30);

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
    /// Host and port to connect to.
    fn address(&self) -> (String, u16) {
        let host = match self.0.url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        (host, self.0.url.port_or_known_default().unwrap_or(443))
    }

    /// Where a redirect leads.
    fn join(&self, location: &str) -> Result<Self, UrlError> {
        let joined = self.0.url.join(location);
        let joined = joined.map_err(|error| UrlError::NotUrl(error.to_string()))?;
        joined.as_str().parse()
    }
}

/// How an endpoint proves who it is. Never found out from anything else: an administrator says it.
#[derive(Clone, Debug)]
pub enum Profile {
    /// `https_spiffe` (§5.2.2): by an X.509-SVID with exactly this ID.
    Spiffe {
        /// The endpoint's.
        id: SpiffeId,
        /// Of the trust domain of that ID, which need not be the one that is asked for.
        bundle: Arc<TrustBundle>,
    },
    /// `https_web` (§5.2.1): by a certificate of the web's PKI for its host name.
    Web,
}

/// Whose word counts for `https_web`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WebRoots {
    /// These.
    Given(Vec<CertificateDer<'static>>),
    /// Those of the host, read anew for each fetch: `SSL_CERT_FILE` and `SSL_CERT_DIR` where they
    /// are set, else where the system keeps them.
    #[default]
    System,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// What was answered is no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It cannot be reached, or its certificate is refused.
    #[error("{url}: {error}")]
    Connect {
        /// Where.
        url: EndpointUrl,
        /// What the system says, or TLS.
        error: io::Error,
    },
    /// HTTP went wrong.
    #[error("{url}: {error}")]
    Http {
        /// Where.
        url: EndpointUrl,
        /// How.
        error: hyper::Error,
    },
    /// The roots of the web cannot be used.
    #[error("roots of the web's PKI: {0}")]
    Roots(String),
    /// It redirects to what is no address of a bundle endpoint.
    #[error("redirected to what may not be followed: {0}")]
    Redirect(#[from] UrlError),
    /// It answers with another status than 200.
    #[error("{url}: answered with {status}")]
    Status {
        /// Where.
        url: EndpointUrl,
        /// What.
        status: hyper::StatusCode,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The answer is longer than [`MAX_BYTES`], or broke off.
    #[error("{url}: {problem}")]
    TooLarge {
        /// Where.
        url: EndpointUrl,
        /// What exactly.
        problem: String,
    },
    /// It took longer than it may.
    #[error("no bundle within {0:?}")]
    TooLate(Duration),
    /// It redirects on and on.
    #[error("more than {REDIRECTS} redirects")]
    TooManyRedirects,
}

/// Fetches bundles. Every fetch is a connection of its own, without a client certificate (§5.2.1.3).
#[derive(Clone, Debug)]
pub struct Client {
    clock: Arc<dyn Clock>,
    deadline: Duration,
    provider: Arc<CryptoProvider>,
    roots: WebRoots,
}

/// Ends the task of a connection with whoever waits for its answer.
struct Ending(AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// One that verifies at the time of `clock`, and gives up after [`DEADLINE`].
    #[must_use]
    pub const fn new(
        roots: WebRoots,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            clock,
            deadline: DEADLINE,
            provider,
            roots,
        }
    }

    /// The same, which gives up after `deadline`.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// GETs the bundle of `domain`. Redirects are followed by the rules of the same profile, for
    /// `https_spiffe` to the same ID, and are forgotten afterwards (§5.2.1.4, §5.2.2.4).
    ///
    /// # Errors
    /// Each of [`FetchError`]'s variants.
    pub async fn fetch(
        &self,
        domain: &TrustDomain,
        url: &EndpointUrl,
        profile: &Profile,
    ) -> Result<TrustBundle, FetchError> {
        let body = tokio::time::timeout(self.deadline, self.get(url, profile)).await;
        let body = body.map_err(|_| FetchError::TooLate(self.deadline))??;
        Ok(TrustBundle::from_json(domain.clone(), &body)?)
    }

    async fn get(&self, url: &EndpointUrl, profile: &Profile) -> Result<Bytes, FetchError> {
        let connector = TlsConnector::from(self.tls(profile).await?);
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let (response, _ending) = ask(&connector, &url).await?;
            let status = response.status();
            if status.is_redirection()
                && let Some(location) = response.headers().get(header::LOCATION)
            {
                let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
                url = url.join(&location)?;
                continue;
            }
            if status != hyper::StatusCode::OK {
                return Err(FetchError::Status { url, status });
            }
            let body = Limited::new(response.into_body(), MAX_BYTES)
                .collect()
                .await;
            let body = body.map_err(|error| FetchError::TooLarge {
                url,
                problem: error.to_string(),
            })?;
            return Ok(body.to_bytes());
        }
        Err(FetchError::TooManyRedirects)
    }
}

async fn ask(
    connector: &TlsConnector,
    url: &EndpointUrl,
) -> Result<(Response<Incoming>, Ending), FetchError> {
    let connect = |error| FetchError::Connect {
        url: url.clone(),
        error,
    };
    let http = |error| FetchError::Http {
        url: url.clone(),
        error,
    };
    let (host, port) = url.address();
    let name = ServerName::try_from(host.clone());
    let name = name.map_err(|error| connect(io::Error::other(error)))?;
    let stream = TcpStream::connect((host, port)).await.map_err(connect)?;
    let stream = connector.connect(name, stream).await.map_err(connect)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    let ending = Ending(tokio::spawn(connection).abort_handle());
    let mut target = url.0.url.path().to_owned();
    if let Some(query) = url.0.url.query() {
        target.push('?');
        target.push_str(query);
    }
    let request = Request::get(target)
        .header(
            header::HOST,
            &url.0.url[url::Position::BeforeHost..url::Position::AfterPort],
        )
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "sekisho")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| connect(io::Error::other(error)))?;
    let response = sender.send_request(request).await.map_err(http)?;
    Ok((response, ending))
}
