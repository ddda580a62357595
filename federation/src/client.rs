//! A client of SPIFFE bundle endpoints (SPIFFE_Federation.md §5), both profiles.

#[cfg(test)]
mod tests;
mod tls;
mod url;

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName};
use sekisho_certs::{BundleError, Clock, SpiffeId, TrustBundle, TrustDomain, tls::verify_error};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::dial::{self, Spoken, Unreached};
pub use sekisho_certs::Allowed;
pub use url::{EndpointUrl, UrlError};

/// Most bytes of an answer.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Redirects that are followed, one after another.
const REDIRECTS: usize = 10;
/// Most bytes of an entity tag that is kept.
const MAX_TAG: usize = 256;
/// How long everything may take, redirects included, where nothing else is said.
pub const DEADLINE: Duration = Duration::from_secs(30);

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
    /// Its address is none that an administrator allows.
    #[error(
        "{url}: {address} is not on the public Internet, and no network in `federation.allow` has it"
    )]
    Address {
        /// Where.
        url: EndpointUrl,
        /// What its host stands for.
        address: IpAddr,
    },
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
        status: StatusCode,
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

/// What an endpoint answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A bundle, and the tag by which it can be asked whether there is another (RFC 9110 §8.8.3).
    Bundle(TrustBundle, Option<String>),
    /// The one of the tag that was asked with.
    NotModified,
}

/// Fetches bundles. Every fetch is a connection of its own, without a client certificate (§5.2.1.3).
#[derive(Clone, Debug)]
pub struct Client {
    allowed: Allowed,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    provider: Arc<CryptoProvider>,
    roots: WebRoots,
}

impl Client {
    /// One that connects to what is `allowed` only, verifies at the time of `clock`, and gives up after
    /// [`DEADLINE`].
    #[must_use]
    pub const fn new(
        roots: WebRoots,
        allowed: Allowed,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            allowed,
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
        match self.fetch_if(domain, url, profile, None).await? {
            Answer::Bundle(bundle, _) => Ok(bundle),
            // Nobody has asked whether it was.
            Answer::NotModified => Err(FetchError::Status {
                url: url.clone(),
                status: StatusCode::NOT_MODIFIED,
            }),
        }
    }

    /// The same, if there is another than that of `tag`.
    ///
    /// # Errors
    /// Each of [`FetchError`]'s variants.
    pub async fn fetch_if(
        &self,
        domain: &TrustDomain,
        url: &EndpointUrl,
        profile: &Profile,
        tag: Option<&str>,
    ) -> Result<Answer, FetchError> {
        let got = timeout(self.deadline, self.get(url, profile, tag)).await;
        let Some((body, tag)) = got.map_err(|_| FetchError::TooLate(self.deadline))?? else {
            return Ok(Answer::NotModified);
        };
        let bundle = TrustBundle::from_json(domain.clone(), &body)?;
        Ok(Answer::Bundle(bundle, tag))
    }

    /// A document of an endpoint, whatever it is.
    ///
    /// # Errors
    /// Each of [`FetchError`]'s variants but those of bundles.
    pub async fn document(
        &self,
        url: &EndpointUrl,
        profile: &Profile,
    ) -> Result<Bytes, FetchError> {
        let got = timeout(self.deadline, self.get(url, profile, None)).await;
        let got = got.map_err(|_| FetchError::TooLate(self.deadline))??;
        Ok(got.map(|(body, _)| body).unwrap_or_default())
    }

    /// The document and its tag; `None` if it is that of `tag`.
    async fn get(
        &self,
        url: &EndpointUrl,
        profile: &Profile,
        tag: Option<&str>,
    ) -> Result<Option<(Bytes, Option<String>)>, FetchError> {
        let connector = TlsConnector::from(self.tls(profile).await?);
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let (response, _spoken) = self.ask(&connector, &url, tag).await?;
            let status = response.status();
            if status == StatusCode::NOT_MODIFIED && tag.is_some() {
                return Ok(None);
            }
            if status.is_redirection()
                && let Some(location) = response.headers().get(header::LOCATION)
            {
                let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
                url = url.join(&location)?;
                continue;
            }
            if status != StatusCode::OK {
                return Err(FetchError::Status { url, status });
            }
            let tag = response.headers().get(header::ETAG);
            let tag = tag.and_then(|tag| tag.to_str().ok());
            let tag = tag.filter(|tag| tag.len() <= MAX_TAG).map(str::to_owned);
            let body = Limited::new(response.into_body(), MAX_BYTES)
                .collect()
                .await;
            let body = body.map_err(|error| FetchError::TooLarge {
                url,
                problem: error.to_string(),
            })?;
            return Ok(Some((body.to_bytes(), tag)));
        }
        Err(FetchError::TooManyRedirects)
    }

    async fn ask(
        &self,
        connector: &TlsConnector,
        url: &EndpointUrl,
        tag: Option<&str>,
    ) -> Result<(Response<Incoming>, Spoken<Empty<Bytes>>), FetchError> {
        let connect = |error| FetchError::Connect {
            url: url.clone(),
            error,
        };
        let http = |error| FetchError::Http {
            url: url.clone(),
            error,
        };
        let name = ServerName::try_from(url.address().0);
        let name = name.map_err(|error| connect(io::Error::other(error)))?;
        let (host, port) = url.address();
        let stream = dial::reach(&host, port, Some(&self.allowed)).await;
        let stream = stream.map_err(|unreached| match unreached {
            Unreached::Address(address) => FetchError::Address {
                url: url.clone(),
                address,
            },
            Unreached::Io(error) => connect(error),
        })?;
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| connect(in_our_words(error)))?;
        let mut spoken = dial::speak(stream).await.map_err(http)?;
        let mut request = Request::get(url.target())
            .header(header::HOST, url.host())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "sekisho");
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| connect(io::Error::other(error)))?;
        let response = spoken.sender.send_request(request).await.map_err(http)?;
        Ok((response, spoken))
    }
}

/// What is wrong with the endpoint's SVID, as it is said everywhere: rustls shows an error of ours by its
/// fields.
fn in_our_words(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    let why = tls.and_then(verify_error).map(ToString::to_string);
    why.map_or(error, io::Error::other)
}
