//! A kubelet or an API server: who it must be, and who we are to it.

mod verify;

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
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
use crate::workload::http::{self, HttpError};

/// Longest time for one answer, connection included.
pub(super) const REQUEST: Duration = Duration::from_secs(10);
/// Longest file with certificates, key or token.
const MAX_FILE: u64 = 1024 * 1024;
/// Where a pod finds what it needs to talk to its cluster.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A server of Kubernetes. Its files are read anew for each question, since they are renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeServer {
    host: Option<String>,
    port: u16,
    tls: Option<Tls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tls {
    ca: PathBuf,
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
        certificate: PathBuf,
        /// Its key, as PEM.
        key: PathBuf,
    },
    /// A bearer token, alone in this file.
    Token(PathBuf),
}

/// Why the server does not answer. No part of an answer is told.
#[derive(Debug, thiserror::Error)]
pub(in crate::workload) enum KubeError {
    #[error("{0} cannot be connected to")]
    Connect(String, #[source] io::Error),
    #[error("no answer within {} s", REQUEST.as_secs())]
    Deadline,
    #[error("{0} cannot be read")]
    File(PathBuf, #[source] io::Error),
    #[error("no answer")]
    Http(#[from] HttpError),
    #[error("the answer is not understood")]
    Json(#[source] serde_json::Error),
    #[error("no name that may be asked for")]
    Name,
    #[error("{0} holds no certificate or key in PEM")]
    Pem(PathBuf, #[source] pem::Error),
    #[error("the server's name is none")]
    ServerName(#[from] InvalidDnsNameError),
    #[error("the task was stopped")]
    Stopped,
    #[error("certificates or key cannot be used")]
    Tls(#[from] rustls::Error),
    #[error("the token is not one line of ASCII")]
    Token(#[from] InvalidHeaderValue),
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
            tls: Some(Tls {
                ca: Path::new(SERVICE_ACCOUNT).join("ca.crt"),
                login: KubeLogin::Token(Path::new(SERVICE_ACCOUNT).join("token")),
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

    /// Trusts the certificates in this PEM file and no others. Nothing without TLS.
    #[must_use]
    pub fn with_ca(mut self, ca: impl Into<PathBuf>) -> Self {
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

    /// The body of the answer to a GET.
    pub(super) async fn get(&self, path: &str, limit: usize) -> Result<Bytes, KubeError> {
        timeout(REQUEST, self.exchange(path, limit))
            .await
            .unwrap_or(Err(KubeError::Deadline))
    }

    async fn exchange(&self, path: &str, limit: usize) -> Result<Bytes, KubeError> {
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
        let authority = self.to_string();
        Ok(match tls {
            None => http::get(stream, &authority, path, None, limit).await?,
            Some((config, token)) => {
                let name = ServerName::try_from(host.to_owned())?;
                let connector = TlsConnector::from(Arc::new(config));
                let stream = connector.connect(name, stream).await.map_err(failed)?;
                http::get(stream, &authority, path, token, limit).await?
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
        let mut token = None;
        let config = match &self.login {
            KubeLogin::Anonymous => builder.with_no_client_auth(),
            KubeLogin::Certificate { certificate, key } => {
                let chain = certificates(certificate)?;
                let private = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|error| KubeError::Pem(key.clone(), error))?;
                builder.with_client_auth_cert(chain, private)?
            }
            KubeLogin::Token(path) => {
                let text = read(path)?;
                let line = Zeroizing::new([b"Bearer ", text.trim_ascii()].concat());
                let mut value = HeaderValue::from_bytes(&line)?;
                value.set_sensitive(true);
                token = Some(value);
                builder.with_no_client_auth()
            }
        };
        Ok((config, token))
    }

    fn roots(&self) -> Result<RootCertStore, KubeError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate)?;
        }
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, KubeError> {
    let failed = |error| KubeError::Pem(path.to_owned(), error);
    let all: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if all.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KubeError> {
    let failed = |error| KubeError::File(path.to_owned(), error);
    let mut file = File::open(path).map_err(failed)?.take(MAX_FILE + 1);
    let mut content = Zeroizing::new(Vec::new());
    file.read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_FILE {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(content)
}
