//! Resumption that skips the signatures and nothing else.
//!
//! A resumed handshake shows no certificate: rustls hands out the chain of the handshake before. So
//! whoever uses a configuration with resumption verifies that chain again, by the trust and at the
//! time of now, and asks lists and policy as ever, before any byte moves
//! (`proxy/src/handshake.rs`). Tickets are names of entries in a store of ours (RFC 8446 §4.6.1,
//! "database lookup"), each good for one use; no key of ours opens them. There is never early data.
//!
//! The stores live and die with the configurations of one endpoint, which are built anew when its
//! SVID, its bundles or its lists change.

mod sessions;
mod tickets;

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, Tls12Resumption},
};

use sessions::Sessions;
use tickets::Tickets;

/// Lets peers resume.
pub(crate) fn serve(config: &mut ServerConfig) {
    config.session_storage = Arc::new(Sessions::default());
    // One for each handshake: who keeps n connections busy has n after as many full handshakes, and
    // each resumed one brings the next.
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
}

/// Resumes where a peer lets us.
pub(crate) fn ask(config: &mut ClientConfig) {
    config.resumption =
        Resumption::store(Arc::new(Tickets::default())).tls12_resumption(Tls12Resumption::Disabled);
    config.enable_early_data = false;
}
