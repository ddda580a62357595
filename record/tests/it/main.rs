//! Our record layer against rustls' own, after a real handshake between the two.
#![cfg(test)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod differential;
mod oracle;
mod tickets;
