//! The way of one connection through the stages, and its end.

mod dial;
mod lane;
mod request;
mod stay;
mod way;

use std::{net::SocketAddr, sync::Arc};

use sekisho_certs::Reason;
use tokio::net::{TcpStream, UnixStream};
use way::Established;

use crate::{
    Shared,
    accept::Table,
    handshake::gate::Handshaking,
    live::{self, Ending, Live},
    path,
    permit::Denied,
    transport::Transport,
};

/// A connection that has no way on.
#[derive(Debug)]
pub(crate) struct Refusal {
    reason: Reason,
    detail: String,
    claimed_id: Option<String>,
    policy_revision: Option<Arc<str>>,
}

impl Refusal {
    fn new(reason: Reason, detail: impl ToString) -> Self {
        Self {
            reason,
            detail: detail.to_string(),
            claimed_id: None,
            policy_revision: None,
        }
    }

    fn handshake(error: &crate::error::HandshakeError) -> Self {
        Self {
            claimed_id: error.claimed_id().map(ToString::to_string),
            ..Self::new(error.reason(), error)
        }
    }

    fn denied(denied: Denied) -> Self {
        Self {
            policy_revision: denied.policy_revision,
            ..Self::new(denied.reason, denied.detail)
        }
    }
}

/// Carries a TCP connection from accept to its end.
pub(crate) async fn tcp(
    shared: Arc<Shared>,
    table: Arc<Table>,
    stream: TcpStream,
    source: SocketAddr,
    handshaking: Option<Handshaking>,
) {
    // What the stages need is ten times what an idle connection does: each phase has a box of its
    // own, and the first is gone when the connection relays.
    let established = Box::pin(async move {
        let open = Open::begin(&shared, Some(source));
        let destination = stream.local_addr().ok();
        let path = path::look(&stream, source);
        if path.is_some() {
            open.live.details().listen_path = path;
        }
        let transport = Transport::Tcp(stream);
        let way = way::Way::new(&shared, &open.live, Some(source), destination);
        let established = match handshaking {
            Some(handshaking) => way.inbound(&table, transport, handshaking).await,
            None => way.outbound(&table, transport).await.map(Some),
        };
        decided(open, &table, established)
    })
    .await;
    go_on(established).await;
}

/// Carries a connection of a Unix socket from accept to its end.
pub(crate) async fn unix(shared: Arc<Shared>, table: Arc<Table>, stream: UnixStream) {
    let established = Box::pin(async move {
        let open = Open::begin(&shared, None);
        let way = way::Way::new(&shared, &open.live, None, None);
        let established = way.outbound(&table, Transport::Unix(stream)).await;
        decided(open, &table, established.map(Some))
    })
    .await;
    go_on(established).await;
}

/// Ends what was refused, and what has become a part of another connection.
fn decided(
    open: Open,
    table: &Table,
    established: Result<Option<Box<Established>>, Refusal>,
) -> Option<(Open, Box<Established>)> {
    match established {
        Ok(Some(established)) => Some((open, established)),
        Ok(None) => {
            open.joined();
            None
        }
        Err(refusal) => {
            open.refused(table, refusal);
            None
        }
    }
}

async fn go_on(established: Option<(Open, Box<Established>)>) {
    if let Some((open, established)) = established {
        Box::pin(stay::stay(open, established)).await;
    }
}

/// Refuses a connection that came when handshakes were at their bound.
pub(crate) fn turned_away(shared: &Arc<Shared>, table: &Table, source: Option<SocketAddr>) {
    let open = Open::begin(shared, source);
    let refusal = Refusal::new(Reason::Limit, "too many handshakes in flight (`limits`)");
    open.refused(table, refusal);
}

/// A connection in the registry; taken out, logged and counted at its end, however it comes.
struct Open {
    shared: Arc<Shared>,
    live: Arc<Live>,
    ended: bool,
}

impl Open {
    fn begin(shared: &Arc<Shared>, source: Option<SocketAddr>) -> Self {
        let live = shared.registry.begin(shared.context.clock.now(), source);
        Self {
            shared: Arc::clone(shared),
            live,
            ended: false,
        }
    }

    fn refused(mut self, table: &Table, refusal: Refusal) {
        let mut details = self.live.details();
        details.claimed_id = refusal.claimed_id;
        if refusal.policy_revision.is_some() {
            details.policy_revision = refusal.policy_revision;
        }
        if details.endpoint.is_none() {
            details.endpoint = table.likely().map(|endpoint| endpoint.name().to_owned());
        }
        drop(details);
        self.tell(&Ending {
            allowed: false,
            reason: Some(refusal.reason),
            detail: Some(refusal.detail),
            end: "refused",
        });
    }

    fn end(mut self, ending: &Ending) {
        self.tell(ending);
    }

    /// It is a lane of another connection from now on, which counts what moves.
    fn joined(mut self) {
        self.tell(&Ending {
            allowed: true,
            reason: None,
            detail: None,
            end: "lane",
        });
    }

    fn tell(&mut self, ending: &Ending) {
        self.ended = true;
        let endpoint = self.live.details().endpoint.clone();
        let counters = &self.live.counters;
        self.shared.metrics.connection_ended(
            endpoint.as_deref(),
            ending,
            counters.to_upstream(),
            counters.to_client(),
        );
        if self.shared.access_log {
            live::log(&self.live, ending);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            // Its task was ended with the process, or panicked.
            let allowed = self.live.details().relaying;
            self.tell(&Ending {
                allowed,
                reason: Some(Reason::Drained),
                detail: Some("ended before its end".into()),
                end: "cut",
            });
        }
        self.shared.registry.end(self.live.id);
    }
}
