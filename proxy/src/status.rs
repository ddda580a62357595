//! The JSON of `/status` and `/connections`: docs/status.md.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    Proxy, Running,
    endpoint::{Endpoint, Snapshot},
    lanes::LaneCounts,
    live::Live,
    metrics::Reading,
    path::PathDetails,
    stream::TlsDetails,
};

/// An endpoint's row in `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// Its name in the file.
    pub name: String,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// Whether it listens and has what its handshakes need.
    pub ready: bool,
    /// Why not, or what its sources complain of while older material serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The listening side.
    pub listen: String,
    /// The forwarding side.
    pub forward: String,
    /// The server name it answers to, where the listening side is mTLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Its SVID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub svid: Option<SvidStatus>,
    /// The trust domains it trusts.
    pub trusts: Vec<String>,
    /// SHA-256 of the CA certificates of each of them, in hexadecimal: who rotates a CA sees here whether
    /// this node knows the next one.
    pub authorities: BTreeMap<String, Vec<String>>,
    /// The policy's revision, where one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_revision: Option<String>,
    /// Connections open now.
    pub connections: usize,
    /// Its targets.
    pub targets: Vec<TargetStatus>,
}

/// An SVID, without its key.
#[derive(Clone, Debug, Serialize)]
pub struct SvidStatus {
    /// Whose it is.
    pub id: String,
    /// The leaf's serial number, in hexadecimal.
    pub serial: String,
    /// When it becomes valid, in seconds since 1970.
    pub not_before: u64,
    /// When it expires, in seconds since 1970.
    pub not_after: u64,
    /// SVIDs the endpoint has had since the start, this one counted.
    pub rotations: u64,
}

/// A target.
#[derive(Clone, Debug, Serialize)]
pub struct TargetStatus {
    /// Its address, as in the file; of a service of another site, that and the address that its
    /// catalogue names.
    pub address: String,
    /// Whether neither health check nor failures speak against it.
    pub available: bool,
    /// Connections open now.
    pub connections: usize,
}

/// A connection's row in `/connections`.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionStatus {
    /// Unique in this process; the access log has the same.
    pub id: u64,
    /// Its endpoint, once it is known.
    pub endpoint: Option<String>,
    /// Whether it relays; false while it is decided.
    pub relaying: bool,
    /// Where it came from.
    pub source: Option<String>,
    /// Who came, verified.
    pub client_id: Option<String>,
    /// Who came, from this host.
    pub client_user: Option<String>,
    /// Our own ID.
    pub own_id: Option<String>,
    /// The target.
    pub upstream: Option<String>,
    /// Who answered, verified.
    pub upstream_id: Option<String>,
    /// What was negotiated.
    pub tls: Option<TlsDetails>,
    /// The lanes of both sides together, where any side has lanes.
    pub lanes: Option<LaneCounts>,
    /// The paths to peers that are not on this host.
    pub path: PathsStatus,
    /// The policy that allowed it last.
    pub policy_revision: Option<String>,
    /// Seconds since it came.
    pub age_seconds: f64,
    /// Application bytes from client to upstream.
    pub bytes_to_upstream: u64,
    /// Application bytes from upstream to client.
    pub bytes_to_client: u64,
}

/// The two paths of a connection; `None` for a peer on this host.
#[derive(Clone, Debug, Serialize)]
pub struct PathsStatus {
    /// To who came.
    pub listen: Option<PathStatus>,
    /// To the target.
    pub forward: Option<PathStatus>,
}

/// What was found of a path, and set for it.
#[derive(Clone, Debug, Serialize)]
pub struct PathStatus {
    /// What the first packets took.
    pub round_trip_seconds: Option<f64>,
    /// Congestion control of what is sent, once it may relay.
    pub congestion: Option<String>,
    /// Bytes of the receive buffer; `None`: the kernel tunes it.
    pub receive_buffer: Option<usize>,
    /// Bytes of the send buffer; `None`: the kernel tunes it.
    pub send_buffer: Option<usize>,
}

impl From<&PathDetails> for PathStatus {
    fn from(path: &PathDetails) -> Self {
        Self {
            round_trip_seconds: path.round_trip.map(|time| time.as_secs_f64()),
            congestion: path.congestion.clone(),
            receive_buffer: path.receive_buffer,
            send_buffer: path.send_buffer,
        }
    }
}

impl Proxy {
    /// The endpoints as they stand.
    #[must_use]
    pub fn endpoint_status(&self) -> Vec<EndpointStatus> {
        let now = self.shared.context.clock.now();
        let running = self.running();
        let rows = running.endpoints.values().filter_map(|endpoint| {
            let snapshot = endpoint.snapshot()?;
            Some(status(&running, endpoint, &snapshot, now))
        });
        rows.collect()
    }

    /// The connections as they stand.
    #[must_use]
    pub fn connection_status(&self) -> Vec<ConnectionStatus> {
        let live = self.shared.registry.snapshot();
        live.iter().map(|live| connection(live)).collect()
    }

    /// Whether every endpoint is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.endpoint_status().iter().all(|status| status.ready)
    }

    /// The metrics, with gauges read now.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        for status in self.endpoint_status() {
            let Some(endpoint) = self.endpoint(&status.name) else {
                continue;
            };
            let reading = Reading {
                ready: status.ready,
                not_after: status
                    .svid
                    .as_ref()
                    .map(|svid| std::time::Duration::from_secs(svid.not_after).as_secs_f64()),
                rotations: status.svid.as_ref().map_or(0, |svid| svid.rotations),
                targets: status
                    .targets
                    .iter()
                    .map(|target| (target.address.clone(), target.available))
                    .collect(),
            };
            self.shared.metrics.read(&endpoint, &reading);
        }
        self.shared
            .metrics
            .read_federation(self.federation_reading().as_ref());
        self.shared
            .metrics
            .read_workers(&self.shared.workers, &self.shared.memory);
        self.shared.metrics.read_lanes(self.shared.streams.totals());
        self.shared.metrics.text()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn status(
    running: &Running,
    endpoint: &Endpoint,
    snapshot: &Snapshot,
    now: SystemTime,
) -> EndpointStatus {
    let Snapshot {
        spec,
        material,
        upstream,
        policy,
    } = snapshot;
    let bind = spec.listen.bind();
    let unbound = running
        .failed
        .get(&bind)
        .map(|error| format!("cannot listen on {bind}: {error}"));
    let identity = spec
        .needs_identity()
        .then(|| material.svid(now).err().map(|error| error.to_string()))
        .flatten();
    let ready = unbound.is_none() && identity.is_none();
    let inbound = spec.direction() == sekisho_policy::Direction::Inbound;
    EndpointStatus {
        name: spec.name.clone(),
        direction: if inbound { "inbound" } else { "outbound" },
        ready,
        problem: unbound
            .or(identity)
            .or_else(|| material.problem().map(ToOwned::to_owned)),
        listen: spec.listen.to_string(),
        forward: spec.forward.to_string(),
        server_name: inbound.then(|| spec.server_name.clone()),
        svid: material.latest_svid().map(|svid| SvidStatus {
            id: svid.id().to_string(),
            serial: svid.serial().to_owned(),
            not_before: seconds(svid.not_before()),
            not_after: seconds(svid.not_after()),
            rotations: material.rotations(),
        }),
        trusts: material
            .trust()
            .bundles()
            .iter()
            .map(|bundle| bundle.trust_domain().to_string())
            .collect(),
        authorities: material
            .trust()
            .bundles()
            .iter()
            .map(|bundle| {
                let authorities = bundle.authorities().iter();
                let prints = authorities.map(sekisho_certs::bundle::Authority::fingerprint);
                (bundle.trust_domain().to_string(), prints.collect())
            })
            .collect(),
        policy_revision: policy.as_ref().map(|policy| policy.revision().to_owned()),
        connections: endpoint.active(),
        targets: upstream
            .targets()
            .iter()
            .map(|target| TargetStatus {
                address: target.name().to_owned(),
                available: target.is_available(),
                connections: target.active(),
            })
            .collect(),
    }
}

fn connection(live: &Live) -> ConnectionStatus {
    let details = live.details().clone();
    let lanes = details.lanes();
    ConnectionStatus {
        lanes,
        id: live.id,
        endpoint: details.endpoint,
        relaying: details.relaying,
        source: details.source.map(|source| source.to_string()),
        client_id: details.client_id,
        client_user: details.client_user,
        own_id: details.own_id,
        upstream: details.upstream,
        upstream_id: details.upstream_id,
        tls: details.tls,
        path: PathsStatus {
            listen: details.listen_path.as_deref().map(PathStatus::from),
            forward: details.forward_path.as_deref().map(PathStatus::from),
        },
        policy_revision: details.policy_revision.map(|text| text.to_string()),
        age_seconds: live.counters.age().as_secs_f64(),
        bytes_to_upstream: live.counters.to_upstream(),
        bytes_to_client: live.counters.to_client(),
    }
}
