//! The authority over the wire: TLS and the Unix socket, in one process, at a clock that is turned.
#![cfg(test)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod agents;
mod authorities;
mod federation;
mod harness;
mod host;
mod members;
mod nested;
mod pairwise;
