//! What was revoked here. An authority above may go on to believe it, and to tell so: it must not come
//! back by that way.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use super::Step;
use crate::store::{Store, StoreError};

/// A root above was revoked here.
pub(super) const ROOT: &str = "authority.revoke_upstream";

/// Names of keys and roots. The audit log keeps them: no revocation is without its line.
#[derive(Debug, Default)]
pub(super) struct Revoked(Mutex<HashSet<String>>);

impl Revoked {
    /// What the audit log tells of.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn load(store: &Store) -> Result<Self, StoreError> {
        let all = store.objects_of([Step::REVOKE, ROOT]).await?;
        Ok(Self(Mutex::new(all.into_iter().collect())))
    }

    pub(super) fn add(&self, name: String) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name);
    }

    pub(super) fn names(&self) -> HashSet<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
