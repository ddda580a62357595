//! TLS configurations that accept any peer and present any certificate: misbehaving peers.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::ca::Issued;

/// Any peer will do.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(sekisho_certs::tls::provider())
}

fn resolver(issued: &Issued, provider: &CryptoProvider) -> Arc<SingleCertAndKey> {
    let key = provider
        .key_provider
        .load_private_key(issued.key.clone_key())
        .expect("a key for TLS");
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(
        issued.chain.clone(),
        key,
    )))
}

/// A client that presents `issued`, or nothing, and accepts whoever answers.
///
/// # Panics
/// When the key cannot be used for TLS.
#[must_use]
pub fn client_config(
    issued: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    client_of(issued, versions, provider())
}

/// The same with TLS 1.3 and another provider.
///
/// # Panics
/// As [`client_config`].
#[must_use]
pub fn client_config_with(issued: Option<&Issued>, provider: Arc<CryptoProvider>) -> ClientConfig {
    client_of(issued, &[&rustls::version::TLS13], provider)
}

fn client_of(
    issued: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
    provider: Arc<CryptoProvider>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(Arc::clone(&provider))));
    match issued {
        Some(issued) => builder.with_client_cert_resolver(resolver(issued, &provider)),
        None => builder.with_no_client_auth(),
    }
}

/// A server that presents `issued` and accepts whoever comes, asking for a certificate.
///
/// # Panics
/// When the key cannot be used for TLS.
#[must_use]
pub fn server_config(
    issued: &Issued,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    server_of(issued, versions, provider())
}

/// The same with TLS 1.3 and another provider.
///
/// # Panics
/// As [`server_config`].
#[must_use]
pub fn server_config_with(issued: &Issued, provider: Arc<CryptoProvider>) -> ServerConfig {
    server_of(issued, &[&rustls::version::TLS13], provider)
}

fn server_of(
    issued: &Issued,
    versions: &[&'static SupportedProtocolVersion],
    provider: Arc<CryptoProvider>,
) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("protocol versions")
        .with_client_cert_verifier(Arc::new(Anybody(Arc::clone(&provider))))
        .with_cert_resolver(resolver(issued, &provider))
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
