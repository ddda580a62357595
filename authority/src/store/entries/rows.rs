//! Entries to rows and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rusqlite::{Row, ToSql, Transaction, params};
use sekisho_certs::{SpiffeId, id};

use super::super::{StoreError, seconds, time};
use super::EntryFilter;
use crate::entry::{Draft, Entry, Federated, Selector};

const COLUMNS: &str = "number, id, spiffe_id, parent_id, x509_ttl, jwt_ttl, admin, downstream, \
     expires_at, store_svid, hint, no_prefetch, jwt_id, revision, created_at";

/// The set as one text: sorted, and no value can be taken for two.
pub(super) fn selector_set(selectors: &BTreeSet<Selector>) -> String {
    let one = |selector: &Selector| {
        let (kind, value) = (&selector.kind, &selector.value);
        format!("{}:{kind}{}:{value}", kind.len(), value.len())
    };
    selectors.iter().map(one).collect()
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    row.get(index).map_err(StoreError::from)
}

fn stored_id(text: &str) -> Result<SpiffeId, StoreError> {
    id::parse_workload_id(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn lifetime(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The row itself; what stands in other tables is added by [`complete`].
fn read(row: &Row<'_>) -> Result<(i64, Entry), StoreError> {
    let expires_at: i64 = column(row, 8)?;
    let entry = Entry {
        id: column(row, 1)?,
        revision: column(row, 13)?,
        created_at: time(column(row, 14)?),
        draft: Draft {
            id: None,
            spiffe_id: stored_id(&column::<String>(row, 2)?)?,
            parent_id: stored_id(&column::<String>(row, 3)?)?,
            selectors: BTreeSet::new(),
            x509_ttl: lifetime(column(row, 4)?),
            jwt_ttl: lifetime(column(row, 5)?),
            federates_with: Vec::new(),
            admin: column(row, 6)?,
            downstream: column(row, 7)?,
            expires_at: (expires_at > 0).then(|| time(expires_at)),
            dns_names: Vec::new(),
            store_svid: column(row, 9)?,
            hint: column(row, 10)?,
            no_prefetch: column(row, 11)?,
            jwt_id: column(row, 12)?,
        },
    };
    Ok((column(row, 0)?, entry))
}

/// What stands in the other tables, of all rows at once: their numbers lie between the first's and
/// the last's.
fn complete(
    transaction: &Transaction<'_>,
    entries: Vec<(i64, Entry)>,
) -> Result<Vec<(i64, Entry)>, StoreError> {
    let (Some(&(first, _)), Some(&(last, _))) = (entries.first(), entries.last()) else {
        return Ok(entries);
    };
    let range = [first, last];
    let mut all: BTreeMap<i64, Entry> = entries.into_iter().collect();
    let mut each = |text: &str, add: &dyn Fn(&mut Draft, &Row<'_>) -> Result<(), StoreError>| {
        let mut statement = transaction.prepare_cached(text)?;
        let mut rows = statement.query(range)?;
        while let Some(row) = rows.next()? {
            if let Some(entry) = all.get_mut(&column(row, 0)?) {
                add(&mut entry.draft, row)?;
            }
        }
        Ok::<_, StoreError>(())
    };
    each(
        "SELECT entry, kind, value FROM entry_selectors WHERE entry BETWEEN ?1 AND ?2",
        &|draft, row| {
            draft.selectors.insert(Selector {
                kind: column(row, 1)?,
                value: column(row, 2)?,
            });
            Ok(())
        },
    )?;
    each(
        "SELECT entry, name FROM entry_dns_names WHERE entry BETWEEN ?1 AND ?2 \
         ORDER BY entry, place",
        &|draft, row| {
            draft.dns_names.push(column(row, 1)?);
            Ok(())
        },
    )?;
    each(
        "SELECT entry, trust_domain FROM entry_federation WHERE entry BETWEEN ?1 AND ?2 \
         ORDER BY entry, place",
        &|draft, row| {
            let text: String = column(row, 1)?;
            draft.federates_with.push(if text == "*" {
                Federated::All
            } else {
                let domain = id::parse_trust_domain(&text);
                Federated::Domain(domain.map_err(|error| StoreError::Corrupt(error.to_string()))?)
            });
            Ok(())
        },
    )?;
    Ok(all.into_iter().collect())
}

fn query(
    transaction: &Transaction<'_>,
    rest: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<(i64, Entry)>, StoreError> {
    let mut statement =
        transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM entries {rest}"))?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    complete(transaction, found)
}

pub(super) fn by_id(
    transaction: &Transaction<'_>,
    id: &str,
) -> Result<Option<(i64, Entry)>, StoreError> {
    Ok(query(transaction, "WHERE id = ?1", &[&id])?.pop())
}

/// The entry that a draft would repeat.
pub(super) fn same(
    transaction: &Transaction<'_>,
    draft: &Draft,
) -> Result<Option<(i64, Entry)>, StoreError> {
    let rest = "WHERE spiffe_id = ?1 AND parent_id = ?2 AND selector_set = ?3";
    let (spiffe_id, parent_id) = (draft.spiffe_id.to_string(), draft.parent_id.to_string());
    let set = selector_set(&draft.selectors);
    Ok(query(transaction, rest, &[&spiffe_id, &parent_id, &set])?.pop())
}

/// Entries behind a number that may pass a filter: by what stands in their row.
pub(super) fn behind(
    transaction: &Transaction<'_>,
    filter: &EntryFilter,
    after: i64,
    most: usize,
) -> Result<Vec<(i64, Entry)>, StoreError> {
    let text = |id: &Option<SpiffeId>| id.as_ref().map(ToString::to_string);
    let (spiffe_id, parent_id) = (text(&filter.spiffe_id), text(&filter.parent_id));
    let rest = "WHERE number > ?1 AND (?2 IS NULL OR spiffe_id = ?2) \
         AND (?3 IS NULL OR parent_id = ?3) ORDER BY number LIMIT ?4";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    query(transaction, rest, &[&after, &spiffe_id, &parent_id, &most])
}

/// Writes a new entry, whose name and IDs nobody has.
pub(super) fn insert(transaction: &Transaction<'_>, entry: &Entry) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO entries (id, spiffe_id, parent_id, x509_ttl, jwt_ttl, admin, downstream, \
         expires_at, store_svid, hint, no_prefetch, jwt_id, revision, created_at, selector_set) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    write(&mut statement, entry)?;
    write_lists(transaction, transaction.last_insert_rowid(), &entry.draft)
}

/// Writes a changed entry in the place of what it was.
pub(super) fn replace(
    transaction: &Transaction<'_>,
    number: i64,
    entry: &Entry,
) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "UPDATE entries SET spiffe_id = ?2, parent_id = ?3, x509_ttl = ?4, jwt_ttl = ?5, \
         admin = ?6, downstream = ?7, expires_at = ?8, store_svid = ?9, hint = ?10, \
         no_prefetch = ?11, jwt_id = ?12, revision = ?13, created_at = ?14, selector_set = ?15 \
         WHERE id = ?1",
    )?;
    write(&mut statement, entry)?;
    for table in ["entry_selectors", "entry_dns_names", "entry_federation"] {
        let text = format!("DELETE FROM {table} WHERE entry = ?1");
        transaction
            .prepare_cached(&text)?
            .execute(params![number])?;
    }
    write_lists(transaction, number, &entry.draft)
}

fn write(statement: &mut rusqlite::Statement<'_>, entry: &Entry) -> Result<(), StoreError> {
    let draft = &entry.draft;
    let whole = |lifetime: Duration| i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    statement.execute(params![
        entry.id,
        draft.spiffe_id.to_string(),
        draft.parent_id.to_string(),
        whole(draft.x509_ttl),
        whole(draft.jwt_ttl),
        draft.admin,
        draft.downstream,
        draft.expires_at.map_or(0, seconds),
        draft.store_svid,
        draft.hint,
        draft.no_prefetch,
        draft.jwt_id,
        entry.revision,
        seconds(entry.created_at),
        selector_set(&draft.selectors),
    ])?;
    Ok(())
}

fn write_lists(
    transaction: &Transaction<'_>,
    number: i64,
    draft: &Draft,
) -> Result<(), StoreError> {
    let mut selector = transaction
        .prepare_cached("INSERT INTO entry_selectors (entry, kind, value) VALUES (?1, ?2, ?3)")?;
    for Selector { kind, value } in &draft.selectors {
        selector.execute(params![number, kind, value])?;
    }
    let mut name = transaction
        .prepare_cached("INSERT INTO entry_dns_names (entry, place, name) VALUES (?1, ?2, ?3)")?;
    for (place, text) in draft.dns_names.iter().enumerate() {
        name.execute(params![number, place, text])?;
    }
    let mut federated = transaction.prepare_cached(
        "INSERT INTO entry_federation (entry, place, trust_domain) VALUES (?1, ?2, ?3)",
    )?;
    for (place, domain) in draft.federates_with.iter().enumerate() {
        federated.execute(params![number, place, domain.to_string()])?;
    }
    Ok(())
}

/// An entry for the audit log.
pub(super) fn detail(entry: &Entry) -> String {
    let draft = &entry.draft;
    let text = |all: Vec<String>| serde_json::Value::from(all);
    serde_json::json!({
        "spiffe_id": draft.spiffe_id.to_string(),
        "parent_id": draft.parent_id.to_string(),
        "selectors": text(draft.selectors.iter().map(ToString::to_string).collect()),
        "x509_ttl": draft.x509_ttl.as_secs(),
        "jwt_ttl": draft.jwt_ttl.as_secs(),
        "federates_with": text(draft.federates_with.iter().map(ToString::to_string).collect()),
        "admin": draft.admin,
        "downstream": draft.downstream,
        "expires_at": draft.expires_at.map(seconds),
        "dns_names": draft.dns_names,
        "store_svid": draft.store_svid,
        "hint": draft.hint,
        "no_prefetch": draft.no_prefetch,
        "jwt_id": draft.jwt_id,
        "revision": entry.revision,
    })
    .to_string()
}
