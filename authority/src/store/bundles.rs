//! Trust bundles: our own, and those of domains that we are federated with.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension as _, Transaction, params};
use sekisho_certs::{TrustDomain, id};

use super::{
    By, Page, Store, StoreError, audit, entries, seconds,
    spki::{self, shares_no_key},
    time,
};

/// A CA certificate of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Authority {
    /// DER.
    pub der: Vec<u8>,
    /// What it has signed is to be replaced.
    pub tainted: bool,
    /// In our own bundle: it has come from the authority above, and goes when it is gone there.
    pub above: bool,
}

/// A JWT key of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtAuthority {
    /// `kid`.
    pub key_id: String,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// When it ends; `None`: never.
    pub expires_at: Option<SystemTime>,
    /// What it has signed is to be replaced.
    pub tainted: bool,
}

/// A trust bundle as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// Whose.
    pub domain: TrustDomain,
    /// In the order of insertion.
    pub x509: Vec<X509Authority>,
    /// In the order of insertion.
    pub jwt: Vec<JwtAuthority>,
    /// How often to ask again; zero: not said.
    pub refresh_hint: Duration,
    /// Rises with every change of our own.
    pub sequence: u64,
}

impl Bundle {
    /// One without any keys: nobody of that domain is trusted.
    #[must_use]
    pub const fn empty(domain: TrustDomain) -> Self {
        Self {
            domain,
            x509: Vec::new(),
            jwt: Vec::new(),
            refresh_hint: Duration::ZERO,
            sequence: 0,
        }
    }
}

/// What becomes of the entries that are federated with a domain whose bundle is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// They go too.
    Delete,
    /// They stay, without it.
    Dissociate,
    /// If there are any, nothing is deleted.
    Restrict,
}

pub(super) fn read(
    transaction: &Transaction<'_>,
    domain: &TrustDomain,
) -> Result<Option<(i64, Bundle)>, StoreError> {
    let row = transaction
        .prepare_cached(
            "SELECT number, refresh_hint, sequence FROM bundles WHERE trust_domain = ?1",
        )?
        .query_row(params![domain.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((number, hint, sequence)) = row else {
        return Ok(None);
    };
    let mut bundle = Bundle {
        refresh_hint: Duration::from_secs(hint),
        sequence,
        ..Bundle::empty(domain.clone())
    };
    let mut statement = transaction.prepare_cached(
        "SELECT der, tainted, above FROM x509_authorities WHERE bundle = ?1 ORDER BY number",
    )?;
    let mut rows = statement.query(params![number])?;
    while let Some(row) = rows.next()? {
        bundle.x509.push(X509Authority {
            der: row.get(0)?,
            tainted: row.get(1)?,
            above: row.get(2)?,
        });
    }
    let mut statement = transaction.prepare_cached(
        "SELECT key_id, public_key, expires_at, tainted FROM jwt_authorities \
         WHERE bundle = ?1 ORDER BY number",
    )?;
    let mut rows = statement.query(params![number])?;
    while let Some(row) = rows.next()? {
        let expires_at: i64 = row.get(2)?;
        bundle.jwt.push(JwtAuthority {
            key_id: row.get(0)?,
            public_key: row.get(1)?,
            expires_at: (expires_at > 0).then(|| time(expires_at)),
            tainted: row.get(3)?,
        });
    }
    Ok(Some((number, bundle)))
}

fn write(transaction: &Transaction<'_>, bundle: &Bundle) -> Result<(), StoreError> {
    let number: i64 = transaction
        .prepare_cached(
            "INSERT INTO bundles (trust_domain, refresh_hint, sequence) VALUES (?1, ?2, ?3) \
             ON CONFLICT (trust_domain) DO UPDATE SET refresh_hint = excluded.refresh_hint, \
             sequence = excluded.sequence RETURNING number",
        )?
        .query_row(
            params![
                bundle.domain.as_str(),
                bundle.refresh_hint.as_secs(),
                bundle.sequence
            ],
            |row| row.get(0),
        )?;
    for table in ["x509_authorities", "jwt_authorities"] {
        let text = format!("DELETE FROM {table} WHERE bundle = ?1");
        transaction
            .prepare_cached(&text)?
            .execute(params![number])?;
    }
    let mut x509 = transaction.prepare_cached(
        "INSERT INTO x509_authorities (bundle, der, tainted, above, spki) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )?;
    for authority in &bundle.x509 {
        x509.execute(params![
            number,
            authority.der,
            authority.tainted,
            authority.above,
            spki::of(&authority.der)
        ])?;
    }
    let mut jwt = transaction.prepare_cached(
        "INSERT INTO jwt_authorities (bundle, key_id, public_key, expires_at, tainted) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )?;
    for key in &bundle.jwt {
        jwt.execute(params![
            number,
            key.key_id,
            key.public_key,
            key.expires_at.map_or(0, seconds),
            key.tainted
        ])?;
    }
    Ok(())
}

fn tell(
    transaction: &Transaction<'_>,
    by: &By,
    action: &str,
    bundle: &Bundle,
) -> Result<(), StoreError> {
    tell_of(transaction, by, action, None, bundle)
}

fn tell_of(
    transaction: &Transaction<'_>,
    by: &By,
    action: &str,
    object: Option<&str>,
    bundle: &Bundle,
) -> Result<(), StoreError> {
    let detail = serde_json::json!({
        "x509_authorities": bundle.x509.len(),
        "jwt_authorities": bundle.jwt.len(),
        "sequence": bundle.sequence,
    });
    audit::append(
        transaction,
        by,
        action,
        object.unwrap_or(bundle.domain.as_str()),
        detail.to_string(),
    )
}

/// Stores the bundle of another domain. False, and nothing is written, if it is stored already.
pub(super) fn put(
    transaction: &Transaction<'_>,
    by: &By,
    bundle: &Bundle,
) -> Result<bool, StoreError> {
    let before = read(transaction, &bundle.domain)?.map(|(_, bundle)| bundle);
    if before.as_ref() == Some(bundle) {
        return Ok(false);
    }
    shares_no_key(transaction, bundle)?;
    write(transaction, bundle)?;
    let (new, action) = match before {
        None => (true, "bundle.create"),
        Some(_) => (false, "bundle.set"),
    };
    tell(transaction, by, action, bundle)?;
    if new {
        // Entries with `*` are federated with one more.
        entries::federation_changed(transaction, by, &bundle.domain)?;
    }
    Ok(true)
}

/// Changes our own bundle, whose sequence rises if it does.
pub(super) fn edit_own(
    transaction: &Transaction<'_>,
    domain: &TrustDomain,
    edit: impl FnOnce(&mut Bundle),
) -> Result<Bundle, StoreError> {
    let before = read(transaction, domain)?.map(|(_, bundle)| bundle);
    let mut after = before
        .clone()
        .unwrap_or_else(|| Bundle::empty(domain.clone()));
    edit(&mut after);
    if before.as_ref() != Some(&after) {
        after.sequence += 1;
        write(transaction, &after)?;
    }
    Ok(after)
}

impl Store {
    /// The bundle of a trust domain.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn bundle(&self, domain: TrustDomain) -> Result<Option<Bundle>, StoreError> {
        self.look(move |transaction| Ok(read(transaction, &domain)?.map(|(_, bundle)| bundle)))
            .await
    }

    /// All bundles behind number `after`, at most `most`, in the order of insertion.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn bundles(&self, after: i64, most: usize) -> Result<Page<Bundle>, StoreError> {
        self.look(move |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT trust_domain FROM bundles WHERE number > ?1 ORDER BY number LIMIT ?2",
            )?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let names = statement.query_map(params![after, most], |row| row.get(0))?;
            let mut page = Page {
                items: Vec::new(),
                next: after,
            };
            for name in names.collect::<Result<Vec<String>, _>>()? {
                let domain = id::parse_trust_domain(&name)
                    .map_err(|error| StoreError::Corrupt(error.to_string()))?;
                if let Some((number, bundle)) = read(transaction, &domain)? {
                    page.next = number;
                    page.items.push(bundle);
                }
            }
            Ok(page)
        })
        .await
    }

    /// The trust domains of which there is a bundle, in the order of insertion.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn bundle_domains(&self) -> Result<Vec<TrustDomain>, StoreError> {
        self.look(|transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT trust_domain FROM bundles ORDER BY number")?;
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

    /// Lets `edit` change a bundle, or make one where it is given `None`. What it leaves as `None`
    /// stays away. Its `Err` is given back, and nothing is changed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn edit_bundle<E: Send + 'static>(
        &self,
        by: By,
        domain: TrustDomain,
        edit: impl FnOnce(Option<Bundle>) -> Result<Bundle, E> + Send + 'static,
    ) -> Result<Result<Bundle, E>, StoreError> {
        self.change_entries(move |transaction| {
            let before = read(transaction, &domain)?.map(|(_, bundle)| bundle);
            let after = match edit(before) {
                Ok(after) => after,
                Err(refused) => return Ok(Err(refused)),
            };
            put(transaction, &by, &after)?;
            Ok(Ok(after))
        })
        .await
    }

    /// Lets `edit` change our own bundle, whose sequence rises if it does. `action` is for the audit
    /// log, as is what it was done to, where that is not the whole bundle.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn edit_own_bundle(
        &self,
        by: By,
        domain: TrustDomain,
        (action, object): (&'static str, Option<String>),
        edit: impl FnOnce(&mut Bundle) + Send + 'static,
    ) -> Result<Bundle, StoreError> {
        self.change(move |transaction| {
            let bundle = edit_own(transaction, &domain, edit)?;
            tell_of(transaction, &by, action, object.as_deref(), &bundle)?;
            Ok(bundle)
        })
        .await
    }

    /// Removes a bundle. `Ok(None)` if there is none; the names of the entries that stand against
    /// it, where it must not be for their sake.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete_bundle(
        &self,
        by: By,
        domain: TrustDomain,
        deletion: Deletion,
    ) -> Result<Option<Result<(), Vec<String>>>, StoreError> {
        self.change_entries(move |transaction| delete(transaction, &by, &domain, deletion))
            .await
    }
}

/// The same as a part of another change.
pub(super) fn delete(
    transaction: &Transaction<'_>,
    by: &By,
    domain: &TrustDomain,
    deletion: Deletion,
) -> Result<Option<Result<(), Vec<String>>>, StoreError> {
    let Some((number, bundle)) = read(transaction, domain)? else {
        return Ok(None);
    };
    let linked = entries::federated_with(transaction, domain)?;
    if !linked.is_empty() && deletion == Deletion::Restrict {
        return Ok(Some(Err(linked)));
    }
    entries::federation_changed(transaction, by, domain)?;
    if deletion == Deletion::Delete {
        for id in linked {
            transaction.execute("DELETE FROM entries WHERE id = ?1", params![id])?;
            audit::append(transaction, by, "entry.delete", &id, "{}".into())?;
        }
    }
    let unlink = "DELETE FROM entry_federation WHERE trust_domain = ?1";
    transaction.execute(unlink, params![domain.as_str()])?;
    transaction.execute("DELETE FROM bundles WHERE number = ?1", params![number])?;
    tell(transaction, by, "bundle.delete", &bundle)?;
    Ok(Some(Ok(())))
}
