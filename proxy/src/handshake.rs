//! TLS with the endpoint's SVID, on both sides.

pub(crate) mod alert;
pub(crate) mod gate;

use std::{future::Future, io, sync::Arc, time::Duration};

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName, server::Acceptor};
use sekisho_certs::{Material, VerifiedPeer};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsConnector, client, server};

use crate::{error::HandshakeError, stream::Transport};

/// A ClientHello that was read; nothing has been answered.
pub(crate) struct Hello {
    start: StartHandshake<Transport>,
    /// The server name asked for, in lower case.
    pub(crate) server_name: Option<String>,
}

/// Reads a ClientHello.
///
/// # Errors
/// When something else comes, or nothing in time. The socket is closed then, after an alert where
/// TLS was spoken.
pub(crate) async fn read_hello(
    transport: Transport,
    time: Duration,
) -> Result<Hello, HandshakeError> {
    let mut acceptor = std::pin::pin!(LazyConfigAcceptor::new(Acceptor::default(), transport));
    let start = match tokio::time::timeout(time, acceptor.as_mut()).await {
        Err(_) => return Err(HandshakeError::Timeout(time)),
        Ok(Ok(start)) => start,
        Ok(Err(error)) => {
            let error = match HandshakeError::from_io(error) {
                // Before a ClientHello was understood, whatever it was is not one.
                HandshakeError::Tls(
                    rustls::Error::InvalidMessage(_) | rustls::Error::PeerMisbehaved(_),
                ) => HandshakeError::NotTls,
                HandshakeError::Tls(
                    rustls::Error::InappropriateMessage { .. }
                    | rustls::Error::InappropriateHandshakeMessage { .. },
                ) => HandshakeError::NotTls,
                other => other,
            };
            if let Some(transport) = acceptor.take_io() {
                transport.close_gently().await;
            }
            return Err(error);
        }
    };
    let server_name = start
        .client_hello()
        .server_name()
        .map(str::to_ascii_lowercase);
    Ok(Hello { start, server_name })
}

impl Hello {
    /// Goes on as the server of one endpoint.
    ///
    /// # Errors
    /// Why the peer was refused, or did; it has been told by an alert.
    pub(crate) async fn accept(
        self,
        config: Arc<ServerConfig>,
        time: Duration,
    ) -> Result<server::TlsStream<Transport>, HandshakeError> {
        finish(time, self.start.into_stream(config).into_fallible()).await
    }

    /// Refuses before any key is agreed, with a plaintext alert (RFC 8446 §6).
    pub(crate) async fn refuse(self, alert: u8) {
        use tokio::io::AsyncWriteExt as _;
        const FATAL: u8 = 2;
        let record = [21, 3, 3, 0, 2, FATAL, alert];
        let StartHandshake { mut io, .. } = self.start;
        if io.write_all(&record).await.is_ok() {
            io.close_gently().await;
        }
    }
}

/// `unrecognized_name`, RFC 6066 §3.
pub(crate) const UNRECOGNIZED_NAME: u8 = 112;
/// `internal_error`, RFC 8446 §6.2.
pub(crate) const INTERNAL_ERROR: u8 = 80;

/// Makes a handshake as client. The verifier of `config` has checked chain and `expect`.
///
/// # Errors
/// Why the peer was refused, or did; it has been told by an alert.
pub(crate) async fn connect(
    transport: Transport,
    server_name: Option<&str>,
    config: Arc<ClientConfig>,
    time: Duration,
) -> Result<client::TlsStream<Transport>, HandshakeError> {
    let name = match server_name {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| HandshakeError::UnknownName(name.to_owned()))?,
        // rustls sends no server name for an address.
        None => ServerName::from(std::net::IpAddr::from([0, 0, 0, 0])),
    };
    finish(
        time,
        TlsConnector::from(config)
            .connect(name, transport)
            .into_fallible(),
    )
    .await
}

async fn finish<S>(
    time: Duration,
    handshake: impl Future<Output = Result<S, (io::Error, Transport)>>,
) -> Result<S, HandshakeError> {
    match tokio::time::timeout(time, handshake).await {
        Err(_) => Err(HandshakeError::Timeout(time)),
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, transport))) => {
            let error = HandshakeError::from_io(error);
            // After our alert, or theirs: what is still under way must not become a reset that
            // overtakes it.
            transport.close_gently().await;
            Err(error)
        }
    }
}

/// Who is at the other end of a finished handshake. The verifier has seen the same chain under
/// the same material, so this finds it again.
///
/// # Errors
/// When the chain expired in this very moment.
pub(crate) fn peer(
    state: &rustls::CommonState,
    material: &Material,
    now: std::time::SystemTime,
) -> Result<VerifiedPeer, HandshakeError> {
    let chain = state
        .peer_certificates()
        .ok_or(HandshakeError::NoCertificate)?;
    Ok(material.trust().verify(chain, now)?)
}
