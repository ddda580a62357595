//! Whose a CA key is. No two members share one, for each could speak for the other; and who has it is not
//! for whoever was seen first to say, since everybody can copy a key that was announced.

use std::collections::{BTreeSet, HashMap};

use sekisho_certs::{TrustBundle, bundle::Authority};

/// A key is another's already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Anothers {
    /// Whose.
    pub(super) owner: Box<str>,
    /// It proves that, and whoever claims the key does not.
    pub(super) is_proven: bool,
}

/// Trust domains by the SHA-256 of their CA keys.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<[u8; 32], Box<str>>);

impl Owners {
    /// Whether a bundle may have the keys that it delivers: who has to give them up for that, because it
    /// proves by its certificate that a key is its own (`Authority::proves_possession`), and they do not.
    /// `held` is the bundle of a trust domain.
    ///
    /// # Errors
    /// Whose one of its keys is.
    pub(super) fn claim<'a>(
        &self,
        bundle: &TrustBundle,
        held: impl Fn(&str) -> Option<&'a TrustBundle>,
    ) -> Result<BTreeSet<Box<str>>, Anothers> {
        let mut losers = BTreeSet::new();
        for authority in bundle.authorities() {
            let key = authority.key_sha256();
            let Some(owner) = self.0.get(&key) else {
                continue;
            };
            if **owner == *bundle.trust_domain().as_str() {
                continue;
            }
            let theirs = held(owner).is_some_and(|held| proves(held, &key));
            let ours = proves(bundle, &key);
            if theirs || !ours {
                return Err(Anothers {
                    owner: owner.clone(),
                    is_proven: theirs && !ours,
                });
            }
            losers.insert(owner.clone());
        }
        Ok(losers)
    }

    /// All keys of a bundle are its trust domain's from now on.
    pub(super) fn take(&mut self, bundle: &TrustBundle) {
        for key in keys(bundle) {
            self.0.insert(key, bundle.trust_domain().as_str().into());
        }
    }

    /// The keys of a bundle that are its trust domain's are nobody's from now on.
    pub(super) fn let_go(&mut self, bundle: &TrustBundle) {
        for key in keys(bundle) {
            if self.is_of(&key, bundle) {
                self.0.remove(&key);
            }
        }
    }

    /// Whether a key of a bundle is another's.
    pub(super) fn is_displaced(&self, bundle: &TrustBundle) -> bool {
        keys(bundle).any(|key| self.0.contains_key(&key) && !self.is_of(&key, bundle))
    }

    fn is_of(&self, key: &[u8; 32], bundle: &TrustBundle) -> bool {
        let owner = self.0.get(key);
        owner.is_some_and(|owner| **owner == *bundle.trust_domain().as_str())
    }
}

fn keys(bundle: &TrustBundle) -> impl Iterator<Item = [u8; 32]> {
    bundle.authorities().iter().map(Authority::key_sha256)
}

/// Whether one of the certificates that a bundle has of a key proves that it is its trust domain's.
fn proves(bundle: &TrustBundle, key: &[u8; 32]) -> bool {
    let mut all = bundle.authorities().iter();
    all.any(|one| one.key_sha256() == *key && one.proves_possession(bundle.trust_domain()))
}
