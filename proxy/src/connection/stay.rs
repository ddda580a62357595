//! A connection while it relays: decided again when something changes, cut when its time is over,
//! moved when its worker has too much to do.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use sekisho_certs::{Reason, VerifiedPeer};
use sekisho_record::Counts;
use tokio::time::Instant;

use super::{
    Open, Refusal,
    way::{At, Decided, Established, decide},
};
use crate::{
    drain::Phase,
    handshake::alert,
    lanes::{LanesError, Roster},
    live::{Ending, Live},
    peer::{Client, Peers},
    permit::Permit,
    relay::{
        RelayError, Side,
        tcp::{Ended, relay},
    },
    stream::Stream,
    wire::DetachedWire,
    worker::Flow,
};

/// Far enough away to mean never.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// A refusal by the other side's permit comes a round trip after the handshake; what comes later
/// ends a connection that was allowed.
const JUDGED_WITHIN: Duration = Duration::from_secs(3);

/// Why a relay is interrupted.
enum Wake {
    Changed,
    /// A lane has come.
    News,
    Cut(Reason, String),
    Deadline,
    Relayed(Result<Ended, RelayError>),
}

/// Why a relay has ended.
enum Why {
    Cut(Refusal),
    Closed,
    Failed(RelayError),
}

/// A connection while it relays.
struct Stay {
    open: Open,
    /// In a box: a future keeps what it is given once for each stage that passes it on.
    established: Box<Established>,
    flow: Flow,
    /// When the last decision must be asked again.
    expires: Option<Instant>,
}

/// Relays to the end, on this worker or, where it is told to, on another.
pub(super) async fn stay(open: Open, established: Box<Established>) {
    open.live.details().relaying = true;
    open.live.counters.begin_relay();
    let flow = open.shared.workers.flow();
    let stay = Stay {
        expires: established.decided.permit.expires(),
        open,
        established,
        flow,
    };
    stay.run().await;
}

impl Stay {
    async fn run(mut self) {
        match self.relay().await {
            Ok(worker) => self.depart(worker),
            Err(why) => {
                let Self {
                    open, established, ..
                } = self;
                // In a box: telling a peer why needs more than an idle connection has.
                let Established {
                    client, upstream, ..
                } = &*established;
                let (one, other) = (client.key_updates(), upstream.key_updates());
                let updates = Counts {
                    sent: one.sent + other.sent,
                    received: one.received + other.received,
                };
                open.live.details().key_updates = updates;
                let metrics = &open.shared.metrics;
                metrics.key_updates(updates.sent, updates.received);
                let ending = Box::pin(finish(&open.live, established, why)).await;
                open.end(&ending);
            }
        }
    }

    /// Goes on with another worker. What moves is all there is of a connection: two sockets, their
    /// sessions, what is under way, who is at either end, and the permit.
    fn depart(self, worker: usize) {
        let Self {
            open,
            established,
            mut flow,
            expires,
        } = self;
        let shared = Arc::clone(&open.shared);
        let Established {
            decided,
            client,
            upstream,
        } = *established;
        let sockets = detach(client).and_then(|client| Ok((client, detach(upstream)?)));
        // A box, since a task that ends by spawning one of its own kind has no size otherwise.
        let onward: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let attached =
                sockets.and_then(|(client, upstream)| Ok((client.attach()?, upstream.attach()?)));
            match attached {
                Ok((client, upstream)) => {
                    flow.arrive(worker);
                    let established = Box::new(Established {
                        decided,
                        client: Stream::Wire(client),
                        upstream: Stream::Wire(upstream),
                    });
                    let stay = Self {
                        open,
                        established,
                        flow,
                        expires,
                    };
                    stay.run().await;
                }
                Err(error) => open.end(&Ending {
                    allowed: true,
                    reason: None,
                    detail: Some(format!(
                        "the system did not let it change its thread: {error}"
                    )),
                    end: "reset",
                }),
            }
        });
        shared.workers.spawn_on(worker, onward);
    }

    /// Relays until the end, or until another worker is to go on. Every change of the endpoint, and
    /// the end of a decision's `ttl`, has the connection decided again; bytes under way stay where
    /// they are meanwhile.
    async fn relay(&mut self) -> Result<usize, Why> {
        let Open { shared, live, .. } = &self.open;
        let Established {
            decided,
            client,
            upstream,
        } = &mut *self.established;
        let Decided {
            at,
            facts,
            peers,
            permit,
            ..
        } = decided;
        let mut phase = shared.drain.subscribe();
        let rosters = Rosters {
            client: client.roster(),
            upstream: upstream.roster(),
        };
        {
            let mut details = live.details();
            details.client_lanes.clone_from(&rosters.client);
            details.upstream_lanes.clone_from(&rosters.upstream);
        }
        let relay = relay(permit, client, upstream, &live.counters, &self.flow);
        let mut relay = std::pin::pin!(relay);
        let expires = &mut self.expires;
        let clock = Times {
            live,
            today: &*shared.context.clock,
        };
        loop {
            rosters.refresh(at, peers);
            let deadline = clock.deadline(at, peers, *expires);
            let wake = tokio::select! {
                biased;
                changed = at.changes.changed() => match changed {
                    Ok(()) => Wake::Changed,
                    Err(_) => Wake::Cut(Reason::Drained, "the endpoint was removed".into()),
                },
                _ = phase.wait_for(|phase| *phase == Phase::Closed) => {
                    Wake::Cut(Reason::Drained, "the proxy is shutting down".into())
                }
                // Before the relay: that may use up what a task has in a turn.
                () = tokio::time::sleep_until(deadline) => Wake::Deadline,
                () = rosters.news() => Wake::News,
                ended = relay.as_mut() => Wake::Relayed(ended),
            };
            let is_changed = at.changes.has_changed().unwrap_or(true);
            let all = match wake {
                Wake::Changed => true,
                Wake::News => is_changed,
                Wake::Cut(..) | Wake::Deadline | Wake::Relayed(_) => false,
            };
            let decided = match wake {
                Wake::Relayed(Ok(Ended::Parked(worker))) => return Ok(worker),
                Wake::Relayed(Ok(Ended::Closed)) => return Err(Why::Closed),
                Wake::Relayed(Err(error)) => return Err(Why::Failed(error)),
                Wake::Cut(reason, detail) => Err(Refusal::new(reason, detail)),
                Wake::Changed | Wake::News => at.refresh().and_then(|()| {
                    rosters.refresh(at, peers);
                    decide(live, &at.snapshot, facts, peers)
                }),
                Wake::Deadline => match rosters.overdue(&clock, at, peers) {
                    Some((reason, detail)) => Err(Refusal::new(reason, detail)),
                    None if expires.is_some_and(|expires| expires <= Instant::now()) => {
                        decide(live, &at.snapshot, facts, peers)
                    }
                    // Something moved since the deadline was set.
                    None => continue,
                },
            };
            match decided {
                Ok(renewed) => {
                    let lanes = rosters.decide(all, at, peers);
                    *expires = renewed.expires().into_iter().chain(lanes).min();
                }
                Err(refusal) => return Err(Why::Cut(refusal)),
            }
        }
    }
}

/// Who is at the other end of the lanes of either side, where it has lanes.
struct Rosters {
    client: Option<Arc<Roster>>,
    upstream: Option<Arc<Roster>>,
}

impl Rosters {
    /// What is over, by the peers that speak for the stream now.
    fn overdue(&self, clock: &Times<'_>, at: &At, peers: &mut Peers) -> Option<(Reason, String)> {
        self.refresh(at, peers);
        clock.overdue(at, peers)
    }

    /// Decides for lanes that came to us by themselves, as for the stream: what a policy says of addresses is
    /// about each of them. Returns when the first of these decisions is over.
    fn decide(&self, all: bool, at: &At, peers: &Peers) -> Option<Instant> {
        self.client.as_ref()?.decide(all, |facts, peer| {
            let peers = Peers {
                client: Client::Workload(peer.clone()),
                upstream: peers.upstream.clone(),
            };
            let permit = Permit::renew(&at.snapshot, facts, &peers);
            if let Err(denied) = &permit {
                let source = facts.source.map(|source| source.to_string());
                tracing::info!(
                    endpoint = at.snapshot.spec.name,
                    peer = %peer.id(),
                    source,
                    reason = denied.reason.as_str(),
                    detail = denied.detail,
                    "a lane is closed, and its stream goes on by others"
                );
            }
            permit.map(|permit| permit.expires())
        })
    }

    /// Waits until a lane has come at either side.
    async fn news(&self) {
        if self.client.is_none() && self.upstream.is_none() {
            return std::future::pending().await;
        }
        let of = async |side: &Option<Arc<Roster>>| match side {
            Some(roster) => roster.news().await,
            None => std::future::pending().await,
        };
        // In a box: connections without lanes do not make room for it.
        Box::pin(async {
            tokio::select! {
                () = of(&self.client) => {}
                () = of(&self.upstream) => {}
            }
        })
        .await;
    }

    /// Lanes whose peer is not trusted any more go. The others' peer with the youngest SVID speaks for
    /// the stream: it outlives the one that came first.
    fn refresh(&self, at: &At, peers: &mut Peers) {
        let trust = at.snapshot.material.trust();
        let trusted = |peer: &VerifiedPeer| trust.still_trusts(peer);
        if let Some(peer) = self.client.as_ref().and_then(|roster| roster.sift(trusted)) {
            peers.client = Client::Workload(peer);
        }
        if let Some(peer) = self
            .upstream
            .as_ref()
            .and_then(|roster| roster.sift(trusted))
            && let Some(upstream) = &mut peers.upstream
        {
            upstream.verified = Some(peer);
        }
    }
}

fn detach(stream: Stream) -> io::Result<DetachedWire> {
    match stream {
        Stream::Wire(wire) => wire.detach(),
        // Only wires are told to move.
        Stream::Server(_) | Stream::Client(_) | Stream::Lanes(_) => {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

/// Says goodbye to both sides.
async fn finish(live: &Live, established: Box<Established>, why: Why) -> Ending {
    let Established {
        client, upstream, ..
    } = *established;
    match why {
        Why::Cut(refusal) => {
            if refusal.policy_revision.is_some() {
                live.details().policy_revision = refusal.policy_revision;
            }
            let forbidden = !matches!(
                refusal.reason,
                Reason::Drained | Reason::IdleTimeout | Reason::MaxAge
            );
            if forbidden {
                let reason = refusal.reason;
                tokio::join!(alert::deny(client, reason), alert::deny(upstream, reason));
            } else {
                // Nobody did wrong, but the stream is not whole either.
                for stream in [client, upstream] {
                    reset(stream, refusal.reason).await;
                }
            }
            Ending {
                allowed: true,
                reason: Some(refusal.reason),
                detail: Some(refusal.detail),
                end: "cut",
            }
        }
        Why::Closed => Ending {
            allowed: true,
            reason: None,
            detail: None,
            end: "closed",
        },
        Why::Failed(error) => {
            let ending = failed(live, &error);
            // What broke at one side must not look whole at the other.
            let (broken, other) = match error.side {
                Side::Client => (client, upstream),
                Side::Upstream => (upstream, client),
            };
            let reason = ending.reason.unwrap_or(Reason::UpstreamUnreachable);
            reset(other, reason).await;
            match error
                .record_error()
                .and_then(sekisho_record::RecordError::alert)
            {
                Some(alert) => alert::tell(broken, alert).await,
                None => reset(broken, reason).await,
            }
            ending
        }
    }
}

/// Closes a stream that is not whole, so that the other side sees it.
async fn reset(stream: Stream, reason: Reason) {
    match stream {
        Stream::Lanes(lanes) => lanes.give_up(reason).await,
        other => other.abort_on_close(),
    }
}

fn failed(live: &Live, error: &RelayError) -> Ending {
    let word = match error.lanes_error() {
        Some(LanesError::Denied(word)) => Some(format!("refused: {word}")),
        Some(LanesError::Reset(word)) => Some(format!("gave the stream up: {word}")),
        Some(LanesError::Frame(_)) => {
            return Ending {
                allowed: true,
                reason: Some(Reason::BadFrame),
                detail: Some(error.to_string()),
                end: "cut",
            };
        }
        Some(LanesError::Alone(_) | LanesError::Tls(_)) | None => error
            .alert()
            .map(|alert| format!("refused with the TLS alert {alert}")),
    };
    let Some(word) = word else {
        return Ending {
            allowed: true,
            reason: None,
            detail: Some(error.to_string()),
            end: error.word(),
        };
    };
    let counters = &live.counters;
    // TLS 1.3 lets a client finish before the server has judged it: its answer is the first
    // thing that comes back.
    let at_once = counters
        .relaying()
        .is_some_and(|time| time <= JUDGED_WITHIN);
    let before_anything = error.side == Side::Upstream && counters.to_client() == 0 && at_once;
    Ending {
        allowed: !before_anything,
        reason: Some(Reason::RefusedByPeer),
        detail: Some(format!("{}: the other side {word}", error.side.as_str())),
        end: if before_anything { "refused" } else { "cut" },
    }
}

/// When a connection's time is over.
struct Times<'a> {
    live: &'a Live,
    today: &'a dyn sekisho_certs::Clock,
}

impl Times<'_> {
    /// When the next look at the clock is due.
    fn deadline(&self, at: &At, peers: &Peers, expires: Option<Instant>) -> Instant {
        let spec = &at.snapshot.spec;
        let counters = &self.live.counters;
        let age = spec.max_age.map(|age| counters.started() + age);
        let idle = spec
            .timeouts
            .idle
            .map(|idle| counters.last_activity() + idle);
        let expiry = spec.cut_at_expiry.then(|| self.expiry(peers)).flatten();
        [age, idle, expiry, expires]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| Instant::now() + NEVER)
    }

    /// When the first of the peers' SVIDs expires.
    fn expiry(&self, peers: &Peers) -> Option<Instant> {
        let now = self.today.now();
        let ends = peers.verified().map(VerifiedPeer::not_after).min()?;
        Some(Instant::now() + ends.duration_since(now).unwrap_or_default())
    }

    /// What is over, if anything is.
    fn overdue(&self, at: &At, peers: &Peers) -> Option<(Reason, String)> {
        let spec = &at.snapshot.spec;
        let counters = &self.live.counters;
        let now = Instant::now();
        if let Some(age) = spec.max_age
            && counters.started() + age <= now
        {
            return Some((Reason::MaxAge, format!("open for {age:?} (`max_age`)")));
        }
        if let Some(idle) = spec.timeouts.idle
            && counters.last_activity() + idle <= now
        {
            let detail = format!("nothing moved for {idle:?} (`timeouts.idle`)");
            return Some((Reason::IdleTimeout, detail));
        }
        // By the clock and not by the deadline: that one was an estimate of it.
        let today = self.today.now();
        let expired = |peer: &VerifiedPeer| peer.not_after() <= today;
        if spec.cut_at_expiry && peers.verified().any(expired) {
            let detail = "the peer's SVID expired (`cut_at_expiry`)".to_owned();
            return Some((Reason::Expired, detail));
        }
        None
    }
}
