//! One entry of `endpoints`.

use ipnet::IpNet;
use sekisho_certs::{
    IdList, SpiffeId, TrustDomain,
    id::id_below,
    source::{BundlesSpec, SourceSpec},
};
use sekisho_proxy::endpoint::spec::{EndpointSpec, Forward, Listen, RecordLayer};

use super::{
    EndpointConfig, address,
    error::{Problem, Report},
    field::{Field, Map, quoted},
    identity::{self, Identity, Own},
    keys,
    location::Location,
    policy::{self, PolicyConfig},
    tree::Entry,
    warning,
};

mod forward;
pub(super) mod ids;
pub(super) mod listen;
mod path;
pub(super) mod settings;
mod socket;

pub(super) use listen::networks;

/// What all endpoints of a configuration share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) site: TrustDomain,
    pub(super) identity: Option<Identity>,
    pub(super) bundles: Option<BundlesSpec>,
    pub(super) policy: Option<PolicyConfig>,
    pub(super) record: RecordLayer,
    /// `federation: {allow}`.
    pub(super) allow: Vec<IpNet>,
    /// The same of `policy`.
    pub(super) has_policy: bool,
    /// Whether an embedded CA is that of the site's federation.
    pub(super) federated: bool,
}

/// An endpoint, and what is needed to compare it with the others.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) config: EndpointConfig,
    /// Where its `listen` stands.
    pub(super) listen_at: Location,
}

/// Reads one endpoint. `None`: reported.
pub(super) fn read(entry: &Entry, shared: &Shared, report: &mut Report) -> Option<Parsed> {
    let before = report.count();
    let field = Field::new("endpoints", entry);
    if !is_name(&entry.key) {
        let problem = Problem::Expected {
            expected: "a name of at most 63 of a-z, 0-9, `_` and `-` that begins with a letter \
                       or digit"
                .into(),
            found: quoted(&entry.key),
        };
        report.push(&entry.at, &field.path, problem);
    }
    let map = field.map(&keys::ENDPOINT, report)?;

    let tls = map.get_or("tls", settings::Tls::default(), report, settings::tls);
    let settings::Tls { min, resumption } = tls.unwrap_or_default();
    let listen = listen::read(&map, min, report);
    let forward = forward::read(&map, min, listen.as_ref(), shared, report);
    let own_id = own_id(&map, &shared.site, report);
    let policy = match map.get("policy") {
        Some(field) => policy::read(&field, report),
        None => shared.policy.clone(),
    };
    let server_name = server_name(&map, &entry.key, &shared.site, listen.as_ref(), report);
    let default = map.get_or("default", false, report, Field::boolean);
    let settings = settings::read(
        &map,
        listen.as_ref(),
        forward.as_ref(),
        shared.record,
        report,
    );
    let identity = own_identity(&map, shared, report);
    let bundles = own_bundles(&map, shared, identity.as_ref(), report);
    let of_identity = identity.as_ref().map(|identity| &identity.bundles);
    let own_bundles = usize::from(of_identity.is_some_and(Option::is_some));

    let settings = settings?;
    let spec = EndpointSpec {
        name: entry.key.clone(),
        site: shared.site.clone(),
        listen: listen?,
        forward: forward?,
        own_id,
        server_name,
        default: default?,
        balance: settings.balance,
        health: settings.health,
        timeouts: settings.timeouts,
        limits: settings.limits,
        max_age: settings.max_age,
        cut_at_expiry: settings.cut_at_expiry,
        proxy_protocol: settings.proxy_protocol,
        record: settings.record,
        resumption,
        sockets: settings.sockets,
        path: settings.path,
    };
    check_identity(&map, &spec, identity.as_ref(), report);
    check_federated(&map, &spec, shared, report);
    if report.count() > before {
        return None;
    }

    // An endpoint without an mTLS side proves and verifies nothing.
    let (identity, bundles) = if spec.needs_identity() {
        (identity.map(|identity| identity.source), bundles)
    } else {
        (None, Vec::new())
    };
    let warnings = warning::warnings(&map, &spec, identity.as_ref(), &bundles);
    let listen_at = map.get("listen")?.at().clone();
    Some(Parsed {
        config: EndpointConfig {
            spec,
            identity,
            bundles,
            own_bundles,
            policy,
            location: entry.at.clone(),
            warnings,
        },
        listen_at,
    })
}

fn is_name(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// `as`, below the site.
fn own_id(map: &Map<'_>, site: &TrustDomain, report: &mut Report) -> Option<SpiffeId> {
    const FORM: &str = "a path that begins with `/`, as in /broker/osaka; it stands below `site`";
    let field = map.get("as")?;
    let text = field.parse(FORM, report, |text| {
        text.starts_with('/').then(|| text.to_owned())
    })?;
    match id_below(site, &text) {
        Ok(id) => Some(id),
        Err(error) => {
            field.problem(error.into(), report);
            None
        }
    }
}

/// `<name>.<site>`: what an mTLS listen answers to.
fn server_name(
    map: &Map<'_>,
    endpoint: &str,
    site: &TrustDomain,
    listen: Option<&Listen>,
    report: &mut Report,
) -> String {
    let field = map.get("name");
    let name = field
        .as_ref()
        .map_or(Some(endpoint), Field::as_text)
        .unwrap_or_default();
    let full = format!("{name}.{site}");
    match (listen, &field) {
        (Some(Listen::Mtls { .. }), _) | (None, Some(_)) => {
            if address::is_dns_name(name) && full.len() <= 253 {
                return full;
            }
            let form = "one or more DNS labels (a-z, 0-9, `_`, and `-` inside), at most 253 \
                        letters with `.` and the site";
            if let Some(field) = &field {
                field.wrong(form, report);
            } else if is_name(endpoint) {
                let rule = format!("{full:?} is no server name: give `name`, {form}");
                report.push(
                    map.key(),
                    &format!("endpoints.{endpoint}"),
                    Problem::Rule(rule),
                );
            }
        }
        (Some(_), _) => {
            let rule = "only an mTLS `listen` is chosen by server name";
            map.refuse(&["name", "default"], rule, report);
        }
        (None, None) => {}
    }
    full
}

fn own_identity(map: &Map<'_>, shared: &Shared, report: &mut Report) -> Option<Identity> {
    let mut own = match map.get("identity") {
        Some(field) => identity::identity(&field, report),
        None => shared.identity.clone(),
    };
    if let Some(own) = &mut own
        && let SourceSpec::Embedded { federated, .. } = &mut own.source
    {
        *federated = shared.federated;
    }
    own
}

/// The identity's own bundles, the endpoint's, then those of the top level.
fn own_bundles(
    map: &Map<'_>,
    shared: &Shared,
    identity: Option<&Identity>,
    report: &mut Report,
) -> Vec<BundlesSpec> {
    let of_identity = identity.and_then(|identity| identity.bundles.clone());
    let own = Own::Refused(&shared.site);
    let of_endpoint = map
        .get("bundles")
        .and_then(|field| identity::bundles(&field, own, report));
    [of_identity, of_endpoint, shared.bundles.clone()]
        .into_iter()
        .flatten()
        .collect()
}

fn check_identity(
    map: &Map<'_>,
    spec: &EndpointSpec,
    identity: Option<&Identity>,
    report: &mut Report,
) {
    if !spec.needs_identity() {
        let rule = "neither side speaks mTLS: there is no use for it";
        map.refuse(&["as", "identity", "bundles", "tls"], rule, report);
    }
    let embedded =
        identity.is_some_and(|identity| matches!(identity.source, SourceSpec::Embedded { .. }));
    if embedded && spec.needs_identity() {
        let form = "a path such as /broker/osaka, for the embedded CA to mint";
        map.required("as", form, report);
    }
}

/// `[federated]` leaves everything to a policy, so there must be one.
fn check_federated(map: &Map<'_>, spec: &EndpointSpec, shared: &Shared, report: &mut Report) {
    if shared.has_policy || map.get("policy").is_some() {
        return;
    }
    let accept = match &spec.listen {
        Listen::Mtls { accept, .. } => Some(accept),
        _ => None,
    };
    let expect = match &spec.forward {
        Forward::Mtls { expect, .. } => Some(expect),
        Forward::Plain { .. } => None,
    };
    for (key, list) in [("accept", accept), ("expect", expect)] {
        if list == Some(&IdList::Federated)
            && let Some(field) = map.get(key)
        {
            let rule = "[federated] lets every trusted domain in and needs a `policy`";
            field.rule(rule, report);
        }
    }
}
