//! `forward`, and what goes with each form of it.

use sekisho_certs::{IdList, IdPattern, TrustDomain, tls::MinVersion};
use sekisho_proxy::endpoint::spec::{Address, AnySite, Forward, Listen, MtlsTarget, SiteService};

use super::{Shared, ids};
use crate::config::{
    address::{self, ForwardUrl},
    error::Report,
    field::{Field, Map},
    tree::Kind,
};

/// A target as written, with the place it was written at.
type Written<'a> = (Field<'a>, ForwardUrl);

/// Reads the forwarding side.
pub(super) fn read(
    map: &Map<'_>,
    min: MinVersion,
    listen: Option<&Listen>,
    shared: &Shared,
    report: &mut Report,
) -> Option<Forward> {
    let field = map.required("forward", address::FORWARD, report)?;
    let written = written(&field, report)?;
    let mut mtls = Vec::new();
    let mut plain = Vec::new();
    for (field, url) in written {
        match url {
            ForwardUrl::Mtls(address, name) => mtls.push((field, address, name)),
            ForwardUrl::Site(domain, service) => {
                if domain == shared.site {
                    let rule = "a service of this site is not looked up in its own catalogue: \
                                name its address, mtls://HOST:PORT/NAME";
                    field.rule(rule, report);
                    continue;
                }
                let service = SiteService {
                    domain,
                    service,
                    allow: shared.allow.clone(),
                };
                mtls.push((field, Address::Site(service), None));
            }
            ForwardUrl::Sites(service) => {
                let any = AnySite {
                    service,
                    allow: shared.allow.clone(),
                };
                mtls.push((field, Address::Sites(any), None));
            }
            ForwardUrl::Plain(address) => plain.push(address),
        }
    }
    asked_for(&field, &mtls, plain.len(), listen, report)?;
    if !plain.is_empty() {
        if !mtls.is_empty() {
            field.rule(
                "either all targets are mtls:// or site://, or none is",
                report,
            );
            return None;
        }
        let rule = "only an mTLS `forward` has peers to expect";
        map.refuse(&["expect"], rule, report);
        return Some(Forward::Plain { targets: plain });
    }
    let expect = expect(map, &mtls, report)?;
    let targets: Vec<_> = mtls
        .into_iter()
        .map(|target| named(target, &expect, report))
        .collect();
    Some(Forward::Mtls {
        targets: targets.into_iter().collect::<Option<_>>()?,
        expect,
        min_version: min,
    })
}

/// Somebody has to say which of any sites is meant, and by CONNECT nothing else can be said.
fn asked_for(
    field: &Field<'_>,
    mtls: &[(Field<'_>, Address, Option<String>)],
    plain: usize,
    listen: Option<&Listen>,
    report: &mut Report,
) -> Option<()> {
    let any = |address: &Address| matches!(address, Address::Sites(_));
    let found = mtls.iter().any(|(_, address, _)| any(address));
    let rule = match listen {
        _ if found && mtls.len() + plain > 1 => "site://* stands alone",
        Some(Listen::Connect { .. }) if !found => {
            "a connect `listen` has clients say where they go: `forward` is site://* or \
             site://*/SERVICE"
        }
        Some(Listen::Mtls { .. } | Listen::Tcp { .. } | Listen::Unix { .. }) if found => {
            "which site is meant is said by a client of a connect `listen`: \
             listen: connect://ADDRESS:PORT"
        }
        _ => return Some(()),
    };
    field.rule(rule, report);
    None
}

/// `expect`. Where all targets are services of other sites it may be missing: the catalogue says who
/// answers, and the list is every workload of those sites.
fn expect(
    map: &Map<'_>,
    targets: &[(Field<'_>, Address, Option<String>)],
    report: &mut Report,
) -> Option<IdList> {
    let of_sites: Option<Vec<IdPattern>> = targets
        .iter()
        .map(|(_, address, _)| match address {
            Address::Site(service) => format!("spiffe://{}/*", service.domain).parse().ok(),
            // Whom it may lead to is for the file to say.
            Address::Sites(_) | Address::Ip(_) | Address::Name(..) | Address::Unix(_) => None,
        })
        .collect();
    match (map.get("expect"), of_sites) {
        (None, Some(mut patterns)) if !patterns.is_empty() => {
            patterns.sort_by_key(ToString::to_string);
            patterns.dedup();
            Some(IdList::Named(patterns))
        }
        _ => {
            let field = map.required("expect", ids::FORM, report)?;
            ids::read(&field, report)
        }
    }
}

fn written<'a>(field: &Field<'a>, report: &mut Report) -> Option<Vec<Written<'a>>> {
    let items = match field.node.kind {
        Kind::List(_) => field.list(address::FORWARD, report)?,
        _ => vec![field.clone()],
    };
    let before = report.count();
    let mut written: Vec<Written<'a>> = Vec::new();
    for item in items {
        let Some(text) = item.text(address::FORWARD, report) else {
            continue;
        };
        match address::forward(text) {
            Ok(url) if written.iter().any(|(_, other)| *other == url) => {
                item.rule("this target stands twice in the list", report);
            }
            Ok(url) => written.push((item, url)),
            Err(expected) => item.wrong(expected, report),
        }
    }
    (report.count() == before && !written.is_empty()).then_some(written)
}

/// Completes `/NAME` to `NAME.<trust domain of expect>`.
fn named(
    (field, address, name): (Field<'_>, Address, Option<String>),
    expect: &IdList,
    report: &mut Report,
) -> Option<MtlsTarget> {
    let Some(name) = name else {
        return Some(MtlsTarget {
            address,
            server_name: None,
        });
    };
    let domain = match only_domain(expect) {
        Ok(domain) => domain,
        Err(why) => {
            let rule = format!(
                "/{name} asks for {name}.<trust domain of `expect`>, but {why}: name one, or \
                 leave out /{name}"
            );
            field.rule(rule, report);
            return None;
        }
    };
    let server_name = format!("{name}.{domain}");
    if server_name.len() > 253 {
        field.rule(
            format!("{server_name:?} is longer than a server name may be"),
            report,
        );
        return None;
    }
    Some(MtlsTarget {
        address,
        server_name: Some(server_name),
    })
}

fn only_domain(expect: &IdList) -> Result<&TrustDomain, String> {
    let IdList::Named(patterns) = expect else {
        return Err("[federated] names none".into());
    };
    if expect.marks().next().is_some() {
        return Err("a mark names none".into());
    }
    let mut domains: Vec<_> = patterns
        .iter()
        .filter_map(IdPattern::trust_domain)
        .collect();
    domains.sort_unstable();
    domains.dedup();
    match domains.as_slice() {
        [domain] => Ok(domain),
        several => {
            let names: Vec<_> = several.iter().map(|domain| domain.as_str()).collect();
            Err(format!("it names {}", names.join(" and ")))
        }
    }
}
