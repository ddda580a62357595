//! A node's agent: it proves to the site's authority which node this is, to itself which process
//! asks, and hands to each process the SVIDs that are its own.
//!
//! The way of an identity: `attest` makes the node known to an authority (ours or a SPIRE server),
//! `sync` brings the entries that this node may serve, `sign` gets an SVID for each, `state` holds
//! them and `cache` keeps them on disk, `workload` finds out who asks, `serve` answers.

pub mod attest;
pub mod bundle;
pub mod cache;
pub mod delegate;
pub mod entry;
pub mod introducer;
pub mod jwt;
pub mod members;
pub mod pace;
pub mod run;
pub mod selector;
pub mod serve;
pub mod server;
pub mod sign;
pub mod state;
pub mod svid;
pub mod sync;
pub mod workload;
