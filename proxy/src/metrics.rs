//! Prometheus metrics. Names are part of the interface: docs/metrics.md.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use sekisho_certs::Reason;

use crate::{
    endpoint::Endpoint, federation::FederationReading, held::Memory, lanes::streams::Totals,
    live::Ending, worker::Workers,
};

/// `endpoint`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfEndpoint {
    endpoint: String,
}

/// `endpoint`, `decision`, `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDecision {
    endpoint: String,
    decision: &'static str,
    reason: &'static str,
}

/// `endpoint`, `to`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBytes {
    endpoint: String,
    to: &'static str,
}

/// `endpoint`, `target`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTarget {
    endpoint: String,
    target: String,
}

/// `worker`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWorker {
    worker: u32,
}

/// `direction`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKey {
    direction: &'static str,
}

/// `result`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// `source`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: &'static str,
}

type Float = Gauge<f64, AtomicU64>;

/// The endpoint label of connections refused before an endpoint was chosen.
pub const NO_ENDPOINT: &str = "-";

/// All metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Family<OfDecision, Counter>,
    active: Family<OfEndpoint, Gauge>,
    bytes: Family<OfBytes, Counter>,
    handshakes: Histogram,
    not_after: Family<OfEndpoint, Float>,
    rotations: Family<OfEndpoint, Gauge>,
    ready: Family<OfEndpoint, Gauge>,
    targets: Family<OfTarget, Gauge>,
    /// Targets that were read last, by endpoint: those of a catalogue come and go.
    read_targets: Mutex<HashMap<String, Vec<String>>>,
    reloads: Family<OfResult, Counter>,
    resumed: Counter,
    key_updates: Family<OfKey, Counter>,
    worker_connections: Family<OfWorker, Gauge>,
    worker_bulk: Family<OfWorker, Gauge>,
    moved: Counter,
    lanes: Gauge,
    lanes_lost: Counter,
    repeated: Counter,
    buffered: Gauge,
    members: Family<OfSource, Gauge>,
    oldest: Family<OfSource, Float>,
    demand: Family<OfResult, Counter>,
    /// Endpoints that exist: a connection that outlives its endpoint makes no series of it again.
    known: RwLock<HashSet<String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
        let mut metrics = Self {
            registry: Registry::with_prefix("sekisho"),
            connections: Family::default(),
            active: Family::default(),
            bytes: Family::default(),
            handshakes: Histogram::new(buckets),
            not_after: Family::default(),
            rotations: Family::default(),
            ready: Family::default(),
            targets: Family::default(),
            read_targets: Mutex::default(),
            reloads: Family::default(),
            resumed: Counter::default(),
            key_updates: Family::default(),
            worker_connections: Family::default(),
            worker_bulk: Family::default(),
            moved: Counter::default(),
            lanes: Gauge::default(),
            lanes_lost: Counter::default(),
            repeated: Counter::default(),
            buffered: Gauge::default(),
            members: Family::default(),
            oldest: Family::default(),
            demand: Family::default(),
            known: RwLock::new(HashSet::from([NO_ENDPOINT.to_owned()])),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "connections",
            "Connections that ended, by decision and reason (empty for an ordinary end)",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_active",
            "Connections open now",
            metrics.active.clone(),
        );
        registry.register_with_unit(
            "relay",
            "Application bytes of connections that ended",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register_with_unit(
            "handshake",
            "Time from accept to a verified peer",
            Unit::Seconds,
            metrics.handshakes.clone(),
        );
        registry.register(
            "svid_expiry_timestamp_seconds",
            "When the endpoint's SVID expires, in seconds since 1970",
            metrics.not_after.clone(),
        );
        registry.register(
            "svid_rotations",
            "SVIDs the endpoint has had since the start",
            metrics.rotations.clone(),
        );
        registry.register(
            "endpoint_ready",
            "1 if the endpoint listens and has what its handshakes need",
            metrics.ready.clone(),
        );
        registry.register(
            "target_available",
            "1 if neither health check nor failures speak against the target",
            metrics.targets.clone(),
        );
        registry.register("reloads", "Reloads, by result", metrics.reloads.clone());
        registry.register(
            "handshakes_resumed",
            "Handshakes that resumed a session, on either side",
            metrics.resumed.clone(),
        );
        registry.register(
            "key_updates",
            "TLS KeyUpdates of connections that ended, by direction",
            metrics.key_updates.clone(),
        );
        registry.register(
            "worker_connections",
            "Connections of a worker now",
            metrics.worker_connections.clone(),
        );
        registry.register(
            "worker_bulk_streams",
            "Connections of a worker now that carry much",
            metrics.worker_bulk.clone(),
        );
        registry.register(
            "streams_moved",
            "Bulk streams that went to another worker",
            metrics.moved.clone(),
        );
        registry.register("lanes", "Lanes of all streams now", metrics.lanes.clone());
        registry.register(
            "lanes_lost",
            "Lanes that failed",
            metrics.lanes_lost.clone(),
        );
        registry.register(
            "lanes_repeated_bytes",
            "Bytes that were sent on lanes more than once, of streams that ended",
            metrics.repeated.clone(),
        );
        registry.register_with_unit(
            "buffered",
            "Kept by all connections together: for slow receivers, and of streams over lanes",
            Unit::Bytes,
            metrics.buffered.clone(),
        );
        registry.register(
            "federation_members",
            "Other sites that are known, by who vouches for them",
            metrics.members.clone(),
        );
        registry.register_with_unit(
            "federation_age",
            "Time since what is known of a site was last confirmed: the longest, by who vouches for it",
            Unit::Seconds,
            metrics.oldest.clone(),
        );
        registry.register(
            "federation_demand",
            "Domains of peers that were not known, by what came of asking for them",
            metrics.demand.clone(),
        );
        metrics
    }
}

/// State of an endpoint that is read when metrics are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) ready: bool,
    pub(crate) not_after: Option<f64>,
    pub(crate) rotations: u64,
    pub(crate) targets: Vec<(String, bool)>,
}

impl Metrics {
    pub(crate) fn connection_ended(
        &self,
        endpoint: Option<&str>,
        ending: &Ending,
        to_upstream: u64,
        to_client: u64,
    ) {
        let endpoint = endpoint.unwrap_or(NO_ENDPOINT);
        // Held until it is counted, so that an endpoint is not forgotten in between.
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(endpoint) {
            return;
        }
        let label = OfDecision {
            endpoint: endpoint.to_owned(),
            decision: if ending.allowed { "allowed" } else { "refused" },
            reason: ending.reason.map_or("", Reason::as_str),
        };
        self.connections.get_or_create(&label).inc();
        for (to, bytes) in [("upstream", to_upstream), ("client", to_client)] {
            if bytes > 0 {
                let endpoint = endpoint.to_owned();
                self.bytes
                    .get_or_create(&OfBytes { endpoint, to })
                    .inc_by(bytes);
            }
        }
    }

    pub(crate) fn handshake_done(&self, time: std::time::Duration) {
        self.handshakes.observe(time.as_secs_f64());
    }

    pub(crate) fn session_resumed(&self) {
        self.resumed.inc();
    }

    pub(crate) fn key_updates(&self, sent: u64, received: u64) {
        for (direction, count) in [("sent", sent), ("received", received)] {
            if count > 0 {
                self.key_updates
                    .get_or_create(&OfKey { direction })
                    .inc_by(count);
            }
        }
    }

    /// What the lanes of all streams do now.
    pub(crate) fn read_lanes(&self, totals: &Totals) {
        let lanes = totals.open.load(Ordering::Relaxed);
        self.lanes.set(i64::try_from(lanes).unwrap_or(i64::MAX));
        let bring = |counter: &Counter, total: &AtomicU64| {
            counter.inc_by(total.load(Ordering::Relaxed).saturating_sub(counter.get()))
        };
        bring(&self.lanes_lost, &totals.lost);
        bring(&self.repeated, &totals.repeated);
    }

    /// What the workers do now.
    pub(crate) fn read_workers(&self, workers: &Workers, memory: &Memory) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let loads = workers.loads().into_iter().zip(workers.bulk_loads());
        for (worker, (connections, bulk)) in (0..).zip(loads) {
            let label = OfWorker { worker };
            self.worker_connections
                .get_or_create(&label)
                .set(gauge(connections));
            self.worker_bulk.get_or_create(&label).set(gauge(bulk));
        }
        self.moved
            .inc_by(workers.moved().saturating_sub(self.moved.get()));
        self.buffered.set(gauge(memory.held()));
    }

    /// What is known of other sites now; `None` where nobody asks.
    pub(crate) fn read_federation(&self, reading: Option<&FederationReading>) {
        self.oldest.clear();
        let Some(reading) = reading else {
            self.members.clear();
            return;
        };
        for (source, count, oldest) in &reading.members {
            let label = OfSource {
                source: source.as_str(),
            };
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.members.get_or_create(&label).set(count);
            if let Some(age) = oldest {
                self.oldest.get_or_create(&label).set(age.as_secs_f64());
            }
        }
        for (wish, count) in &reading.demand {
            let result = wish.as_str();
            let counter = self.demand.get_or_create(&OfResult { result });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Counts a reload that was applied or refused.
    pub fn reloaded(&self, ok: bool) {
        let result = if ok { "applied" } else { "refused" };
        self.reloads.get_or_create(&OfResult { result }).inc();
    }

    pub(crate) fn read(&self, endpoint: &Endpoint, reading: &Reading) {
        let label = OfEndpoint {
            endpoint: endpoint.name().to_owned(),
        };
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.active
            .get_or_create(&label)
            .set(gauge(endpoint.active()));
        self.ready.get_or_create(&label).set(reading.ready.into());
        let rotations = i64::try_from(reading.rotations).unwrap_or(i64::MAX);
        self.rotations.get_or_create(&label).set(rotations);
        match reading.not_after {
            Some(time) => {
                self.not_after.get_or_create(&label).set(time);
            }
            None => {
                self.not_after.remove(&label);
            }
        }
        let names: Vec<_> = reading
            .targets
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        let mut read = self
            .read_targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = read.insert(endpoint.name().to_owned(), names.clone());
        drop(read);
        let mut gone = before.unwrap_or_default();
        gone.retain(|name| !names.contains(name));
        self.forget_targets(endpoint.name(), &gone);
        for (target, available) in &reading.targets {
            let label = OfTarget {
                endpoint: endpoint.name().to_owned(),
                target: target.clone(),
            };
            self.targets.get_or_create(&label).set((*available).into());
        }
    }

    /// An endpoint that exists from now on.
    pub(crate) fn know(&self, endpoint: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(endpoint.to_owned());
    }

    /// Drops every series of an endpoint that is gone.
    pub(crate) fn forget(&self, endpoint: &str, targets: &[String]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(endpoint);
        let label = OfEndpoint {
            endpoint: endpoint.to_owned(),
        };
        self.active.remove(&label);
        self.ready.remove(&label);
        self.rotations.remove(&label);
        self.not_after.remove(&label);
        for to in ["upstream", "client"] {
            self.bytes.remove(&OfBytes {
                endpoint: endpoint.to_owned(),
                to,
            });
        }
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        for reason in reasons.chain([""]) {
            for decision in ["allowed", "refused"] {
                self.connections.remove(&OfDecision {
                    endpoint: endpoint.to_owned(),
                    decision,
                    reason,
                });
            }
        }
        self.forget_targets(endpoint, targets);
        let mut read = self
            .read_targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        read.remove(endpoint);
    }

    pub(crate) fn forget_targets(&self, endpoint: &str, targets: &[String]) {
        for target in targets {
            self.targets.remove(&OfTarget {
                endpoint: endpoint.to_owned(),
                target: target.clone(),
            });
        }
    }

    /// The text that Prometheus reads (OpenMetrics).
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
