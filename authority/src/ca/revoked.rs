//! What was revoked here. An authority above or below may go on to believe it, and to tell so: it must
//! not come back by that way.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::store::{Store, StoreError};

/// Names of keys and roots. The audit log keeps them: no revocation is without its line.
#[derive(Debug)]
pub(super) struct Revoked(Mutex<HashSet<String>>);

impl Revoked {
    /// What the audit log tells of.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn load(store: &Store) -> Result<Self, StoreError> {
        let all = store.revoked().await?;
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
