//! Keeping the store in step with the directories: what entries name is wanted of them, and what they
//! say is stored as the bundle of its domain.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{TrustBundle, TrustDomain, members::Members};
use sekisho_federation::directory::{client::Wanted, following::Handle};

use crate::{
    api::fetched,
    core::Core,
    store::{Bundle, StoreError},
};

/// How often entries are looked at, if nobody says that they have changed.
const LOOK: Duration = Duration::from_secs(5);
/// Who it is in the audit log.
const NAME: &str = "directory";

/// A bundle that was refused is tried again after so long, where nothing has changed in the store before: it may
/// be our own key that it has copied.
const AGAIN: Duration = Duration::from_secs(3600);

/// What was stored last, by domain: only what has changed is written.
#[derive(Debug, Default)]
pub(super) struct Stored {
    held: BTreeMap<String, Arc<TrustBundle>>,
    refused: BTreeMap<String, Refused>,
    #[cfg(test)]
    tried: usize,
}

/// A bundle that was refused: told once, and not tried each time that we look.
#[derive(Debug)]
struct Refused {
    bundle: Arc<TrustBundle>,
    problem: String,
    /// When the store was of this version, and at this time.
    version: u64,
    at: SystemTime,
}

impl Refused {
    /// Whether it would be refused again.
    fn stands(&self, bundle: &Arc<TrustBundle>, version: u64, now: SystemTime) -> bool {
        let same = Arc::ptr_eq(&self.bundle, bundle) || self.bundle == *bundle;
        let passed = now.duration_since(self.at).unwrap_or_default();
        same && self.version == version && passed < AGAIN
    }
}

/// Keeps in step for as long as it is let.
pub(crate) async fn keep(core: Arc<Core>, handle: Handle) {
    let mut members = handle.members();
    let (mut stored, mut version) = (Stored::default(), None);
    loop {
        let now = core.store.version();
        if version != Some(now) {
            match wanted(&core).await {
                Ok(wanted) => {
                    handle.set_wanted(wanted);
                    version = Some(now);
                }
                Err(error) => tracing::error!(%error, "entries not read"),
            }
        }
        let known = members.borrow_and_update().clone();
        if let Err(error) = take(&core, &known, &mut stored).await {
            tracing::error!(%error, "what the directory says is not stored");
        }
        tokio::select! {
            changed = members.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What entries name.
pub(super) async fn wanted(core: &Core) -> Result<Wanted, StoreError> {
    let mut domains: BTreeSet<String> = core.store.federated_names().await?;
    domains.remove(core.settings.domain.as_str());
    Ok(Wanted {
        domains,
        ..Wanted::default()
    })
}

/// Stores what has changed since the last time.
pub(super) async fn take(
    core: &Core,
    members: &Members,
    stored: &mut Stored,
) -> Result<(), StoreError> {
    let (mut new, mut bundles) = (BTreeMap::new(), Vec::new());
    let (version, now) = (core.store.version(), core.now());
    for member in members.iter() {
        let (domain, Some(bundle)) = (member.trust_domain(), member.bundle()) else {
            continue;
        };
        let refused = stored.refused.get(domain.as_str());
        if refused.is_some_and(|refused| refused.stands(bundle, version, now)) {
            continue;
        }
        let before = stored.held.get(domain.as_str());
        if before.is_none_or(|before| !Arc::ptr_eq(before, bundle)) {
            match fetched(bundle) {
                Ok(bundle) => bundles.push(bundle),
                Err(error) => {
                    let problem = error.message().to_owned();
                    stored.refuse(core, domain, bundle, problem);
                    continue;
                }
            }
        }
        new.insert(domain.to_string(), Arc::clone(bundle));
    }
    let ended = gone(core, &new).await?;
    if !bundles.is_empty() || !ended.is_empty() {
        store(core, bundles, ended, &mut new, stored).await?;
    }
    // Who was taken now, or is no member any more, is refused no longer.
    stored.refused.retain(|name, _| {
        let mut all = members.iter();
        !new.contains_key(name) && all.any(|one| one.trust_domain().as_str() == name)
    });
    stored.held = new;
    Ok(())
}

#[cfg(test)]
impl Stored {
    pub(super) fn is_refused(&self, name: &str) -> bool {
        self.refused.contains_key(name)
    }

    /// How often something was refused.
    pub(super) const fn tried(&self) -> usize {
        self.tried
    }
}

impl Stored {
    fn refuse(
        &mut self,
        core: &Core,
        domain: &TrustDomain,
        bundle: &Arc<TrustBundle>,
        problem: String,
    ) {
        #[cfg(test)]
        {
            self.tried += 1;
        }
        let before = self.refused.get(domain.as_str());
        if before.is_none_or(|before| before.problem != problem) {
            tracing::warn!(%domain, problem, "its bundle is not taken");
        }
        let refused = Refused {
            bundle: Arc::clone(bundle),
            problem,
            version: core.store.version(),
            at: core.now(),
        };
        self.refused.insert(domain.to_string(), refused);
    }
}

/// Those of whom the directory's word is stored, and who are not among the members any more.
async fn gone(
    core: &Core,
    now: &BTreeMap<String, Arc<TrustBundle>>,
) -> Result<Vec<TrustDomain>, StoreError> {
    let mut all = core.store.directory_domains().await?;
    all.retain(|domain| !now.contains_key(domain.as_str()));
    Ok(all)
}

async fn store(
    core: &Core,
    bundles: Vec<Bundle>,
    ended: Vec<TrustDomain>,
    new: &mut BTreeMap<String, Arc<TrustBundle>>,
    stored: &mut Stored,
) -> Result<(), StoreError> {
    let taken = core
        .store
        .take_directory(core.by(NAME), bundles, ended)
        .await?;
    for domain in taken.stored {
        tracing::info!(%domain, "bundle taken from the directory");
    }
    for domain in taken.ended {
        tracing::warn!(%domain, "the directory vouches for it no more: it is not trusted");
    }
    for domain in taken.displaced {
        tracing::warn!(%domain, "it has delivered a CA key that another member has shown to be its own: it is not trusted");
        new.remove(domain.as_str());
    }
    for (domain, problem) in taken.refused {
        // It is tried again, should the other let go of the key.
        if let Some(bundle) = new.remove(domain.as_str()) {
            stored.refuse(core, &domain, &bundle, problem);
        }
    }
    Ok(())
}
