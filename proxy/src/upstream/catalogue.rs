//! Targets as the file and the catalogues of other sites have them now.

use sekisho_certs::{Allowed, Members, SpiffeId, members::Gateway};

use crate::endpoint::spec::{Address, EndpointSpec, Forward, SiteService};

/// A target, before anything is known of its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// As in the file.
    pub(super) name: String,
    /// Where it is; never a service of another site.
    pub(super) address: Address,
    pub(super) server_name: Option<String>,
    pub(super) found: Option<Found>,
}

/// What a catalogue adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Who answers there, and nobody else.
    pub(super) id: SpiffeId,
    /// Where it may be: the address comes from another site.
    pub(super) allowed: Allowed,
    /// The service, for messages.
    pub(super) service: String,
}

/// All targets, and the services that no catalogue lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) targets: Vec<Planned>,
    pub(super) missing: Vec<SiteService>,
}

impl Plan {
    pub(super) fn new(spec: &EndpointSpec, members: &Members) -> Self {
        let mut plan = Self::default();
        let all: Vec<(&Address, Option<&String>)> = match &spec.forward {
            Forward::Mtls { targets, .. } => targets
                .iter()
                .map(|target| (&target.address, target.server_name.as_ref()))
                .collect(),
            Forward::Plain { targets } => targets.iter().map(|address| (address, None)).collect(),
        };
        for (address, server_name) in all {
            match address {
                Address::Site(service) => plan.look_up(service, members),
                // Whom a client asks for has a plan of its own.
                Address::Sites(_) => {}
                _ => plan.targets.push(Planned {
                    name: address.to_string(),
                    address: address.clone(),
                    server_name: server_name.cloned(),
                    found: None,
                }),
            }
        }
        plan
    }

    /// The targets of one service.
    pub(super) fn of(service: &SiteService, members: &Members) -> Self {
        let mut plan = Self::default();
        plan.look_up(service, members);
        plan
    }

    fn look_up(&mut self, wanted: &SiteService, members: &Members) {
        let member = members.get(&wanted.domain);
        let Some(service) = member.and_then(|member| member.services().get(&wanted.service)) else {
            self.missing.push(wanted.clone());
            return;
        };
        for gateway in service.gateways() {
            let address = match gateway {
                Gateway::Ip(address) => Address::Ip(*address),
                Gateway::Name(name, port) => Address::Name(name.clone(), *port),
            };
            self.targets.push(Planned {
                name: format!("{wanted} ({address})"),
                address,
                server_name: Some(service.server_name()),
                found: Some(Found {
                    id: service.id().clone(),
                    allowed: Allowed::with(wanted.allow.clone()),
                    service: wanted.to_string(),
                }),
            });
        }
    }
}
