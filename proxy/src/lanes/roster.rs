//! Who is at the other end of each lane. The connection asks when trust changes or an SVID is about
//! to expire, while the relay has the lanes themselves.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use sekisho_certs::VerifiedPeer;
use tokio::sync::Notify;

/// The peers of a stream's lanes.
#[derive(Debug, Default)]
pub struct Roster {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    peers: BTreeMap<u64, VerifiedPeer>,
    /// Lanes that may not be used any more.
    barred: Vec<u64>,
    waker: Option<Waker>,
    counts: LaneCounts,
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

    pub(super) fn enter(&self, lane: u64, peer: VerifiedPeer) {
        self.state().peers.insert(lane, peer);
        self.news.notify_one();
    }

    /// Waits until a lane has come: its peer was verified by what held a little before.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn leave(&self, lane: u64) {
        self.state().peers.remove(&lane);
    }

    /// Lanes that were barred since the last time; later ones wake `waker`.
    pub(super) fn barred(&self, waker: &Waker) -> Vec<u64> {
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
        let best = state.peers.values().filter(|peer| trusted(peer));
        let best = best.max_by_key(|peer| peer.not_after())?.clone();
        let lost = state.peers.iter().filter(|(_, peer)| !trusted(peer));
        let lost: Vec<u64> = lost.map(|(lane, _)| *lane).collect();
        for lane in &lost {
            state.peers.remove(lane);
        }
        if !lost.is_empty() {
            state.barred.extend(lost);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
        Some(best)
    }
}
