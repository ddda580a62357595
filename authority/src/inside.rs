//! What is in the same process as the CA has of it without asking over a socket: SVIDs of its own site,
//! and the bundles that go with them.

use std::{sync::Arc, time::SystemTime};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sekisho_certs::{BundleError, BundleSet, SpiffeId, TrustBundle};

use crate::{
    ca::{
        CaError,
        issue::{IssueError, Leaf},
    },
    core::Core,
    federation::trust_bundle,
    store::StoreError,
};

/// A certificate with its key.
#[derive(Debug)]
pub struct Minted {
    /// The leaf first, then those between it and a root.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8, P-256.
    pub key: PrivateKeyDer<'static>,
    /// When it ends.
    pub not_after: SystemTime,
    /// The name of the authority that has signed it.
    pub authority: String,
}

/// Why bundles are not told.
#[derive(Debug, thiserror::Error)]
pub enum BundlesError {
    /// Our own cannot be used, which was looked at before it was stored.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Core {
    /// Makes an SVID with a new key, valid as long as those of entries that do not say otherwise.
    /// Whether `id` may have one is for the caller to know.
    ///
    /// # Errors
    /// When the authority has ended, or the library fails.
    pub fn mint(&self, id: &SpiffeId) -> Result<Minted, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::from)?;
        let ca = self.ca.x509();
        let leaf = Leaf {
            id,
            dns_names: &[],
            public_key: &key.subject_public_key_info(),
            ttl: self.settings.x509_ttl,
        };
        let issued = ca.leaf(&leaf, self.now())?;
        Ok(Minted {
            chain: issued.chain,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            not_after: issued.not_after,
            authority: ca.id().into(),
        })
    }

    /// Our own bundle as others fetch it.
    ///
    /// # Errors
    /// When what is stored cannot be used.
    pub fn own_bundle(&self) -> Result<TrustBundle, BundleError> {
        trust_bundle(&self.ca.bundle().borrow())
    }

    /// Our own bundle and those of the pairwise peers, for a verifier. One of a peer that cannot be used
    /// is left out, and told.
    ///
    /// # Errors
    /// When our own cannot be used, or the store refuses.
    pub async fn bundles_of_peers(&self) -> Result<BundleSet, BundlesError> {
        let mut set = BundleSet::default();
        set.insert(Arc::new(self.own_bundle()?))?;
        for peer in self.store.peers().await? {
            let domain = peer.relationship.domain;
            let Some(stored) = self.store.bundle(domain.clone()).await? else {
                continue;
            };
            let inserted = trust_bundle(&stored).and_then(|bundle| set.insert(Arc::new(bundle)));
            if let Err(error) = inserted {
                tracing::warn!(%domain, %error, "a stored bundle cannot be used");
            }
        }
        Ok(set)
    }
}
