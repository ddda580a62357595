//! A connection while it relays: decided again when something changes, cut when its time is over.

use std::time::Duration;

use sekisho_certs::{Reason, VerifiedPeer};
use tokio::time::Instant;

use super::{
    Refusal,
    way::{At, Way},
};
use crate::{
    drain::Phase,
    handshake::alert,
    peer::Peers,
    permit::Permit,
    record::Ending,
    relay::{self, RelayError, Side},
    stream::Stream,
};

/// Far enough away to mean never.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// A refusal by the other side's permit comes a round trip after the handshake; what comes later
/// ends a connection that was allowed.
const JUDGED_WITHIN: Duration = Duration::from_secs(3);

/// Why a relay is interrupted.
enum Wake {
    Changed,
    Cut(Reason, String),
    Deadline,
    Relayed(Result<(), RelayError>),
}

impl Way<'_> {
    /// Relays until the end. Every change of the endpoint, and the end of a decision's `ttl`, has
    /// the connection decided again; bytes under way stay where they are meanwhile.
    pub(super) async fn stay(
        mut self,
        mut at: At,
        mut client: Stream,
        mut upstream: Stream,
        peers: Peers,
        permit: Permit,
    ) -> Ending {
        self.live.details().relaying = true;
        self.live.counters.begin_relay();
        let mut phase = self.shared.drain.subscribe();
        let cut = {
            let live = self.live;
            let relay = relay::tcp::relay(&permit, &mut client, &mut upstream, &live.counters);
            let mut relay = std::pin::pin!(relay);
            let mut expires = permit.expires();
            loop {
                let deadline = self.deadline(&at, &peers, expires);
                let wake = tokio::select! {
                    biased;
                    changed = at.changes.changed() => match changed {
                        Ok(()) => Wake::Changed,
                        Err(_) => Wake::Cut(Reason::Drained, "the endpoint was removed".into()),
                    },
                    _ = phase.wait_for(|phase| *phase == Phase::Closed) => {
                        Wake::Cut(Reason::Drained, "the proxy is shutting down".into())
                    }
                    ended = relay.as_mut() => Wake::Relayed(ended),
                    () = tokio::time::sleep_until(deadline) => Wake::Deadline,
                };
                let decided = match wake {
                    Wake::Relayed(ended) => break Err(ended),
                    Wake::Cut(reason, detail) => Err(Refusal::new(reason, detail)),
                    Wake::Changed => at
                        .refresh()
                        .and_then(|()| self.decide(&at.snapshot, &peers)),
                    Wake::Deadline => match self.overdue(&at, &peers) {
                        Some((reason, detail)) => Err(Refusal::new(reason, detail)),
                        None if expires.is_some_and(|expires| expires <= Instant::now()) => {
                            self.decide(&at.snapshot, &peers)
                        }
                        // Something moved since the deadline was set.
                        None => continue,
                    },
                };
                match decided {
                    Ok(renewed) => expires = renewed.expires(),
                    Err(refusal) => break Ok(refusal),
                }
            }
        };
        match cut {
            Ok(refusal) => {
                if refusal.policy_revision.is_some() {
                    self.live.details().policy_revision = refusal.policy_revision;
                }
                let forbidden = !matches!(
                    refusal.reason,
                    Reason::Drained | Reason::IdleTimeout | Reason::MaxAge
                );
                if forbidden {
                    tokio::join!(alert::deny(client), alert::deny(upstream));
                } else {
                    // Nobody did wrong, but the stream is not whole either.
                    client.transport().abort_on_close();
                    upstream.transport().abort_on_close();
                }
                Ending {
                    allowed: true,
                    reason: Some(refusal.reason),
                    detail: Some(refusal.detail),
                    end: "cut",
                }
            }
            Err(Ok(())) => Ending {
                allowed: true,
                reason: None,
                detail: None,
                end: "closed",
            },
            Err(Err(error)) => {
                // What broke at one side must not look whole at the other.
                client.transport().abort_on_close();
                upstream.transport().abort_on_close();
                self.failed(&error)
            }
        }
    }

    fn failed(&self, error: &RelayError) -> Ending {
        let Some(alert) = error.alert() else {
            return Ending {
                allowed: true,
                reason: None,
                detail: Some(error.to_string()),
                end: error.word(),
            };
        };
        let counters = &self.live.counters;
        // TLS 1.3 lets a client finish before the server has judged it: its answer is the first
        // thing that comes back.
        let at_once = counters
            .relaying()
            .is_some_and(|time| time <= JUDGED_WITHIN);
        let before_anything = error.side == Side::Upstream && counters.to_client() == 0 && at_once;
        Ending {
            allowed: !before_anything,
            reason: Some(Reason::RefusedByPeer),
            detail: Some(format!(
                "{}: the other side refused with the TLS alert {alert}",
                error.side.as_str()
            )),
            end: if before_anything { "refused" } else { "cut" },
        }
    }

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
        let now = self.shared.context.clock.now();
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
        let today = self.shared.context.clock.now();
        let expired = |peer: &VerifiedPeer| peer.not_after() <= today;
        if spec.cut_at_expiry && peers.verified().any(expired) {
            let detail = "the peer's SVID expired (`cut_at_expiry`)".to_owned();
            return Some((Reason::Expired, detail));
        }
        None
    }
}
