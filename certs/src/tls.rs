//! rustls configurations and verifiers, built once per change of SVID or bundle.

mod config;
pub(crate) mod resumption;
mod verifier;

pub use config::{client_config, provider, server_config};
pub use verifier::{PeerVerifier, verify_error};

/// The oldest TLS version an endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MinVersion {
    /// `tls: {min: "1.2"}`, for peers that cannot do better.
    Tls12,
    /// TLS 1.3 only.
    #[default]
    Tls13,
}
