//! Bundles that are a directory's word: stored as those of peers are, so that entries and agents have
//! them, and gone when the directory says so.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension as _, Transaction, params};
use sekisho_certs::{TrustDomain, bundle::proves_possession, id};

use super::{Bundle, By, Store, StoreError, bundles, changes::Changed, spki};

/// What came of a directory's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whose bundle was stored.
    pub stored: Vec<TrustDomain>,
    /// Who is trusted no more.
    pub ended: Vec<TrustDomain>,
    /// Who is trusted no more because of a CA key of which another member shows that it is its own.
    pub displaced: Vec<TrustDomain>,
    /// What was refused, and why: a CA key that another domain has.
    pub refused: Vec<(TrustDomain, String)>,
}

impl Taken {
    /// What is refused changes nobody's entries.
    const fn changed(&self) -> Changed {
        if self.stored.is_empty() && self.ended.is_empty() && self.displaced.is_empty() {
            return Changed::Nothing;
        }
        Changed::Anything
    }
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

/// Whose stored bundle has a CA key that stands in this one too, where that is the directory's word, does not
/// show that the key is its own, and this one does.
fn outweighed(
    transaction: &Transaction<'_>,
    bundle: &Bundle,
    other: &str,
) -> Result<Option<TrustDomain>, StoreError> {
    let other =
        id::parse_trust_domain(other).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    if is_others(transaction, &other)? {
        return Ok(None);
    }
    let Some((_, held)) = bundles::read(transaction, &other)? else {
        return Ok(None);
    };
    let shared = |key: &[u8], of: &Bundle| {
        let all = of.x509.iter().filter(|one| spki::of(&one.der) == key);
        let mut all = all.map(|one| proves_possession(&of.domain, &one.der));
        // Whether it has the key at all, and whether it shows that it is its own.
        all.next().map(|first| first || all.any(|one| one))
    };
    for authority in &bundle.x509 {
        let key = spki::of(&authority.der);
        let Some(theirs) = shared(&key, &held) else {
            continue;
        };
        if theirs || shared(&key, bundle) != Some(true) {
            return Ok(None);
        }
    }
    Ok(Some(other))
}

/// Puts a bundle in its place, and lets those without a better right to its keys give them up.
fn put(
    transaction: &Transaction<'_>,
    by: &By,
    bundle: &Bundle,
    displaced: &mut Vec<TrustDomain>,
) -> Result<bool, StoreError> {
    loop {
        let shared = match bundles::put(transaction, by, bundle) {
            Err(StoreError::SharedKey { first, second }) => (first, second),
            put => return put,
        };
        let Some(other) = outweighed(transaction, bundle, &shared.0)? else {
            let (first, second) = shared;
            return Err(StoreError::SharedKey { first, second });
        };
        bundles::put(transaction, by, &Bundle::empty(other.clone()))?;
        displaced.push(other);
    }
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
        self.change_entries_as(Taken::changed, move |transaction| {
            let mut taken = Taken::default();
            // Before the others: their keys are free now.
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
            for bundle in bundles {
                if is_others(transaction, &bundle.domain)? {
                    forget(transaction, &bundle.domain)?;
                    continue;
                }
                match put(transaction, &by, &bundle, &mut taken.displaced) {
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
