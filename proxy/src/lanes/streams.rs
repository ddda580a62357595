//! The streams that lanes may join, and how many lanes each peer has.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize},
    },
};

use sekisho_certs::SpiffeId;
use sekisho_lanes::StreamId;
use tokio::sync::mpsc;

use super::Arrival;

/// Why a lane cannot be one of a stream's. A peer is told the same of all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("a lane for a stream that is not there")]
    Unknown,
    #[error("a lane of {0} for a stream of another peer")]
    Peer(String),
    #[error("a lane for a stream at another endpoint")]
    Endpoint,
    #[error("a stream with {0} lanes wants one more")]
    Lanes(u8),
    #[error("{0} lanes of this peer are open (`limits.lanes`)")]
    Limit(usize),
    #[error(
        "three quarters of {0} connections are there (`limits.connections`), the rest is for streams"
    )]
    Connections(usize),
    #[error("a new stream with the name of one that is there")]
    Taken,
}

impl JoinError {
    pub(crate) const fn is_limit(&self) -> bool {
        matches!(self, Self::Lanes(_) | Self::Limit(_) | Self::Connections(_))
    }
}

/// Who has lanes: one peer at one endpoint.
type Holder = (String, SpiffeId);

/// The streams of a process.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    state: Mutex<State>,
    totals: Totals,
}

/// Lanes of all streams, dialled and accepted.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) open: AtomicUsize,
    pub(crate) lost: AtomicU64,
    /// Bytes sent more than once, of streams that ended.
    pub(crate) repeated: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<StreamId, Known>,
    /// Streams that there were: a name may come again, and is another stream's then.
    entered: u64,
    lanes: HashMap<Holder, usize>,
}

#[derive(Debug)]
struct Known {
    endpoint: String,
    peer: SpiffeId,
    number: u64,
    lanes: u8,
    most: u8,
    sender: mpsc::Sender<Arrival>,
}

/// A stream that lanes may join, until this is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    streams: Arc<Streams>,
    stream: StreamId,
    most: u8,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
}

impl Registered {
    pub(super) const fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    pub(crate) const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Most lanes that the stream may have.
    pub(crate) const fn most(&self) -> u8 {
        self.most
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.streams.state().streams.remove(&self.stream);
    }
}

/// One lane among those of its stream and of its peer, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    streams: Arc<Streams>,
    stream: StreamId,
    number: u64,
    /// Whose it is, of a further lane.
    holder: Option<Holder>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.streams.state();
        let known = state.streams.get_mut(&self.stream);
        if let Some(known) = known.filter(|known| known.number == self.number) {
            known.lanes = known.lanes.saturating_sub(1);
        }
        if let Some(holder) = self.holder.take()
            && let Entry::Occupied(mut lanes) = state.lanes.entry(holder)
        {
            *lanes.get_mut() -= 1;
            if *lanes.get() == 0 {
                lanes.remove();
            }
        }
    }
}

impl State {
    /// Counts one more lane of a peer.
    fn hold(&mut self, holder: &Holder, limit: usize) -> Result<(), JoinError> {
        let held = self.lanes.entry(holder.clone()).or_default();
        if *held >= limit.max(1) {
            return Err(JoinError::Limit(limit));
        }
        *held += 1;
        Ok(())
    }
}

impl Streams {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new stream with its first lane, which is one of the endpoint's connections like any
    /// other; it may have `most` of them.
    ///
    /// # Errors
    /// When the name is not new.
    pub(crate) fn enter(
        self: &Arc<Self>,
        stream: StreamId,
        endpoint: &str,
        peer: &SpiffeId,
        most: u8,
    ) -> Result<(Registered, Place), JoinError> {
        let mut state = self.state();
        if state.streams.contains_key(&stream) {
            return Err(JoinError::Taken);
        }
        let (sender, arrivals) = mpsc::channel(usize::from(most.max(1)));
        state.entered += 1;
        let number = state.entered;
        let known = Known {
            endpoint: endpoint.to_owned(),
            peer: peer.clone(),
            number,
            lanes: 1,
            most: most.max(1),
            sender,
        };
        state.streams.insert(stream, known);
        let registered = Registered {
            streams: Arc::clone(self),
            stream,
            most: most.max(1),
            arrivals,
        };
        let place = Place {
            streams: Arc::clone(self),
            stream,
            number,
            holder: None,
        };
        Ok((registered, place))
    }

    /// A place for one more lane of a stream, and where to bring it; and how many the stream may have.
    /// Its peer may have `limit` of them, of all its streams at this endpoint.
    ///
    /// # Errors
    /// When this peer may not have it here.
    pub(crate) fn join(
        self: &Arc<Self>,
        stream: StreamId,
        endpoint: &str,
        peer: &SpiffeId,
        limit: usize,
    ) -> Result<(Place, mpsc::Sender<Arrival>, u8), JoinError> {
        let mut state = self.state();
        let known = state.streams.get(&stream).ok_or(JoinError::Unknown)?;
        if known.endpoint != endpoint {
            return Err(JoinError::Endpoint);
        }
        if known.peer != *peer {
            return Err(JoinError::Peer(peer.to_string()));
        }
        // As many again: the peer may know of lanes that are lost, and we not yet.
        if known.lanes >= known.most.saturating_mul(2) {
            return Err(JoinError::Lanes(known.lanes));
        }
        let (sender, most, number) = (known.sender.clone(), known.most, known.number);
        let holder = (endpoint.to_owned(), peer.clone());
        state.hold(&holder, limit)?;
        if let Some(known) = state.streams.get_mut(&stream) {
            known.lanes += 1;
        }
        let place = Place {
            streams: Arc::clone(self),
            stream,
            number,
            holder: Some(holder),
        };
        Ok((place, sender, most))
    }

    pub(crate) const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Streams that are there now, and lanes of all of them.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.streams.len(), state.lanes.values().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::try_from(text).unwrap()
    }

    const STREAM: StreamId = StreamId([1; 16]);

    #[test]
    fn only_the_same_peer_joins_at_the_same_endpoint() {
        let streams = Arc::new(Streams::default());
        let (a, b) = (id("spiffe://a.example/x"), id("spiffe://b.example/x"));
        let (registered, place) = streams.enter(STREAM, "mdx", &a, 1).unwrap();
        let join = |peer, endpoint| {
            streams
                .join(STREAM, endpoint, peer, 64)
                .map(|joined| joined.0)
        };
        assert_eq!(join(&b, "mdx").unwrap_err(), JoinError::Peer(b.to_string()));
        assert_eq!(join(&a, "other").unwrap_err(), JoinError::Endpoint);
        let other = streams.join(StreamId([2; 16]), "mdx", &a, 64);
        assert_eq!(other.unwrap_err(), JoinError::Unknown);
        let taken = streams.enter(STREAM, "mdx", &a, 2);
        assert_eq!(taken.unwrap_err(), JoinError::Taken);
        assert_eq!(streams.counts(), (1, 0), "what was refused holds nothing");
        // One more than it may have: the first one may be lost, and nobody knows here.
        let second = join(&a, "mdx").unwrap();
        assert_eq!(join(&a, "mdx").unwrap_err(), JoinError::Lanes(2));
        drop(place);
        let third = join(&a, "mdx").unwrap();
        assert_eq!(streams.counts(), (1, 2));
        drop(registered);
        assert_eq!(join(&a, "mdx").unwrap_err(), JoinError::Unknown);
        // Another stream of the same name is not what those are of.
        let (again, _place) = streams.enter(STREAM, "mdx", &a, 1).unwrap();
        drop((second, third));
        assert_eq!(streams.counts(), (1, 0));
        let _second = join(&a, "mdx").unwrap();
        assert_eq!(join(&a, "mdx").unwrap_err(), JoinError::Lanes(2));
        drop(again);
    }

    #[test]
    fn a_peer_has_only_so_many_further_lanes_at_an_endpoint_whatever_they_are_for() {
        let streams = Arc::new(Streams::default());
        let (a, b) = (id("spiffe://a.example/x"), id("spiffe://b.example/x"));
        let mut first = Vec::new();
        for (number, endpoint, peer) in [
            (0, "mdx", &a),
            (1, "mdx", &a),
            (2, "mdx", &b),
            (3, "other", &a),
        ] {
            let stream = StreamId([number; 16]);
            first.push(streams.enter(stream, endpoint, peer, 16).unwrap());
        }
        let join = |number, endpoint, peer| {
            let joined = streams.join(StreamId([number; 16]), endpoint, peer, 3);
            joined.map(|joined| joined.0)
        };
        let mut held: Vec<_> = (0..3)
            .map(|lane| join(lane % 2, "mdx", &a).unwrap())
            .collect();
        for number in [0, 1] {
            assert_eq!(join(number, "mdx", &a).unwrap_err(), JoinError::Limit(3));
        }
        held.push(join(2, "mdx", &b).unwrap());
        held.push(join(3, "other", &a).unwrap());
        held.remove(0);
        held.push(join(1, "mdx", &a).unwrap());
        // Connections themselves are not counted here.
        streams.enter(StreamId([9; 16]), "mdx", &a, 16).unwrap();
    }
}
