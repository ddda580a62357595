//! A static web server that has a directory's files. One connection, kept while it lasts.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, crypto::CryptoProvider};
use rustls_pki_types::ServerName;
use sekisho_certs::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::source::{Got, SourceError};
use crate::client::{Allowed, Client, Profile, UrlError, WebRoots};

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of the head of an answer.
const HEAD: usize = 64 * 1024;
/// Most bytes of a tag that is kept.
const TAG: usize = 256;
const MAX_URL: usize = 2048;

/// A directory's web server. `http` is as good as `https` for what is signed, but tells who looks on
/// which members a site asks for.
pub struct Web {
    base: Url,
    client: Client,
    allowed: Allowed,
    connection: Option<Connection>,
    tag: Option<(String, String)>,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Web").field(&self.base.as_str()).finish()
    }
}

impl Web {
    /// The server at `url`: `https://HOST/PATH`, or `http://…`. Certificates are those of the web's
    /// PKI, by `roots`; it is connected to only where it is `allowed`.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn new(
        url: &str,
        roots: WebRoots,
        allowed: Allowed,
        provider: Arc<CryptoProvider>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UrlError> {
        if url.len() > MAX_URL || url.contains(|one: char| one.is_ascii_control() || one == ' ') {
            return Err(UrlError::NotUrl(
                "it is too long, or has spaces in it".into(),
            ));
        }
        let mut base = Url::parse(url).map_err(|error| UrlError::NotUrl(error.to_string()))?;
        if !["https", "http"].contains(&base.scheme()) {
            return Err(UrlError::Scheme(base.scheme().into()));
        }
        if base.host().is_none() {
            return Err(UrlError::NoHost);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(UrlError::UserInfo);
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(UrlError::NotUrl(
                "it may have no query and no fragment".into(),
            ));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        Ok(Self {
            base,
            client: Client::new(roots, allowed.clone(), provider, clock),
            allowed,
            connection: None,
            tag: None,
        })
    }

    pub(super) fn name(&self) -> String {
        self.base.to_string()
    }

    /// A file below the address.
    pub(super) async fn get(
        &mut self,
        name: &str,
        most: usize,
        if_new: bool,
    ) -> Result<Got, SourceError> {
        let at = format!("{}{name}", self.base);
        // A server may end a connection that was idle: once more on a new one.
        for kept in [true, false] {
            if !kept {
                self.connection = None;
            }
            let had = self.connection.is_some();
            let asked = timeout(DEADLINE, self.ask(&at, name, most, if_new)).await;
            let asked = asked.unwrap_or_else(|_| {
                Err(SourceError::TooLate {
                    at: at.clone(),
                    seconds: DEADLINE.as_secs(),
                })
            });
            match asked {
                Err(SourceError::Http { .. }) if had && kept => {}
                Err(error) => {
                    self.connection = None;
                    return Err(error);
                }
                got => return got,
            }
        }
        self.connection = None;
        Ok(Got::NotThere)
    }

    async fn ask(
        &mut self,
        at: &str,
        name: &str,
        most: usize,
        if_new: bool,
    ) -> Result<Got, SourceError> {
        let http = |error| SourceError::Http {
            at: at.into(),
            error,
        };
        let host = self.base[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        let mut request = Request::get(format!("{}{name}", self.base.path()))
            .header(header::HOST, host)
            .header(header::USER_AGENT, "sekisho");
        if if_new
            && let Some((of, tag)) = &self.tag
            && of == name
        {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| SourceError::Io {
                at: at.into(),
                error: std::io::Error::other(error),
            })?;
        let response = {
            let connection = self.connected(at).await?;
            connection.sender.ready().await.map_err(http)?;
            connection
                .sender
                .send_request(request)
                .await
                .map_err(http)?
        };
        let status = response.status();
        let tag = response.headers().get(header::ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok());
        let tag = tag.filter(|tag| tag.len() <= TAG).map(ToOwned::to_owned);
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                return SourceError::TooLarge {
                    at: at.into(),
                    limit: most,
                };
            }
            let error = std::io::Error::other(error);
            SourceError::Io {
                at: at.into(),
                error,
            }
        });
        match status {
            StatusCode::OK => {
                let bytes = body?.to_bytes().to_vec();
                if if_new {
                    self.tag = tag.map(|tag| (name.to_owned(), tag));
                }
                Ok(Got::Bytes(bytes))
            }
            StatusCode::NOT_MODIFIED if if_new => Ok(Got::NotModified),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Got::NotThere),
            status => Err(SourceError::Status {
                at: at.into(),
                status,
            }),
        }
    }

    async fn connected(&mut self, at: &str) -> Result<&mut Connection, SourceError> {
        let open = self.connection.take().filter(|one| !one.sender.is_closed());
        let connection = match open {
            Some(open) => open,
            None => self.connect(at).await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn connect(&self, at: &str) -> Result<Connection, SourceError> {
        let failed = |error| SourceError::Io {
            at: at.into(),
            error,
        };
        let host = match self.base.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let port = self.base.port_or_known_default().unwrap_or(443);
        let stream = self.reach(at, &host, port).await?;
        if self.base.scheme() == "http" {
            return spoken(at, stream).await;
        }
        let config: Arc<ClientConfig> = self
            .client
            .tls(&Profile::Web)
            .await
            .map_err(|error| SourceError::Tls(error.to_string()))?;
        let name = ServerName::try_from(host);
        let name = name.map_err(|error| failed(std::io::Error::other(error)))?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        let stream = timeout(CONNECT, connecting).await;
        let stream = stream
            .map_err(|late| failed(late.into()))?
            .map_err(failed)?;
        spoken(at, stream).await
    }

    /// Connects to the very address that was looked at.
    async fn reach(&self, at: &str, host: &str, port: u16) -> Result<TcpStream, SourceError> {
        let failed = |error| SourceError::Io {
            at: at.into(),
            error,
        };
        let found = tokio::net::lookup_host((host, port))
            .await
            .map_err(failed)?;
        let mut last = failed(std::io::Error::other("its host has no address"));
        for address in found.collect::<Vec<SocketAddr>>() {
            if !self.allowed.permits(address.ip()) {
                last = SourceError::Address {
                    host: host.into(),
                    address: address.ip(),
                };
                continue;
            }
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = failed(error),
                Err(late) => last = failed(late.into()),
            }
        }
        Err(last)
    }
}

async fn spoken<S>(at: &str, stream: S) -> Result<Connection, SourceError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| SourceError::Http {
            at: at.into(),
            error,
        })?;
    let task = tokio::spawn(connection).abort_handle();
    Ok(Connection { sender, task })
}
