//! Who is at the other end of each lane. The connection asks when trust changes or an SVID is about
//! to expire, while the relay has the lanes themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use sekisho_certs::VerifiedPeer;
use tokio::{sync::Notify, time::Instant};

use crate::permit::Facts;

/// The peers of a stream's lanes.
#[derive(Debug, Default)]
pub struct Roster {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<u64, Member>,
    /// What the side that has the lanes does not know yet.
    verdicts: Vec<(u64, Verdict)>,
    waker: Option<Waker>,
    counts: LaneCounts,
}

/// What was decided of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be used.
    Allowed,
    /// It may not be used any more.
    Barred(&'static str),
}

/// One lane.
#[derive(Debug)]
struct Member {
    peer: VerifiedPeer,
    own: Option<Box<Own>>,
}

/// Of a lane that came by itself: its addresses are not those of the stream.
#[derive(Debug)]
struct Own {
    facts: Facts,
    /// It has been decided under what holds for the stream.
    is_decided: bool,
    /// When the decision must be asked again.
    expires: Option<Instant>,
}

impl State {
    fn tell(&mut self, verdicts: impl IntoIterator<Item = (u64, Verdict)>) {
        let before = self.verdicts.len();
        self.verdicts.extend(verdicts);
        let new = self.verdicts.get(before..).unwrap_or_default();
        if new.is_empty() {
            return;
        }
        for (lane, verdict) in new {
            if *verdict != Verdict::Allowed {
                self.members.remove(lane);
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What a stream has been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LaneCounts {
    /// Lanes now.
    pub open: usize,
    /// Lanes ever.
    pub opened: u64,
    /// Lanes that failed.
    pub lost: u64,
    /// Bytes sent more than once.
    pub repeated: u64,
}

impl Roster {
    /// How it went so far.
    #[must_use]
    pub fn counts(&self) -> LaneCounts {
        self.state().counts
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut LaneCounts)) {
        change(&mut self.state().counts);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane has come. One with `facts` of its own may not be used before [`Roster::decide`] has allowed
    /// it.
    pub(super) fn enter(&self, lane: u64, peer: VerifiedPeer, facts: Option<Facts>) {
        let own = facts.map(|facts| {
            Box::new(Own {
                facts,
                is_decided: false,
                expires: None,
            })
        });
        self.state().members.insert(lane, Member { peer, own });
        self.news.notify_one();
    }

    /// Waits until a lane has come: its peer was verified by what held a little before.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn leave(&self, lane: u64) {
        self.state().members.remove(&lane);
    }

    /// What was decided since the last time; what is later wakes `waker`.
    pub(super) fn verdicts(&self, waker: &Waker) -> Vec<(u64, Verdict)> {
        let mut state = self.state();
        if !state
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            state.waker = Some(waker.clone());
        }
        std::mem::take(&mut state.verdicts)
    }

    /// Bars all lanes of whose peers `trusted` is not true; where it is of none, they stay, for the
    /// stream is to end by what is wrong with its peer. Of the others, the peer whose SVID lives
    /// longest.
    pub(crate) fn sift(&self, trusted: impl Fn(&VerifiedPeer) -> bool) -> Option<VerifiedPeer> {
        let mut state = self.state();
        let peers = state.members.values().map(|member| &member.peer);
        let best = peers.filter(|peer| trusted(peer));
        let best = best.max_by_key(|peer| peer.not_after())?.clone();
        let members = state.members.iter();
        let lost = members.filter(|(_, member)| !trusted(&member.peer));
        let verdict = Verdict::Barred("its peer is not trusted any more");
        let lost: Vec<_> = lost.map(|(lane, _)| (*lane, verdict)).collect();
        state.tell(lost);
        Some(best)
    }

    /// Has each lane that came by itself decided by its own facts: a lane may do no more than the stream
    /// could do where the lane is. Those that are new, and those whose decision is over; or `all` of them.
    /// One that is refused is barred. Returns when the first decision of those that stay is over.
    pub(crate) fn decide<Denied>(
        &self,
        all: bool,
        mut decide: impl FnMut(&mut Facts, &VerifiedPeer) -> Result<Option<Instant>, Denied>,
    ) -> Option<Instant> {
        let now = Instant::now();
        // A policy takes its time, and others want to know how many lanes there are.
        let mut members = std::mem::take(&mut self.state().members);
        let (mut verdicts, mut first) = (Vec::new(), None::<Instant>);
        for (lane, member) in &mut members {
            let Some(own) = &mut member.own else {
                continue;
            };
            let is_over = own.expires.is_some_and(|expires| expires <= now);
            if all || is_over || !own.is_decided {
                match decide(&mut own.facts, &member.peer) {
                    Ok(expires) => {
                        own.expires = expires;
                        if !std::mem::replace(&mut own.is_decided, true) {
                            verdicts.push((*lane, Verdict::Allowed));
                        }
                    }
                    Err(_) => {
                        verdicts.push((*lane, Verdict::Barred("it is not allowed")));
                        continue;
                    }
                }
            }
            first = first.into_iter().chain(own.expires).min();
        }
        let mut state = self.state();
        state.members.append(&mut members);
        state.tell(verdicts);
        first
    }
}
