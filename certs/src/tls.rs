//! rustls configurations and verifiers.

/// The oldest TLS version an endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MinVersion {
    /// `tls: {min: "1.2"}`, for peers that cannot do better.
    Tls12,
    /// TLS 1.3 only.
    #[default]
    Tls13,
}
