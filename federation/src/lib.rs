//! Federation between sites (SPIFFE_Federation.md): how the keys of another trust domain come here, and
//! how those of ours reach who knows nothing of SPIFFE (OpenID Connect).
//!
//! What this crate refuses to do: take a bundle from an endpoint that has not proven who it is by the
//! profile that an administrator has named; and guess any of trust domain, address and profile from
//! one another (§7.2); and answer by a name that is not on the list.

pub mod acme;
pub mod client;
mod dial;
pub mod directory;
pub mod endpoint;
mod http;
pub mod oidc;
pub mod places;
mod rate;
