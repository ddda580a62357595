//! Fetching the bundles of the domains that an administrator has named (spire-api.md §9,
//! SPIFFE_Federation.md §4.1): when they are due, when a relationship changes, and when asked.

mod schedule;
mod state;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{BundleError, Clock, TrustBundle, TrustDomain, tls};
use sekisho_federation::client::{Client, FetchError, Profile, WebRoots};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    api::fetched,
    ca::certificates,
    core::Core,
    store::{EndpointProfile, Peer, Refreshed, Relationship, Rollback, StoreError},
};
use schedule::Schedule;
pub use state::{PeerState, States};

/// How often relationships are looked at, if nobody says that one has changed.
const LOOK: Duration = Duration::from_secs(10);
/// Bundles that are fetched at a time.
const AT_ONCE: usize = 16;
/// Who it is in the audit log.
const NAME: &str = "federation";

/// Why a bundle was not refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// What was fetched cannot be handed to agents.
    #[error("what was fetched cannot be used: {0}")]
    Bundle(String),
    /// The endpoint's own trust domain has a bundle that cannot be used.
    #[error(transparent)]
    Endpoint(#[from] BundleError),
    /// It was not fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Nothing is known by which the endpoint could prove its ID.
    #[error("there is no bundle of {0}, by which its endpoint could prove its ID")]
    NoEndpointBundle(TrustDomain),
    /// What was fetched is older than what is stored.
    #[error(transparent)]
    Rollback(#[from] Rollback),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The relationship has changed or ended while its bundle was fetched.
    #[error("the relationship has changed meanwhile")]
    Unrelated,
}

/// What fetches, and how it is told of changes.
#[derive(Debug)]
pub struct Federation {
    client: Client,
    changed: Notify,
    states: watch::Sender<Arc<States>>,
}

impl Federation {
    /// With these roots for `https_web`.
    #[must_use]
    pub fn new(roots: WebRoots, clock: Arc<dyn Clock>) -> Self {
        Self {
            client: Client::new(roots, Arc::new(tls::provider()), clock),
            changed: Notify::new(),
            states: watch::Sender::default(),
        }
    }

    /// What is known of each relationship, by its trust domain; now and whenever it changes. Empty until
    /// the authority serves.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<Arc<States>> {
        self.states.subscribe()
    }

    /// Takes on what is new, and drops what has ended.
    fn follow(&self, peers: &[Peer]) {
        self.states
            .send_if_modified(|states| state::follow(states, peers));
    }

    /// How a fetch has ended; `confirmed` where it was good.
    fn note(&self, domain: &TrustDomain, tried: SystemTime, error: Option<&RefreshError>) {
        self.states
            .send_if_modified(|states| state::note(Arc::make_mut(states), domain, tried, error));
    }

    /// Relationships are looked at again at once.
    pub fn changed(&self) {
        self.changed.notify_one();
    }
}

impl Core {
    /// Fetches the bundle of a relationship and stores it.
    ///
    /// # Errors
    /// Each of [`RefreshError`]'s variants; what was stored before stays.
    pub async fn refresh(&self, relationship: &Relationship) -> Result<Refreshed, RefreshError> {
        let refreshed = self.try_refresh(relationship).await;
        let domain = &relationship.domain;
        let error = refreshed.as_ref().err();
        self.federation.note(domain, self.now(), error);
        refreshed
    }

    async fn try_refresh(&self, relationship: &Relationship) -> Result<Refreshed, RefreshError> {
        let profile = match &relationship.profile {
            EndpointProfile::Web => Profile::Web,
            EndpointProfile::Spiffe(id) => Profile::Spiffe {
                id: id.clone(),
                bundle: Arc::new(self.endpoint_bundle(id.trust_domain().clone()).await?),
            },
        };
        let domain = &relationship.domain;
        let client = &self.federation.client;
        let got = client.fetch(domain, &relationship.url, &profile).await?;
        let bundle = fetched(&got);
        let bundle = bundle.map_err(|status| RefreshError::Bundle(status.message().into()))?;
        let (by, relationship) = (self.by(NAME), relationship.clone());
        match self.store.refresh_bundle(by, relationship, bundle).await? {
            Refreshed::Unrelated => Err(RefreshError::Unrelated),
            Refreshed::Refused(older) => Err(older.into()),
            refreshed => Ok(refreshed),
        }
    }

    /// By what an endpoint of this trust domain is verified.
    async fn endpoint_bundle(&self, domain: TrustDomain) -> Result<TrustBundle, RefreshError> {
        let stored = if domain == self.settings.domain {
            (**self.ca.bundle().borrow()).clone()
        } else {
            let stored = self.store.bundle(domain.clone()).await?;
            stored.ok_or_else(|| RefreshError::NoEndpointBundle(domain.clone()))?
        };
        Ok(TrustBundle::new(domain, certificates(&stored))?)
    }
}

/// Refreshes what is due, for as long as it is let.
pub(crate) async fn poll(core: Arc<Core>) {
    let mut polling = Polling::new(Arc::clone(&core));
    loop {
        polling.begin().await;
        tokio::select! {
            () = core.federation.changed.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
            true = polling.one_is_done() => {}
        }
    }
}

/// A relationship whose bundle was fetched, or not, and the hint of the one that counts now.
type Fetched = (Relationship, Duration);

/// The fetches that run, and when the next are due.
struct Polling {
    core: Arc<Core>,
    running: JoinSet<Fetched>,
    schedule: Schedule,
    places: Arc<Semaphore>,
}

impl Polling {
    fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            running: JoinSet::new(),
            schedule: Schedule::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Begins to fetch what is due.
    async fn begin(&mut self) {
        match self.core.store.peers().await {
            Ok(all) => {
                self.core.federation.follow(&all);
                let relationships = all.into_iter().map(|peer| peer.relationship);
                self.schedule.follow(relationships.collect());
            }
            Err(error) => tracing::error!(%error, "relationships not read"),
        }
        for relationship in self.schedule.due(self.core.now()) {
            let (core, places) = (Arc::clone(&self.core), Arc::clone(&self.places));
            self.running.spawn(async move {
                // It is never closed.
                let _place = places.acquire_owned().await;
                fetch(&core, relationship).await
            });
        }
    }

    /// Waits until a fetch has ended, and plans the next. False if none runs. May be dropped at any
    /// time.
    async fn one_is_done(&mut self) -> bool {
        let Some(ended) = self.running.join_next().await else {
            return false;
        };
        // One that panicked has been told, and is not asked for again before it changes.
        if let Ok((relationship, hint)) = ended {
            self.schedule.done(&relationship, hint, self.core.now());
        }
        true
    }
}

async fn fetch(core: &Core, relationship: Relationship) -> Fetched {
    let domain = &relationship.domain;
    match core.refresh(&relationship).await {
        Ok(Refreshed::Stored) => tracing::info!(%domain, "bundle refreshed"),
        Ok(_) => tracing::debug!(%domain, "bundle is as before"),
        Err(error) => tracing::warn!(%domain, %error, "bundle not refreshed"),
    }
    let hint = match core.store.bundle(domain.clone()).await {
        Ok(Some(bundle)) => bundle.refresh_hint,
        Ok(None) | Err(_) => Duration::ZERO,
    };
    (relationship, hint)
}
