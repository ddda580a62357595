//! A static web server that has a directory's files. One connection, kept while it lasts.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, header};
use rustls::{ClientConfig, crypto::CryptoProvider};
use rustls_pki_types::ServerName;
use sekisho_certs::Clock;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::source::{Got, SourceError};
use crate::{
    client::{Allowed, Client, Profile, UrlError, WebRoots},
    dial::{self, Base, Spoken, Unreached},
};

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long TLS may take to be agreed on.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of a tag that is kept.
const TAG: usize = 256;

/// A directory's web server. `http` is as good as `https` for what is signed, but tells who looks on
/// which members a site asks for.
pub struct Web {
    base: Base,
    client: Client,
    allowed: Allowed,
    connection: Option<Connection>,
    tag: Option<(String, String)>,
}

type Connection = Spoken<Empty<Bytes>>;

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
        let base = Base::parse(url)?;
        Ok(Self {
            base,
            client: Client::new(roots, allowed.clone(), provider, clock),
            allowed,
            connection: None,
            tag: None,
        })
    }

    pub(super) fn name(&self) -> String {
        self.base.as_str().to_owned()
    }

    /// A file below the address.
    pub(super) async fn get(
        &mut self,
        name: &str,
        most: usize,
        if_new: bool,
    ) -> Result<Got, SourceError> {
        let at = self.base.at(name);
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
        let mut request = Request::get(self.base.target(name))
            .header(header::HOST, self.base.authority())
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
        let (host, port) = self.base.address();
        let stream = dial::reach(&host, port, Some(&self.allowed)).await;
        let stream = stream.map_err(|unreached| match unreached {
            Unreached::Address(address) => SourceError::Address {
                host: host.clone(),
                address,
            },
            Unreached::Io(error) => failed(error),
        })?;
        let http = |error| SourceError::Http {
            at: at.into(),
            error,
        };
        if !self.base.is_https() {
            return dial::speak(stream).await.map_err(http);
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
        dial::speak(stream).await.map_err(http)
    }
}
