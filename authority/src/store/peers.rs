//! What becomes of relationships: what their endpoints say, what the configuration file says, and their
//! end.

use std::time::SystemTime;

use rusqlite::{Transaction, params};
use sekisho_certs::{TrustDomain, id};

use super::{
    Bundle, By, Deletion, Origin, Relationship, Store, StoreError, audit, bundles,
    changes::Changed,
    relationships::{self, COLUMNS, COUNTS},
    seconds, time,
};

/// A relationship, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is.
    pub relationship: Relationship,
    /// When its endpoint last said that what is stored is what counts; `None`: never. In whole seconds.
    pub confirmed: Option<SystemTime>,
    /// Whether its sequence may go down, once.
    pub rollback: bool,
}

/// Why a bundle that was fetched is not stored: the one that is stored is newer, or they contradict each
/// other (SPIFFE Trust Domain and Bundle §4.1.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rollback {
    /// Its sequence is lower.
    #[error(
        "its sequence {fetched} is below {stored}, which is stored: it is an old bundle, or the site was restored; `sekisho federation accept-rollback {domain}` takes it in, once"
    )]
    Lower {
        /// Whose.
        domain: TrustDomain,
        /// What is stored.
        stored: u64,
        /// What was fetched.
        fetched: u64,
    },
    /// It has no sequence, and the one before had.
    #[error(
        "it has no sequence, and {stored} is stored: `sekisho federation accept-rollback {domain}` takes it in, once"
    )]
    Missing {
        /// Whose.
        domain: TrustDomain,
        /// What is stored.
        stored: u64,
    },
    /// Other keys by the same sequence.
    #[error(
        "it has other keys than what is stored, by the same sequence {stored}: `sekisho federation accept-rollback {domain}` takes it in, once"
    )]
    SameSequence {
        /// Whose.
        domain: TrustDomain,
        /// What is stored, and was fetched.
        stored: u64,
    },
}

/// What came of a fetched bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It is the one that was there.
    AsBefore,
    /// It was stored.
    Stored,
    /// It is older than what is stored: nothing was stored.
    Refused(Rollback),
    /// The relationship has changed or ended since: nothing was stored.
    Unrelated,
}

/// What came of the wish to end a relationship, or to change what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Done.
    Done,
    /// There is none.
    Missing,
    /// The configuration file names it.
    OfFile,
}

/// A relationship that the configuration file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What it is; its origin is [`Origin::File`] whatever is said here.
    pub relationship: Relationship,
    /// By what its endpoint is known the first time: stored where none is. One with a CA of another domain
    /// is left out, which is logged.
    pub bundle: Option<Bundle>,
}

/// Whether `new` may take the place of `old`.
fn is_older(old: &Bundle, new: &Bundle) -> Option<Rollback> {
    let (stored, domain) = (old.sequence, new.domain.clone());
    if stored == 0 {
        return None;
    }
    match new.sequence {
        0 => Some(Rollback::Missing { domain, stored }),
        fetched if fetched < stored => Some(Rollback::Lower {
            domain,
            stored,
            fetched,
        }),
        fetched if fetched == stored && !same_keys(old, new) => {
            Some(Rollback::SameSequence { domain, stored })
        }
        _ => None,
    }
}

/// The same keys, in any order; SPIRE tells other hints by the same sequence.
fn same_keys(old: &Bundle, new: &Bundle) -> bool {
    let x509 = |bundle: &Bundle| {
        let mut all: Vec<_> = bundle.x509.iter().map(|ca| ca.der.clone()).collect();
        all.sort_unstable();
        all
    };
    let jwt = |bundle: &Bundle| {
        let keys = bundle.jwt.iter();
        let mut all: Vec<_> = keys
            .map(|key| (key.key_id.clone(), key.public_key.clone()))
            .collect();
        all.sort_unstable();
        all
    };
    x509(old) == x509(new) && jwt(old) == jwt(new)
}

fn confirm(
    transaction: &Transaction<'_>,
    by: &By,
    relationship: &Relationship,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE relationships SET confirmed = ?3 WHERE trust_domain = ?1 AND file = ?2",
        )?
        .execute(params![
            relationship.domain.as_str(),
            relationship.origin == Origin::File,
            seconds(by.at)
        ])?;
    Ok(())
}

fn may_go_down(
    transaction: &Transaction<'_>,
    relationship: &Relationship,
) -> Result<bool, StoreError> {
    Ok(transaction
        .prepare_cached("SELECT rollback FROM relationships WHERE trust_domain = ?1 AND file = ?2")?
        .query_row(
            params![
                relationship.domain.as_str(),
                relationship.origin == Origin::File
            ],
            |row| row.get(0),
        )?)
}

fn set_rollback(
    transaction: &Transaction<'_>,
    relationship: &Relationship,
    may: bool,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE relationships SET rollback = ?3 WHERE trust_domain = ?1 AND file = ?2",
        )?
        .execute(params![
            relationship.domain.as_str(),
            relationship.origin == Origin::File,
            may
        ])?;
    Ok(())
}

fn refresh(
    transaction: &Transaction<'_>,
    by: &By,
    fetched_by: &Relationship,
    mut bundle: Bundle,
) -> Result<Refreshed, StoreError> {
    let counts = relationships::by_domain(transaction, &bundle.domain)?;
    if counts.as_ref() != Some(fetched_by) {
        return Ok(Refreshed::Unrelated);
    }
    let stored = bundles::read(transaction, &bundle.domain)?.map(|(_, stored)| stored);
    let mut down = false;
    if let Some(stored) = &stored {
        if bundle.x509.is_empty() && bundle.jwt.is_empty() {
            // All keys withdrawn is never refused. What comes after is still held to what was.
            bundle.sequence = bundle.sequence.max(stored.sequence);
        } else if let Some(older) = is_older(stored, &bundle) {
            down = may_go_down(transaction, fetched_by)?;
            if !down {
                return Ok(Refreshed::Refused(older));
            }
        }
    }
    confirm(transaction, by, fetched_by)?;
    if !bundles::put(transaction, by, &bundle)? {
        return Ok(Refreshed::AsBefore);
    }
    if down {
        let before = stored.map(|stored| stored.sequence);
        let detail = serde_json::json!({ "from": before, "to": bundle.sequence });
        let (action, object) = ("federation.rollback", bundle.domain.as_str());
        audit::append(transaction, by, action, object, detail.to_string())?;
    }
    // What was let in once is not let in again later.
    set_rollback(transaction, fetched_by, false)?;
    Ok(Refreshed::Stored)
}

impl Store {
    /// All relationships that count, in the order of insertion.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn peers(&self) -> Result<Vec<Peer>, StoreError> {
        self.look(|transaction| {
            let text = format!(
                "SELECT {COLUMNS}, confirmed, rollback FROM relationships WHERE {COUNTS} \
                 ORDER BY number"
            );
            let mut statement = transaction.prepare_cached(&text)?;
            let mut rows = statement.query([])?;
            let mut peers = Vec::new();
            while let Some(row) = rows.next()? {
                let confirmed: i64 = row.get(6)?;
                peers.push(Peer {
                    relationship: relationships::read(row)?.1,
                    confirmed: (confirmed > 0).then(|| time(confirmed)),
                    rollback: row.get(7)?,
                });
            }
            Ok(peers)
        })
        .await
    }

    /// Stores what was fetched by a relationship, if that is still what it was, and what was fetched is
    /// not older than what is stored.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::SharedKey`] where another domain has one of its CAs.
    pub async fn refresh_bundle(
        &self,
        by: By,
        fetched_by: Relationship,
        bundle: Bundle,
    ) -> Result<Refreshed, StoreError> {
        self.change_entries_as(
            |refreshed| match refreshed {
                Refreshed::Stored => Changed::Anything,
                _ => Changed::Nothing,
            },
            move |transaction| refresh(transaction, &by, &fetched_by, bundle),
        )
        .await
    }

    /// An endpoint says that what is stored is what counts. False if the relationship has changed or
    /// ended since.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn confirm_bundle(&self, by: By, asked_by: Relationship) -> Result<bool, StoreError> {
        self.change(move |transaction| {
            let counts = relationships::by_domain(transaction, &asked_by.domain)?;
            if counts.as_ref() != Some(&asked_by) {
                return Ok(false);
            }
            confirm(transaction, &by, &asked_by)?;
            Ok(true)
        })
        .await
    }

    /// Ends a relationship that an administrator has made, and forgets the bundle: nobody of that domain
    /// is trusted any more. Entries stay, without it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove_peer(&self, by: By, domain: TrustDomain) -> Result<Removal, StoreError> {
        self.change_entries(move |transaction| {
            match relationships::by_domain(transaction, &domain)? {
                None => return Ok(Removal::Missing),
                Some(known) if known.origin == Origin::File => return Ok(Removal::OfFile),
                Some(_) => {}
            }
            forget(transaction, &by, &domain, Origin::Api)?;
            bundles::delete(transaction, &by, &domain, Deletion::Dissociate)?;
            Ok(Removal::Done)
        })
        .await
    }

    /// Lets the sequence of a domain's bundle go down, once. False if there is no such relationship.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn accept_rollback(&self, by: By, domain: TrustDomain) -> Result<bool, StoreError> {
        self.change(move |transaction| {
            let Some(known) = relationships::by_domain(transaction, &domain)? else {
                return Ok(false);
            };
            set_rollback(transaction, &known, true)?;
            let (action, object) = ("federation.accept_rollback", domain.as_str());
            audit::append(transaction, &by, action, object, "{}".into())?;
            Ok(true)
        })
        .await
    }

    /// Takes over what the configuration file says: what it names begins or changes, what it does not
    /// name any more ends, with its bundle where no other relationship of that domain is left.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn declare_peers(&self, by: By, named: Vec<Declared>) -> Result<(), StoreError> {
        self.change_entries(move |transaction| {
            for gone in of_file(transaction)? {
                let named = named.iter().map(|one| &one.relationship);
                if named.clone().all(|one| one.domain != gone) {
                    forget(transaction, &by, &gone, Origin::File)?;
                    if relationships::by_domain(transaction, &gone)?.is_none() {
                        bundles::delete(transaction, &by, &gone, Deletion::Dissociate)?;
                    }
                }
            }
            for one in named {
                declare(transaction, &by, one)?;
            }
            Ok(())
        })
        .await
    }
}

fn of_file(transaction: &Transaction<'_>) -> Result<Vec<TrustDomain>, StoreError> {
    let mut statement =
        transaction.prepare_cached("SELECT trust_domain FROM relationships WHERE file = 1")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    names
        .map(|name| {
            id::parse_trust_domain(&name?).map_err(|error| StoreError::Corrupt(error.to_string()))
        })
        .collect()
}

fn declare(transaction: &Transaction<'_>, by: &By, declared: Declared) -> Result<(), StoreError> {
    let relationship = Relationship {
        origin: Origin::File,
        ..declared.relationship
    };
    let before = relationships::by_domain(transaction, &relationship.domain)?;
    if before.as_ref() != Some(&relationship) {
        relationships::write(transaction, &relationship)?;
        relationships::tell(transaction, by, "federation.declare", &relationship)?;
    }
    // It is for the first time only: what was fetched since is newer.
    if let Some(bundle) = declared.bundle
        && bundles::read(transaction, &bundle.domain)?.is_none()
    {
        match bundles::put(transaction, by, &bundle) {
            // The authority goes on without that domain, as it would if it were fetched.
            Err(error @ StoreError::SharedKey { .. }) => {
                tracing::error!(%error, "the bundle of the configuration file is not taken");
            }
            put => drop(put?),
        }
    }
    Ok(())
}

fn forget(
    transaction: &Transaction<'_>,
    by: &By,
    domain: &TrustDomain,
    origin: Origin,
) -> Result<(), StoreError> {
    let file = origin == Origin::File;
    let text = "DELETE FROM relationships WHERE trust_domain = ?1 AND file = ?2";
    transaction.execute(text, params![domain.as_str(), file])?;
    let action = match origin {
        Origin::Api => "federation.delete",
        Origin::File => "federation.undeclare",
    };
    audit::append(transaction, by, action, domain.as_str(), "{}".into())
}
