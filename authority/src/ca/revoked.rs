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

    /// Adds a name before it is written that it was revoked; taken out again where that fails.
    pub(super) fn add(&self, name: String) -> Added<'_> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = names.insert(name.clone()).then_some(name);
        Added {
            names: &self.0,
            new,
        }
    }

    pub(super) fn names(&self) -> HashSet<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A name that was added, unless this is dropped without [`Added::keep`].
pub(super) struct Added<'a> {
    names: &'a Mutex<HashSet<String>>,
    /// `None` where it was there already, or stays.
    new: Option<String>,
}

impl Added<'_> {
    /// It is written.
    pub(super) fn keep(mut self) {
        self.new = None;
    }
}

impl Drop for Added<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.new {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.remove(name);
        }
    }
}
