//! SPIRE's server API (`spire-api/proto/`): what a call means.

mod agent;
mod bundle;
mod debug;
mod entry;
mod local_authority;
pub(crate) mod status;
mod svid;
mod wire;

pub use agent::AgentService;
pub use bundle::BundleService;
pub use debug::DebugService;
pub use entry::EntryService;
pub use local_authority::LocalAuthorityService;
pub use svid::SvidService;
