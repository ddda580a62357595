//! What policy sees of a connection: OPA-Envoy's *network* ext_authz input, and `sekisho.…`.

use std::{collections::BTreeMap, net::SocketAddr};

use regorus::Value;
use sekisho_certs::SpiffeId;

/// What is known of a connection when policy is asked about it.
///
/// Everything but [`claimed`](Self::claimed) is configuration or was verified. What is absent here
/// is absent from the document, not null: a policy that looks for it finds it undefined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The trust domain of this site: `sekisho.site`.
    pub site: String,
    /// The endpoint's name in the configuration: `sekisho.endpoint`.
    pub endpoint: String,
    /// Which way the connection goes: `sekisho.direction`.
    pub direction: Direction,
    /// What is offered or used, such as `tcp` or `kafka`: `sekisho.service`.
    pub service: String,
    /// Where the connection came from: `attributes.source.address`. Absent for Unix sockets.
    pub source: Option<SocketAddr>,
    /// Where it arrived: `attributes.destination.address`. Absent for Unix sockets.
    pub destination: Option<SocketAddr>,
    /// The endpoint's own SPIFFE ID: `destination.principal` of an inbound connection,
    /// `source.principal` of an outbound one.
    pub own_id: Option<SpiffeId>,
    /// The server name the client asked for: `attributes.tlsSession.sni`.
    pub sni: Option<String>,
    /// Who came: `sekisho.client`, and `source.principal` of an inbound connection.
    pub client: Client,
    /// Who answered: `sekisho.upstream`, and `destination.principal` of an outbound connection.
    pub upstream: Option<Upstream>,
    /// What is known of the other site, where a peer is of one: `sekisho.federation`. Of the client
    /// where it is a workload of another trust domain, else of who answered.
    pub federation: Option<Federation>,
    /// What the sender merely claims (PROXY protocol addresses and TLVs): `sekisho.claimed`.
    pub claimed: BTreeMap<String, String>,
}

/// Which way a connection goes, as seen from this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a peer to a service of this site: `inbound`.
    Inbound,
    /// From a process of this site to a peer: `outbound`.
    Outbound,
}

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// A verified peer: `client.{spiffe_id, trust_domain, path_segments}`.
    Workload(SpiffeId),
    /// A process on this host, as the kernel tells: `client.{user, uid, groups, pid}`.
    Local {
        /// The name of its user.
        user: Option<String>,
        /// The number of its user.
        uid: Option<u32>,
        /// The names of its groups; absent from the document when there are none.
        groups: Vec<String>,
        /// Its process number.
        pid: Option<i32>,
    },
    /// Nobody can tell: `client` is absent.
    Unknown,
}

/// Who answered on the forwarding side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// The verified peer: `upstream.{spiffe_id, trust_domain, path_segments}`.
    pub id: Option<SpiffeId>,
    /// The address dialled, as configured: `upstream.address`.
    pub address: Option<String>,
}

/// What is known of another site beside its CAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federation {
    /// `peer` (pairwise) or `directory`: `federation.source`.
    pub source: &'static str,
    /// Whole seconds since its source last confirmed what is known of it: `federation.age`.
    pub age: u64,
    /// Its marks, sorted: `federation.marks`, a list that is empty where it has none.
    pub marks: Vec<String>,
}

impl Direction {
    /// The word policy sees.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Input {
    /// The document as JSON, as `sekisho policy eval -i` takes it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        // Every key is a string and every number an integer, so this cannot fail.
        serde_json::to_value(self.to_value()).unwrap_or_default()
    }

    /// The document as the engine takes it.
    #[must_use]
    pub(crate) fn to_value(&self) -> Value {
        let (source, destination) = self.principals();
        let attributes = Fields::default()
            .with("source", endpoint(source, self.source))
            .with("destination", endpoint(destination, self.destination))
            .with_some("tlsSession", self.sni.as_deref().map(tls_session));
        let version = Fields::default()
            .with("ext_authz", "v3")
            .with("encoding", "protojson");
        Fields::default()
            .with("attributes", attributes)
            .with("parsed_path", vec![Value::from("")])
            .with("parsed_query", Fields::default())
            .with("version", version)
            .with("sekisho", self.sekisho())
            .into()
    }

    /// What the document costs, as [`Limits::input_bytes`](crate::Limits) counts: bytes of text,
    /// and a share for every entry.
    pub(crate) fn weight(&self) -> usize {
        const ENTRY: usize = 64;
        let id = |id: &SpiffeId| 2 * (id.trust_domain_name().len() + id.path().len()) + ENTRY;
        let client = match &self.client {
            Client::Workload(peer) => id(peer),
            Client::Local { user, groups, .. } => {
                user.as_deref().map_or(0, str::len)
                    + groups
                        .iter()
                        .map(|group| group.len() + ENTRY)
                        .sum::<usize>()
            }
            Client::Unknown => 0,
        };
        let upstream = self.upstream.as_ref().map_or(0, |upstream| {
            upstream.id.as_ref().map_or(0, id) + upstream.address.as_deref().map_or(0, str::len)
        });
        let federation = self.federation.as_ref().map_or(0, |known| {
            let marks = known.marks.iter();
            ENTRY + marks.map(|mark| mark.len() + ENTRY).sum::<usize>()
        });
        let claimed = self.claimed.iter();
        ENTRY * 16
            + [&self.site, &self.endpoint, &self.service]
                .map(String::len)
                .iter()
                .sum::<usize>()
            + self.own_id.as_ref().map_or(0, id)
            + self.sni.as_deref().map_or(0, str::len)
            + client
            + upstream
            + federation
            + claimed
                .map(|(key, value)| key.len() + value.len() + ENTRY)
                .sum::<usize>()
    }

    fn principals(&self) -> (Option<&SpiffeId>, Option<&SpiffeId>) {
        let own = self.own_id.as_ref();
        match self.direction {
            Direction::Inbound => match &self.client {
                Client::Workload(peer) => (Some(peer), own),
                Client::Local { .. } | Client::Unknown => (None, own),
            },
            Direction::Outbound => (own, self.upstream.as_ref().and_then(|up| up.id.as_ref())),
        }
    }

    fn sekisho(&self) -> Fields {
        let client = match &self.client {
            Client::Workload(peer) => Some(workload(peer)),
            Client::Local {
                user,
                uid,
                groups,
                pid,
            } => {
                let groups: Vec<Value> = groups.iter().map(|name| name.as_str().into()).collect();
                let client = Fields::default()
                    .with_some("user", user.as_deref())
                    .with_some("uid", *uid)
                    .with_some("groups", (!groups.is_empty()).then_some(groups))
                    .with_some("pid", *pid);
                Some(client)
            }
            Client::Unknown => None,
        };
        let upstream = self.upstream.as_ref().map(|upstream| {
            let fields = upstream.id.as_ref().map_or_else(Fields::default, workload);
            fields.with_some("address", upstream.address.as_deref())
        });
        let claimed = self
            .claimed
            .iter()
            .fold(Fields::default(), |fields, (key, value)| {
                fields.with(key, value.as_str())
            });
        Fields::default()
            .with("site", self.site.as_str())
            .with("endpoint", self.endpoint.as_str())
            .with("direction", self.direction.as_str())
            .with("service", self.service.as_str())
            .with_some("client", client)
            .with_some("upstream", upstream)
            .with_some("federation", self.federation.as_ref().map(federation))
            .with_some("claimed", (!self.claimed.is_empty()).then_some(claimed))
    }
}

fn endpoint(principal: Option<&SpiffeId>, address: Option<SocketAddr>) -> Fields {
    let address = address.map(|address| {
        let socket = Fields::default()
            .with("address", address.ip().to_canonical().to_string())
            .with("portValue", u32::from(address.port()));
        Fields::default().with("socketAddress", socket)
    });
    Fields::default()
        .with_some("principal", principal.map(ToString::to_string))
        .with_some("address", address)
}

fn tls_session(sni: &str) -> Fields {
    Fields::default().with("sni", sni)
}

fn workload(id: &SpiffeId) -> Fields {
    let segments: Vec<Value> = id.path().split('/').skip(1).map(Value::from).collect();
    Fields::default()
        .with("spiffe_id", id.to_string())
        .with("trust_domain", id.trust_domain_name())
        .with("path_segments", segments)
}

fn federation(known: &Federation) -> Fields {
    let marks: Vec<Value> = known
        .marks
        .iter()
        .map(|mark| mark.as_str().into())
        .collect();
    Fields::default()
        .with("source", known.source)
        .with("age", known.age)
        .with("marks", marks)
}

/// An object under construction.
#[derive(Default)]
struct Fields(BTreeMap<Value, Value>);

impl Fields {
    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        fields.0.into()
    }
}
