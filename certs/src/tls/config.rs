//! What every endpoint's TLS has in common.

use std::sync::Arc;

use rustls::{
    ClientConfig, NoKeyLog, ServerConfig, SupportedProtocolVersion,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, KeyProvider, aws_lc_rs},
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroize as _;

use super::{MinVersion, PeerVerifier};
use crate::clock::{Clock, TlsTime};

static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
static ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

/// aws-lc-rs with X25519MLKEM768 preferred, X25519 and P-256 accepted; AES-128-GCM first, which
/// is the cheapest per byte (reference/performance.md §3). TLS 1.2 suites come last and are used
/// only where an endpoint allows 1.2.
#[must_use]
pub fn provider() -> CryptoProvider {
    use aws_lc_rs::{cipher_suite as suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
        ],
        key_provider: &WipingKeys,
        ..aws_lc_rs::default_provider()
    }
}

/// Loads keys as aws-lc-rs does, and wipes the encoding they came in; aws-lc wipes its own copy
/// when the key is dropped.
#[derive(Debug)]
struct WipingKeys;

impl KeyProvider for WipingKeys {
    fn load_private_key(
        &self,
        mut key: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        let loaded = aws_lc_rs::sign::any_supported_type(&key);
        key.zeroize();
        loaded
    }
}

const fn versions(min: MinVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        MinVersion::Tls12 => BOTH,
        MinVersion::Tls13 => ONLY_13,
    }
}

/// The listening side: client certificate required, no resumption, no early data.
///
/// # Errors
/// When the provider has no suite for the versions: never with [`provider`].
pub fn server_config(
    key: &Arc<CertifiedKey>,
    verifier: Arc<PeerVerifier>,
    min: MinVersion,
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
) -> Result<ServerConfig, rustls::Error> {
    let time = Arc::new(TlsTime(Arc::clone(clock)));
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), time)
        .with_protocol_versions(versions(min))?
        .with_client_cert_verifier(verifier as Arc<dyn ClientCertVerifier>)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(key))));
    // Resumption would skip the verification of the peer (reference/performance.md §5).
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.key_log = Arc::new(NoKeyLog {});
    // For the alert after a handshake: proxy/src/handshake/alert.rs.
    config.enable_secret_extraction = true;
    Ok(config)
}

/// The forwarding side: presents our SVID, no resumption.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(
    key: &Arc<CertifiedKey>,
    verifier: Arc<PeerVerifier>,
    min: MinVersion,
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
) -> Result<ClientConfig, rustls::Error> {
    let time = Arc::new(TlsTime(Arc::clone(clock)));
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider), time)
        .with_protocol_versions(versions(min))?
        .dangerous()
        .with_custom_certificate_verifier(verifier as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(key))));
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.key_log = Arc::new(NoKeyLog {});
    config.enable_secret_extraction = true;
    Ok(config)
}
