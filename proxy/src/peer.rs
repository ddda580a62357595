//! Who is at each end of a connection.

use sekisho_certs::{SpiffeId, VerifiedPeer};

use crate::local::LocalUser;

/// Who came in by the listening side.
#[derive(Clone, Debug)]
pub enum Client {
    /// A process of this host, at a plain side.
    Local(LocalUser),
    /// Plain TCP from another host that `from` allows.
    Remote,
    /// A process of this host that has closed its socket already, so that the kernel does not tell
    /// whose it was.
    Unknown,
    /// A verified SPIFFE ID, at an mTLS side.
    Workload(VerifiedPeer),
}

impl Client {
    /// Its SPIFFE ID, where it has one.
    #[must_use]
    pub const fn id(&self) -> Option<&SpiffeId> {
        match self {
            Self::Workload(peer) => Some(peer.id()),
            Self::Local(_) | Self::Remote | Self::Unknown => None,
        }
    }

    /// The verified chain, where it has one.
    #[must_use]
    pub const fn verified(&self) -> Option<&VerifiedPeer> {
        match self {
            Self::Workload(peer) => Some(peer),
            Self::Local(_) | Self::Remote | Self::Unknown => None,
        }
    }
}

/// Who answered at the forwarding side.
#[derive(Clone, Debug)]
pub struct Answerer {
    /// The target, as in the file.
    pub target: String,
    /// Its verified identity; `None` at a plain side.
    pub verified: Option<VerifiedPeer>,
}

/// Every peer of a connection that is known so far.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Who came.
    pub client: Client,
    /// Who answered; `None` until an upstream was dialled.
    pub upstream: Option<Answerer>,
}

impl Peers {
    /// The verified chains of this connection.
    pub fn verified(&self) -> impl Iterator<Item = &VerifiedPeer> {
        let upstream = self.upstream.as_ref();
        self.client
            .verified()
            .into_iter()
            .chain(upstream.and_then(|upstream| upstream.verified.as_ref()))
    }
}
