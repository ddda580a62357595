//! Which servers are believed.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sekisho_certs::{Clock, IdList, SpiffeId, Trust, id, tls::PeerVerifier};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// By what a server is verified.
#[derive(Clone, Debug)]
pub enum ServerTrust {
    /// By the bundle of its trust domain.
    Bundle(Arc<Trust>),
    /// By its name alone, once, before any bundle is known: asked for on the command line only.
    /// Whoever stands between could be the site for us.
    NameOnly,
}

/// A verifier of servers that are `id`.
pub(super) fn verifier(
    trust: &ServerTrust,
    id: &SpiffeId,
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
) -> Arc<dyn ServerCertVerifier> {
    match trust {
        ServerTrust::Bundle(trust) => {
            // An ID that is written out is a pattern that stands for itself.
            let only = id
                .to_string()
                .parse()
                .map(|pattern| IdList::Named(vec![pattern]));
            let expect = only.unwrap_or_else(|_| IdList::Named(Vec::new()));
            let (trust, clock) = (Arc::clone(trust), Arc::clone(clock));
            Arc::new(PeerVerifier::new(trust, clock, Some(expect)))
        }
        ServerTrust::NameOnly => Arc::new(NameOnly {
            id: id.clone(),
            algorithms: provider.signature_verification_algorithms,
        }),
    }
}

/// Believes whoever has a certificate with exactly this ID in it, and its key.
#[derive(Debug)]
struct NameOnly {
    id: SpiffeId,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is not that of {0}")]
struct NotTheServer(SpiffeId);

impl ServerCertVerifier for NameOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if only_uri(end_entity).is_some_and(|id| id == self.id) {
            return Ok(ServerCertVerified::assertion());
        }
        let error = OtherError(Arc::new(NotTheServer(self.id.clone())));
        Err(Error::InvalidCertificate(CertificateError::Other(error)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn only_uri(der: &[u8]) -> Option<SpiffeId> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let only = uris.next()?;
    uris.next()
        .is_none()
        .then(|| id::parse_workload_id(only).ok())?
}
