//! Where requests come in: TLS, or a Unix socket for a proxy in front. HTTP/1.1, and everything has a
//! bound.

use std::{convert::Infallible, io, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ServerConfig, crypto::CryptoProvider};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Certificate, Provider};
use crate::places::{Place, Places};

/// Connections in all, and from one network: whoever asks here asks seldom.
const CONNECTIONS: usize = 512;
const CONNECTIONS_OF_ONE: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the head of a request may take, from its first byte or the end of the one before.
const HEAD: Duration = Duration::from_secs(10);
/// A connection that is older ends after the request that it is at, and at the latest a little later.
const OLDEST: Duration = Duration::from_secs(60);
const LAST: Duration = Duration::from_secs(5);
/// Most bytes of the head of a request, and most lines of it.
const MAX_HEAD: usize = 16 * 1024;
const MAX_LINES: usize = 64;
/// How long it waits when the system has no more connections.
const PAUSE: Duration = Duration::from_millis(100);

/// Where requests come in.
#[derive(Debug)]
pub enum Door {
    /// TLS 1.2 and 1.3, by this certificate.
    Tls(TcpListener, Arc<Certificate>),
    /// Plain, from a proxy in front on this host.
    Unix(UnixListener),
}

/// Answers requests for as long as it is let.
///
/// # Errors
/// When TLS cannot be set up.
pub async fn serve(
    door: Door,
    provider: Arc<Provider>,
    crypto: Arc<CryptoProvider>,
) -> Result<(), rustls::Error> {
    match door {
        Door::Tls(listener, certificate) => {
            let mut config = ServerConfig::builder_with_provider(crypto)
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
                .with_no_client_auth()
                .with_cert_resolver(certificate);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            tls(&listener, &TlsAcceptor::from(Arc::new(config)), &provider).await;
        }
        Door::Unix(listener) => unix(&listener, &provider).await,
    }
    Ok(())
}

async fn tls(listener: &TcpListener, acceptor: &TlsAcceptor, provider: &Arc<Provider>) {
    let places = Places::new(CONNECTIONS, CONNECTIONS_OF_ONE);
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                not_accepted(&error).await;
                continue;
            }
        };
        // Closed, and no more than that: whoever fills the door would fill the log too.
        let Some(place) = places.take(address.ip()) else {
            tracing::debug!(%address, "connection refused: there are too many");
            continue;
        };
        let (acceptor, provider) = (acceptor.clone(), Arc::clone(provider));
        tokio::spawn(async move {
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => answer(stream, provider, place).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS"),
                Err(_) => tracing::debug!(%address, "the handshake took too long"),
            }
        });
    }
}

async fn unix(listener: &UnixListener, provider: &Arc<Provider>) {
    // All come from one.
    let places = Places::new(CONNECTIONS, CONNECTIONS);
    let here = IpAddr::from([127, 0, 0, 1]);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(place) = places.take(here) else {
                    tracing::debug!("connection refused: there are too many");
                    continue;
                };
                tokio::spawn(answer(stream, Arc::clone(provider), place));
            }
            Err(error) => not_accepted(&error).await,
        }
    }
}

async fn not_accepted(error: &io::Error) {
    tracing::warn!(%error, "connection not accepted");
    sleep(PAUSE).await;
}

/// Answers the requests of a connection.
async fn answer<S>(stream: S, provider: Arc<Provider>, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = provider.answer(&request);
        tracing::debug!(method = %request.method(), path = request.uri().path(), status = answer.status().as_u16(), "request");
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_LINES);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = match timeout(OLDEST, served.as_mut()).await {
        Ok(ended) => Ok(ended),
        Err(_) => {
            served.as_mut().graceful_shutdown();
            timeout(LAST, served).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => tracing::debug!("connection ended: it is old"),
    }
    drop(place);
}
