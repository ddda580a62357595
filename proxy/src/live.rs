//! What is remembered of one connection: its line in the access log and its row in
//! `/connections`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use sekisho_certs::Reason;
use sekisho_record::Counts;

use crate::{
    lanes::{LaneCounts, Roster},
    path::PathDetails,
    peer::{Answerer, Client},
    relay::Counters,
    stream::TlsDetails,
};

/// How a connection went, for the log.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The endpoint, once it is known.
    pub endpoint: Option<String>,
    /// `inbound` or `outbound`.
    pub direction: Option<&'static str>,
    /// Where it came from.
    pub source: Option<SocketAddr>,
    /// Our own SPIFFE ID.
    pub own_id: Option<String>,
    /// Who came, verified.
    pub client_id: Option<String>,
    /// Who came, from this host.
    pub client_user: Option<String>,
    /// Who was refused claimed to be this.
    pub claimed_id: Option<String>,
    /// Who answered, verified.
    pub upstream_id: Option<String>,
    /// The target.
    pub upstream: Option<String>,
    /// The server name asked for.
    pub sni: Option<String>,
    /// The listening side's TLS, else the forwarding side's.
    pub tls: Option<TlsDetails>,
    /// The policy's revision at the last decision.
    pub policy_revision: Option<Arc<str>>,
    /// KeyUpdates of both sides together; known at the end.
    pub key_updates: Counts,
    /// The lanes of the listening side, where it has lanes.
    pub client_lanes: Option<Arc<Roster>>,
    /// The lanes of the forwarding side, where it has lanes.
    pub upstream_lanes: Option<Arc<Roster>>,
    /// Whether it relays now.
    pub relaying: bool,
    /// The path of the listening side, where the client is not on this host.
    pub listen_path: Option<Box<PathDetails>>,
    /// The path of the forwarding side, where the target is not on this host.
    pub forward_path: Option<Box<PathDetails>>,
}

impl Details {
    /// The lanes of both sides so far, together.
    #[must_use]
    pub fn lanes(&self) -> Option<LaneCounts> {
        let sides = [&self.client_lanes, &self.upstream_lanes];
        let mut counts = sides.into_iter().flatten().map(|roster| roster.counts());
        let first = counts.next()?;
        Some(counts.fold(first, |all, more| LaneCounts {
            open: all.open + more.open,
            opened: all.opened + more.opened,
            lost: all.lost + more.lost,
            repeated: all.repeated + more.repeated,
        }))
    }

    pub(crate) fn set_client(&mut self, client: &Client) {
        match client {
            Client::Workload(peer) => self.client_id = Some(peer.id().to_string()),
            Client::Local(user) => self.client_user = Some(user.name()),
            Client::Remote | Client::Unknown => {}
        }
    }

    pub(crate) fn set_upstream(&mut self, answerer: &Answerer) {
        self.upstream_id = answerer.verified.as_ref().map(|peer| peer.id().to_string());
    }
}

/// A connection that exists.
#[derive(Debug)]
pub struct Live {
    /// Unique in this process.
    pub id: u64,
    /// When it came.
    pub started: SystemTime,
    /// What has moved.
    pub counters: Counters,
    details: Mutex<Details>,
}

impl Live {
    /// What is known of it so far.
    pub fn details(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Whether it was allowed to relay.
    pub allowed: bool,
    /// Why it was refused or cut; `None` for an ordinary end.
    pub reason: Option<Reason>,
    /// One sentence.
    pub detail: Option<String>,
    /// `closed`, `reset`, `truncated`, `tls_error`, `refused`, or `cut`.
    pub end: &'static str,
}

/// All connections of the process.
#[derive(Debug, Default)]
pub struct Registry {
    next: AtomicU64,
    // Shards, so that workers do not wait for one another.
    shards: [Mutex<HashMap<u64, Arc<Live>>>; 16],
}

impl Registry {
    fn shard(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        let index = usize::try_from(id % 16).unwrap_or_default();
        // The remainder is always an index.
        let [first, ..] = &self.shards;
        let shard = self.shards.get(index).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection, before it is decided.
    pub(crate) fn begin(&self, started: SystemTime, source: Option<SocketAddr>) -> Arc<Live> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let live = Arc::new(Live {
            id,
            started,
            counters: Counters::default(),
            details: Mutex::new(Details {
                source,
                ..Details::default()
            }),
        });
        self.shard(id).insert(id, Arc::clone(&live));
        live
    }

    pub(crate) fn end(&self, id: u64) {
        self.shard(id).remove(&id);
    }

    /// The connections that exist now, oldest first.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Arc<Live>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.values().cloned());
        }
        all.sort_by_key(|live| live.id);
        all
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let count = |shard: &Mutex<HashMap<_, _>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        self.shards.iter().map(count).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes the access log's line: one event of target `access` for each connection.
pub(crate) fn log(live: &Live, ending: &Ending) {
    let details = live.details();
    let tls = details.tls.as_ref();
    let lanes = details.lanes();
    let started = time::OffsetDateTime::from(live.started)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default();
    tracing::info!(
        target: "access",
        connection = live.id,
        endpoint = details.endpoint.as_deref(),
        direction = details.direction,
        decision = if ending.allowed { "allowed" } else { "refused" },
        reason = ending.reason.map(Reason::as_str),
        detail = ending.detail.as_deref(),
        end = ending.end,
        source = details.source.map(tracing::field::display),
        client_id = details.client_id.as_deref(),
        client_user = details.client_user.as_deref(),
        claimed_id = details.claimed_id.as_deref(),
        own_id = details.own_id.as_deref(),
        upstream = details.upstream.as_deref(),
        upstream_id = details.upstream_id.as_deref(),
        sni = details.sni.as_deref(),
        tls_version = tls.map(|tls| tls.version),
        cipher = tls.map(|tls| tls.cipher),
        group = tls.map(|tls| tls.group),
        resumed = tls.filter(|tls| tls.resumed).map(|_| true),
        key_updates_sent = Some(details.key_updates.sent).filter(|count| *count > 0),
        key_updates_received = Some(details.key_updates.received).filter(|count| *count > 0),
        lanes = lanes.map(|lanes| lanes.opened),
        lanes_lost = lanes.map(|lanes| lanes.lost).filter(|lost| *lost > 0),
        bytes_repeated = lanes.map(|lanes| lanes.repeated).filter(|bytes| *bytes > 0),
        policy_revision = details.policy_revision.as_deref(),
        bytes_to_upstream = live.counters.to_upstream(),
        bytes_to_client = live.counters.to_client(),
        bytes_spliced = Some(live.counters.spliced()).filter(|bytes| *bytes > 0),
        started,
        duration_ms = u64::try_from(live.counters.age().as_millis()).unwrap_or(u64::MAX),
    );
}
