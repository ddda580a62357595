//! Bundles by trust domain.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{BundleError, TrustBundle};
use crate::id::TrustDomain;

/// SHA-256 of a CA's public key.
type KeyHash = [u8; 32];

/// Bundles by trust domain. They stay apart: a peer is verified against its own domain's only
/// (SPIFFE_Federation.md §7.3), and no two domains share a CA key.
#[derive(Clone, Debug, Default)]
pub struct BundleSet {
    bundles: BTreeMap<String, Arc<TrustBundle>>,
    /// Whose a CA's key is: ten thousand bundles are not compared each with each.
    owners: HashMap<KeyHash, TrustDomain>,
}

impl PartialEq for BundleSet {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = self.bundles.values().zip(other.bundles.values());
        self.bundles.len() == other.bundles.len()
            && pairs.all(|(one, other)| Arc::ptr_eq(one, other) || one == other)
    }
}

impl BundleSet {
    /// Adds a bundle, in place of one of the same trust domain.
    ///
    /// # Errors
    /// When it holds a CA key that another domain of the set has; the set is unchanged then.
    pub fn insert(&mut self, bundle: Arc<TrustBundle>) -> Result<(), BundleError> {
        let mine = &bundle.domain;
        let owners = keys(&bundle).filter_map(|key| self.owners.get(key));
        if let Some(other) = owners.into_iter().find(|owner| *owner != mine) {
            return Err(BundleError::SharedKey {
                first: other.clone(),
                second: mine.clone(),
            });
        }
        if let Some(old) = self.bundles.get(mine.as_str()) {
            for key in keys(old) {
                self.owners.remove(key);
            }
        }
        for key in keys(&bundle) {
            self.owners.insert(*key, mine.clone());
        }
        self.bundles.insert(mine.as_str().to_owned(), bundle);
        Ok(())
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn get(&self, domain: &TrustDomain) -> Option<&Arc<TrustBundle>> {
        self.bundles.get(domain.as_str())
    }

    /// All bundles, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TrustBundle>> {
        self.bundles.values()
    }

    /// Those bundles whose domain passes.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&TrustDomain) -> bool) -> Self {
        let mut kept = Self::default();
        for bundle in self.iter().filter(|bundle| keep(&bundle.domain)) {
            // A part of a set without shared keys has none.
            let _ = kept.insert(Arc::clone(bundle));
        }
        kept
    }

    /// How many trust domains.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bundles.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }
}

fn keys(bundle: &TrustBundle) -> impl Iterator<Item = &KeyHash> {
    bundle.authorities.iter().map(|ca| &ca.info.spki_sha256)
}
