//! Where requests come in: plain or TLS, HTTP/1.1, and everything has a bound.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::StatusCode;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{Served, text};
use crate::{
    http::{self, not_accepted},
    oidc::Certificate,
    places::{Place, Places},
    rate::Rate,
};

/// Connections in all, and from one network.
const CONNECTIONS: usize = 2048;
const CONNECTIONS_OF_ONE: usize = 128;
/// And from one /48 of IPv6 addresses.
const CONNECTIONS_OF_SITE: usize = 512;
/// Requests a second from one network, and at once: whoever begins fetches a file or two of each member.
const A_SECOND: u32 = 100;
const AT_ONCE: u32 = 5000;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where requests come in.
#[derive(Debug)]
pub enum Door {
    /// Without TLS: what is served is signed.
    Plain(TcpListener),
    /// TLS 1.2 and 1.3, by this certificate.
    Tls(TcpListener, Arc<Certificate>),
}

/// Answers requests for as long as it is let.
///
/// # Errors
/// When TLS cannot be set up.
pub async fn serve(
    door: Door,
    served: Arc<Served>,
    crypto: Arc<CryptoProvider>,
) -> Result<(), rustls::Error> {
    let (listener, acceptor) = match door {
        Door::Plain(listener) => (listener, None),
        Door::Tls(listener, certificate) => {
            let mut config = ServerConfig::builder_with_provider(crypto)
                .with_protocol_versions(&[&TLS13, &TLS12])?
                .with_no_client_auth()
                .with_cert_resolver(certificate);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            (listener, Some(TlsAcceptor::from(Arc::new(config))))
        }
    };
    let inside = Arc::new(Inside {
        acceptor,
        served,
        requests: Rate::new(A_SECOND, AT_ONCE),
    });
    let places = Places::with_sites(CONNECTIONS, CONNECTIONS_OF_ONE, CONNECTIONS_OF_SITE);
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
        tokio::spawn(Arc::clone(&inside).take(stream, address, place));
    }
}

struct Inside {
    acceptor: Option<TlsAcceptor>,
    served: Arc<Served>,
    requests: Rate,
}

impl Inside {
    async fn take(self: Arc<Self>, stream: TcpStream, address: SocketAddr, place: Place) {
        let Some(acceptor) = self.acceptor.clone() else {
            return self.answer(stream, address, place).await;
        };
        match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.answer(stream, address, place).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "no TLS"),
            Err(_) => tracing::debug!(%address, "the handshake took too long"),
        }
    }

    async fn answer<S>(self: Arc<Self>, stream: S, address: SocketAddr, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        http::answer(stream, place, move |request| {
            let inside = Arc::clone(&self);
            async move {
                if inside.requests.take(address.ip()) {
                    inside.served.answer(address.ip(), request).await
                } else {
                    text(StatusCode::TOO_MANY_REQUESTS, "too many requests\n")
                }
            }
        })
        .await;
    }
}
