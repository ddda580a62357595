//! The trust domains whose bundles are fetched, from where, and by which profile.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use sekisho_certs::{SpiffeId, TrustDomain, id};
use sekisho_federation::client::EndpointUrl;

use super::{Bundle, By, Page, Store, StoreError, audit, bundles, changes::Changed};

/// How a bundle endpoint proves who it is (SPIFFE_Federation.md §5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointProfile {
    /// `https_spiffe`: it has this ID.
    Spiffe(SpiffeId),
    /// `https_web`: it has its name in the web's PKI.
    Web,
}

impl EndpointProfile {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Spiffe(_) => "https_spiffe",
            Self::Web => "https_web",
        }
    }
}

/// A trust domain whose bundle is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relationship {
    /// Whose.
    pub domain: TrustDomain,
    /// From where.
    pub url: EndpointUrl,
    /// By which profile.
    pub profile: EndpointProfile,
}

/// What came of a fetched bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// It is the one that was there.
    AsBefore,
    /// It was stored.
    Stored,
    /// The relationship has changed or ended since: nothing was stored.
    Unrelated,
}

const COLUMNS: &str = "number, trust_domain, url, profile, endpoint_id";

fn corrupt(error: impl ToString) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

fn read(row: &Row<'_>) -> Result<(i64, Relationship), StoreError> {
    let text = |column| row.get::<_, String>(column);
    let profile = match text(3)?.as_str() {
        "https_web" => EndpointProfile::Web,
        _ => EndpointProfile::Spiffe(id::parse_workload_id(&text(4)?).map_err(corrupt)?),
    };
    let relationship = Relationship {
        domain: id::parse_trust_domain(&text(1)?).map_err(corrupt)?,
        url: text(2)?.parse().map_err(corrupt)?,
        profile,
    };
    Ok((row.get(0)?, relationship))
}

fn by_domain(
    transaction: &Transaction<'_>,
    domain: &TrustDomain,
) -> Result<Option<Relationship>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM relationships WHERE trust_domain = ?1");
    let mut statement = transaction.prepare_cached(&text)?;
    let mut rows = statement.query(params![domain.as_str()])?;
    rows.next()?.map(|row| Ok(read(row)?.1)).transpose()
}

fn write(transaction: &Transaction<'_>, relationship: &Relationship) -> Result<(), StoreError> {
    let endpoint_id = match &relationship.profile {
        EndpointProfile::Spiffe(id) => id.to_string(),
        EndpointProfile::Web => String::new(),
    };
    transaction
        .prepare_cached(
            "INSERT INTO relationships (trust_domain, url, profile, endpoint_id) \
             VALUES (?1, ?2, ?3, ?4) ON CONFLICT (trust_domain) DO UPDATE SET \
             url = excluded.url, profile = excluded.profile, endpoint_id = excluded.endpoint_id",
        )?
        .execute(params![
            relationship.domain.as_str(),
            relationship.url.to_string(),
            relationship.profile.as_str(),
            endpoint_id
        ])?;
    Ok(())
}

fn tell(
    transaction: &Transaction<'_>,
    by: &By,
    action: &str,
    relationship: &Relationship,
) -> Result<(), StoreError> {
    let id = match &relationship.profile {
        EndpointProfile::Spiffe(id) => Some(id.to_string()),
        EndpointProfile::Web => None,
    };
    let detail = serde_json::json!({
        "url": relationship.url.to_string(),
        "profile": relationship.profile.as_str(),
        "endpoint_spiffe_id": id,
    });
    let object = relationship.domain.as_str();
    audit::append(transaction, by, action, object, detail.to_string())
}

impl Store {
    /// The relationship with a trust domain.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn relationship(
        &self,
        domain: TrustDomain,
    ) -> Result<Option<Relationship>, StoreError> {
        self.look(move |transaction| by_domain(transaction, &domain))
            .await
    }

    /// Relationships behind number `after`, at most `most`, in the order of insertion.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn relationships(
        &self,
        after: i64,
        most: usize,
    ) -> Result<Page<Relationship>, StoreError> {
        self.look(move |transaction| {
            let text = format!(
                "SELECT {COLUMNS} FROM relationships WHERE number > ?1 ORDER BY number LIMIT ?2"
            );
            let mut statement = transaction.prepare_cached(&text)?;
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![after, most])?;
            let mut page = Page {
                items: Vec::new(),
                next: after,
            };
            while let Some(row) = rows.next()? {
                let (number, relationship) = read(row)?;
                page.next = number;
                page.items.push(relationship);
            }
            Ok(page)
        })
        .await
    }

    /// Begins one, with a bundle where one was given: it takes the place of the one stored. False,
    /// and nothing is changed, if there is one with this domain.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn create_relationship(
        &self,
        by: By,
        new: Relationship,
        bundle: Option<Bundle>,
    ) -> Result<bool, StoreError> {
        self.change_entries(move |transaction| {
            if by_domain(transaction, &new.domain)?.is_some() {
                return Ok(false);
            }
            write(transaction, &new)?;
            tell(transaction, &by, "federation.create", &new)?;
            if let Some(bundle) = bundle {
                bundles::put(transaction, &by, &bundle)?;
            }
            Ok(true)
        })
        .await
    }

    /// Lets `edit` change one, and stores a bundle where one is given. `None` if there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn update_relationship(
        &self,
        by: By,
        domain: TrustDomain,
        bundle: Option<Bundle>,
        edit: impl FnOnce(&mut Relationship) + Send + 'static,
    ) -> Result<Option<Relationship>, StoreError> {
        self.change_entries(move |transaction| {
            let Some(mut relationship) = by_domain(transaction, &domain)? else {
                return Ok(None);
            };
            edit(&mut relationship);
            write(transaction, &relationship)?;
            tell(transaction, &by, "federation.update", &relationship)?;
            if let Some(bundle) = bundle {
                bundles::put(transaction, &by, &bundle)?;
            }
            Ok(Some(relationship))
        })
        .await
    }

    /// Ends one; the bundle stays. False if there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete_relationship(
        &self,
        by: By,
        domain: TrustDomain,
    ) -> Result<bool, StoreError> {
        self.change(move |transaction| {
            let gone: Option<i64> = transaction
                .prepare_cached(
                    "DELETE FROM relationships WHERE trust_domain = ?1 RETURNING number",
                )?
                .query_row(params![domain.as_str()], |row| row.get(0))
                .optional()?;
            if gone.is_some() {
                let object = domain.as_str();
                audit::append(transaction, &by, "federation.delete", object, "{}".into())?;
            }
            Ok(gone.is_some())
        })
        .await
    }

    /// Stores what was fetched by a relationship, if that is still what it was.
    ///
    /// # Errors
    /// Those of the store.
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
            move |transaction| {
                if by_domain(transaction, &bundle.domain)? != Some(fetched_by) {
                    return Ok(Refreshed::Unrelated);
                }
                Ok(if bundles::put(transaction, &by, &bundle)? {
                    Refreshed::Stored
                } else {
                    Refreshed::AsBefore
                })
            },
        )
        .await
    }
}
