//! What is legal but unwise.

use std::fmt;

use sekisho_certs::{
    IdList, TrustDomain,
    source::{BundlesSpec, SourceSpec},
    tls::MinVersion,
};
use sekisho_proxy::endpoint::spec::{EndpointSpec, Forward, Listen, LocalClients};

use super::{field::Map, location::Location};

/// Something that `check` shows and the log repeats at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// Where it stands.
    pub(crate) location: Location,
    /// The key it is about, as in `endpoints.from-osaka.listen`.
    pub(crate) field: String,
    /// What may go wrong.
    pub(crate) message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: warning: {}",
            self.location, self.field, self.message
        )
    }
}

/// Collects the warnings of one endpoint.
struct Warnings<'a> {
    map: &'a Map<'a>,
    found: Vec<Warning>,
}

impl Warnings<'_> {
    fn add(&mut self, key: &str, message: impl Into<String>) {
        if let Some(field) = self.map.get(key) {
            self.found.push(Warning {
                location: field.at().clone(),
                field: field.path,
                message: message.into(),
            });
        }
    }
}

/// The warnings about one endpoint, which stands at `map`.
pub(super) fn warnings(
    map: &Map<'_>,
    spec: &EndpointSpec,
    identity: Option<&SourceSpec>,
    bundles: &[BundlesSpec],
) -> Vec<Warning> {
    let mut warnings = Warnings {
        map,
        found: Vec::new(),
    };
    listen(spec, &mut warnings);
    if !spec.needs_identity() {
        let message = "neither side speaks mTLS: nobody proves who they are here";
        warnings.add("forward", message);
    }
    if let Listen::Mtls { accept, .. } = &spec.listen {
        list("accept", accept, spec, &mut warnings);
    }
    if let Forward::Mtls { expect, .. } = &spec.forward {
        list("expect", expect, spec, &mut warnings);
    }
    if oldest(spec) == MinVersion::Tls12 {
        let message = "TLS 1.2 shows certificates to anybody on the way: only for peers that \
                       cannot do better";
        warnings.add("tls", message);
    }
    if spec.proxy_protocol.accept_from.iter().any(is_everywhere) {
        let message = "anybody may say where they come from";
        warnings.add("proxy_protocol", message);
    }
    trust(spec, identity, bundles, &mut warnings);
    warnings.found
}

fn is_everywhere(net: &ipnet::IpNet) -> bool {
    net.prefix_len() == 0
}

const fn accept(spec: &EndpointSpec) -> Option<&IdList> {
    match &spec.listen {
        Listen::Mtls { accept, .. } => Some(accept),
        _ => None,
    }
}

const fn expect(spec: &EndpointSpec) -> Option<&IdList> {
    match &spec.forward {
        Forward::Mtls { expect, .. } => Some(expect),
        Forward::Plain { .. } => None,
    }
}

fn oldest(spec: &EndpointSpec) -> MinVersion {
    match (&spec.listen, &spec.forward) {
        (Listen::Mtls { min_version, .. }, _) | (_, Forward::Mtls { min_version, .. }) => {
            *min_version
        }
        _ => MinVersion::Tls13,
    }
}

fn listen(spec: &EndpointSpec, warnings: &mut Warnings<'_>) {
    let (local, from) = match &spec.listen {
        Listen::Tcp { local, from, .. } => (local, from.as_slice()),
        Listen::Connect { local, .. } => (local, &[][..]),
        Listen::Mtls { .. } | Listen::Unix { .. } => return,
    };
    if *local == LocalClients::Anyone && spec.needs_identity() {
        let id = spec.own_id.as_ref().map_or_else(
            || format!("this endpoint's identity in {}", spec.site),
            ToString::to_string,
        );
        let message = format!("no `local`: any user of the host could speak as {id}");
        warnings.add("listen", message);
    }
    if from.iter().any(is_everywhere) {
        warnings.add("from", "anybody who reaches this address may use it");
    }
}

fn list(key: &str, ids: &IdList, spec: &EndpointSpec, warnings: &mut Warnings<'_>) {
    match ids {
        IdList::Federated => {
            let message = "every workload of every trusted domain: only the policy decides";
            warnings.add(key, message);
        }
        IdList::Named(patterns) => {
            for pattern in patterns {
                let Some(domain) = pattern.trust_domain() else {
                    continue;
                };
                if *domain != spec.site && pattern.to_string() == format!("spiffe://{domain}/*") {
                    let message = format!("{pattern} is every workload of {domain}");
                    warnings.add(key, message);
                }
            }
        }
    }
}

/// Named domains of which it is certain, before any file is read, that there is no bundle.
fn trust(
    spec: &EndpointSpec,
    identity: Option<&SourceSpec>,
    bundles: &[BundlesSpec],
    warnings: &mut Warnings<'_>,
) {
    let told = matches!(
        identity,
        Some(
            SourceSpec::WorkloadApi { .. }
                | SourceSpec::Delegated { .. }
                | SourceSpec::Embedded {
                    federated: true,
                    ..
                }
        )
    );
    for (key, list) in [("accept", accept(spec)), ("expect", expect(spec))] {
        if let Some(mark) = list.and_then(|list| list.marks().next())
            && !told
        {
            let message = format!(
                "mark:{mark}: marks come from our own agent or from an embedded CA with `federation`, and \
                 this identity does not: such a line lets nobody in"
            );
            warnings.add(key, message);
        }
    }
    let found = spec.site_services().next().is_some() || spec.any_site().is_some();
    if found && !told {
        let message = "site:// is found by our own agent or by an embedded CA with `federation`, and \
                       this identity comes from neither: it will not be found";
        warnings.add("forward", message);
    }
    let own = match identity {
        // A Workload API delivers bundles of its own choice, and federation brings others.
        None
        | Some(
            SourceSpec::WorkloadApi { .. }
            | SourceSpec::Delegated { .. }
            | SourceSpec::Embedded {
                federated: true, ..
            },
        ) => return,
        Some(SourceSpec::Embedded { .. }) => Some(&spec.site),
        Some(SourceSpec::Files { .. }) => None,
    };
    let mut known: Vec<TrustDomain> = own.cloned().into_iter().collect();
    for bundle in bundles {
        match bundle.domains() {
            Some(domains) => known.extend(domains),
            None => return,
        }
    }
    for (key, list) in [("accept", accept(spec)), ("expect", expect(spec))] {
        let Some(IdList::Named(patterns)) = list else {
            continue;
        };
        let mut missing: Vec<_> = patterns
            .iter()
            .filter_map(sekisho_certs::IdPattern::trust_domain)
            .collect();
        missing.sort_unstable();
        missing.dedup();
        for domain in missing {
            if !known.contains(domain) {
                let message = format!("there is no bundle of {domain}: its peers will be refused");
                warnings.add(key, message);
            }
        }
    }
}
