//! Verification of peers inside the handshake, for both TLS roles.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    clock::Clock,
    id::IdList,
    members::Members,
    verify::{Leaf, Trust, VerifyError},
};

/// Verifies a peer's chain by an endpoint's trust, and its possession of the key.
///
/// With an `expect` list it also refuses, inside the handshake and after the key is proven, an ID
/// that is not expected: so nobody else ever completes a handshake that we began, and the other
/// side does not dial its upstream. The `accept` list of a listening side is not looked at here:
/// the permit does, so that the refusal can carry the alert `access_denied`.
#[derive(Debug)]
pub struct PeerVerifier {
    trust: Arc<Trust>,
    clock: Arc<dyn Clock>,
    expect: Option<IdList>,
    /// Those that lines by a mark are about.
    members: Members,
}

impl PeerVerifier {
    /// A verifier by `trust`, at the time of `clock`.
    #[must_use]
    pub fn new(trust: Arc<Trust>, clock: Arc<dyn Clock>, expect: Option<IdList>) -> Self {
        Self {
            trust,
            clock,
            expect,
            members: Members::default(),
        }
    }

    /// The same, among these members: without them a line by a mark matches nobody.
    #[must_use]
    pub fn among(mut self, members: Members) -> Self {
        self.members = members;
        self
    }

    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(leaf)
            .chain(intermediates)
            .cloned()
            .collect();
        // Our clock and not the caller's: it has sub-second precision.
        self.trust
            .verify(&chain, self.clock.now())
            .map(drop)
            .map_err(tls_error)
    }

    fn check_expected(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let Some(expect) = &self.expect else {
            return Ok(());
        };
        let id = Leaf::parse(leaf).map_err(tls_error)?.id;
        if expect.contains_among(&id, &self.members) {
            Ok(())
        } else {
            Err(tls_error(VerifyError::NotExpected { id }))
        }
    }

    fn signature(
        &self,
        verify: SignatureCheck,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = verify(message, leaf, signed, self.trust.algorithms())?;
        self.check_expected(leaf)?;
        Ok(valid)
    }
}

type SignatureCheck = fn(
    &[u8],
    &CertificateDer<'_>,
    &DigitallySignedStruct,
    &rustls::crypto::WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error>;

/// Wraps our error so that it survives rustls whole, with the ID that the log needs. The price is
/// one alert for all of them, `certificate_unknown` (RFC 8446 §6.2): the peer learns that it is
/// refused and the reason stays in our log.
fn tls_error(error: VerifyError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// Our own error out of rustls', where a [`PeerVerifier`] refused.
#[must_use]
pub fn verify_error(error: &Error) -> Option<&VerifyError> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref()
        }
        _ => None,
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The server name only chooses an endpoint over there; who answers is told by its SPIFFE
        // ID alone.
        self.verify_chain(end_entity, intermediates)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(verify_tls12_signature, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(verify_tls13_signature, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Subjects of CAs say nothing in SPIFFE, and a list of many sites would be long.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify_chain(end_entity, intermediates)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(verify_tls12_signature, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(verify_tls13_signature, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}
