//! Endpoints that cannot be told apart: the same address with nothing to choose by.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use sekisho_proxy::endpoint::spec::{EndpointSpec, Listen};

use super::{
    admin::Admin,
    endpoint::Parsed,
    error::{Problem, Report},
    location::Location,
};

/// Who has an address.
#[derive(Clone, Copy)]
struct Holder<'a> {
    /// `admin`, or `endpoints.NAME.listen`.
    field: &'a str,
    /// Where it stands.
    at: &'a Location,
    /// The endpoint; none for `admin`.
    spec: Option<&'a EndpointSpec>,
}

impl<'a> Holder<'a> {
    fn clash(&self, what: &str, first: &Holder<'_>, report: &mut Report) {
        let rule = format!("{what} of `{}` at {}", first.field, first.at);
        report.push(self.at, self.field, Problem::Rule(rule));
    }

    fn mtls(&self) -> Option<&'a EndpointSpec> {
        self.spec
            .filter(|spec| matches!(spec.listen, Listen::Mtls { .. }))
    }
}

/// Who shares one address, in ways that a newcomer is compared with at once.
struct Shared<'a> {
    first: Holder<'a>,
    names: HashMap<&'a str, Holder<'a>>,
    default: Option<Holder<'a>>,
}

/// The addresses taken so far, by port.
type Ports<'a> = HashMap<u16, BTreeMap<SocketAddr, Shared<'a>>>;

/// Reports each endpoint that takes what another one has.
pub(super) fn check(endpoints: &[Parsed], admin: Option<(&Admin, &Location)>, report: &mut Report) {
    let fields: Vec<_> = endpoints
        .iter()
        .map(|parsed| format!("endpoints.{}.listen", parsed.config.spec.name))
        .collect();
    let mut paths: HashMap<&Path, Holder<'_>> = HashMap::new();
    let mut ports: Ports<'_> = HashMap::new();

    if let Some((admin, at)) = admin {
        let holder = Holder {
            field: "admin",
            at,
            spec: None,
        };
        match admin {
            Admin::Tcp(address) => tcp(*address, holder, &mut ports, report),
            Admin::Unix(path) => unix(path, holder, &mut paths, report),
        }
    }
    for (parsed, field) in endpoints.iter().zip(&fields) {
        let spec = &parsed.config.spec;
        let holder = Holder {
            field,
            at: &parsed.listen_at,
            spec: Some(spec),
        };
        match &spec.listen {
            Listen::Mtls { address, .. }
            | Listen::Tcp { address, .. }
            | Listen::Connect { address, .. } => {
                tcp(*address, holder, &mut ports, report);
            }
            Listen::Unix { path, .. } => unix(path, holder, &mut paths, report),
        }
    }
}

fn unix<'a>(
    path: &'a Path,
    holder: Holder<'a>,
    paths: &mut HashMap<&'a Path, Holder<'a>>,
    report: &mut Report,
) {
    match paths.entry(path) {
        Entry::Occupied(first) => holder.clash("this is the socket", first.get(), report),
        Entry::Vacant(place) => {
            place.insert(holder);
        }
    }
}

/// `::ffff:127.0.0.1` and `127.0.0.1` are one address.
const fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(IpAddr::V4(ip), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// Whether two different addresses of one port cannot both be bound. `[::]` takes IPv4 as well.
fn overlap(a: &SocketAddr, b: &SocketAddr) -> bool {
    let takes = |all: &SocketAddr, one: &SocketAddr| match all.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && one.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    takes(a, b) || takes(b, a)
}

fn tcp<'a>(address: SocketAddr, holder: Holder<'a>, ports: &mut Ports<'a>, report: &mut Report) {
    let address = canonical(address);
    let on_port = ports.entry(address.port()).or_default();
    if let Some(shared) = on_port.get_mut(&address) {
        shared.join(holder, report);
        return;
    }
    let other = if address.ip().is_unspecified() {
        on_port.iter().find(|(other, _)| overlap(other, &address))
    } else {
        // Only one of these can be in the way, and there may be thousands of others.
        let everywhere = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        everywhere
            .iter()
            .filter_map(|ip| on_port.get_key_value(&SocketAddr::new(*ip, address.port())))
            .find(|(other, _)| overlap(other, &address))
    };
    if let Some((other, shared)) = other {
        let what = format!("{address} overlaps with the address {other}");
        holder.clash(&what, &shared.first, report);
    }
    let mut shared = Shared {
        first: holder,
        names: HashMap::new(),
        default: None,
    };
    shared.take(holder);
    on_port.insert(address, shared);
}

impl<'a> Shared<'a> {
    /// A further holder of the address: only mTLS endpoints share one, and only if the server
    /// name chooses between them.
    fn join(&mut self, holder: Holder<'a>, report: &mut Report) {
        let (Some(spec), Some(first)) = (holder.mtls(), self.first.mtls()) else {
            let what = "only mTLS endpoints share an address, and this is that";
            holder.clash(what, &self.first, report);
            return;
        };
        if let Some(other) = self.names.get(spec.server_name.as_str()) {
            let what = format!("the server name {} is already that", spec.server_name);
            holder.clash(&what, other, report);
        }
        if let (true, Some(other)) = (spec.default, &self.default) {
            holder.clash(
                "the `default` of this address is already that",
                other,
                report,
            );
        }
        // A PROXY header comes before the server name, so it cannot depend on it.
        if first.proxy_protocol.accept_from != spec.proxy_protocol.accept_from {
            let what = "one address has one `proxy_protocol.from`, and this one differs from that";
            holder.clash(what, &self.first, report);
        }
        self.take(holder);
    }

    fn take(&mut self, holder: Holder<'a>) {
        if let Some(spec) = holder.mtls() {
            self.names.entry(&spec.server_name).or_insert(holder);
            if spec.default && self.default.is_none() {
                self.default = Some(holder);
            }
        }
    }
}
