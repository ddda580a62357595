//! The CA at start: as the store and the disk have it, or a new one.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sekisho_certs::Clock;
use tokio::sync::watch;

use super::{
    Ca, CaError, CaSettings, State, Step, belongs,
    bundle::edit_bundle,
    issue::{IssueError, X509Ca},
    jwt::JwtKey,
    key_name,
    keys::KeyFolder,
    revoked::Revoked,
    slots::{Authority, Next, Slots},
    upstream::{Upstream, make_jwt, make_x509},
};
use crate::store::{AuthorityRecord, By, Kind, Slot, Store};

pub(super) fn x509_record(ca: &Arc<X509Ca>) -> AuthorityRecord {
    AuthorityRecord {
        id: ca.id().into(),
        slot: Slot::Active,
        tainted: false,
        public: ca.chain().iter().map(|der| der.to_vec()).collect(),
        upstream_id: ca.upstream_id().into(),
        not_before: X509Ca::not_before(ca),
        not_after: X509Ca::not_after(ca),
    }
}

pub(super) fn jwt_record(key: &Arc<JwtKey>) -> AuthorityRecord {
    AuthorityRecord {
        id: key.id().into(),
        slot: Slot::Active,
        tainted: false,
        public: vec![key.public_key()],
        upstream_id: String::new(),
        not_before: JwtKey::not_before(key),
        not_after: JwtKey::not_after(key),
    }
}

/// The slots as they are stored.
pub(super) fn records<A>(
    slots: &Slots<A>,
    record: impl Fn(&A) -> AuthorityRecord,
) -> Vec<AuthorityRecord> {
    let mut all = vec![record(&slots.active)];
    match &slots.next {
        None => {}
        Some(Next::Old { authority, tainted }) => all.push(AuthorityRecord {
            slot: Slot::Old,
            tainted: *tainted,
            ..record(authority)
        }),
        Some(Next::Prepared(authority)) => all.push(AuthorityRecord {
            slot: Slot::Prepared,
            ..record(authority)
        }),
    }
    all
}

/// The slots as they were stored; `None` where there were none.
fn restore<A: Clone + Authority>(
    records: Vec<AuthorityRecord>,
    mut take: impl FnMut(AuthorityRecord) -> Result<A, CaError>,
) -> Result<Option<Slots<A>>, CaError> {
    let (mut active, mut next) = (None, None);
    for record in records {
        let (slot, tainted) = (record.slot, record.tainted);
        let authority = take(record)?;
        match slot {
            Slot::Active => active = Some(authority),
            Slot::Old => next = Some(Next::Old { authority, tainted }),
            Slot::Prepared => next = Some(Next::Prepared(authority)),
        }
    }
    Ok(active.map(|active| Slots { active, next }))
}

impl Ca {
    /// Takes up the CA, or makes one where the store knows of none.
    ///
    /// # Errors
    /// When the store or the disk refuses, or the key of an authority is gone.
    pub async fn open(
        settings: CaSettings,
        store: Arc<Store>,
        keys: KeyFolder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        Self::open_below(None, settings, store, keys, clock).await
    }

    /// The same below another authority. One that signs for itself already goes on until it is
    /// rotated; one that the other is away from goes on with what it has, as long as that is valid.
    ///
    /// # Errors
    /// Those of [`Ca::open`], and when nothing is there that can sign, and the authority above does
    /// not help: [`CaError::Upstream`], after which it may be tried again.
    pub async fn open_below(
        upstream: Option<Arc<dyn Upstream>>,
        settings: CaSettings,
        store: Arc<Store>,
        keys: KeyFolder,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        let by = By {
            caller: "authority".into(),
            at: clock.now(),
        };
        let pair = |kind: Kind, id: &str| {
            let pkcs8 = keys
                .get(&key_name(kind, id))?
                .ok_or_else(|| CaError::KeyGone {
                    kind: kind.as_str(),
                    id: id.into(),
                })?;
            let der = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
            let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
            Ok::<_, CaError>(pair.map_err(IssueError::from)?)
        };
        let known = restore(store.authorities(Kind::X509).await?, |record| {
            let pair = pair(Kind::X509, &record.id)?;
            let chain = record
                .public
                .into_iter()
                .map(CertificateDer::from)
                .collect();
            let ca = X509Ca::restore(chain, pair)?;
            if let Some(own) = ca.chain().first() {
                belongs(own, &settings.domain)?;
            }
            Ok(Arc::new(ca.with_upstream(record.upstream_id)))
        })?;
        let revoked = Revoked::load(&store).await?;
        let x509 = match known {
            Some(known) => known,
            None => {
                let (revoked, none) = (revoked.names(), HashSet::new());
                let made = make_x509(upstream.as_ref(), &revoked, &none, &settings, by.at);
                Slots::new(first_x509(made.await?, &settings, &store, &keys, &by).await?)
            }
        };
        let known = restore(store.authorities(Kind::Jwt).await?, |record| {
            let pair = pair(Kind::Jwt, &record.id)?;
            let (from, until) = (record.not_before, record.not_after);
            Ok(Arc::new(JwtKey::new(record.id, pair, from, until)))
        })?;
        let jwt = match known {
            Some(known) => known,
            None => {
                let made = make_jwt(upstream.as_ref(), &settings, by.at).await?;
                Slots::new(first_jwt(made, &settings, &store, &keys, &by).await?)
            }
        };
        let bundle = store.bundle(settings.domain.clone()).await?;
        let empty = || crate::store::Bundle::empty(settings.domain.clone());
        let bundle = Arc::new(bundle.unwrap_or_else(empty));
        let ca = Self {
            store,
            keys,
            upstream,
            clock,
            bundle: watch::Sender::new(Arc::clone(&bundle)),
            state: RwLock::new(State { x509, jwt, bundle }),
            changing: tokio::sync::Mutex::default(),
            preparing: tokio::sync::Mutex::default(),
            following: tokio::sync::Mutex::default(),
            revoked,
            settings,
        };
        // It may have been away for long. Who can sign does not wait for the one above.
        let now = by.at;
        let signs = ca.x509().not_after() > now;
        if signs && ca.jwt().not_after() > now && ca.has_upstream() {
            return Ok(ca);
        }
        match ca.look_at_the_clock().await {
            Err(error @ CaError::Upstream(_)) if signs => {
                tracing::warn!(%error, "authorities not rotated: what there is goes on");
            }
            looked => looked?,
        }
        Ok(ca)
    }
}

pub(super) async fn first_x509(
    (ca, roots): (X509Ca, Vec<Vec<u8>>),
    settings: &CaSettings,
    store: &Store,
    keys: &KeyFolder,
    by: &By,
) -> Result<Arc<X509Ca>, CaError> {
    let ca = Arc::new(ca);
    keys.put(&key_name(Kind::X509, ca.id()), &ca.key())?;
    let record = x509_record(&ca);
    enter(settings, store, by, Kind::X509, record, roots).await?;
    Ok(ca)
}

async fn first_jwt(
    key: JwtKey,
    settings: &CaSettings,
    store: &Store,
    keys: &KeyFolder,
    by: &By,
) -> Result<Arc<JwtKey>, CaError> {
    let key = Arc::new(key);
    keys.put(&key_name(Kind::Jwt, key.id()), &key.private_key())?;
    let record = jwt_record(&key);
    enter(settings, store, by, Kind::Jwt, record, Vec::new()).await?;
    Ok(key)
}

async fn enter(
    settings: &CaSettings,
    store: &Store,
    by: &By,
    kind: Kind,
    record: AuthorityRecord,
    roots: Vec<Vec<u8>>,
) -> Result<(), CaError> {
    let name = ("authority.create", record.id.clone());
    let all = vec![record.clone()];
    let edit = move |bundle: &mut crate::store::Bundle| {
        let id = record.id.clone();
        edit_bundle(bundle, kind, &Step::Prepare, &id, Some(record), roots);
    };
    let domain = settings.domain.clone();
    store
        .set_authorities(by.clone(), domain, kind, all, name, edit)
        .await?;
    Ok(())
}
