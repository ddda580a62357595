//! Where requests come in: TLS 1.2 and 1.3 (SPIFFE_Federation.md §5 asks for what Mozilla calls
//! "intermediate"), HTTP/1.1, and everything has a bound.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, ResolvesServerCert},
    version::{TLS12, TLS13},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Documents, answer};
use crate::{
    http::{self, not_accepted, text},
    places::{Place, Places},
    rate::Rate,
};

/// Connections in all, and from one network: ten thousand sites that ask every 75 seconds come 133
/// times a second, and stay for a moment.
const CONNECTIONS: usize = 2048;
pub(super) const CONNECTIONS_OF_ONE: usize = 128;
/// Connections a second from one network, and at once; the same of requests.
const A_SECOND: u32 = 20;
const AT_ONCE: u32 = 200;
/// Handshakes that run at a time, and of one network: each costs a signature. Whoever comes then waits, or is
/// one too many of its network.
const HANDSHAKES: usize = 256;
pub(super) const HANDSHAKES_OF_ONE: usize = 32;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What an ACME server shows to see that a name is ours (RFC 8737 §4); no request comes with it.
pub(crate) const ACME: &[u8] = b"acme-tls/1";

/// Answers requests for as long as it is let, by the certificate that `shown` has at each moment. With
/// `acme` it takes part in handshakes of `acme-tls/1`, for which `shown` has another.
///
/// # Errors
/// When TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    shown: Arc<dyn ResolvesServerCert>,
    acme: bool,
    documents: Arc<impl Documents>,
    crypto: Arc<CryptoProvider>,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(config(shown, acme, crypto)?));
    let door = Arc::new(Door {
        acceptor,
        documents,
        requests: Rate::new(A_SECOND, AT_ONCE),
    });
    let (places, rate) = (
        Places::new(CONNECTIONS, CONNECTIONS_OF_ONE),
        Rate::new(A_SECOND, AT_ONCE),
    );
    let turns = Arc::new(Semaphore::new(HANDSHAKES));
    let handshakes = Places::new(HANDSHAKES, HANDSHAKES_OF_ONE);
    loop {
        // It is never closed.
        let turn = Arc::clone(&turns).acquire_owned().await.ok();
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                not_accepted(&error).await;
                continue;
            }
        };
        // Closed, and no more than that: whoever fills the door would fill the log too.
        let from = address.ip();
        let (Some(handshake), Some(place)) = (handshakes.take(from), places.take(from)) else {
            tracing::debug!(%address, "connection refused: there are too many");
            continue;
        };
        if !rate.take(from) {
            tracing::debug!(%address, "connection refused: they come too often");
            continue;
        }
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            let secured = door.secure(stream, address).await;
            drop((turn, handshake));
            if let Some(stream) = secured {
                door.answer(stream, address, place).await;
            }
        });
    }
}

fn config(
    shown: Arc<dyn ResolvesServerCert>,
    acme: bool,
    crypto: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if acme {
        config.alpn_protocols.push(ACME.to_vec());
    }
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

struct Door<D> {
    acceptor: TlsAcceptor,
    documents: Arc<D>,
    requests: Rate,
}

impl<D: Documents> Door<D> {
    /// Shakes hands; `None` where there is nothing to answer.
    async fn secure(&self, stream: TcpStream, address: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let stream = match timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%address, %error, "no TLS");
                return None;
            }
            Err(_) => {
                tracing::debug!(%address, "the handshake took too long");
                return None;
            }
        };
        if stream.get_ref().1.alpn_protocol() == Some(ACME) {
            tracing::debug!(%address, "a name was proven to be ours");
            return None;
        }
        Some(stream)
    }

    /// Answers the requests of a connection.
    async fn answer(
        self: Arc<Self>,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        place: Place,
    ) {
        http::answer(stream, place, move |request| {
            let door = Arc::clone(&self);
            async move {
                if door.requests.take(address.ip()) {
                    answer(&*door.documents, &request).await
                } else {
                    text(hyper::StatusCode::TOO_MANY_REQUESTS, "too many requests\n")
                }
            }
        })
        .await;
    }
}
