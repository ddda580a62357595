//! The certificate authority: two kinds of keys, each in two slots, on disk and in the store.
//!
//! A change writes the key first, then, in one transaction, the slots, our bundle and the line in the
//! audit log. What is in memory is put in place after that: who reads the bundle before a certificate
//! can verify it.

pub mod adopt;
mod bundle;
pub mod csr;
pub mod issue;
pub mod jwt;
pub mod keys;
mod load;
mod revoked;
mod rotation;
pub mod slots;
mod step;
#[cfg(test)]
mod tests;
pub mod upstream;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;
use sekisho_certs::{BundleError, Clock, TrustBundle, TrustDomain};
use tokio::sync::watch;

use crate::store::{Bundle, By, JwtAuthority, Kind, Store, StoreError, X509Authority};
pub use bundle::certificates;
use issue::{IssueError, X509Ca};
use jwt::JwtKey;
use keys::{KeyError, KeyFolder};
use revoked::Revoked;
use slots::{Authority, Next, SlotError, Slots};
pub use step::Step;
use upstream::{Upstream, UpstreamError};

/// What the CA keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaSettings {
    /// The site.
    pub domain: TrustDomain,
    /// How long an authority lives. Default of SPIRE and of ours: 24 hours.
    pub ttl: Duration,
    /// How long one is in our bundle before it signs: those who fetch the bundle are to have it by then
    /// (SPIFFE_Federation.md §4.1). Zero where nobody does.
    pub announced: Duration,
}

/// Why the CA did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Another step was taken while the authority above was asked.
    #[error("the authorities have changed meanwhile: look at them again")]
    Changed,
    /// Others cannot have it yet.
    #[error(
        "authority {id} was prepared a moment ago, and sites that fetch our bundle may not know it before {}: wait until then, or force it (`sekisho ca activate --force`)", told(*until)
    )]
    Early {
        /// Which.
        id: String,
        /// When it may sign.
        until: SystemTime,
    },
    /// A certificate was not made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A key cannot be kept or found.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Another key has this name in our bundle.
    #[error("the bundle has another JWT key with the ID {0:?}")]
    KeyIdTaken(String),
    /// A JWT key that was revoked here is not taken back.
    #[error("the JWT key {0:?} was revoked")]
    KeyRevoked(String),
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
    /// The certificate is no CA of this site.
    #[error("{error}: is `site` right? A CA of another site is not taken up here")]
    OtherSite {
        /// What is wrong with it.
        error: BundleError,
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

/// Looks whether a certificate is that of a CA of a site.
///
/// # Errors
/// When it is that of another, or of none.
fn belongs(certificate: &CertificateDer<'static>, site: &TrustDomain) -> Result<(), CaError> {
    match TrustBundle::new(site.clone(), [certificate.clone()]) {
        Ok(_) => Ok(()),
        Err(error) => Err(CaError::OtherSite { error }),
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
    /// One authority is made at a time; taken before `changing`, and held while the one above is
    /// asked.
    preparing: tokio::sync::Mutex<()>,
    /// The bundle above is taken over by one at a time; taken before the two others.
    following: tokio::sync::Mutex<upstream::Seen>,
    /// What was revoked here, and others may still believe.
    revoked: Revoked,
    bundle: watch::Sender<Arc<Bundle>>,
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

    /// How often others are to ask for our bundle, in whole seconds; zero: not said. Its sequence rises if
    /// that is new.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn set_refresh_hint(&self, by: By, hint: Duration) -> Result<(), CaError> {
        let hint = Duration::from_secs(hint.as_secs());
        if self.state().bundle.refresh_hint != hint {
            let edit = move |bundle: &mut Bundle| bundle.refresh_hint = hint;
            self.edit_bundle(by, "bundle.refresh_hint", edit).await?;
        }
        Ok(())
    }

    /// Adds authorities of others to our bundle: those that are not in it yet.
    ///
    /// # Errors
    /// [`CaError::KeyIdTaken`] and [`CaError::KeyRevoked`] for a JWT key that cannot be taken, and those
    /// of the store.
    pub async fn append(
        self: &Arc<Self>,
        by: By,
        x509: Vec<X509Authority>,
        jwt: Vec<JwtAuthority>,
    ) -> Result<Arc<Bundle>, CaError> {
        let this = Arc::clone(self);
        // As in `step`.
        let edited = tokio::spawn(async move {
            let _one = this.changing.lock().await;
            this.can_take(&jwt)?;
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
            this.edit_bundle_alone(by, ("bundle.append", None), edit)
                .await
        });
        edited
            .await
            .map_err(|_| CaError::Store(StoreError::Closed))?
    }

    /// Whether nothing is in the way of JWT keys that come from others.
    fn can_take(&self, keys: &[JwtAuthority]) -> Result<(), CaError> {
        let (known, revoked) = (self.state().bundle, self.revoked.names());
        for new in keys {
            if revoked.contains(&new.key_id) {
                return Err(CaError::KeyRevoked(new.key_id.clone()));
            }
            let mut same = known.jwt.iter().filter(|own| own.key_id == new.key_id);
            if same.any(|own| own.public_key != new.public_key) {
                return Err(CaError::KeyIdTaken(new.key_id.clone()));
            }
        }
        Ok(())
    }

    async fn edit_bundle(
        &self,
        by: By,
        action: &'static str,
        edit: impl FnOnce(&mut Bundle) + Send + 'static,
    ) -> Result<Arc<Bundle>, CaError> {
        let _one = self.changing.lock().await;
        self.edit_bundle_alone(by, (action, None), edit).await
    }

    /// The same of whoever holds the lock. The line in the audit log has the action, and what it
    /// was done to where that is not the whole bundle.
    async fn edit_bundle_alone(
        &self,
        by: By,
        name: (&'static str, Option<String>),
        edit: impl FnOnce(&mut Bundle) + Send + 'static,
    ) -> Result<Arc<Bundle>, CaError> {
        let domain = self.settings.domain.clone();
        let bundle = Arc::new(self.store.edit_own_bundle(by, domain, name, edit).await?);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.bundle = Arc::clone(&bundle);
        drop(state);
        self.bundle.send_replace(Arc::clone(&bundle));
        Ok(bundle)
    }
}

/// A time as people read it, in whole seconds.
fn told(time: SystemTime) -> time::OffsetDateTime {
    let time = time::OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time)
}

fn key_name(kind: Kind, id: &str) -> String {
    format!("{}-{id}", kind.as_str())
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
