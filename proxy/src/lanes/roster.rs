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
    /// Lanes that may not be used any more, and why.
    barred: Vec<(u64, &'static str)>,
    waker: Option<Waker>,
    counts: LaneCounts,
}

/// One lane.
#[derive(Debug)]
struct Member {
    peer: VerifiedPeer,
    /// How it came, where it came by itself: its addresses are not those of the stream.
    facts: Option<Box<Facts>>,
}

impl State {
    fn bar(&mut self, lanes: Vec<u64>, why: &'static str) {
        if lanes.is_empty() {
            return;
        }
        for lane in &lanes {
            self.members.remove(lane);
        }
        self.barred
            .extend(lanes.into_iter().map(|lane| (lane, why)));
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

    pub(super) fn enter(&self, lane: u64, peer: VerifiedPeer, facts: Option<Box<Facts>>) {
        let member = Member { peer, facts };
        self.state().members.insert(lane, member);
        self.news.notify_one();
    }

    /// Waits until a lane has come: its peer was verified by what held a little before.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn leave(&self, lane: u64) {
        self.state().members.remove(&lane);
    }

    /// Lanes that were barred since the last time; later ones wake `waker`.
    pub(super) fn barred(&self, waker: &Waker) -> Vec<(u64, &'static str)> {
        let mut state = self.state();
        if !state
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            state.waker = Some(waker.clone());
        }
        std::mem::take(&mut state.barred)
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
        let lost = lost.map(|(lane, _)| *lane).collect();
        state.bar(lost, "its peer is not trusted any more");
        Some(best)
    }

    /// Has each lane that came by itself decided again, by its own facts, and bars those that are refused:
    /// a lane may do no more than the stream could do where the lane is. Returns when the first decision
    /// of those that stay must be asked again.
    pub(crate) fn decide<Denied>(
        &self,
        mut decide: impl FnMut(&mut Facts, &VerifiedPeer) -> Result<Option<Instant>, Denied>,
    ) -> Option<Instant> {
        let mut state = self.state();
        let (mut refused, mut first) = (Vec::new(), None::<Instant>);
        for (lane, member) in &mut state.members {
            let Some(facts) = &mut member.facts else {
                continue;
            };
            match decide(facts, &member.peer) {
                Ok(expires) => first = first.into_iter().chain(expires).min(),
                Err(_) => refused.push(*lane),
            }
        }
        state.bar(refused, "it is not allowed any more");
        first
    }
}
