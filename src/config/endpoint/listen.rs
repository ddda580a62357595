//! `listen`, and what goes with each form of it.

use std::net::SocketAddr;

use ipnet::IpNet;
use sekisho_certs::tls::MinVersion;
use sekisho_proxy::endpoint::spec::{Listen, LocalClient, LocalClients};

use super::ids;
use crate::config::{
    address::{self, ListenUrl},
    error::{Problem, Report},
    field::{Field, Map},
};

/// Reads the listening side.
pub(super) fn read(map: &Map<'_>, min: MinVersion, report: &mut Report) -> Option<Listen> {
    let field = map.required("listen", address::LISTEN, report)?;
    let text = field.text(address::LISTEN, report)?;
    let url = match address::listen(text) {
        Ok(url) => url,
        Err(expected) => {
            field.wrong(expected, report);
            return None;
        }
    };
    if !matches!(url, ListenUrl::Mtls(_)) {
        let rule = "only an mTLS `listen` has peers to accept";
        map.refuse(&["accept"], rule, report);
    }
    match url {
        ListenUrl::Mtls(address) => {
            let rule = "only a tcp, connect or unix `listen` has local clients";
            map.refuse(&["local", "from"], rule, report);
            let accept = map.required("accept", ids::FORM, report)?;
            Some(Listen::Mtls {
                address,
                accept: ids::read(&accept, report)?,
                min_version: min,
            })
        }
        ListenUrl::Tcp(address) => tcp(map, &field, address, report),
        ListenUrl::Connect(address) => {
            let rule = "a connect `listen` is for this host only";
            map.refuse(&["from"], rule, report);
            let local = local(map, report);
            if !address::is_loopback(address) {
                let rule = "other hosts reach this address: a connect `listen` is on loopback";
                field.rule(rule, report);
            }
            Some(Listen::Connect {
                address,
                local: local?,
            })
        }
        ListenUrl::Unix(path) => {
            let rule = "only a tcp `listen` has source addresses";
            map.refuse(&["from"], rule, report);
            Some(Listen::Unix {
                path,
                local: local(map, report)?,
            })
        }
    }
}

fn tcp(
    map: &Map<'_>,
    field: &Field<'_>,
    address: SocketAddr,
    report: &mut Report,
) -> Option<Listen> {
    let local = local(map, report);
    let from = map.get_or("from", Vec::new(), report, networks);
    if map.get("from").is_none() && !address::is_loopback(address) {
        let rule = "other hosts reach this address: give `from: [CIDR]`, or listen on loopback";
        field.rule(rule, report);
    }
    Some(Listen::Tcp {
        address,
        local: local?,
        from: from?,
    })
}

/// A list of networks.
pub(in crate::config) fn networks(field: &Field<'_>, report: &mut Report) -> Option<Vec<IpNet>> {
    let items = field.list("a list of networks, as in [10.1.0.0/16]", report)?;
    let networks: Vec<_> = items.iter().map(|item| network(item, report)).collect();
    networks.into_iter().collect()
}

fn network(field: &Field<'_>, report: &mut Report) -> Option<IpNet> {
    let net: IpNet = field.parse("a network, as in 10.1.0.0/16 or fd00::/8", report, |text| {
        text.parse().ok()
    })?;
    if net != net.trunc() {
        let rule = format!(
            "{net} has bits set beyond its prefix: did you mean {}?",
            net.trunc()
        );
        field.problem(Problem::Rule(rule), report);
        return None;
    }
    Some(net)
}

fn local(map: &Map<'_>, report: &mut Report) -> Option<LocalClients> {
    let Some(field) = map.get("local") else {
        return Some(LocalClients::Anyone);
    };
    let items = field.list("a list such as [user:kafka, group:hpc]", report)?;
    let clients: Vec<_> = items
        .iter()
        .map(|item| item.parse("user:NAME or group:NAME", report, client))
        .collect();
    clients
        .into_iter()
        .collect::<Option<_>>()
        .map(LocalClients::Only)
}

fn client(text: &str) -> Option<LocalClient> {
    let (kind, name) = text.split_once(':')?;
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | ',' | '/');
    if name.is_empty() || name.len() > 256 || name.contains(odd) {
        return None;
    }
    match kind {
        "user" => Some(LocalClient::User(name.into())),
        "group" => Some(LocalClient::Group(name.into())),
        _ => None,
    }
}
