//! Endpoints that cannot be told apart: the same address with nothing to choose by.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
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

impl Holder<'_> {
    fn clash(&self, what: &str, first: &Holder<'_>, report: &mut Report) {
        let rule = format!("{what} of `{}` at {}", first.field, first.at);
        report.push(self.at, self.field, Problem::Rule(rule));
    }

    fn mtls(&self) -> Option<&EndpointSpec> {
        self.spec
            .filter(|spec| matches!(spec.listen, Listen::Mtls { .. }))
    }
}

/// Reports each endpoint that takes what another one has.
pub(super) fn check(endpoints: &[Parsed], admin: Option<(&Admin, &Location)>, report: &mut Report) {
    let fields: Vec<_> = endpoints
        .iter()
        .map(|parsed| format!("endpoints.{}.listen", parsed.config.spec.name))
        .collect();
    let mut paths: HashMap<&Path, Holder<'_>> = HashMap::new();
    let mut ports: HashMap<u16, Vec<(SocketAddr, Vec<Holder<'_>>)>> = HashMap::new();

    if let Some((admin, at)) = admin {
        let holder = Holder {
            field: "admin",
            at,
            spec: None,
        };
        match admin {
            Admin::Tcp(address) => {
                let holders = vec![holder];
                ports.insert(address.port(), vec![(canonical(*address), holders)]);
            }
            Admin::Unix(path) => {
                paths.insert(path, holder);
            }
        }
    }
    for (parsed, field) in endpoints.iter().zip(&fields) {
        let holder = Holder {
            field,
            at: &parsed.listen_at,
            spec: Some(&parsed.config.spec),
        };
        match &parsed.config.spec.listen {
            Listen::Mtls { address, .. } | Listen::Tcp { address, .. } => {
                let on_port = ports.entry(address.port()).or_default();
                tcp(canonical(*address), holder, on_port, report);
            }
            Listen::Unix { path, .. } => match paths.get(path.as_path()) {
                Some(first) => holder.clash("this is the socket", first, report),
                None => {
                    paths.insert(path, holder);
                }
            },
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

fn tcp<'a>(
    address: SocketAddr,
    holder: Holder<'a>,
    on_port: &mut Vec<(SocketAddr, Vec<Holder<'a>>)>,
    report: &mut Report,
) {
    if let Some((_, holders)) = on_port.iter_mut().find(|(other, _)| *other == address) {
        same(holder, holders, report);
        holders.push(holder);
        return;
    }
    let other = on_port.iter().find(|(other, _)| overlap(other, &address));
    if let Some((other, first)) = other.and_then(|(a, holders)| Some((a, holders.first()?))) {
        let what = format!("{address} overlaps with the address {other}");
        holder.clash(&what, first, report);
    }
    on_port.push((address, vec![holder]));
}

/// A further holder of one address: only mTLS endpoints share one, and only if the server name
/// chooses between them.
fn same(holder: Holder<'_>, holders: &[Holder<'_>], report: &mut Report) {
    let Some(first) = holders.first() else {
        return;
    };
    let (Some(spec), Some(_)) = (holder.mtls(), first.mtls()) else {
        holder.clash(
            "only mTLS endpoints share an address, and this is that",
            first,
            report,
        );
        return;
    };
    let specs = || {
        holders
            .iter()
            .filter_map(|holder| Some((holder, holder.mtls()?)))
    };
    if let Some((first, _)) = specs().find(|(_, other)| other.server_name == spec.server_name) {
        let what = format!("the server name {} is already that", spec.server_name);
        holder.clash(&what, first, report);
    }
    if spec.default
        && let Some((first, _)) = specs().find(|(_, other)| other.default)
    {
        holder.clash(
            "the `default` of this address is already that",
            first,
            report,
        );
    }
    // A PROXY header comes before the server name, so it cannot depend on it.
    let sources = &spec.proxy_protocol.accept_from;
    if let Some((first, _)) =
        specs().find(|(_, other)| other.proxy_protocol.accept_from != *sources)
    {
        let what = "one address has one `proxy_protocol.from`, and this one differs from that";
        holder.clash(what, first, report);
    }
}
