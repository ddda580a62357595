//! Resumption that skips the signatures and nothing else.
//!
//! A resumed handshake shows no certificate: rustls hands out the chain of the handshake before. So
//! whoever uses a configuration with resumption verifies that chain again, by the trust and at the
//! time of now, and asks lists and policy as ever, before any byte moves
//! (`proxy/src/handshake.rs`). Tickets are numbers of entries in a store of ours (RFC 8446 §4.6.1,
//! "database lookup"), each good for one use; no key of ours opens them. There is never early data.

use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, Tls12Resumption},
    server::ServerSessionMemoryCache,
};

/// Sessions that a listening side remembers: some 2 KiB each, with a peer's chain.
const SESSIONS: usize = 4096;
/// Tickets for each handshake: one for the next connection, one for one beside it.
const TICKETS: usize = 2;
/// Server names that a forwarding side remembers tickets of: it has as many as targets.
const NAMES: usize = 64;

/// Lets peers resume.
pub(crate) fn serve(config: &mut ServerConfig) {
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.send_tls13_tickets = TICKETS;
    config.max_early_data_size = 0;
}

/// Resumes where a peer lets us.
pub(crate) fn ask(config: &mut ClientConfig) {
    config.resumption =
        Resumption::in_memory_sessions(NAMES).tls12_resumption(Tls12Resumption::Disabled);
    config.enable_early_data = false;
}
