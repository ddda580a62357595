//! Keeping the store in step with the directories: what entries name is wanted of them, and what they
//! say is stored as the bundle of its domain.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
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

/// What was stored last, by domain: only what has changed is written.
type Stored = BTreeMap<String, Arc<TrustBundle>>;

/// Keeps in step for as long as it is let.
pub(crate) async fn keep(core: Arc<Core>, handle: Handle) {
    let mut members = handle.members();
    let (mut stored, mut version) = (Stored::new(), None);
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
    let (mut new, mut bundles) = (Stored::new(), Vec::new());
    for member in members.iter() {
        let (domain, Some(bundle)) = (member.trust_domain(), member.bundle()) else {
            continue;
        };
        let before = stored.get(domain.as_str());
        if before.is_none_or(|before| !Arc::ptr_eq(before, bundle)) {
            match fetched(bundle) {
                Ok(bundle) => bundles.push(bundle),
                Err(error) => {
                    tracing::warn!(%domain, error = error.message(), "its bundle cannot be used");
                    continue;
                }
            }
        }
        new.insert(domain.to_string(), Arc::clone(bundle));
    }
    let ended = gone(core, &new).await?;
    if bundles.is_empty() && ended.is_empty() {
        *stored = new;
        return Ok(());
    }
    store(core, bundles, ended, &mut new).await?;
    *stored = new;
    Ok(())
}

/// Those of whom the directory's word is stored, and who are not among the members any more.
async fn gone(core: &Core, now: &Stored) -> Result<Vec<TrustDomain>, StoreError> {
    let mut all = core.store.directory_domains().await?;
    all.retain(|domain| !now.contains_key(domain.as_str()));
    Ok(all)
}

async fn store(
    core: &Core,
    bundles: Vec<Bundle>,
    ended: Vec<TrustDomain>,
    new: &mut Stored,
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
        tracing::warn!(%domain, problem, "its bundle is not taken");
        // It is tried again, should the other let go of the key.
        new.remove(domain.as_str());
    }
    Ok(())
}
