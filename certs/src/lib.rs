//! SPIFFE IDs, SVIDs, trust bundles, verification and the sources they come from.
#![doc = ""]
pub mod clock;
pub mod id;
pub mod reason;

pub use clock::{Clock, SystemClock};
pub use id::{IdList, IdPattern, SpiffeId, TrustDomain};
pub use reason::Reason;
pub mod source;
pub mod tls;
