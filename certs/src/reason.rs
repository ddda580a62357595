//! The stable words for every refusal and ending.

use std::fmt;

/// Why a connection was refused or ended: the same word in log, metric, status and JSON.
///
/// The words are part of the interface: one is added when a new cause appears, none is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The peer's chain does not lead to a CA of its own trust domain's bundle, or is malformed.
    BadChain,
    /// What arrived on a lane is none of the frames of `sekisho/1`, or breaks its rules.
    BadFrame,
    /// What arrived is no HTTP CONNECT request, or names no service of another site.
    BadRequest,
    /// The URI name of the certificate is not a SPIFFE ID that a workload may carry.
    BadSpiffeId,
    /// A CA that the peer's chain needs has left the bundle.
    BundleChanged,
    /// The proxy is shutting down, or the endpoint was removed.
    Drained,
    /// A certificate of the peer's chain has expired.
    Expired,
    /// The handshake was not complete in time.
    HandshakeTimeout,
    /// Nothing moved for as long as the endpoint's idle timeout.
    IdleTimeout,
    /// Key usages or basic constraints forbid the peer's certificate to be used here.
    KeyUsage,
    /// A bound was reached: handshakes in flight, connections, header size.
    Limit,
    /// The process on this host is not one of the endpoint's `local` users.
    LocalUser,
    /// The connection reached the endpoint's `max_age`.
    MaxAge,
    /// The peer sent no certificate.
    NoCertificate,
    /// This endpoint has no valid SVID of its own.
    NoIdentity,
    /// The peer's certificate carries no SPIFFE ID.
    NoSpiffeId,
    /// The peer's SPIFFE ID is not on the endpoint's `accept` list.
    NotAccepted,
    /// The SPIFFE ID that answered is not on the endpoint's `expect` list.
    NotExpected,
    /// What arrived is not a TLS ClientHello.
    NotTls,
    /// A certificate of the peer's chain is not valid yet.
    NotYetValid,
    /// Policy said no.
    PolicyDenied,
    /// Policy used up its budget before it decided.
    PolicyBudget,
    /// Policy failed while it decided.
    PolicyError,
    /// Policy gave no decision.
    PolicyUndefined,
    /// A PROXY protocol header was expected or not allowed, or was malformed.
    ProxyProtocol,
    /// The other side refused us with a TLS alert.
    RefusedByPeer,
    /// The peer's certificate carries more than one URI name.
    SeveralUris,
    /// The TLS handshake failed in a way no other reason names.
    TlsFailed,
    /// The peer offers no TLS version that the endpoint accepts.
    TlsVersion,
    /// The server name asked for belongs to no endpoint of this address.
    UnknownName,
    /// No bundle is trusted for the peer's trust domain.
    UnknownTrustDomain,
    /// No upstream answered.
    UpstreamUnreachable,
}

impl Reason {
    /// Every reason, in alphabetical order of variant; for documentation and metrics.
    pub const ALL: &'static [Self] = &[
        Self::BadChain,
        Self::BadFrame,
        Self::BadRequest,
        Self::BadSpiffeId,
        Self::BundleChanged,
        Self::Drained,
        Self::Expired,
        Self::HandshakeTimeout,
        Self::IdleTimeout,
        Self::KeyUsage,
        Self::Limit,
        Self::LocalUser,
        Self::MaxAge,
        Self::NoCertificate,
        Self::NoIdentity,
        Self::NoSpiffeId,
        Self::NotAccepted,
        Self::NotExpected,
        Self::NotTls,
        Self::NotYetValid,
        Self::PolicyBudget,
        Self::PolicyDenied,
        Self::PolicyError,
        Self::PolicyUndefined,
        Self::ProxyProtocol,
        Self::RefusedByPeer,
        Self::SeveralUris,
        Self::TlsFailed,
        Self::TlsVersion,
        Self::UnknownName,
        Self::UnknownTrustDomain,
        Self::UpstreamUnreachable,
    ];

    /// The stable word, as it stands in logs, metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadChain => "bad_chain",
            Self::BadFrame => "bad_frame",
            Self::BadRequest => "bad_request",
            Self::BadSpiffeId => "bad_spiffe_id",
            Self::BundleChanged => "bundle_changed",
            Self::Drained => "drained",
            Self::Expired => "expired",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::KeyUsage => "key_usage",
            Self::Limit => "limit",
            Self::LocalUser => "local_user",
            Self::MaxAge => "max_age",
            Self::NoCertificate => "no_certificate",
            Self::NoIdentity => "no_identity",
            Self::NoSpiffeId => "no_spiffe_id",
            Self::NotAccepted => "not_accepted",
            Self::NotExpected => "not_expected",
            Self::NotTls => "not_tls",
            Self::NotYetValid => "not_yet_valid",
            Self::PolicyBudget => "policy_budget",
            Self::PolicyDenied => "policy_denied",
            Self::PolicyError => "policy_error",
            Self::PolicyUndefined => "policy_undefined",
            Self::ProxyProtocol => "proxy_protocol",
            Self::RefusedByPeer => "refused_by_peer",
            Self::SeveralUris => "several_uris",
            Self::TlsFailed => "tls_failed",
            Self::TlsVersion => "tls_version",
            Self::UnknownName => "unknown_name",
            Self::UnknownTrustDomain => "unknown_trust_domain",
            Self::UpstreamUnreachable => "upstream_unreachable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn words_are_unique_and_snake_case() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count);
        assert!(words.iter().all(|word| {
            word.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        }));
    }
}
