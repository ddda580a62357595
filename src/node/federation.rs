//! Which endpoints want to know something of other sites, and from which agent.

use std::{collections::HashMap, path::PathBuf};

use sekisho_agent::members::Wants;
use sekisho_certs::{IdList, source::SourceSpec};
use sekisho_proxy::endpoint::spec::EndpointSpec;

use crate::config::EndpointConfig;

/// Whether an endpoint is of no use where nothing is known of other sites beside their bundles.
pub(crate) fn is_needed(spec: &EndpointSpec) -> bool {
    let marks = spec.lists().any(|list| list.marks().next().is_some());
    marks || spec.site_services().next().is_some() || spec.any_site().is_some()
}

/// Whether it could make use of it: also for peers of any site, and for the age that policy sees.
fn is_useful(spec: &EndpointSpec) -> bool {
    let foreign = |list: &IdList| {
        *list == IdList::Federated || list.domains().any(|domain| *domain != spec.site)
    };
    is_needed(spec) || spec.lists().any(foreign)
}

/// The socket of the agent that is asked, where it counts: that of the Workload API. A file with an
/// identity of another kind has its bundles from files, and knows no members.
pub(crate) fn socket(endpoint: &EndpointConfig) -> Option<&PathBuf> {
    match &endpoint.identity {
        Some(SourceSpec::WorkloadApi { socket }) if is_useful(&endpoint.spec) => Some(socket),
        _ => None,
    }
}

/// What all endpoints want whoever comes, by the agent to ask.
pub(super) fn wants(endpoints: &[EndpointConfig]) -> HashMap<PathBuf, Wants> {
    let mut all: HashMap<PathBuf, Wants> = HashMap::new();
    for endpoint in endpoints {
        let Some(socket) = socket(endpoint) else {
            continue;
        };
        let wants = all.entry(socket.clone()).or_default();
        let spec = &endpoint.spec;
        wants.needed |= is_needed(spec);
        for list in spec.lists() {
            wants.marks.extend(list.marks().cloned());
            let foreign = list.domains().filter(|domain| **domain != spec.site);
            wants.domains.extend(foreign.cloned());
        }
        let services = spec.site_services();
        wants.domains.extend(services.map(|one| one.domain.clone()));
    }
    all
}
