//! Rego decisions.

/// Which way a connection goes, seen from this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A peer of another site, or of ours, comes in by mTLS.
    Inbound,
    /// A local client goes out.
    Outbound,
}
