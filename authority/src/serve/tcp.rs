//! The TCP door: accepting, and handshakes beside one another.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use sekisho_federation::places::{Place, Places};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    door::{Known, not_accepted},
    tls::Callers,
};
use crate::core::ConnectionLimits;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection whose handshake is done.
pub(super) type Secured = Known<TlsStream<TcpStream>>;

/// Hands over connections until nobody takes them any more.
pub(super) async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: ConnectionLimits,
    ready: mpsc::Sender<io::Result<Secured>>,
) {
    let acceptor = TlsAcceptor::from(config);
    let turns = Arc::new(Semaphore::new(limits.handshakes.max(1)));
    let handshakes = Places::new(usize::MAX, limits.handshakes_of_one);
    let connections = Places::new(limits.connections, limits.connections_of_one);
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                not_accepted(&error).await;
                continue;
            }
        };
        let from = address.ip();
        let (Some(handshake), Some(place)) = (handshakes.take(from), connections.take(from)) else {
            // Closed. No more than that, or whoever fills the door would fill the log too.
            tracing::debug!(%address, "connection refused: there are too many");
            continue;
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let securing = secure(acceptor, stream, address, place);
            let secured = tokio::time::timeout(PATIENCE, securing).await;
            drop((turn, handshake));
            match secured {
                // The server is ending.
                Ok(Ok(secured)) => drop(ready.send(Ok(secured)).await),
                Ok(Err(error)) => tracing::info!(%address, %error, "connection refused"),
                Err(_) => tracing::info!(%address, "connection refused: handshake took too long"),
            }
        });
    }
}

async fn secure(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
) -> io::Result<Secured> {
    // One that refuses is slower.
    let _ = stream.set_nodelay(true);
    let stream = acceptor.accept(stream).await?;
    let (_, session) = stream.get_ref();
    // gRPC needs it; SPIRE drops who does not offer it.
    if session.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("the client does not offer h2 (ALPN)"));
    }
    let chain = session.peer_certificates();
    let connection = Callers::connection(address.ip().to_canonical(), chain)
        .ok_or_else(|| io::Error::other("the client's certificate cannot be read"))?;
    Ok(Known {
        stream,
        connection,
        _place: Some(place),
    })
}
