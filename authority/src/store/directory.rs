//! Bundles that are a directory's word: stored as those of peers are, so that entries and agents have
//! them, and gone when the directory says so.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension as _, Transaction, params};
use sekisho_certs::{TrustDomain, id};

use super::{Bundle, By, Store, StoreError, bundles};

/// What came of a directory's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whose bundle was stored.
    pub stored: Vec<TrustDomain>,
    /// Who is trusted no more.
    pub ended: Vec<TrustDomain>,
    /// What was refused, and why: a CA key that another domain has.
    pub refused: Vec<(TrustDomain, String)>,
}

/// Whether a relationship, or an administrator by hand, has the say.
fn is_others(transaction: &Transaction<'_>, domain: &TrustDomain) -> Result<bool, StoreError> {
    let has = |text: &str| -> Result<bool, StoreError> {
        let found = transaction
            .prepare_cached(text)?
            .query_row(params![domain.as_str()], |_| Ok(()))
            .optional()?;
        Ok(found.is_some())
    };
    if has("SELECT 1 FROM relationships WHERE trust_domain = ?1")? {
        return Ok(true);
    }
    Ok(has("SELECT 1 FROM bundles WHERE trust_domain = ?1")?
        && !has("SELECT 1 FROM directory_bundles WHERE trust_domain = ?1")?)
}

fn forget(transaction: &Transaction<'_>, domain: &TrustDomain) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM directory_bundles WHERE trust_domain = ?1")?
        .execute(params![domain.as_str()])?;
    Ok(())
}

impl Store {
    /// The domains that entries are federated with by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn federated_names(&self) -> Result<BTreeSet<String>, StoreError> {
        self.look(|transaction| {
            let text =
                "SELECT DISTINCT trust_domain FROM entry_federation WHERE trust_domain <> '*'";
            let mut statement = transaction.prepare_cached(text)?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?;
            Ok(names.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The domains whose stored bundle is the directory's word.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn directory_domains(&self) -> Result<Vec<TrustDomain>, StoreError> {
        self.look(|transaction| {
            let text = "SELECT trust_domain FROM directory_bundles ORDER BY trust_domain";
            let mut statement = transaction.prepare_cached(text)?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?;
            names
                .map(|name| {
                    id::parse_trust_domain(&name?)
                        .map_err(|error| StoreError::Corrupt(error.to_string()))
                })
                .collect()
        })
        .await
    }

    /// Takes a directory's word: these bundles, and nobody of those domains any more. Where a
    /// relationship has the say, or an administrator has set a bundle by hand, nothing is touched.
    /// Entries that are federated with a domain which has ended stay, and trust nobody of it.
    ///
    /// # Errors
    /// Those of the store; then nothing is taken.
    pub async fn take_directory(
        &self,
        by: By,
        bundles: Vec<Bundle>,
        ended: Vec<TrustDomain>,
    ) -> Result<Taken, StoreError> {
        self.change_entries(move |transaction| {
            let mut taken = Taken::default();
            for bundle in bundles {
                if is_others(transaction, &bundle.domain)? {
                    forget(transaction, &bundle.domain)?;
                    continue;
                }
                match bundles::put(transaction, &by, &bundle) {
                    Ok(true) => taken.stored.push(bundle.domain.clone()),
                    Ok(false) => {}
                    Err(error @ StoreError::SharedKey { .. }) => {
                        taken.refused.push((bundle.domain, error.to_string()));
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                transaction
                    .prepare_cached("INSERT OR IGNORE INTO directory_bundles VALUES (?1)")?
                    .execute(params![bundle.domain.as_str()])?;
            }
            for domain in ended {
                if !is_others(transaction, &domain)? {
                    let nobody = Bundle::empty(domain.clone());
                    if bundles::put(transaction, &by, &nobody)? {
                        taken.ended.push(domain);
                    }
                    continue;
                }
                forget(transaction, &domain)?;
            }
            Ok(taken)
        })
        .await
    }

    /// Makes room for the bundle of a domain that a directory may have, so that entries may name it
    /// before it is loaded: one without keys, by which nobody is trusted.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn expect_of_directory(
        &self,
        by: By,
        domains: Vec<TrustDomain>,
    ) -> Result<(), StoreError> {
        self.change_entries(move |transaction| {
            for domain in domains {
                let there = transaction
                    .prepare_cached("SELECT 1 FROM bundles WHERE trust_domain = ?1")?
                    .query_row(params![domain.as_str()], |_| Ok(()))
                    .optional()?;
                if there.is_some() {
                    continue;
                }
                bundles::put(transaction, &by, &Bundle::empty(domain.clone()))?;
                transaction
                    .prepare_cached("INSERT OR IGNORE INTO directory_bundles VALUES (?1)")?
                    .execute(params![domain.as_str()])?;
            }
            Ok(())
        })
        .await
    }
}
