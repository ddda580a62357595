//! Services of other sites that clients ask for by their names: the targets of each, while its
//! catalogue lists it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sekisho_certs::Members;

use super::{Target, Upstream, catalogue::Plan};
use crate::endpoint::spec::{EndpointSpec, SiteService};

/// Services remembered at a time; the one that was used longest ago goes first. What is known of its
/// targets goes with it, and no connection.
const MOST: usize = 256;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Services(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    /// By trust domain and service.
    known: BTreeMap<(String, String), Pool>,
    turn: u64,
}

#[derive(Debug)]
struct Pool {
    service: SiteService,
    upstream: Arc<Upstream>,
    /// The turn in which it was last asked for.
    used: u64,
}

impl Services {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All their targets, by site and service.
    pub(super) fn targets(&self) -> Vec<Arc<Target>> {
        let used = self.used();
        let pools = used.known.values();
        pools
            .flat_map(|pool| pool.upstream.targets.iter().cloned())
            .collect()
    }

    /// Forgets those that no catalogue lists any more: they are not to be checked and shown for ever.
    pub(super) fn keep_listed(&self, members: &Members) {
        let listed = |pool: &Pool| !Plan::of(&pool.service, members).targets.is_empty();
        self.used().known.retain(|_, pool| listed(pool));
    }
}

impl Upstream {
    /// The targets of `service`, by the catalogues of `members`. What is known of a target that was
    /// there goes on.
    pub(crate) fn of_service(
        &self,
        spec: &EndpointSpec,
        service: &SiteService,
        members: &Members,
    ) -> Arc<Self> {
        let plan = Plan::of(service, members);
        let key = (service.domain.to_string(), service.service.clone());
        let mut used = self.services.used();
        used.turn += 1;
        let turn = used.turn;
        let before = used.known.remove(&key).map(|pool| pool.upstream);
        let upstream = match before {
            Some(upstream) if upstream.is_by(&plan) => upstream,
            before => {
                let known = before.as_ref().map_or(&[][..], |before| &before.targets);
                Self::planned(spec, plan, known, self.runtime.clone())
            }
        };
        // Of a name that stands for nothing, nothing is kept: clients choose names.
        if upstream.targets.is_empty() {
            return upstream;
        }
        if used.known.len() >= MOST {
            let oldest = used.known.iter().min_by_key(|(_, pool)| pool.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                used.known.remove(&oldest);
            }
        }
        let pool = Pool {
            service: service.clone(),
            upstream: Arc::clone(&upstream),
            used: turn,
        };
        used.known.insert(key, pool);
        upstream
    }
}
