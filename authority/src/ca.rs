//! The certificate authority: two kinds of keys, each in two slots, on disk and in the store.
//!
//! A change writes the key first, then, in one transaction, the slots, our bundle and the line in the
//! audit log. What is in memory is put in place after that: who reads the bundle before a certificate
//! can verify it.

mod bundle;
pub mod csr;
pub mod issue;
pub mod jwt;
pub mod keys;
mod load;
mod rotation;
pub mod slots;
#[cfg(test)]
mod tests;
pub mod upstream;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use sekisho_certs::{Clock, TrustDomain};
use tokio::sync::watch;
use uuid::Uuid;

use crate::store::{Bundle, By, JwtAuthority, Kind, Store, StoreError, X509Authority};
pub use bundle::certificates;
use bundle::edit_bundle;
use issue::{IssueError, X509Ca};
use jwt::JwtKey;
use keys::{KeyError, KeyFolder};
use slots::{Authority, Next, SlotError, Slots};
use upstream::{Upstream, UpstreamError};

/// What the CA keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaSettings {
    /// The site.
    pub domain: TrustDomain,
    /// How long an authority lives. Default of SPIRE and of ours: 24 hours.
    pub ttl: Duration,
}

/// Why the CA did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A certificate was not made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A key cannot be kept or found.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Another key has this name in our bundle.
    #[error("the bundle has another JWT key with the ID {0:?}")]
    KeyIdTaken(String),
    /// The key of an authority that the store knows is not on disk.
    #[error(
        "the key of {kind} authority {id} is gone from the disk: put it back from a backup, or remove the authority's data to begin anew"
    )]
    KeyGone {
        /// Of which kind.
        kind: &'static str,
        /// Which.
        id: String,
    },
    /// Asked of an authority that others believe for the sake of one above.
    #[error("it has an authority above: taint and revoke that one's roots instead")]
    HasUpstream,
    /// Asked of an authority above, where there is none.
    #[error("upstream authority is not configured")]
    NoUpstream,
    /// The authority above has not signed.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The step is not one that can be taken now.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Authority for Arc<X509Ca> {
    fn upstream_id(&self) -> &str {
        X509Ca::upstream_id(self)
    }

    fn id(&self) -> &str {
        X509Ca::id(self)
    }

    fn not_before(&self) -> SystemTime {
        X509Ca::not_before(self)
    }

    fn not_after(&self) -> SystemTime {
        X509Ca::not_after(self)
    }
}

impl Authority for Arc<JwtKey> {
    fn id(&self) -> &str {
        JwtKey::id(self)
    }

    fn not_before(&self) -> SystemTime {
        JwtKey::not_before(self)
    }

    fn not_after(&self) -> SystemTime {
        JwtKey::not_after(self)
    }
}

/// What signs now, and what stands beside it.
#[derive(Clone, Debug)]
struct State {
    x509: Slots<Arc<X509Ca>>,
    jwt: Slots<Arc<JwtKey>>,
    bundle: Arc<Bundle>,
}

/// An authority as it is told to administrators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityState {
    /// Its name.
    pub id: String,
    /// When it ends.
    pub expires_at: SystemTime,
    /// The name of the root above; empty where there is none.
    pub upstream_id: String,
}

/// The authorities of a kind as they are told to administrators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotStates {
    /// It signs.
    pub active: AuthorityState,
    /// It will.
    pub prepared: Option<AuthorityState>,
    /// It has.
    pub old: Option<AuthorityState>,
}

/// The CA of a site.
#[derive(Debug)]
pub struct Ca {
    settings: CaSettings,
    store: Arc<Store>,
    keys: KeyFolder,
    upstream: Option<Arc<dyn Upstream>>,
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    bundle: watch::Sender<Arc<Bundle>>,
}

/// A step of an authority's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This one is to sign.
    Activate(String),
    /// Another is to be made.
    Prepare,
    /// This one counts no longer.
    Revoke(String),
    /// What this one has signed is to be replaced.
    Taint(String),
}

impl Step {
    const fn action(&self) -> &'static str {
        match self {
            Self::Activate(_) => "authority.activate",
            Self::Prepare => "authority.prepare",
            Self::Revoke(_) => "authority.revoke",
            Self::Taint(_) => "authority.taint",
        }
    }
}

impl Ca {
    fn state(&self) -> State {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What signs X.509-SVIDs now.
    #[must_use]
    pub fn x509(&self) -> Arc<X509Ca> {
        self.state().x509.active
    }

    /// What signs JWT-SVIDs now.
    #[must_use]
    pub fn jwt(&self) -> Arc<JwtKey> {
        self.state().jwt.active
    }

    /// How long an authority lives.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    /// Our own bundle, now and whenever it changes.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Arc<Bundle>> {
        self.bundle.subscribe()
    }

    /// What stands in the slots of a kind.
    #[must_use]
    pub fn slots(&self, kind: Kind) -> SlotStates {
        let state = self.state();
        match kind {
            Kind::Jwt => states(&state.jwt),
            Kind::X509 => states(&state.x509),
        }
    }

    /// Takes a step, and returns the name of the authority that it was taken with.
    ///
    /// # Errors
    /// [`CaError::Slot`] where it is not one that can be taken; others where it failed. Nothing has
    /// changed then.
    pub async fn step(self: &Arc<Self>, by: By, kind: Kind, step: Step) -> Result<String, CaError> {
        let this = Arc::clone(self);
        // Whoever asked may go: the step is taken to its end, in the store and in memory.
        let taken = tokio::spawn(async move { this.take(by, kind, step).await });
        taken
            .await
            .map_err(|_| CaError::Store(StoreError::Closed))?
    }

    async fn take(&self, by: By, kind: Kind, step: Step) -> Result<String, CaError> {
        let _one = self.changing.lock().await;
        let mut state = self.state();
        let mut roots = Vec::new();
        let id = match kind {
            Kind::X509 => {
                if self.has_upstream() && matches!(step, Step::Taint(_) | Step::Revoke(_)) {
                    return Err(CaError::HasUpstream);
                }
                let made = match step {
                    Step::Prepare => {
                        let above = self.upstream.as_ref();
                        let now = self.clock.now();
                        let (made, above) = make_x509(above, &self.settings, now).await?;
                        roots = above;
                        Some(Arc::new(made))
                    }
                    _ => None,
                };
                if let Some(made) = &made {
                    self.keys.put(&key_name(kind, made.id()), &made.key())?;
                }
                let (slots, id) = walk(&state.x509, &step, made)?;
                state.x509 = slots;
                id
            }
            Kind::Jwt => {
                let made = match step {
                    Step::Prepare => Some(Arc::new(self.make_jwt()?)),
                    _ => None,
                };
                if let Some(made) = &made {
                    self.keys
                        .put(&key_name(kind, made.id()), &made.private_key())?;
                }
                match (walk(&state.jwt, &step, made), &step) {
                    // Put out of its slot by one that was prepared, and still believed.
                    (Err(SlotError::Unknown(_)), Step::Revoke(id)) => {
                        out_of_slot(&state.bundle, id)?;
                        id.clone()
                    }
                    (walked, _) => {
                        let (slots, id) = walked?;
                        state.jwt = slots;
                        id
                    }
                }
            }
        };
        self.publish(by, kind, step, (id.clone(), roots), state)
            .await?;
        Ok(id)
    }

    /// Writes what has changed, then puts it in place.
    async fn publish(
        &self,
        by: By,
        kind: Kind,
        step: Step,
        (id, roots): (String, Vec<Vec<u8>>),
        mut state: State,
    ) -> Result<(), CaError> {
        let before = self.slots(kind);
        let gone = match &step {
            Step::Activate(_) | Step::Taint(_) => None,
            Step::Prepare => before.old.or(before.prepared).map(|gone| gone.id),
            Step::Revoke(id) => Some(id.clone()),
        };
        let records = match kind {
            Kind::X509 => load::records(&state.x509, load::x509_record),
            Kind::Jwt => load::records(&state.jwt, load::jwt_record),
        };
        let record = records.iter().find(|record| record.id == id).cloned();
        let name = (step.action(), id.clone());
        let edit = {
            let (step, id) = (step.clone(), id.clone());
            move |bundle: &mut Bundle| edit_bundle(bundle, kind, &step, &id, record, roots)
        };
        let domain = self.settings.domain.clone();
        let bundle = self
            .store
            .set_authorities(by, domain, kind, records, name, edit);
        state.bundle = Arc::new(bundle.await?);
        let bundle = Arc::clone(&state.bundle);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.bundle.send_replace(bundle);
        // It signs nothing any more: revoked, or put out of its slot by one that was prepared.
        if let Some(id) = gone
            && let Err(error) = self.keys.remove(&key_name(kind, &id))
        {
            tracing::warn!(%error, "the key of an authority that has ended stays on the disk");
        }
        Ok(())
    }

    /// Adds authorities of others to our bundle: those that are not in it yet.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn append(
        self: &Arc<Self>,
        by: By,
        x509: Vec<X509Authority>,
        jwt: Vec<JwtAuthority>,
    ) -> Result<Arc<Bundle>, CaError> {
        let known = self.state().bundle;
        for new in &jwt {
            let mut same = known.jwt.iter().filter(|own| own.key_id == new.key_id);
            if same.any(|own| own.public_key != new.public_key) {
                return Err(CaError::KeyIdTaken(new.key_id.clone()));
            }
        }
        let edit = move |bundle: &mut Bundle| {
            for new in x509 {
                if bundle.x509.iter().all(|own| own.der != new.der) {
                    bundle.x509.push(new);
                }
            }
            for new in jwt {
                if bundle.jwt.iter().all(|own| own.key_id != new.key_id) {
                    bundle.jwt.push(new);
                }
            }
        };
        let this = Arc::clone(self);
        // As in `step`.
        let edited = tokio::spawn(async move { this.edit_bundle(by, edit).await });
        edited
            .await
            .map_err(|_| CaError::Store(StoreError::Closed))?
    }

    async fn edit_bundle(
        &self,
        by: By,
        edit: impl FnOnce(&mut Bundle) + Send + 'static,
    ) -> Result<Arc<Bundle>, CaError> {
        let _one = self.changing.lock().await;
        self.edit_bundle_alone(by, edit).await
    }

    /// The same of whoever holds the lock.
    async fn edit_bundle_alone(
        &self,
        by: By,
        edit: impl FnOnce(&mut Bundle) + Send + 'static,
    ) -> Result<Arc<Bundle>, CaError> {
        let domain = self.settings.domain.clone();
        let bundle = Arc::new(self.store.edit_own_bundle(by, domain, edit).await?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.bundle = Arc::clone(&bundle);
        drop(state);
        self.bundle.send_replace(Arc::clone(&bundle));
        Ok(bundle)
    }

    fn make_jwt(&self) -> Result<JwtKey, CaError> {
        make_jwt(&self.settings, self.clock.now())
    }
}

/// A new authority, and the roots above it where there are any.
async fn make_x509(
    upstream: Option<&Arc<dyn Upstream>>,
    settings: &CaSettings,
    now: SystemTime,
) -> Result<(X509Ca, Vec<Vec<u8>>), CaError> {
    if let Some(upstream) = upstream {
        return upstream::make(upstream, settings, now).await;
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::from)?;
    let ca = X509Ca::self_signed(&settings.domain, key, now, settings.ttl)?;
    Ok((ca, Vec::new()))
}

fn make_jwt(settings: &CaSettings, now: SystemTime) -> Result<JwtKey, CaError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::from)?;
    let id = Uuid::new_v4().simple().to_string();
    Ok(JwtKey::new(id, pair, now, now + settings.ttl))
}

fn key_name(kind: Kind, id: &str) -> String {
    format!("{}-{id}", kind.as_str())
}

/// Whether a JWT key that stands in no slot may be revoked: it is in the bundle, tainted.
fn out_of_slot(bundle: &Bundle, id: &str) -> Result<(), SlotError> {
    match bundle.jwt.iter().find(|key| key.key_id == id) {
        None => Err(SlotError::Unknown(id.into())),
        Some(key) if !key.tainted => Err(SlotError::NotTainted(id.into())),
        Some(_) => Ok(()),
    }
}

fn walk<A: Authority + Clone>(
    slots: &Slots<A>,
    step: &Step,
    made: Option<A>,
) -> Result<(Slots<A>, String), SlotError> {
    match step {
        Step::Activate(id) => Ok((slots.activate(id)?, id.clone())),
        Step::Revoke(id) => Ok((slots.revoke(id)?, id.clone())),
        Step::Taint(id) => Ok((slots.taint(id)?, id.clone())),
        Step::Prepare => {
            let made = made.ok_or_else(|| SlotError::Unknown(String::new()))?;
            let id = made.id().to_owned();
            Ok((slots.prepare(made), id))
        }
    }
}

fn states<A: Authority>(slots: &Slots<A>) -> SlotStates {
    let told = |authority: &A| AuthorityState {
        id: authority.id().into(),
        expires_at: authority.not_after(),
        upstream_id: authority.upstream_id().into(),
    };
    let (mut prepared, mut old) = (None, None);
    match &slots.next {
        None => {}
        Some(Next::Old { authority, .. }) => old = Some(told(authority)),
        Some(Next::Prepared(authority)) => prepared = Some(told(authority)),
    }
    SlotStates {
        active: told(&slots.active),
        prepared,
        old,
    }
}
