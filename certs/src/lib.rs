//! SPIFFE IDs, SVIDs, trust bundles, verification and the sources they come from.
//!
//! What this crate refuses to do: verify a peer by any bundle but that of the peer's own trust
//! domain, merge bundles, or hand out an identity that nobody asked for by name.

pub mod allowed;
pub mod bundle;
pub mod clock;
pub mod id;
pub mod issue;
pub mod members;
pub mod persist;
pub mod reason;
pub mod socket;
pub mod source;
pub mod store;
pub mod svid;
pub mod tls;
pub mod verify;
mod x509;

pub use allowed::Allowed;
pub use bundle::{BundleError, BundleSet, TrustBundle};
pub use clock::{Clock, SystemClock};
pub use id::{IdList, IdPattern, SpiffeId, TrustDomain};
pub use members::{Mark, Member, Members};
pub use reason::Reason;
pub use store::{Material, NotReady, StoreSpec, TlsContext};
pub use svid::{Svid, SvidError};
pub use verify::{Trust, VerifiedPeer, VerifyError};
pub use x509::{hex, sha256};
