//! An authority above ours: our CA is then an intermediate, and the bundle has the roots above it.

mod disk;
mod follow;
mod spire;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;
use sekisho_certs::{BundleSet, Trust, TrustBundle, hex, id, tls};
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use super::{
    Ca, CaError, CaSettings,
    issue::{IssueError, Leaf, X509Ca, authority_id, request},
    jwt::JwtKey,
    slots::{Next, SlotError},
};
use crate::store::{Bundle, By, JwtAuthority, REVOKE_ROOT, X509Authority};
pub use disk::Disk;
pub(crate) use follow::EVERY;
pub(super) use follow::Seen;
pub use spire::{Spire, SpireSpec};

/// How long an authority above may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an authority above has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Our CA's certificate first, then those between it and a root, never the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// All roots of the trust domain.
    pub roots: Vec<CertificateDer<'static>>,
}

/// The bundle of an authority above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    /// The roots of the trust domain.
    pub x509: Vec<X509Authority>,
    /// Its JWT keys, those among them that it was given.
    pub jwt: Vec<JwtAuthority>,
}

/// Why an authority above is of no help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// What it has given cannot be used.
    #[error("what the authority above gives cannot be used: {0}")]
    Unusable(String),
    /// It cannot be reached, or refuses.
    #[error("the authority above does not help: {0}")]
    Refused(String),
}

/// An authority above.
#[tonic::async_trait]
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Signs a CA of this trust domain for the key of a signing request (PKCS#10, DER).
    ///
    /// # Errors
    /// When it does not.
    async fn sign(
        &self,
        request: Vec<u8>,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Signed, UpstreamError>;

    /// Takes a JWT key of ours into its bundle. False, and the default: it has none for such keys, and
    /// ours is known to this site's agents alone.
    ///
    /// # Errors
    /// When it does not, though it could.
    async fn publish(&self, _key: &JwtAuthority) -> Result<bool, UpstreamError> {
        Ok(false)
    }

    /// Its bundle as it is now, which ours is to follow. `None`, and the default: there is nothing to
    /// follow but what comes with a signature.
    ///
    /// # Errors
    /// When it does not tell.
    async fn bundle(&self) -> Result<Option<Above>, UpstreamError> {
        Ok(None)
    }
}

/// A step with the root above an authority of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootStep {
    /// It counts no longer.
    Revoke,
    /// What stands below it is to be replaced.
    Taint,
}

/// The name of a root: its subject key identifier in lower-case hexadecimal, or what that would be.
pub(super) fn root_id(der: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let own = parsed
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(own) => Some(hex(own.0)),
            _ => None,
        });
    own.or_else(|| authority_id(der))
}

/// A new CA of ours, and the roots above it where there are any. It is below none of those that were
/// revoked here, nor of the `dead`, which the one above may still believe.
pub(super) async fn make_x509(
    upstream: Option<&Arc<dyn Upstream>>,
    revoked: &HashSet<String>,
    dead: &HashSet<String>,
    settings: &CaSettings,
    now: SystemTime,
) -> Result<(X509Ca, Vec<Vec<u8>>), CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::from)?;
    let Some(upstream) = upstream else {
        let ca = X509Ca::self_signed(&settings.domain, key, now, settings.ttl)?;
        return Ok((ca, Vec::new()));
    };
    let csr = request(&settings.domain, &key)?;
    let Signed { chain, mut roots } = in_time(upstream.sign(csr, now, settings.ttl)).await?;
    let is_revoked = |name: &String| revoked.contains(name);
    roots.retain(|root| !root_id(root).as_ref().is_some_and(is_revoked));
    let above = chain.last().and_then(|last| root_above(last, &roots));
    let above = above.ok_or_else(|| {
        let text = "none of its roots that count here has signed the chain that it gave";
        UpstreamError::Unusable(text.into())
    })?;
    if dead.contains(&above) {
        let text = format!("it signs below root {above}, which it has tainted or revoked");
        return Err(UpstreamError::Unusable(text).into());
    }
    let ca = X509Ca::restore(chain, key)?.with_upstream(above);
    try_out(&ca, settings, &roots, now)?;
    Ok((ca, roots.iter().map(|root| root.to_vec()).collect()))
}

/// A new key for JWT-SVIDs, which the authority above knows before anybody can see a token by it.
pub(super) async fn make_jwt(
    upstream: Option<&Arc<dyn Upstream>>,
    settings: &CaSettings,
    now: SystemTime,
) -> Result<JwtKey, CaError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::from)?;
    let id = Uuid::new_v4().simple().to_string();
    let key = JwtKey::new(id, pair, now, now + settings.ttl);
    if let Some(upstream) = upstream {
        let authority = public(&key);
        in_time(upstream.publish(&authority)).await?;
    }
    Ok(key)
}

/// What others know of a key of ours.
fn public(key: &JwtKey) -> JwtAuthority {
    JwtAuthority {
        key_id: key.id().into(),
        public_key: key.public_key(),
        expires_at: Some(key.not_after()),
        tainted: false,
    }
}

/// Tries an authority above out: what it signs is thrown away.
///
/// # Errors
/// When it does not sign, or what it signs cannot be used.
pub async fn trial(
    upstream: Arc<dyn Upstream>,
    settings: &CaSettings,
    now: SystemTime,
) -> Result<(), CaError> {
    let none = HashSet::new();
    make_x509(Some(&upstream), &none, &none, settings, now).await?;
    Ok(())
}

async fn in_time<T>(
    call: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let late = |_| UpstreamError::Refused(format!("no answer within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, call).await.map_err(late)?
}

/// The name of the root that has signed a certificate.
fn root_above(last: &[u8], roots: &[CertificateDer<'_>]) -> Option<String> {
    let (_, last) = X509Certificate::from_der(last).ok()?;
    roots.iter().find_map(|root| {
        let (_, parsed) = X509Certificate::from_der(root).ok()?;
        let key = parsed.public_key();
        let signed = last.issuer().as_raw() == parsed.subject().as_raw()
            && last.verify_signature(Some(key)).is_ok();
        signed.then(|| root_id(root)).flatten()
    })
}

/// What it will sign has to be believed by the bundle that it came with.
fn try_out(
    ca: &X509Ca,
    settings: &CaSettings,
    roots: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), CaError> {
    let unusable = |error: String| UpstreamError::Unusable(error);
    let domain = &settings.domain;
    let bundle = TrustBundle::new(domain.clone(), roots.to_vec());
    let bundle = bundle.map_err(|error| unusable(error.to_string()))?;
    let mut set = BundleSet::default();
    set.insert(Arc::new(bundle))
        .map_err(|error| unusable(error.to_string()))?;
    let id = id::id_below(domain, "/spire/server").map_err(|_| IssueError::Unreadable)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::from)?;
    let leaf = Leaf {
        id: &id,
        dns_names: &[],
        public_key: &rcgen::PublicKeyData::subject_public_key_info(&key),
        ttl: Duration::from_secs(60),
    };
    let issued = ca.leaf(&leaf, now)?;
    let trust = Trust::new(set, tls::provider().signature_verification_algorithms);
    let verified = trust.verify(&issued.chain, now);
    verified.map_err(|error| unusable(error.to_string()))?;
    Ok(())
}

impl Ca {
    /// Whether there is an authority above.
    #[must_use]
    pub fn has_upstream(&self) -> bool {
        self.upstream.is_some()
    }

    /// Adds a JWT key of an authority below to our bundle, once the one above ours knows it too.
    ///
    /// # Errors
    /// Those of [`Ca::append`], and when the authority above does not take it.
    pub async fn publish_from_below(
        self: &Arc<Self>,
        by: By,
        key: JwtAuthority,
    ) -> Result<Arc<Bundle>, CaError> {
        // What is refused here is not to be known above either.
        self.can_take(std::slice::from_ref(&key))?;
        if let Some(upstream) = &self.upstream {
            in_time(upstream.publish(&key)).await?;
        }
        self.append(by, Vec::new(), vec![key]).await
    }

    /// Taints or revokes a root above the authority that is old, and above it only.
    ///
    /// # Errors
    /// [`CaError::NoUpstream`] where there is none; [`CaError::Slot`] where it is not one with which
    /// that can be done; others where it failed.
    pub async fn root_step(
        self: &Arc<Self>,
        by: By,
        step: RootStep,
        root: String,
    ) -> Result<(), CaError> {
        if !self.has_upstream() {
            return Err(CaError::NoUpstream);
        }
        let this = Arc::clone(self);
        // As in `step`.
        let taken = tokio::spawn(async move { this.take_root_step(by, step, root).await });
        taken
            .await
            .map_err(|_| CaError::Store(crate::store::StoreError::Closed))?
    }

    async fn take_root_step(&self, by: By, step: RootStep, root: String) -> Result<(), CaError> {
        let _one = self.changing.lock().await;
        let state = self.state();
        if state.x509.active.upstream_id() == root {
            return Err(SlotError::Active(root).into());
        }
        match &state.x509.next {
            Some(Next::Old { authority, .. }) if authority.upstream_id() == root => {}
            _ => return Err(SlotError::Unknown(root).into()),
        }
        let is = {
            let root = root.clone();
            move |der: &[u8]| root_id(der).as_deref() == Some(&root)
        };
        let tainted = state.bundle.x509.iter().find(|own| is(&own.der));
        match (tainted.map(|own| own.tainted), step) {
            (None, _) => return Err(SlotError::Unknown(root).into()),
            (Some(true), RootStep::Taint) => return Err(SlotError::Tainted(root).into()),
            (Some(false), RootStep::Revoke) => return Err(SlotError::NotTainted(root).into()),
            _ => {}
        }
        let (action, revoked) = match step {
            RootStep::Revoke => (REVOKE_ROOT, Some(self.revoked.add(root.clone()))),
            RootStep::Taint => ("authority.taint_upstream", None),
        };
        self.edit_bundle_alone(by, (action, Some(root)), move |bundle| match step {
            RootStep::Revoke => bundle.x509.retain(|own| !is(&own.der)),
            RootStep::Taint => {
                for own in bundle.x509.iter_mut().filter(|own| is(&own.der)) {
                    own.tainted = true;
                }
            }
        })
        .await?;
        if let Some(revoked) = revoked {
            revoked.keep();
        }
        Ok(())
    }
}
