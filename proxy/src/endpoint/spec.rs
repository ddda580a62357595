//! What the configuration says of an endpoint, validated: invalid states do not exist here.

mod forward;
mod path;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use sekisho_certs::{IdList, Members, SpiffeId, TrustDomain, tls::MinVersion};
pub use sekisho_record::Backend;

pub use forward::{Address, AnySite, Forward, MtlsTarget, SiteService};
pub use path::{Buffers, Congestion, Lanes, PathOptions, Paths, Side};

/// One gate: a listening side and a forwarding side, each plain or mTLS.
///
/// Two equal specs are the same endpoint: a reload leaves its connections alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Its name in the file, in logs and metrics.
    pub name: String,
    /// The trust domain this endpoint speaks for.
    pub site: TrustDomain,
    /// Where it listens.
    pub listen: Listen,
    /// Where it forwards to.
    pub forward: Forward,
    /// `as`: the ID its SVID must carry. `None`: what the source says.
    pub own_id: Option<SpiffeId>,
    /// The server name it answers to on a shared mTLS address: `<name>.<site>`, lower case.
    pub server_name: String,
    /// `default: true`: answers clients that send no server name.
    pub default: bool,
    /// Which local target gets the next connection. Default: round robin.
    pub balance: Balance,
    /// Active TCP health check of the targets. Default: none; failing targets are still ejected.
    pub health: Option<HealthCheck>,
    /// Bounds of time.
    pub timeouts: Timeouts,
    /// Bounds of number.
    pub limits: Limits,
    /// A connection ends at this age. Default: never.
    pub max_age: Option<Duration>,
    /// Whether a connection ends when the peer's SVID expires. Default: no (design.md §4, 4).
    pub cut_at_expiry: bool,
    /// PROXY protocol in and out. Default: neither.
    pub proxy_protocol: ProxyProtocol,
    /// Who protects TLS records after the handshake. Default: what the process has chosen.
    pub record: RecordLayer,
    /// `tls: {resumption}`: whether sessions may be resumed; the peer is verified again by what
    /// holds then. Default: no.
    pub resumption: bool,
    /// Options of its TCP sockets.
    pub sockets: Sockets,
    /// What each side does about the length of its path.
    pub path: Paths,
}

/// `socket: {listen, forward}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// The listening side. Where several endpoints share an address, set once the server name has
    /// chosen one.
    pub listen: SocketOptions,
    /// The forwarding side.
    pub forward: SocketOptions,
}

/// Options of a TCP socket. What is `None` stays as the system has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Congestion control, as the kernel names it. Default: what [`PathOptions`] says.
    pub congestion: Option<String>,
    /// SO_SNDBUF in bytes. Default: what [`PathOptions`] says; a size switches the kernel's tuning off.
    pub send_buffer: Option<usize>,
    /// SO_RCVBUF in bytes. Default: what [`PathOptions`] says; a size switches the kernel's tuning off.
    pub receive_buffer: Option<usize>,
    /// TCP_NODELAY. Default: yes.
    pub nodelay: bool,
    /// Probes that find out whether a silent peer is there. Default: see [`Keepalive`].
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT: how long sent bytes may stay without an acknowledgement. Default: the
    /// system's.
    pub user_timeout: Option<Duration>,
    /// Differentiated services code point (RFC 2474), 0 to 63. Default: the system's.
    pub dscp: Option<u8>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            congestion: None,
            send_buffer: None,
            receive_buffer: None,
            nodelay: true,
            keepalive: Some(Keepalive::default()),
            user_timeout: None,
            dscp: None,
        }
    }
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe. Default: 60 s.
    pub time: Duration,
    /// Time between probes. Default: 15 s.
    pub interval: Duration,
    /// Probes without an answer that end the connection. Default: 4.
    pub retries: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            retries: 4,
        }
    }
}

/// `record: auto | aws-lc | ring | rustls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordLayer {
    /// Our own layer, with the AEAD that was the faster one at start.
    #[default]
    Auto,
    /// Our own layer, with this AEAD.
    Own(Backend),
    /// rustls' layer: slower. For an emergency.
    Rustls,
}

impl EndpointSpec {
    /// Which way connections go, seen from this site: `inbound` where the listening side is mTLS.
    #[must_use]
    pub const fn direction(&self) -> sekisho_policy::Direction {
        match self.listen {
            Listen::Mtls { .. } => sekisho_policy::Direction::Inbound,
            Listen::Tcp { .. } | Listen::Connect { .. } | Listen::Unix { .. } => {
                sekisho_policy::Direction::Outbound
            }
        }
    }

    /// Whether a peer of `domain` is named by `accept` or `expect`.
    #[must_use]
    pub fn names_domain(&self, domain: &TrustDomain, members: &Members) -> bool {
        self.lists().any(|list| list.names_domain(domain, members))
    }

    /// The services of other sites among its targets.
    pub fn site_services(&self) -> impl Iterator<Item = &SiteService> {
        let targets: &[MtlsTarget] = match &self.forward {
            Forward::Mtls { targets, .. } => targets,
            Forward::Plain { .. } => &[],
        };
        targets.iter().filter_map(|target| match &target.address {
            Address::Site(service) => Some(service),
            Address::Sites(_) | Address::Ip(_) | Address::Name(..) | Address::Unix(_) => None,
        })
    }

    /// Which services of other sites a client may ask for by their names; `None` where the file says
    /// where connections go.
    #[must_use]
    pub fn any_site(&self) -> Option<&AnySite> {
        let targets: &[MtlsTarget] = match &self.forward {
            Forward::Mtls { targets, .. } => targets,
            Forward::Plain { .. } => &[],
        };
        targets.iter().find_map(|target| match &target.address {
            Address::Sites(any) => Some(any),
            _ => None,
        })
    }

    /// The `accept` and `expect` lists that there are.
    pub fn lists(&self) -> impl Iterator<Item = &IdList> {
        let accept = match &self.listen {
            Listen::Mtls { accept, .. } => Some(accept),
            _ => None,
        };
        let expect = match &self.forward {
            Forward::Mtls { expect, .. } => Some(expect),
            Forward::Plain { .. } => None,
        };
        accept.into_iter().chain(expect)
    }

    /// The AEAD of our own record layer, `measured` unless it says otherwise; `None` where rustls
    /// protects the records: also where TLS 1.2 may be spoken, which our layer does not know.
    #[must_use]
    pub fn record_backend(&self, measured: Backend) -> Option<Backend> {
        let oldest = |version: MinVersion| version == MinVersion::Tls12;
        let listen = matches!(self.listen, Listen::Mtls { min_version, .. } if oldest(min_version));
        let forward =
            matches!(self.forward, Forward::Mtls { min_version, .. } if oldest(min_version));
        match self.record {
            RecordLayer::Rustls => None,
            _ if listen || forward => None,
            RecordLayer::Auto => Some(measured),
            RecordLayer::Own(backend) => Some(backend),
        }
    }

    /// Whether any side speaks mTLS, so that the endpoint needs an SVID.
    #[must_use]
    pub const fn needs_identity(&self) -> bool {
        matches!(self.listen, Listen::Mtls { .. }) || matches!(self.forward, Forward::Mtls { .. })
    }
}

/// The listening side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `mtls://ADDRESS:PORT`. Several endpoints may share one address.
    Mtls {
        /// The address.
        address: SocketAddr,
        /// Who may come.
        accept: IdList,
        /// The oldest TLS version spoken. Default: 1.3.
        min_version: MinVersion,
    },
    /// `tcp://ADDRESS:PORT`: loopback, unless `from` is given.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Which processes of this host may use it.
        local: LocalClients,
        /// Source networks that may connect, beside loopback. Default: none.
        from: Vec<IpNet>,
    },
    /// `connect://ADDRESS:PORT`, on loopback: clients say by HTTP CONNECT (RFC 9110 §9.3.6) where they
    /// want to go. Goes with [`Address::Sites`], and that with nothing else.
    Connect {
        /// The address.
        address: SocketAddr,
        /// Which processes of this host may use it.
        local: LocalClients,
    },
    /// `unix:///PATH`.
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// Which processes of this host may use it.
        local: LocalClients,
    },
}

impl Listen {
    /// What the socket is bound to: endpoints with an equal one share it.
    #[must_use]
    pub fn bind(&self) -> Bind {
        match self {
            Self::Mtls { address, .. }
            | Self::Tcp { address, .. }
            | Self::Connect { address, .. } => Bind::Tcp(*address),
            Self::Unix { path, .. } => Bind::Unix(path.clone()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtls { address, .. } => write!(f, "mtls://{address}"),
            Self::Tcp { address, .. } => write!(f, "tcp://{address}"),
            Self::Connect { address, .. } => write!(f, "connect://{address}"),
            Self::Unix { path, .. } => write!(f, "unix://{}", path.display()),
        }
    }
}

/// A bound address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bind {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `local: [user:NAME, group:NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalClients {
    /// No `local` key: any process that reaches the socket.
    #[default]
    Anyone,
    /// Only processes of these users or groups.
    Only(Vec<LocalClient>),
}

/// One line of `local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalClient {
    /// `user:NAME` (or a number).
    User(String),
    /// `group:NAME` (or a number): primary or supplementary.
    Group(String),
}

impl fmt::Display for LocalClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

/// Which target gets the next connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest open connections.
    LeastConnections,
}

/// `health: {interval, timeout, fall, rise}`: a TCP connection that is opened and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Time between two checks of a target. Default: 5 s.
    pub interval: Duration,
    /// How long a check may take. Default: 2 s.
    pub timeout: Duration,
    /// Failures in a row that take a target out. Default: 3.
    pub fall: u32,
    /// Successes in a row that bring it back. Default: 2.
    pub rise: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            fall: 3,
            rise: 2,
        }
    }
}

/// `timeouts: {connect, handshake, idle}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a target has accepted, over all its addresses; the next one has as long. Default:
    /// 5 s.
    pub connect: Duration,
    /// Until a TLS handshake is complete, on either side. Default: 10 s.
    pub handshake: Duration,
    /// Until a connection on which nothing moves is closed. Default: never.
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            idle: None,
        }
    }
}

/// `limits: {connections, handshakes, lanes}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of this endpoint at one time. Default: 65,536.
    pub connections: usize,
    /// Handshakes in flight on this endpoint's address. Default: 1,024. One source prefix (/24,
    /// /64) gets at most a quarter, and a quarter is kept for sources that succeeded before.
    pub handshakes: usize,
    /// Lanes of one peer at one time beside the first of each stream, of all its streams here
    /// (docs/protocol.md). Default: 128.
    pub lanes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            handshakes: 1_024,
            lanes: 128,
        }
    }
}

/// `proxy_protocol: {in, from, out}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Sources whose connections begin with a PROXY header (v1 or v2), which is then required of
    /// them. From any other source a header is not looked for. Default: none.
    pub accept_from: Vec<IpNet>,
    /// Whether a v2 header with the peer's SPIFFE ID (TLV 0xD0) is sent upstream. Default: no.
    pub send: bool,
}

impl ProxyProtocol {
    /// Whether a connection from `source` begins with a PROXY header.
    #[must_use]
    pub fn expects_header(&self, source: IpAddr) -> bool {
        self.accept_from.iter().any(|net| net.contains(&source))
    }
}

/// Endpoints by name.
pub type Specs = BTreeMap<String, EndpointSpec>;
