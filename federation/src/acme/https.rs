//! HTTPS to an ACME server: a connection for each request.

use std::{error::Error as StdError, io, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::client::{Client, FetchError, Profile};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most bytes of an answer, and of its head.
const MOST: usize = 1024 * 1024;
const HEAD: usize = 64 * 1024;

type Wrong = Box<dyn StdError + Send + Sync>;

/// By the same TLS as an endpoint of `https_web` is asked.
pub(super) struct Https(Arc<ClientConfig>);

impl Https {
    pub(super) async fn new(client: &Client) -> Result<Self, FetchError> {
        Ok(Self(client.tls(&Profile::Web).await?))
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let connector = TlsConnector::from(Arc::clone(&self.0));
        Box::pin(async move {
            let sent = timeout(PATIENCE, send(connector, request)).await;
            let answered = sent.unwrap_or_else(|late| Err(late.into()));
            answered.map(BytesResponse::from).map_err(Error::Other)
        })
    }
}

/// Host and port of a URL, which must be of HTTPS.
fn place(uri: &Uri) -> Result<(String, u16), Wrong> {
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
    let host = host.ok_or_else(|| io::Error::other(format!("{uri}: https://HOST is expected")))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
}

async fn send(
    connector: TlsConnector,
    mut request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Full<Bytes>>, Wrong> {
    let uri = request.uri().clone();
    let (host, port) = place(&uri)?;
    let name = ServerName::try_from(host.clone())?;
    let stream = TcpStream::connect((host, port)).await?;
    let stream = connector.connect(name, stream).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    if let Some(authority) = uri.authority() {
        let value = header::HeaderValue::from_str(authority.as_str())?;
        request.headers_mut().insert(header::HOST, value);
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse()?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MOST).collect().await?.to_bytes();
        Ok(Response::from_parts(head, Full::new(body)))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        // It ends with its answer, or without one: the answer says which.
        ended = &mut connection => {
            ended?;
            answer.await
        }
        answered = &mut answer => answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_spoken() {
        let place = |text: &str| place(&text.parse().unwrap()).ok();
        let at = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(place("https://a.example/dir"), at("a.example", 443));
        assert_eq!(place("https://[::1]:14000/dir"), at("::1", 14000));
        assert_eq!(place("http://a.example/dir"), None);
        assert_eq!(place("/dir"), None);
    }
}
