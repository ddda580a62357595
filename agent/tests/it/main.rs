//! An agent against an authority, both whole, over real sockets; the clock is turned.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod away;
mod back;
mod delegated;
mod evidence;
mod evidence_pod;
mod evidence_wire;
mod harness;
mod k8s_psat;
mod life;
mod members;
mod sds;
mod workload_api;
mod x509pop;
