//! A node's agent: it proves to the site's authority which node this is, to itself which process
//! asks, and hands to each process the SVIDs that are its own.
//!
//! The way of an identity: `attest` makes the node known to an authority (ours or a SPIRE server),
//! `sync` brings the entries that this node may serve, `sign` gets an SVID for each, `cache` keeps
//! them and tells whom they belong to, `workload` finds out who asks, `serve` answers.

pub mod selector;
pub mod workload;
