//! Which endpoints want to know something of other sites, and from whom.

use std::{collections::HashMap, path::PathBuf};

use sekisho_agent::members::Wants;
use sekisho_certs::{IdList, source::SourceSpec};
use sekisho_proxy::endpoint::spec::EndpointSpec;

use crate::config::EndpointConfig;

/// Who tells of other sites.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Teller {
    /// The agent of this node, at this socket of its Workload API or its Delegated Identity API.
    Agent(PathBuf),
    /// The authority in this process, whose data is in this folder.
    Inside(PathBuf),
}

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

/// Who is asked, where it counts: the agent, or a CA in this process that is federated. An identity of files
/// has its bundles from files, and knows no members.
pub(crate) fn teller(endpoint: &EndpointConfig) -> Option<Teller> {
    let teller = match endpoint.identity.as_ref()? {
        SourceSpec::WorkloadApi { socket } | SourceSpec::Delegated { socket, .. } => {
            Teller::Agent(socket.clone())
        }
        SourceSpec::Embedded {
            data,
            federated: true,
        } => Teller::Inside(data.clone()),
        _ => return None,
    };
    is_useful(&endpoint.spec).then_some(teller)
}

/// What all endpoints want whoever comes, by whom to ask.
pub(super) fn wants(endpoints: &[EndpointConfig]) -> HashMap<Teller, Wants> {
    let mut all: HashMap<Teller, Wants> = HashMap::new();
    for endpoint in endpoints {
        let Some(teller) = teller(endpoint) else {
            continue;
        };
        let wants = all.entry(teller).or_default();
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
