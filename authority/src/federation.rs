//! Fetching the bundles of the domains that an administrator has named (spire-api.md §9,
//! SPIFFE_Federation.md §4.1): when they are due, when a relationship changes, and when asked.

mod published;
mod schedule;
mod settings;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_lc_rs::rand;
use sekisho_certs::{BundleError, Clock, TrustBundle, TrustDomain, tls};
use sekisho_federation::client::{Allowed, Answer, Client, FetchError, Profile, WebRoots};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    api::fetched,
    ca::{CaError, certificates},
    core::Core,
    store::{Bundle, EndpointProfile, Peer, Refreshed, Relationship, Rollback, StoreError},
};
pub(crate) use published::Published;
pub(crate) use published::trust_bundle;
use schedule::Schedule;
pub use settings::{EndpointSettings, FederationSettings, HINTS, Shown};
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
    #[error("the bundle cannot be used: {0}")]
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
    /// Our own bundle comes from our own CA only.
    #[error("nobody delivers the bundle of this site")]
    OwnDomain,
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
    /// What was fetched last, by the name of its domain.
    known: Mutex<HashMap<String, Known>>,
}

/// What was fetched, and by which tag its endpoint knows it.
#[derive(Debug)]
struct Known {
    by: Relationship,
    bundle: Bundle,
    tag: String,
}

impl Federation {
    /// With these roots for `https_web`, to these addresses only.
    #[must_use]
    pub fn new(roots: WebRoots, allowed: Allowed, clock: Arc<dyn Clock>) -> Self {
        Self {
            client: Client::new(roots, allowed, Arc::new(tls::provider()), clock),
            changed: Notify::new(),
            states: watch::Sender::default(),
            known: Mutex::default(),
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
        let related = |name: &str| {
            let mut peers = peers.iter();
            peers.any(|peer| peer.relationship.domain.as_str() == name)
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| related(name));
        drop(known);
        self.states
            .send_if_modified(|states| state::follow(states, peers));
    }

    /// The tag by which an endpoint may be asked for another bundle than the one that is stored.
    fn tag(&self, by: &Relationship, stored: Option<&Bundle>) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(by.domain.as_str())?;
        (known.by == *by && Some(&known.bundle) == stored).then(|| known.tag.clone())
    }

    fn remember(&self, by: &Relationship, bundle: Bundle, tag: Option<String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = by.domain.to_string();
        match tag {
            None => known.remove(&name),
            Some(tag) => {
                let by = by.clone();
                known.insert(name, Known { by, bundle, tag })
            }
        };
    }

    /// How a fetch has ended.
    fn note(&self, domain: &TrustDomain, tried: SystemTime, error: Option<&RefreshError>) {
        self.states
            .send_if_modified(|states| state::note(Arc::make_mut(states), domain, tried, error));
    }

    /// Relationships are looked at again at once.
    pub fn changed(&self) {
        self.changed.notify_one();
    }
}

/// A bundle as it is stored, held to what one that is sent is held to.
///
/// # Errors
/// [`RefreshError::Bundle`] for one that could not be handed to agents.
pub fn stored(bundle: &TrustBundle) -> Result<Bundle, RefreshError> {
    fetched(bundle).map_err(|status| RefreshError::Bundle(status.message().into()))
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
        let domain = &relationship.domain;
        if *domain == self.settings.domain {
            return Err(RefreshError::OwnDomain);
        }
        let profile = match &relationship.profile {
            EndpointProfile::Web => Profile::Web,
            EndpointProfile::Spiffe(id) => Profile::Spiffe {
                id: id.clone(),
                bundle: Arc::new(self.endpoint_bundle(id.trust_domain().clone()).await?),
            },
        };
        let stored = self.store.bundle(domain.clone()).await?;
        let tag = self.federation.tag(relationship, stored.as_ref());
        let client = &self.federation.client;
        let url = &relationship.url;
        let answer = client
            .fetch_if(domain, url, &profile, tag.as_deref())
            .await?;
        let (by, asked_by) = (self.by(NAME), relationship.clone());
        let (got, tag) = match answer {
            Answer::Bundle(got, tag) => (got, tag),
            Answer::NotModified => {
                return match self.store.confirm_bundle(by, asked_by).await? {
                    true => Ok(Refreshed::AsBefore),
                    false => Err(RefreshError::Unrelated),
                };
            }
        };
        let bundle = self::stored(&got)?;
        match self
            .store
            .refresh_bundle(by, asked_by, bundle.clone())
            .await?
        {
            Refreshed::Unrelated => Err(RefreshError::Unrelated),
            Refreshed::Refused(older) => Err(older.into()),
            refreshed => {
                self.federation.remember(relationship, bundle, tag);
                Ok(refreshed)
            }
        }
    }

    /// Takes over what the configuration says: whom it names, and how often others are to ask for our
    /// bundle.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin_federation(&self) -> Result<(), CaError> {
        let settings = &self.settings.federation;
        let declared = self
            .store
            .declare_peers(self.by("configuration"), settings.peers.clone());
        declared.await?;
        if let Some(endpoint) = &settings.endpoint {
            let by = self.by("configuration");
            self.ca.set_refresh_hint(by, endpoint.refresh).await?;
        }
        Ok(())
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
    /// How much earlier than its hint asks a fetch is, so that not all come at once: a share of the pause.
    earlier: fn() -> f64,
}

/// Up to a tenth.
fn earlier() -> f64 {
    let mut byte = [0];
    // Without random numbers all come at the same time, which is no error.
    let _ = rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0 / 10.0
}

impl Polling {
    fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            running: JoinSet::new(),
            schedule: Schedule::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            earlier,
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
            let wait = schedule::interval(hint);
            let wait = wait - wait.mul_f64((self.earlier)());
            self.schedule.done(&relationship, wait, self.core.now());
        }
        true
    }
}

async fn fetch(core: &Core, relationship: Relationship) -> Fetched {
    let domain = &relationship.domain;
    let known = core
        .federation
        .states()
        .borrow()
        .get(domain.as_str())
        .cloned();
    match core.refresh(&relationship).await {
        Ok(Refreshed::Stored) => tracing::info!(%domain, "bundle refreshed"),
        Ok(_) => tracing::debug!(%domain, "bundle is as before"),
        Err(error) => {
            let text = error.to_string();
            // Once is enough: `sekisho federation list` tells it for as long as it is so.
            if known.as_ref().and_then(|known| known.error.as_ref()) == Some(&text) {
                tracing::debug!(%domain, error = text, "bundle not refreshed");
            } else {
                let age = known.and_then(|known| known.age(core.now()));
                let age = age.map(|age| age.as_secs());
                tracing::warn!(%domain, error = text, age, "bundle not refreshed");
            }
        }
    }
    let hint = match core.store.bundle(domain.clone()).await {
        Ok(Some(bundle)) => bundle.refresh_hint,
        // Nobody of that domain is let in yet: it is asked again as soon as may be.
        Ok(None) => schedule::SHORTEST,
        Err(_) => Duration::ZERO,
    };
    (relationship, hint)
}
