//! Whether what a configuration names is there: keys, certificates, bundles, sockets.

use std::{
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use sekisho_certs::{
    Svid, TrustDomain,
    source::{FileBundles, SourceSpec, read_files},
    tls,
};
use sekisho_proxy::endpoint::spec::EndpointSpec;

use crate::{
    config::{AgentConfig, EndpointConfig},
    node,
};

/// What was found of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The endpoint would not be ready.
    pub(crate) problems: Vec<String>,
    /// Legal but unwise, or about to be a problem.
    pub(crate) warnings: Vec<String>,
}

/// Where the bundle of a trust domain comes from.
pub(crate) enum Bundle {
    /// A file has it, with so many CAs.
    Here(usize),
    /// Known only at run time.
    FromSource(String),
    /// Nowhere.
    Missing,
}

/// Options of its sockets that this system refuses.
pub(crate) fn sockets(spec: &EndpointSpec) -> Vec<String> {
    let sides = [
        ("listen", &spec.sockets.listen),
        ("forward", &spec.sockets.forward),
    ];
    let refused = sides.into_iter().flat_map(|(side, options)| {
        let refused = sekisho_proxy::socket::refused(options);
        refused.into_iter().map(move |(name, error)| {
            let hint = if name == "congestion" {
                " (see net.ipv4.tcp_allowed_congestion_control)"
            } else {
                ""
            };
            format!("`socket.{side}.{name}` has no effect: {error}{hint}")
        })
    });
    let paths = [
        ("listen", &spec.path.listen),
        ("forward", &spec.path.forward),
    ];
    let paths = paths.into_iter().flat_map(|(side, options)| {
        let refused = sekisho_proxy::path::refused(options);
        let told = move |(key, why)| format!("`path.{side}.{key}` {why}");
        refused.into_iter().map(told)
    });
    refused.chain(paths).collect()
}

/// Looks at everything that one endpoint needs. The sockets of `agent`, where the same file starts one,
/// are not there yet.
pub(crate) fn look(
    endpoint: &EndpointConfig,
    agent: Option<&AgentConfig>,
    now: SystemTime,
) -> Found {
    let mut found = Found::default();
    found.warnings.extend(sockets(&endpoint.spec));
    match &endpoint.identity {
        Some(SourceSpec::Files { cert, key }) => files(&mut found, endpoint, cert, key, now),
        Some(SourceSpec::WorkloadApi { socket } | SourceSpec::Delegated { socket, .. }) => {
            let there = std::fs::metadata(socket).is_ok_and(|data| data.file_type().is_socket());
            let comes = agent.is_some_and(|agent| {
                let delegated = agent.delegated.as_ref();
                agent.socket == *socket || delegated.is_some_and(|own| own.socket == *socket)
            });
            let asks = node::federation::is_needed(&endpoint.spec);
            if asks && !comes {
                let path = socket.display();
                found.warnings.push(format!(
                    "marks and site:// need sekisho's own agent at {path}: SPIRE's knows nothing of \
                     them"
                ));
            }
            if !there && !comes {
                let path = socket.display();
                found
                    .problems
                    .push(format!("no socket of an agent at {path}"));
            }
        }
        Some(SourceSpec::Embedded { data, .. }) => {
            let here = |folder: &&Path| folder.is_dir() || folder.as_os_str().is_empty();
            let parent = data.ancestors().find(here);
            if parent.is_none() {
                let path = data.display();
                found
                    .problems
                    .push(format!("{path}: no such folder, and none above it"));
            }
            exposed(&mut found, &data.join("ca.key"));
        }
        None => {}
    }
    // Endpoints are ready without them; peers of those domains are refused.
    found.warnings.extend(bundles(endpoint).problems);
    for domain in named_domains(&endpoint.spec) {
        if matches!(
            bundle_of(endpoint, &endpoint.spec.site, &domain, now),
            Bundle::Missing
        ) {
            found.warnings.push(format!(
                "no bundle with a valid CA for {domain}: its workloads are refused as \
                 unknown_trust_domain until there is one"
            ));
        }
    }
    found
}

fn bundles(endpoint: &EndpointConfig) -> FileBundles {
    let none = FileBundles::default();
    let site = &endpoint.spec.site;
    FileBundles::read(&endpoint.bundles, site, endpoint.own_bundles, &none)
}

/// Where this endpoint would take the bundle of `domain` from.
pub(crate) fn bundle_of(
    endpoint: &EndpointConfig,
    site: &TrustDomain,
    domain: &TrustDomain,
    now: SystemTime,
) -> Bundle {
    let set = bundles(endpoint).set;
    if let Some(bundle) = set.get(domain) {
        let valid = bundle
            .authorities()
            .iter()
            .filter(|ca| now <= ca.not_after());
        return match valid.count() {
            0 => Bundle::Missing,
            count => Bundle::Here(count),
        };
    }
    match &endpoint.identity {
        Some(source @ (SourceSpec::WorkloadApi { .. } | SourceSpec::Delegated { .. })) => {
            Bundle::FromSource(node::describe(source))
        }
        // The bundles of others come by federation.
        Some(source @ SourceSpec::Embedded { federated, .. }) if *federated || domain == site => {
            Bundle::FromSource(node::describe(source))
        }
        _ => Bundle::Missing,
    }
}

fn files(found: &mut Found, endpoint: &EndpointConfig, cert: &Path, key: &Path, now: SystemTime) {
    exposed(found, key);
    let svid: Arc<Svid> = match read_files(cert, key, &tls::provider()) {
        Ok(svid) => svid,
        Err(error) => return found.problems.push(error.to_string()),
    };
    let (id, spec) = (svid.id(), &endpoint.spec);
    if now > svid.not_after() {
        found
            .problems
            .push(format!("{}: the SVID {id} has expired", cert.display()));
    } else if now < svid.not_before() {
        found.problems.push(format!(
            "{}: the SVID {id} is not valid yet",
            cert.display()
        ));
    }
    if let Some(wanted) = &spec.own_id
        && wanted != id
    {
        let path = cert.display();
        found
            .problems
            .push(format!("{path}: the SVID is {id}, `as` asks for {wanted}"));
    }
    if *id.trust_domain() != spec.site {
        let path = cert.display();
        found.problems.push(format!(
            "{path}: the SVID {id} is not of this site, {}",
            spec.site
        ));
    }
}

/// The trust domains that the lists name.
fn named_domains(spec: &EndpointSpec) -> Vec<TrustDomain> {
    let mut domains = Vec::new();
    for list in spec.lists() {
        domains.extend(list.domains().cloned());
    }
    domains.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    domains.dedup();
    domains
}

/// Warns of a key that others than its owner may read.
pub(super) fn exposed(found: &mut Found, key: &Path) {
    if let Ok(data) = std::fs::metadata(key)
        && data.mode() & 0o077 != 0
    {
        let mode = data.mode() & 0o777;
        let path = key.display();
        found.warnings.push(format!(
            "{path}: the key is readable by others (mode {mode:o}): chmod 600 {path}"
        ));
    }
}
