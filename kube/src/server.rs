//! A kubelet or an API server: who it must be, and who we are to it.

mod verify;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use hyper::header::{HeaderValue, InvalidHeaderValue};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{
    CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName,
    pem::{self, PemObject as _},
};
use tokio::{net::TcpStream, task::spawn_blocking, time::timeout};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use self::verify::{AnyName, danger::Anybody};
use crate::{
    SERVICE_ACCOUNT,
    http::{HttpError, Question},
    material::Material,
};

/// Longest time for one answer, connection included.
pub const REQUEST: Duration = Duration::from_secs(10);

/// A server of Kubernetes. Its files are read anew for each question, since they are renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeServer {
    host: Option<String>,
    port: u16,
    /// What stands before every path; empty where nothing does.
    prefix: String,
    tls: Option<Tls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tls {
    ca: Material,
    login: KubeLogin,
    verify: bool,
}

/// Who we are to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KubeLogin {
    /// Nobody, where the kubelet allows that.
    Anonymous,
    /// A client certificate.
    Certificate {
        /// The chain, as PEM.
        certificate: Material,
        /// Its key, as PEM.
        key: Material,
    },
    /// A bearer token, with nothing but white space around it.
    Token(Material),
}

/// Why the server does not answer. No part of an answer is told.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// Nobody listens there, or the certificate is refused.
    #[error("{0} cannot be connected to")]
    Connect(String, #[source] io::Error),
    /// It took longer than [`REQUEST`].
    #[error("no answer within {} s", REQUEST.as_secs())]
    Deadline,
    /// A file of ours.
    #[error("{0} cannot be read")]
    File(PathBuf, #[source] io::Error),
    /// There is an answer that is none.
    #[error("no answer")]
    Http(#[from] HttpError),
    /// It is not JSON, or of another kind.
    #[error("the answer is not understood")]
    Json(#[source] serde_json::Error),
    /// It would lead to another path.
    #[error("no name that may be asked for")]
    Name,
    /// A file of ours, or what was given in place of one.
    #[error("{0} holds no certificate or key in PEM")]
    Pem(String, #[source] pem::Error),
    /// It cannot stand in a certificate.
    #[error("the server's name is none")]
    ServerName(#[from] InvalidDnsNameError),
    /// The program ends.
    #[error("the task was stopped")]
    Stopped,
    /// TLS cannot be set up.
    #[error("certificates or key cannot be used")]
    Tls(#[from] rustls::Error),
    /// Anything else could make two headers of one.
    #[error("the token is not one line of ASCII")]
    Token(#[from] InvalidHeaderValue),
}

impl KubeError {
    /// Whether the server has answered that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Http(HttpError::Status(status)) if *status == hyper::StatusCode::NOT_FOUND)
    }
}

impl KubeServer {
    /// The kubelet of this node: port 10250 of 127.0.0.1, with the service account's token and the
    /// cluster's CA. Any name in its certificate will do, as with SPIRE, until
    /// [`named`](Self::named).
    #[must_use]
    pub fn kubelet() -> Self {
        Self {
            host: None,
            port: 10250,
            prefix: String::new(),
            tls: Some(Tls {
                ca: Path::new(SERVICE_ACCOUNT).join("ca.crt").into(),
                login: KubeLogin::Token(Path::new(SERVICE_ACCOUNT).join("token").into()),
                verify: true,
            }),
        }
    }

    /// The kubelet's read-only port on 127.0.0.1, without TLS: whoever listens there is believed.
    #[must_use]
    pub fn kubelet_read_only(port: u16) -> Self {
        Self {
            host: None,
            port,
            prefix: String::new(),
            tls: None,
        }
    }

    /// The cluster's API server as pods see it: `kubernetes.default.svc`, port 443, with the
    /// service account's token and the cluster's CA.
    #[must_use]
    pub fn api_server() -> Self {
        Self::kubelet().named("kubernetes.default.svc").at(443)
    }

    /// Connects to this name or address, which the certificate must carry (SPIRE's `node_name`).
    #[must_use]
    pub fn named(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Connects to this port.
    #[must_use]
    pub fn at(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Puts this before every path, as in `/k8s/clusters/c-1`. Default: nothing.
    #[must_use]
    pub fn below(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Trusts these certificates, PEM, and no others. Nothing without TLS.
    #[must_use]
    pub fn with_ca(mut self, ca: impl Into<Material>) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.ca = ca.into();
        }
        self
    }

    /// Logs in so. Nothing without TLS: a token must not travel in the clear.
    #[must_use]
    pub fn with_login(mut self, login: KubeLogin) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.login = login;
        }
        self
    }

    /// Believes, and gives the token to, whoever listens there: SPIRE's
    /// `skip_kubelet_verification`. To be reachable by a deliberate act of the administrator only,
    /// and never from a file.
    #[must_use]
    pub fn dangerously_without_verification(mut self) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.verify = false;
        }
        self
    }

    /// The body of the answer to a GET of `path`, at most `limit` bytes.
    ///
    /// # Errors
    /// Each of [`KubeError`]'s variants.
    pub async fn get(&self, path: &str, limit: usize) -> Result<Bytes, KubeError> {
        timeout(REQUEST, self.exchange(path, None, limit))
            .await
            .unwrap_or(Err(KubeError::Deadline))
    }

    /// The body of the answer to a POST of this JSON to `path`, at most `limit` bytes.
    ///
    /// # Errors
    /// Each of [`KubeError`]'s variants.
    pub async fn post(
        &self,
        path: &str,
        json: Zeroizing<Vec<u8>>,
        limit: usize,
    ) -> Result<Bytes, KubeError> {
        timeout(REQUEST, self.exchange(path, Some(json), limit))
            .await
            .unwrap_or(Err(KubeError::Deadline))
    }

    async fn exchange(
        &self,
        path: &str,
        json: Option<Zeroizing<Vec<u8>>>,
        limit: usize,
    ) -> Result<Bytes, KubeError> {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        let tls = match self.tls.clone() {
            Some(tls) => {
                let any_name = self.host.is_none();
                let ready = spawn_blocking(move || tls.ready(any_name));
                Some(ready.await.map_err(|_| KubeError::Stopped)??)
            }
            None => None,
        };
        let failed = |error| KubeError::Connect(self.to_string(), error);
        let stream = TcpStream::connect((host, self.port))
            .await
            .map_err(failed)?;
        let (authority, path) = (self.to_string(), format!("{}{path}", self.prefix));
        let question = |authorization| Question {
            host: &authority,
            path: &path,
            authorization,
            json,
        };
        Ok(match tls {
            None => question(None).ask(stream, limit).await?,
            Some((config, token)) => {
                let name = ServerName::try_from(host.to_owned())?;
                let connector = TlsConnector::from(Arc::new(config));
                let stream = connector.connect(name, stream).await.map_err(failed)?;
                question(token).ask(stream, limit).await?
            }
        })
    }
}

/// Host and port, as in a URL.
impl fmt::Display for KubeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        if host.contains(':') {
            write!(f, "[{host}]:{}", self.port)
        } else {
            write!(f, "{host}:{}", self.port)
        }
    }
}

impl Tls {
    /// Reads the files.
    fn ready(&self, any_name: bool) -> Result<(ClientConfig, Option<HeaderValue>), KubeError> {
        let provider = Arc::new(sekisho_certs::tls::provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match (self.verify, any_name) {
            (false, _) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
            (true, true) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName::new(self.roots()?, provider))),
            (true, false) => builder.with_root_certificates(self.roots()?),
        };
        let mut bearer = None;
        let config = match &self.login {
            KubeLogin::Anonymous => builder.with_no_client_auth(),
            KubeLogin::Certificate { certificate, key } => {
                let chain = certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_slice(&key.read()?)
                    .map_err(|error| KubeError::Pem(key.name(), error))?;
                builder.with_client_auth_cert(chain, private)?
            }
            KubeLogin::Token(token) => {
                let text = token.read()?;
                let line = Zeroizing::new([b"Bearer ", text.trim_ascii()].concat());
                let mut value = HeaderValue::from_bytes(&line)?;
                value.set_sensitive(true);
                bearer = Some(value);
                builder.with_no_client_auth()
            }
        };
        Ok((config, bearer))
    }

    fn roots(&self) -> Result<RootCertStore, KubeError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate)?;
        }
        Ok(roots)
    }
}

fn certificates(material: &Material) -> Result<Vec<CertificateDer<'static>>, KubeError> {
    let failed = |error| KubeError::Pem(material.name(), error);
    let all: Vec<_> = CertificateDer::pem_slice_iter(&material.read()?)
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if all.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(all)
}
