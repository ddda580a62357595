//! Entries in the store.

mod filter;
mod rows;

use std::collections::{BTreeSet, HashSet};

use rusqlite::{OptionalExtension as _, Transaction, params};
use sekisho_certs::TrustDomain;
use uuid::Uuid;

use super::{By, Store, StoreError, audit, changes::Changed, seconds};
use crate::{
    attest::join_token,
    entry::{Draft, Entry, Federated, Selector},
};

pub use filter::{EntryFilter, SetMatch};

/// How the creation of an entry went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It is there now.
    Created(Box<Entry>),
    /// One with the same IDs and selectors is there already; nothing was changed.
    Exists(Box<Entry>),
    /// Its name is taken by another.
    IdTaken(String),
    /// It is federated with a trust domain of which there is no bundle.
    NoBundle(TrustDomain),
}

/// How a change of an entry went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update<E> {
    /// It is so now, and its revision is one higher.
    Updated(Box<Entry>),
    /// There is no entry of this name.
    Missing,
    /// It would be federated with a trust domain of which there is no bundle.
    NoBundle(TrustDomain),
    /// It would have the IDs and selectors of another.
    Repeats(Box<Entry>),
    /// It breaks a rule.
    Refused(E),
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In order of insertion.
    pub items: Vec<T>,
    /// Where the next page begins: behind this number.
    pub next: i64,
}

impl Store {
    /// Stores entries, each for itself: what becomes of one says nothing of the others.
    ///
    /// # Errors
    /// Those of the store; then none was stored.
    pub async fn create_entries(
        &self,
        by: By,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Creation>, StoreError> {
        let made = |all: &Vec<Creation>| {
            let made = all.iter().filter_map(|one| match one {
                Creation::Created(entry) => Some(entry.id.clone()),
                _ => None,
            });
            Changed::Entries(made.collect())
        };
        self.change_entries_as(made, move |transaction| {
            drafts
                .into_iter()
                .map(|draft| create(transaction, &by, draft))
                .collect()
        })
        .await
    }

    /// The entry of this name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn entry(&self, id: String) -> Result<Option<Entry>, StoreError> {
        self.look(move |transaction| Ok(rows::by_id(transaction, &id)?.map(|(_, entry)| entry)))
            .await
    }

    /// The entries of these names, as far as there are any.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn entries_named(&self, names: BTreeSet<String>) -> Result<Vec<Entry>, StoreError> {
        self.look(move |transaction| {
            let mut found = Vec::new();
            for name in &names {
                found.extend(rows::by_id(transaction, name)?.map(|(_, entry)| entry));
            }
            Ok(found)
        })
        .await
    }

    /// Entries that pass, behind number `after`, at most `most`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn entries(
        &self,
        filter: EntryFilter,
        after: i64,
        most: usize,
    ) -> Result<Page<Entry>, StoreError> {
        self.look(move |transaction| list(transaction, &filter, after, most))
            .await
    }

    /// Lets `edit` change an entry. Its revision rises also if nothing differs, as SPIRE's does.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn update_entry<E: Send + 'static>(
        &self,
        by: By,
        id: String,
        edit: impl FnOnce(&mut Draft) -> Result<(), E> + Send + 'static,
    ) -> Result<Update<E>, StoreError> {
        let changed = |update: &Update<E>| match update {
            Update::Updated(entry) => Changed::Entries(vec![entry.id.clone()]),
            _ => Changed::Nothing,
        };
        self.change_entries_as(changed, move |transaction| {
            update(transaction, &by, &id, edit)
        })
        .await
    }

    /// Removes an entry. False if there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete_entry(&self, by: By, id: String) -> Result<bool, StoreError> {
        let name = id.clone();
        let changed = move |gone: &bool| match gone {
            true => Changed::Entries(vec![name]),
            false => Changed::Nothing,
        };
        self.change_entries_as(changed, move |transaction| {
            let gone = transaction.execute("DELETE FROM entries WHERE id = ?1", params![id])?;
            if gone > 0 {
                audit::append(transaction, &by, "entry.delete", &id, "{}".into())?;
            }
            Ok(gone > 0)
        })
        .await
    }

    /// Removes the entries that have ended, and returns their names.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn prune_entries(&self, by: By) -> Result<Vec<String>, StoreError> {
        let changed = |gone: &Vec<String>| Changed::Entries(gone.clone());
        self.change_entries_as(changed, move |transaction| {
            let mut statement = transaction.prepare_cached(
                "DELETE FROM entries WHERE expires_at > 0 AND expires_at < ?1 RETURNING id",
            )?;
            let gone = statement.query_map(params![seconds(by.at)], |row| row.get(0))?;
            let gone: Vec<String> = gone.collect::<Result<_, _>>()?;
            for id in &gone {
                audit::append(transaction, &by, "entry.prune", id, "{}".into())?;
            }
            Ok(gone)
        })
        .await
    }
}

fn list(
    transaction: &Transaction<'_>,
    filter: &EntryFilter,
    after: i64,
    most: usize,
) -> Result<Page<Entry>, StoreError> {
    /// Rows read at a time: what does not pass is read in vain.
    const AT_ONCE: usize = 500;
    let mut page = Page {
        items: Vec::new(),
        next: after,
    };
    loop {
        let rows = rows::behind(transaction, filter, page.next, AT_ONCE)?;
        let last = rows.len() < AT_ONCE;
        for (number, entry) in rows {
            page.next = number;
            if filter.passes(&entry) {
                page.items.push(entry);
                if page.items.len() == most {
                    return Ok(page);
                }
            }
        }
        if last {
            return Ok(page);
        }
    }
}

/// Stores an entry that nothing stands against.
pub(super) fn create(
    transaction: &Transaction<'_>,
    by: &By,
    draft: Draft,
) -> Result<Creation, StoreError> {
    if let Some((_, same)) = rows::same(transaction, &draft)? {
        return Ok(Creation::Exists(Box::new(same)));
    }
    if let Some(domain) = without_bundle(transaction, &draft)? {
        return Ok(Creation::NoBundle(domain));
    }
    let id = match &draft.id {
        Some(id) if rows::by_id(transaction, id)?.is_some() => {
            return Ok(Creation::IdTaken(id.clone()));
        }
        Some(id) => id.clone(),
        None => Uuid::new_v4().to_string(),
    };
    let ended: Option<i64> = transaction
        .prepare_cached("SELECT revision FROM ended_entries WHERE id = ?1")?
        .query_row(params![id], |row| row.get(0))
        .optional()?;
    let entry = Entry {
        id,
        revision: ended.map_or(0, |last| last + 1),
        created_at: by.at,
        draft,
    };
    rows::insert(transaction, &entry)?;
    let detail = rows::detail(&entry);
    audit::append(transaction, by, "entry.create", &entry.id, detail)?;
    Ok(Creation::Created(Box::new(entry)))
}

fn update<E>(
    transaction: &Transaction<'_>,
    by: &By,
    id: &str,
    edit: impl FnOnce(&mut Draft) -> Result<(), E>,
) -> Result<Update<E>, StoreError> {
    let Some((number, mut entry)) = rows::by_id(transaction, id)? else {
        return Ok(Update::Missing);
    };
    if let Err(refused) = edit(&mut entry.draft) {
        return Ok(Update::Refused(refused));
    }
    if let Some((other, same)) = rows::same(transaction, &entry.draft)?
        && other != number
    {
        return Ok(Update::Repeats(Box::new(same)));
    }
    if let Some(domain) = without_bundle(transaction, &entry.draft)? {
        return Ok(Update::NoBundle(domain));
    }
    entry.revision += 1;
    rows::replace(transaction, number, &entry)?;
    audit::append(transaction, by, "entry.update", id, rows::detail(&entry))?;
    Ok(Update::Updated(Box::new(entry)))
}

/// Removes the entries that a join token made, together with the node that it made or would have made;
/// their names.
pub(super) fn delete_of_token(
    transaction: &Transaction<'_>,
    by: &By,
    node: &str,
) -> Result<Vec<String>, StoreError> {
    let only = BTreeSet::from([Selector {
        kind: "spiffe_id".into(),
        value: node.to_owned(),
    }]);
    let mut statement = transaction.prepare_cached(
        "DELETE FROM entries WHERE parent_id = ?1 AND selector_set = ?2 RETURNING id",
    )?;
    let gone = statement.query_map(params![node, rows::selector_set(&only)], |row| row.get(0))?;
    let gone = gone.collect::<Result<Vec<String>, _>>()?;
    for id in &gone {
        audit::append(transaction, by, "entry.delete", id, "{}".into())?;
    }
    Ok(gone)
}

/// Removes the entries of join tokens that have ended unused; their names. Of a token only the hash is
/// known: the tokens in the entries that give somebody the ID `made` are compared with it.
pub(super) fn delete_of_unused(
    transaction: &Transaction<'_>,
    by: &By,
    made: &str,
    lookups: &HashSet<[u8; 32]>,
) -> Result<Vec<String>, StoreError> {
    let mut statement = transaction
        .prepare_cached("SELECT DISTINCT parent_id FROM entries WHERE spiffe_id = ?1")?;
    let parents = statement.query_map(params![made], |row| row.get(0))?;
    let mut gone = Vec::new();
    for parent in parents.collect::<Result<Vec<String>, _>>()? {
        let token = parent.split_once("/spire/agent/join_token/");
        if token.is_some_and(|(_, token)| lookups.contains(&join_token::token_lookup(token))) {
            gone.extend(delete_of_token(transaction, by, &parent)?);
        }
    }
    Ok(gone)
}

/// Raises the revision of the entries that are federated with a domain, by name or by `*`, so that
/// agents ask again.
pub(super) fn federation_changed(
    transaction: &Transaction<'_>,
    by: &By,
    domain: &TrustDomain,
) -> Result<(), StoreError> {
    let raised = transaction
        .prepare_cached(
            "UPDATE entries SET revision = revision + 1 WHERE number IN \
             (SELECT entry FROM entry_federation WHERE trust_domain IN (?1, '*'))",
        )?
        .execute(params![domain.as_str()])?;
    if raised > 0 {
        let detail = serde_json::json!({ "entries": raised });
        let (action, object) = ("entry.federation", domain.as_str());
        audit::append(transaction, by, action, object, detail.to_string())?;
    }
    Ok(())
}

/// Names of the entries that are federated with a domain by its name.
pub(super) fn federated_with(
    transaction: &Transaction<'_>,
    domain: &TrustDomain,
) -> Result<Vec<String>, StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT id FROM entries WHERE number IN \
         (SELECT entry FROM entry_federation WHERE trust_domain = ?1) ORDER BY number",
    )?;
    let found = statement.query_map(params![domain.as_str()], |row| row.get(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The first domain that an entry is federated with and of which there is no bundle.
fn without_bundle(
    transaction: &Transaction<'_>,
    draft: &Draft,
) -> Result<Option<TrustDomain>, StoreError> {
    for federated in &draft.federates_with {
        if let Federated::Domain(domain) = federated
            && !has_bundle(transaction, domain)?
        {
            return Ok(Some(domain.clone()));
        }
    }
    Ok(None)
}

fn has_bundle(transaction: &Transaction<'_>, domain: &TrustDomain) -> Result<bool, StoreError> {
    let found = transaction
        .prepare_cached("SELECT 1 FROM bundles WHERE trust_domain = ?1")?
        .query_row(params![domain.as_str()], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}
