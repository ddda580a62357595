//! `forward`, and what goes with each form of it.

use sekisho_certs::{IdList, TrustDomain, tls::MinVersion};
use sekisho_proxy::endpoint::spec::{Address, Forward, MtlsTarget};

use super::ids;
use crate::config::{
    address::{self, ForwardUrl},
    error::Report,
    field::{Field, Map},
    tree::Kind,
};

/// A target as written, with the place it was written at.
type Written<'a> = (Field<'a>, ForwardUrl);

/// Reads the forwarding side.
pub(super) fn read(map: &Map<'_>, min: MinVersion, report: &mut Report) -> Option<Forward> {
    let field = map.required("forward", address::FORWARD, report)?;
    let written = written(&field, report)?;
    let mut mtls = Vec::new();
    let mut plain = Vec::new();
    for (field, url) in written {
        match url {
            ForwardUrl::Mtls(address, name) => mtls.push((field, address, name)),
            ForwardUrl::Plain(address) => plain.push(address),
        }
    }
    if !plain.is_empty() {
        if !mtls.is_empty() {
            field.rule("either all targets are mtls:// or none is", report);
            return None;
        }
        let rule = "only an mTLS `forward` has peers to expect";
        map.refuse(&["expect"], rule, report);
        return Some(Forward::Plain { targets: plain });
    }
    let expect = map.required("expect", ids::FORM, report)?;
    let expect = ids::read(&expect, report)?;
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
    let mut domains: Vec<_> = patterns
        .iter()
        .map(|pattern| pattern.trust_domain())
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
