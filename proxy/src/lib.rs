//! The way of a connection: accept, handshake, peer, permit, relay, upstream.
pub mod endpoint;
