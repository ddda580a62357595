//! SPIRE's server API and what SPIRE has not (`spire-api/proto/`): what a call means.

mod agent;
mod bundle;
mod debug;
mod directories;
mod entry;
mod federation_admin;
mod health;
mod local_authority;
mod logger;
mod members;
pub(crate) mod status;
mod svid;
mod trust_domain;
mod wire;

pub use agent::AgentService;
pub use bundle::BundleService;
pub(crate) use bundle::edit::{fetched, is_usable_key};
pub use debug::DebugService;
pub use entry::{EntryService, OURS};
pub use federation_admin::FederationAdminService;
pub use health::HealthService;
pub use local_authority::{FORCE, LocalAuthorityService};
pub use logger::{Level, LogLevel, LoggerService};
pub use members::MembersService;
pub use svid::SvidService;
pub use trust_domain::TrustDomainService;
