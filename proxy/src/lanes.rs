//! A side whose stream goes over several connections: lanes (docs/protocol.md, ADR 19).
//!
//! [`Lanes`] is that side. It does nothing by itself: `Lanes::drive` moves frames between the
//! sockets and what `sekisho_lanes` keeps in order, and the relay calls it before it reads or writes
//! (`relay`). Lanes come from elsewhere, each verified and permitted where it was dialled
//! (`dial`) or accepted (`streams`).

pub(crate) mod dial;
mod drive;
mod error;
mod face;
mod hear;
mod lane;
mod losses;
pub(crate) mod open;
mod reading;
mod roster;
pub(crate) mod streams;
mod tend;

use std::{
    mem,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use sekisho_certs::{Reason, VerifiedPeer};
use sekisho_lanes::{Count, FIRST_WINDOW, Frame, Incoming, Limited, Outgoing, StreamId};
use sekisho_record::{Backend, Counts};
use tokio::{sync::mpsc, time::Sleep};

use crate::{
    endpoint::{
        self,
        spec::{self, EndpointSpec},
    },
    held::{Keeping, Memory},
    path::{Far, PathDetails, System},
    permit::Facts,
    stream::TlsDetails,
    transport::Transport,
    wire::{DetachedWire, Wire},
};
use dial::Dialler;
pub use error::LanesError;
use lane::Lane;
use losses::Losses;
use reading::Chunks;
pub use roster::{LaneCounts, Roster};
use streams::{Registered, Streams};

/// How many lanes a side that dials wants for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// As many as help.
    Auto(u8),
    /// So many.
    Fixed(u8),
}

impl Wanted {
    /// Most of them.
    pub(crate) const fn most(self) -> u8 {
        match self {
            Self::Auto(most) | Self::Fixed(most) => most,
        }
    }

    /// For a path of this round trip, where it is a long one.
    pub(crate) fn count(self, round_trip: Option<Duration>) -> Count {
        let now = Instant::now();
        match self {
            Self::Auto(most) => Count::new(most, round_trip.unwrap_or_default(), now),
            Self::Fixed(lanes) => Count::fixed(lanes, now),
        }
    }
}

/// How many lanes a stream to a peer is to have; `None`: plain TLS. `far`: where its path is a long one.
///
/// Without lanes being asked for: where this system lets one connection neither have a window for the
/// path nor a congestion control that bears losses.
pub(crate) fn wanted(spec: &EndpointSpec, far: Option<Far>) -> Option<Wanted> {
    match spec.path.forward.lanes {
        spec::Lanes::Auto => {
            let suffices = |far: &Far| far.suffices() && System::now().bears_losses;
            far.filter(|far| !suffices(far))
                .map(|_| Wanted::Auto(sekisho_lanes::MOST_LANES))
        }
        spec::Lanes::Most(lanes) if lanes.get() > 1 => Some(Wanted::Fixed(lanes.get())),
        spec::Lanes::Most(_) => None,
    }
}

/// How many lanes a stream may have that comes to this endpoint; `None`: plain TLS.
pub(crate) fn most_of_listen(spec: &EndpointSpec) -> Option<u8> {
    let own = spec.record_backend(Backend::AwsLc).is_some();
    match spec.path.listen.lanes {
        _ if !own => None,
        spec::Lanes::Auto => Some(sekisho_lanes::MOST_LANES),
        spec::Lanes::Most(lanes) => (lanes.get() > 1).then_some(lanes.get()),
    }
}

/// A name for a new stream, which nobody can guess.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn new_stream() -> Result<StreamId, &'static str> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| "the system gives no random numbers")?;
    Ok(StreamId(id))
}

/// What stands in OPEN where the handshake had no server name.
pub(crate) const NO_NAME: &str = "-";

/// How long a stream may be without any lane.
const ALONE: Duration = Duration::from_secs(30);
/// Where memory is short, windows narrow once in such a time.
const NARROW: Duration = Duration::from_millis(200);
/// How long the other side may take to close what is over.
const GOODBYE: Duration = Duration::from_secs(2);

/// A lane that is to be one of a stream's: verified, permitted, and answered by ACCEPT.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) wire: DetachedWire,
    /// What came behind the frame that opened it.
    pub(crate) rest: Vec<u8>,
    pub(crate) admitted: Admitted,
}

/// What is known of a lane beside its connection.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) peer: VerifiedPeer,
    /// Its place among the peer's lanes, at a server.
    pub(crate) place: Option<streams::Place>,
    /// What was done about its path, of a further lane.
    pub(crate) path: Option<Box<PathDetails>>,
    /// How it came, of a further lane at a server: by what its policy is asked again.
    pub(crate) facts: Option<Facts>,
    /// What counts it as one of its endpoint's connections (`limits.connections`), at a server.
    pub(crate) connection: Option<endpoint::Place>,
}

/// What a dial came to.
#[derive(Debug)]
pub(crate) enum Dialled {
    /// And how many lanes the stream may have.
    Lane(Box<Arrival>, u8),
    /// The other side says no.
    Denied(String),
    Failed(String),
}

/// Which end this is.
#[derive(Debug)]
enum Role {
    Client {
        dialler: Arc<Dialler>,
        sender: mpsc::Sender<Dialled>,
        arrivals: mpsc::Receiver<Dialled>,
        dialling: u8,
        not_before: Instant,
        /// Attempts in a row that failed.
        failures: u32,
        /// Lanes that may be dialled now.
        allowance: tend::Allowance,
        /// ACCEPT has come.
        begun: bool,
    },
    Server {
        registered: Registered,
        /// ACCEPT was sent.
        accepted: bool,
    },
}

/// A side whose stream goes over lanes.
#[derive(Debug)]
pub struct Lanes {
    stream: StreamId,
    role: Role,
    list: Vec<Lane>,
    next_key: u64,
    out: Outgoing,
    inc: Incoming,
    count: Count,
    roster: Arc<Roster>,
    streams: Arc<Streams>,
    keeping: Keeping,
    /// Which lane is asked first for room.
    turn: usize,
    /// Rescues since the time to a confirmation was last measured, and how often that was.
    rescues: u32,
    samples: u64,
    /// What others have repeated is not in the roster yet.
    rescued: bool,
    /// When what came is confirmed, where that may wait.
    confirm_at: Option<Instant>,
    /// Since when no lane is left, and why the last one went.
    alone: Option<(Instant, String)>,
    timer: Pin<Box<Sleep>>,
    failed: Option<LanesError>,
    key_updates: Counts,
    /// Of the first lane.
    tls: Option<TlsDetails>,
    /// What had moved at the last look.
    seen: u64,
    /// When memory for what may come is given back by those on which nothing came since the last time.
    rest_at: Option<Instant>,
    /// What had moved then.
    moved: u64,
    /// Bytes have waited for room on a lane since the other side was told; told again from then on.
    starved: bool,
    tell_at: Instant,
    losses: Losses,
    narrowed_at: Instant,
    chunks: Chunks,
}

impl Lanes {
    fn new(stream: StreamId, role: Role, count: Count, memory: &Arc<Memory>) -> Self {
        let streams = match &role {
            Role::Client { dialler, .. } => &dialler.shared.streams,
            Role::Server { registered, .. } => registered.streams(),
        };
        Self {
            streams: Arc::clone(streams),
            stream,
            role,
            list: Vec::new(),
            next_key: 0,
            out: Outgoing::default(),
            inc: Incoming::default(),
            count,
            roster: Arc::default(),
            keeping: Keeping::nothing(Arc::clone(memory)),
            turn: 0,
            rescues: 0,
            samples: 0,
            rescued: false,
            confirm_at: None,
            alone: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            failed: None,
            key_updates: Counts::default(),
            tls: None,
            seen: 0,
            rest_at: None,
            moved: 0,
            starved: false,
            tell_at: Instant::now(),
            losses: Losses::new(),
            narrowed_at: Instant::now(),
            chunks: Chunks::default(),
        }
    }

    /// The side that dialled: `wire` is the first lane, on which OPEN is sent.
    pub(crate) fn dialled(
        wire: Wire,
        peer: VerifiedPeer,
        dialler: Dialler,
        count: Count,
        memory: &Arc<Memory>,
    ) -> Self {
        let (sender, arrivals) = mpsc::channel(1);
        let stream = dialler.stream();
        let mut open = Vec::new();
        dialler.open(sekisho_lanes::frame::Purpose::New, &mut open);
        let role = Role::Client {
            dialler: Arc::new(dialler),
            sender,
            arrivals,
            dialling: 0,
            not_before: Instant::now(),
            failures: 0,
            allowance: tend::Allowance::new(Instant::now()),
            begun: false,
        };
        let mut lanes = Self::new(stream, role, count, memory);
        let admitted = Admitted {
            peer,
            place: None,
            path: None,
            facts: None,
            connection: None,
        };
        lanes.add(wire, Vec::new(), admitted);
        if let Some(lane) = lanes.list.first_mut() {
            lane.say(&open);
        }
        lanes
    }

    /// The side that was dialled. ACCEPT is sent when the relay begins.
    pub(crate) fn accepted(
        wire: Wire,
        rest: Vec<u8>,
        peer: VerifiedPeer,
        place: streams::Place,
        registered: Registered,
        memory: &Arc<Memory>,
    ) -> Self {
        let stream = registered.stream();
        let most = registered.most();
        let role = Role::Server {
            registered,
            accepted: false,
        };
        let mut lanes = Self::new(stream, role, Count::fixed(most, Instant::now()), memory);
        let admitted = Admitted {
            peer,
            place: Some(place),
            path: None,
            facts: None,
            connection: None,
        };
        lanes.add(wire, rest, admitted);
        lanes
    }

    fn add(&mut self, wire: Wire, rest: Vec<u8>, admitted: Admitted) {
        let Admitted {
            peer,
            place,
            path,
            facts,
            connection,
        } = admitted;
        if self.tls.is_none() {
            self.tls = wire.tls.as_ref().map(|tls| tls.details.clone());
        }
        let key = self.next_key;
        self.next_key += 1;
        self.alone = None;
        let mut lane = Lane::new(key, wire, rest, &self.chunks, (place, connection, path));
        lane.is_allowed = facts.is_none();
        self.roster.enter(key, peer, facts);
        self.list.push(lane);
        self.streams.totals().open.fetch_add(1, Relaxed);
        let open = self.list.len();
        self.roster.count(|counts| {
            counts.opened += 1;
            counts.open = open;
        });
        self.watch();
        // What was told on others may have gone with them.
        self.inc.tell_again();
    }

    /// Who is at the other end of each lane: readable, and lanes to be closed by it, while the relay
    /// runs.
    pub(crate) const fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// What was negotiated for the first lane.
    pub(crate) fn tls(&self) -> Option<TlsDetails> {
        self.tls.clone()
    }

    /// KeyUpdates of all lanes so far.
    pub(crate) fn key_updates(&self) -> Counts {
        let add = |all: Counts, lane: &Lane| {
            let own = lane.key_updates();
            Counts {
                sent: all.sent + own.sent,
                received: all.received + own.received,
            }
        };
        self.list.iter().fold(self.key_updates, add)
    }

    /// Gives the stream up: the other side is told, by the word, and no byte more is sent.
    pub(crate) async fn give_up(mut self, reason: Reason) {
        let reason = reason.as_str();
        let denied = matches!(
            &self.role,
            Role::Server {
                accepted: false,
                ..
            }
        );
        let mut word = Vec::new();
        if denied {
            Frame::Deny { reason }.encode(&mut word);
        } else {
            Frame::Reset { reason }.encode(&mut word);
        }
        let list = self.all();
        let told = list.into_iter().map(|lane| lane.last_word(&word));
        let told = futures_util::future::join_all(told);
        // A peer that takes nothing is not waited for.
        let _ = tokio::time::timeout(GOODBYE, told).await;
    }

    /// Closes what is over, in order.
    pub(crate) async fn close(&mut self) {
        let word = self.confirmation();
        if let Some(lane) = self.list.first_mut() {
            lane.say(&word);
        }
        let mut list = self.all();
        let closed = list.iter_mut().map(Lane::goodbye);
        let closed = futures_util::future::join_all(closed);
        let _ = tokio::time::timeout(GOODBYE, closed).await;
    }

    /// Takes all lanes out.
    fn all(&mut self) -> Vec<Lane> {
        let totals = self.streams.totals();
        totals.open.fetch_sub(self.list.len(), Relaxed);
        mem::take(&mut self.list)
    }

    /// The socket of the first lane.
    pub(crate) fn transport(&self) -> Option<&Transport> {
        self.list.first().map(Lane::transport)
    }

    /// Makes closing it a reset.
    pub(crate) fn abort_on_close(&self) {
        for lane in &self.list {
            lane.abort_on_close();
        }
    }

    fn confirmation(&mut self) -> Vec<u8> {
        let (received, limit) = self.inc.state();
        let mut word = Vec::new();
        let limited = if self.out.is_ready() {
            self.losses.limit(Instant::now())
        } else {
            Limited::No
        };
        Frame::Ack {
            received,
            limit,
            limited,
        }
        .encode(&mut word);
        self.inc.told();
        word
    }

    fn account(&mut self) {
        // What stays where it was read is counted there.
        let bytes = self.out.memory() + self.inc.copied();
        self.keeping.set(bytes);
        if mem::take(&mut self.rescued) {
            let repeated = self.out.repeated();
            self.roster.count(|counts| counts.repeated = repeated);
        }
        let now = Instant::now();
        if self.inc.held() as u64 > FIRST_WINDOW
            && self.keeping.memory().refuses()
            && now.saturating_duration_since(self.narrowed_at) >= NARROW
        {
            self.narrowed_at = now;
            self.inc.narrow();
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        drop(self.all());
        let totals = self.streams.totals();
        totals.repeated.fetch_add(self.out.repeated(), Relaxed);
    }
}
