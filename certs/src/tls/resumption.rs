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

/// The sessions of one endpoint's configurations, where they may be resumed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stores {
    sessions: Option<Arc<Sessions>>,
    tickets: Option<Arc<Tickets>>,
}

impl Stores {
    /// Forgets all of them: the next handshakes are full ones.
    pub(crate) fn forget(&self) {
        if let Some(sessions) = &self.sessions {
            sessions.forget();
        }
        if let Some(tickets) = &self.tickets {
            tickets.forget();
        }
    }
}

/// Lets peers resume.
pub(crate) fn serve(config: &mut ServerConfig, stores: &mut Stores) {
    let sessions = Arc::new(Sessions::default());
    stores.sessions = Some(Arc::clone(&sessions));
    config.session_storage = sessions;
    // One for each handshake: who keeps n connections busy has n after as many full handshakes, and
    // each resumed one brings the next.
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
}

/// Resumes where a peer lets us.
pub(crate) fn ask(config: &mut ClientConfig, stores: &mut Stores) {
    let tickets = Arc::new(Tickets::default());
    stores.tickets = Some(Arc::clone(&tickets));
    config.resumption = Resumption::store(tickets).tls12_resumption(Tls12Resumption::Disabled);
    config.enable_early_data = false;
}
