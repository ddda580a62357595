//! Where requests come in: TLS, or a Unix socket for a proxy in front. HTTP/1.1, and everything has a
//! bound.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::CryptoProvider};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{Certificate, Provider};
use crate::{
    http::{self, not_accepted},
    places::{Place, Places},
};

/// Connections in all, and from one network: whoever asks here asks seldom.
const CONNECTIONS: usize = 512;
const CONNECTIONS_OF_ONE: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

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

/// Answers the requests of a connection.
async fn answer<S>(stream: S, provider: Arc<Provider>, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http::answer(stream, place, move |request| {
        std::future::ready(provider.answer(&request))
    })
    .await;
}
