//! The ClientHello: read before an endpoint is chosen, and answered by that endpoint's TLS.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    server::{Accepted, Acceptor, UnbufferedServerConnection},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::StartHandshake;

use super::{Layer, Secured, drive, secured, within};
use crate::{
    endpoint::spec::Side, error::HandshakeError, socket, stream::Stream, transport::Transport,
};

/// How much is read at once: a ClientHello with a post-quantum key share is about 1.5 KB.
const READ: usize = 2048;

/// A ClientHello that was read; nothing has been answered.
pub(crate) struct Hello {
    transport: Transport,
    accepted: Accepted,
    /// The same as it came, and what came with it.
    bytes: Vec<u8>,
    /// The server name asked for, in lower case.
    pub(crate) server_name: Option<String>,
    /// Whether the client offers `sekisho/1`.
    pub(crate) offers_lanes: bool,
}

/// Reads a ClientHello.
///
/// # Errors
/// When something else comes, or nothing in time. The socket is closed then, after an alert where
/// TLS was spoken.
pub(crate) async fn read_hello(
    mut transport: Transport,
    time: std::time::Duration,
) -> Result<Hello, HandshakeError> {
    let read = tokio::time::timeout(time, read(&mut transport)).await;
    let (accepted, bytes) = match read {
        Err(_) => return Err(HandshakeError::Timeout(time)),
        Ok(Ok(read)) => read,
        Ok(Err(error)) => {
            if !matches!(error, HandshakeError::Io(_)) {
                transport.close_gently().await;
            }
            return Err(error);
        }
    };
    let server_name = accepted
        .client_hello()
        .server_name()
        .map(str::to_ascii_lowercase);
    let alpn = accepted.client_hello().alpn();
    let offers_lanes = alpn.is_some_and(|mut alpn| alpn.any(|name| name == sekisho_lanes::ALPN));
    Ok(Hello {
        transport,
        accepted,
        bytes,
        server_name,
        offers_lanes,
    })
}

async fn read(transport: &mut Transport) -> Result<(Accepted, Vec<u8>), HandshakeError> {
    let mut acceptor = Acceptor::default();
    let mut bytes = Vec::new();
    let mut given = 0;
    loop {
        bytes.reserve(READ);
        let read = transport
            .read_buf(&mut bytes)
            .await
            .map_err(HandshakeError::Io)?;
        if read == 0 {
            return Err(HandshakeError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        loop {
            let mut rest = bytes.get(given..).unwrap_or_default();
            given += acceptor.read_tls(&mut rest).map_err(HandshakeError::Io)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    // All of it, so that `Accepted` has what `bytes` has.
                    if given == bytes.len() {
                        return Ok((accepted, bytes));
                    }
                    // A client that sends more than a ClientHello, and more than rustls takes at
                    // once: nothing that TLS 1.3 without early data allows.
                    return Err(HandshakeError::NotTls);
                }
                Ok(None) if given < bytes.len() => {}
                Ok(None) => break,
                Err((error, mut alert)) => {
                    let mut record = Vec::new();
                    if alert.write_all(&mut record).is_ok() {
                        // A peer that does not take it does without.
                        let _ = transport.write_all(&record).await;
                    }
                    return Err(refused(error));
                }
            }
        }
    }
}

/// Before a ClientHello was understood, whatever it was is not one.
fn refused(error: rustls::Error) -> HandshakeError {
    use rustls::Error;
    match HandshakeError::from_tls(error) {
        HandshakeError::Tls(
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. },
        ) => HandshakeError::NotTls,
        other => other,
    }
}

impl Hello {
    /// Goes on as the server of one endpoint.
    ///
    /// # Errors
    /// Why the peer was refused, or did; it has been told by an alert.
    pub(crate) async fn accept(
        self,
        config: Arc<ServerConfig>,
        time: std::time::Duration,
        layer: &Layer,
    ) -> Result<Secured, HandshakeError> {
        let Self {
            mut transport,
            accepted,
            bytes,
            ..
        } = self;
        let Some(backend) = layer.backend else {
            let start = StartHandshake::from_parts(accepted, transport);
            let stream = super::finish(time, start.into_stream(config).into_fallible()).await?;
            let chain = super::chain(stream.get_ref().1)?;
            return Ok(Secured {
                stream: Stream::Server(Box::new(stream)),
                chain,
            });
        };
        drop(accepted);
        let connection = UnbufferedServerConnection::new(config).map_err(HandshakeError::Tls)?;
        let finished = drive::handshake(connection, &mut transport, bytes, backend, layer.limits);
        match within(time, finished).await {
            Ok(finished) => Ok(secured(transport, finished, layer)),
            Err(error) => {
                super::leave(transport, &error).await;
                Err(error)
            }
        }
    }

    /// `config` with `sekisho/1` selected. Only for a client that offers it: rustls refuses one that
    /// offers other protocols only.
    pub(crate) fn with_lanes(config: &Arc<ServerConfig>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(config);
        config.alpn_protocols = vec![sekisho_lanes::ALPN.to_vec()];
        Arc::new(config)
    }

    /// Sets the socket's options, now that it is known whose it is.
    pub(crate) fn set_socket(&self, side: &Side) {
        if let Transport::Tcp(stream) = &self.transport {
            socket::set_all(stream, side);
        }
    }

    /// Refuses before any key is agreed, with a plaintext alert (RFC 8446 §6).
    pub(crate) async fn refuse(self, alert: u8) {
        const FATAL: u8 = 2;
        let record = [21, 3, 3, 0, 2, FATAL, alert];
        let mut transport = self.transport;
        if transport.write_all(&record).await.is_ok() {
            transport.close_gently().await;
        }
    }
}
