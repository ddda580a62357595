//! TLS with the endpoint's SVID, on both sides.

pub(crate) mod alert;
mod drive;
pub(crate) mod gate;
mod hello;

use std::{future::Future, io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, CommonState, client::UnbufferedClientConnection, pki_types::ServerName,
};
use rustls_pki_types::CertificateDer;
use sekisho_certs::{Material, VerifiedPeer};
use sekisho_record::{Backend, Limits};
use tokio_rustls::TlsConnector;

use crate::{
    error::HandshakeError, held::Memory, stream::Stream, transport::Transport, wire::Wire,
};

pub(crate) use hello::{Hello, read_hello};

/// `unrecognized_name`, RFC 6066 §3.
pub(crate) const UNRECOGNIZED_NAME: u8 = 112;
/// `internal_error`, RFC 8446 §6.2.
pub(crate) const INTERNAL_ERROR: u8 = 80;

/// `no_application_protocol`, RFC 7301 §3.2.
pub(crate) const NO_APPLICATION_PROTOCOL: &str = "no_application_protocol";

/// Who protects the records after the handshake.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Our own record layer with this AEAD; `None`: rustls.
    pub(crate) backend: Option<Backend>,
    pub(crate) limits: Limits,
    pub(crate) memory: Arc<Memory>,
}

/// A side whose handshake is finished.
pub(crate) struct Secured {
    pub(crate) stream: Stream,
    /// What the peer showed, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

fn secured(transport: Transport, finished: drive::Finished, layer: &Layer) -> Secured {
    let drive::Finished { tls, chain, early } = finished;
    Secured {
        stream: Stream::Wire(Wire::tls(transport, tls, &early, &layer.memory)),
        chain,
    }
}

/// Makes a handshake as client. The verifier of `config` has checked chain and `expect`.
///
/// # Errors
/// Why the peer was refused, or did; it has been told by an alert.
pub(crate) async fn connect(
    mut transport: Transport,
    server_name: Option<&str>,
    config: Arc<ClientConfig>,
    time: Duration,
    layer: &Layer,
) -> Result<Secured, HandshakeError> {
    let name = match server_name {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| HandshakeError::UnknownName(name.to_owned()))?,
        // rustls sends no server name for an address.
        None => ServerName::from(std::net::IpAddr::from([0, 0, 0, 0])),
    };
    let Some(backend) = layer.backend else {
        let connecting = TlsConnector::from(config).connect(name, transport);
        let stream = finish(time, connecting.into_fallible()).await?;
        let chain = chain(stream.get_ref().1)?;
        return Ok(Secured {
            stream: Stream::Client(Box::new(stream)),
            chain,
        });
    };
    let connection = UnbufferedClientConnection::new(config, name).map_err(HandshakeError::Tls)?;
    let finished = drive::handshake(
        connection,
        &mut transport,
        Vec::new(),
        backend,
        layer.limits,
    );
    match within(time, finished).await {
        Ok(finished) => Ok(secured(transport, finished, layer)),
        Err(error) => {
            leave(transport, &error).await;
            Err(error)
        }
    }
}

/// The same with an offer of `sekisho/1`, and of nothing else (docs/protocol.md).
pub(crate) fn with_lanes(config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![sekisho_lanes::ALPN.to_vec()];
    Arc::new(config)
}

async fn within<T>(
    time: Duration,
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(time, handshake)
        .await
        .unwrap_or(Err(HandshakeError::Timeout(time)))
}

/// After our alert, or theirs: what is still under way must not become a reset that overtakes it.
async fn leave(transport: Transport, error: &HandshakeError) {
    if !matches!(error, HandshakeError::Timeout(_)) {
        transport.close_gently().await;
    }
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
            leave(transport, &error).await;
            Err(error)
        }
    }
}

fn chain(state: &CommonState) -> Result<Vec<CertificateDer<'static>>, HandshakeError> {
    let chain = state
        .peer_certificates()
        .ok_or(HandshakeError::NoCertificate)?;
    Ok(chain.iter().map(|der| der.clone().into_owned()).collect())
}

/// Who showed this chain. In a full handshake the verifier has seen it under the same material, so
/// this finds it again; in a resumed one, which shows none, it is verified here, by what holds now.
///
/// # Errors
/// When it does not verify (any more).
pub(crate) fn peer(
    chain: &[CertificateDer<'_>],
    material: &Material,
    now: std::time::SystemTime,
) -> Result<VerifiedPeer, HandshakeError> {
    Ok(material.trust().verify(chain, now)?)
}
