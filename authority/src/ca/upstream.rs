//! An authority above ours: our CA is then an intermediate, and the bundle has the roots above it.

mod disk;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;
use sekisho_certs::{BundleSet, Trust, TrustBundle, hex, id, tls};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use super::{
    Ca, CaError, CaSettings,
    issue::{IssueError, Leaf, X509Ca, authority_id, request},
    slots::{Next, SlotError},
};
use crate::store::By;
pub use disk::Disk;

/// How long an authority above may take to sign.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an authority above has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Our CA's certificate first, then those between it and a root, never the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// All roots of the trust domain.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why an authority above has not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// What it has signed cannot be used.
    #[error("the authority above: {0}")]
    Unusable(String),
    /// It cannot be reached, or refuses.
    #[error("the authority above does not sign: {0}")]
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

/// A new CA of ours, signed by the authority above, and the roots.
pub(super) async fn make(
    upstream: &Arc<dyn Upstream>,
    settings: &CaSettings,
    now: SystemTime,
) -> Result<(X509Ca, Vec<Vec<u8>>), CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::from)?;
    let csr = request(&settings.domain, &key)?;
    let signed = tokio::time::timeout(PATIENCE, upstream.sign(csr, now, settings.ttl)).await;
    let late = || UpstreamError::Refused(format!("no answer within {PATIENCE:?}"));
    let Signed { chain, roots } = signed.map_err(|_| late())??;
    let above = chain.last().and_then(|last| root_above(last, &roots));
    let above = above.ok_or_else(|| {
        UpstreamError::Unusable("none of its roots has signed the chain that it gave".into())
    })?;
    let ca = X509Ca::restore(chain, key)?.with_upstream(above);
    try_out(&ca, settings, &roots, now)?;
    Ok((ca, roots.iter().map(|root| root.to_vec()).collect()))
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
        self.edit_bundle_alone(by, move |bundle| match step {
            RootStep::Revoke => bundle.x509.retain(|own| !is(&own.der)),
            RootStep::Taint => {
                for own in bundle.x509.iter_mut().filter(|own| is(&own.der)) {
                    own.tainted = true;
                }
            }
        })
        .await?;
        Ok(())
    }
}
