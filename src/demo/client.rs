//! A TLS client of the demo's own, which can be wrong in every way that a sekisho cannot.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use rustls::{
    ClientConfig, ClientConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use sekisho_bench::service::ECHO;
use sekisho_certs::{
    BundleSet, SystemClock, Trust, TrustBundle,
    tls::{self, PeerVerifier},
};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const QUESTION: &[u8; 16] = b"are you the one?";

/// What a client shows of itself.
pub(super) enum Papers {
    /// A chain and its key.
    Svid(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    /// No certificate.
    None,
    /// No TLS at all.
    Plain,
}

/// What came of an attempt.
pub(super) struct Attempt {
    /// The client's own address, by which the receiver's log knows it.
    pub(super) source: SocketAddr,
    /// Whether the service behind answered.
    pub(super) answered: bool,
}

/// Connects to a gate as `papers`, asking for `server_name`, and sends the service a question.
pub(super) fn attempt(
    gate: SocketAddr,
    server_name: &str,
    papers: Papers,
    gate_bundle: TrustBundle,
) -> anyhow::Result<Attempt> {
    let stream = TcpStream::connect(gate).with_context(|| gate.to_string())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let source = stream.local_addr()?;
    let builder = |bundle| -> anyhow::Result<_> {
        let provider = Arc::new(tls::provider());
        let mut bundles = BundleSet::default();
        bundles.insert(Arc::new(bundle))?;
        let trust = Trust::new(bundles, provider.signature_verification_algorithms);
        let verifier = PeerVerifier::new(Arc::new(trust), Arc::new(SystemClock), None);
        Ok(ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier)))
    };
    let config = match papers {
        Papers::Plain => {
            return Ok(Attempt {
                source,
                answered: ask(stream).is_ok(),
            });
        }
        Papers::None => builder(gate_bundle)?.with_no_client_auth(),
        Papers::Svid(chain, key) => builder(gate_bundle)?.with_client_auth_cert(chain, key)?,
    };
    let name = ServerName::try_from(server_name.to_owned())?;
    let connection = ClientConnection::new(Arc::new(config), name)?;
    Ok(Attempt {
        source,
        answered: ask(StreamOwned::new(connection, stream)).is_ok(),
    })
}

/// The same from a plain socket, through a sender.
pub(super) fn attempt_plain(sender: SocketAddr) -> anyhow::Result<Attempt> {
    let stream = TcpStream::connect(sender).with_context(|| sender.to_string())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let source = stream.local_addr()?;
    Ok(Attempt {
        source,
        answered: ask(stream).is_ok(),
    })
}

fn ask(mut stream: impl std::io::Read + std::io::Write) -> std::io::Result<()> {
    stream.write_all(&[ECHO])?;
    stream.write_all(QUESTION)?;
    stream.flush()?;
    let mut answer = [0; QUESTION.len()];
    stream.read_exact(&mut answer)?;
    if &answer == QUESTION {
        Ok(())
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}
