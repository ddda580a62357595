//! The trust domains whose bundles are fetched, from where, and by which profile.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use sekisho_certs::{SpiffeId, TrustDomain, id};
use sekisho_federation::client::EndpointUrl;

use super::{Bundle, By, Page, Store, StoreError, audit, bundles};

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

/// Who has named a relationship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An administrator, by the API.
    Api,
    /// The configuration file: by the API it can be neither changed nor ended, and it hides one of the
    /// same domain that an administrator has made.
    File,
}

/// A trust domain whose bundle is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relationship {
    /// Who has named it.
    pub origin: Origin,
    /// Whose.
    pub domain: TrustDomain,
    /// From where.
    pub url: EndpointUrl,
    /// By which profile.
    pub profile: EndpointProfile,
}

/// Those that [`read`] reads.
pub(super) const COLUMNS: &str = "number, trust_domain, url, profile, endpoint_id, file";
/// What makes a row one that counts: it is not hidden by one of the file.
pub(super) const COUNTS: &str = "(file = 1 OR NOT EXISTS (SELECT 1 FROM relationships AS above \
     WHERE above.trust_domain = relationships.trust_domain AND above.file = 1))";

fn corrupt(error: impl ToString) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

pub(super) fn read(row: &Row<'_>) -> Result<(i64, Relationship), StoreError> {
    let text = |column| row.get::<_, String>(column);
    let profile = match text(3)?.as_str() {
        "https_web" => EndpointProfile::Web,
        _ => EndpointProfile::Spiffe(id::parse_workload_id(&text(4)?).map_err(corrupt)?),
    };
    let relationship = Relationship {
        origin: match row.get(5)? {
            true => Origin::File,
            false => Origin::Api,
        },
        domain: id::parse_trust_domain(&text(1)?).map_err(corrupt)?,
        url: text(2)?.parse().map_err(corrupt)?,
        profile,
    };
    Ok((row.get(0)?, relationship))
}

/// The one that counts.
pub(super) fn by_domain(
    transaction: &Transaction<'_>,
    domain: &TrustDomain,
) -> Result<Option<Relationship>, StoreError> {
    let text = format!(
        "SELECT {COLUMNS} FROM relationships WHERE trust_domain = ?1 ORDER BY file DESC LIMIT 1"
    );
    let mut statement = transaction.prepare_cached(&text)?;
    let mut rows = statement.query(params![domain.as_str()])?;
    rows.next()?.map(|row| Ok(read(row)?.1)).transpose()
}

/// The one that an administrator has made, hidden or not.
fn of_the_api(
    transaction: &Transaction<'_>,
    domain: &TrustDomain,
) -> Result<Option<Relationship>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM relationships WHERE trust_domain = ?1 AND file = 0");
    let mut statement = transaction.prepare_cached(&text)?;
    let mut rows = statement.query(params![domain.as_str()])?;
    rows.next()?.map(|row| Ok(read(row)?.1)).transpose()
}

pub(super) fn write(
    transaction: &Transaction<'_>,
    relationship: &Relationship,
) -> Result<(), StoreError> {
    let endpoint_id = match &relationship.profile {
        EndpointProfile::Spiffe(id) => id.to_string(),
        EndpointProfile::Web => String::new(),
    };
    transaction
        .prepare_cached(
            "INSERT INTO relationships (trust_domain, url, profile, endpoint_id, file) \
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (trust_domain, file) DO UPDATE SET \
             url = excluded.url, profile = excluded.profile, endpoint_id = excluded.endpoint_id",
        )?
        .execute(params![
            relationship.domain.as_str(),
            relationship.url.to_string(),
            relationship.profile.as_str(),
            endpoint_id,
            relationship.origin == Origin::File
        ])?;
    Ok(())
}

pub(super) fn tell(
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
                "SELECT {COLUMNS} FROM relationships WHERE number > ?1 AND {COUNTS} \
                 ORDER BY number LIMIT ?2"
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

    /// Lets `edit` change one, and stores a bundle where one is given. `None` if there is none that an
    /// administrator has made.
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
            let Some(mut relationship) = of_the_api(transaction, &domain)? else {
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

    /// Ends one; the bundle stays. False if there is none that an administrator has made.
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
                    "DELETE FROM relationships WHERE trust_domain = ?1 AND file = 0 \
                     RETURNING number",
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
}
