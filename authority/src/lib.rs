//! A site's authority: its CA, the entries that say which workload has which SPIFFE ID, and the
//! attestation of nodes, behind SPIRE's server API.
//!
//! What this crate refuses to do: issue an ID outside of its own trust domain, an ID that no entry
//! gives to the caller, or anything at all to a node that has not been attested; and keep a change
//! without its line in the audit log.

pub mod api;
pub mod attest;
pub mod authorized;
pub mod ca;
pub mod caller;
pub mod core;
pub mod directory;
pub mod entry;
mod epoch;
pub mod federation;
pub mod inside;
pub mod limit;
pub mod members;
pub mod serve;
pub mod store;
