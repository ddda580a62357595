//! Our own authorities: which there are, and in which slot.

use std::time::SystemTime;

use rusqlite::{Transaction, params};
use sekisho_certs::TrustDomain;

use super::{Bundle, By, Store, StoreError, audit, bundles, seconds, time};

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JWT-SVIDs.
    Jwt,
    /// X.509-SVIDs.
    X509,
}

impl Kind {
    /// Its name in the store, the audit log and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::X509 => "x509",
        }
    }
}

/// Where an authority is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It signs.
    Active,
    /// It has signed.
    Old,
    /// It will sign, and is in the bundle already.
    Prepared,
}

impl Slot {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Old => "old",
            Self::Prepared => "prepared",
        }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        match text {
            "active" => Ok(Self::Active),
            "old" => Ok(Self::Old),
            "prepared" => Ok(Self::Prepared),
            other => Err(StoreError::Corrupt(format!(
                "an authority in slot {other:?}"
            ))),
        }
    }
}

/// An authority as it is remembered; its key is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityRecord {
    /// Its name.
    pub id: String,
    /// Where it is.
    pub slot: Slot,
    /// What it has signed is to be replaced.
    pub tainted: bool,
    /// X.509: its chain in DER, itself first. JWT: its public key in DER, alone.
    pub public: Vec<Vec<u8>>,
    /// The key identifier of the root above, or nothing.
    pub upstream_id: String,
    /// When it begins.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
}

/// One behind the other, each with its length in front.
fn joined(all: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for one in all {
        bytes.extend_from_slice(&(one.len() as u64).to_be_bytes());
        bytes.extend_from_slice(one);
    }
    bytes
}

fn parted(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    let corrupt = || StoreError::Corrupt("an authority's certificates".into());
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| corrupt())?;
        let (one, rest) = rest.split_at_checked(length).ok_or_else(corrupt)?;
        all.push(one.to_vec());
        bytes = rest;
    }
    Ok(all)
}

fn read(transaction: &Transaction<'_>, kind: Kind) -> Result<Vec<AuthorityRecord>, StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, slot, tainted, public, upstream_id, not_before, not_after FROM authorities \
         WHERE kind = ?1 ORDER BY number",
    )?;
    let mut rows = statement.query(params![kind.as_str()])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(AuthorityRecord {
            id: row.get(0)?,
            slot: Slot::read(&row.get::<_, String>(1)?)?,
            tainted: row.get(2)?,
            public: parted(&row.get::<_, Vec<u8>>(3)?)?,
            upstream_id: row.get(4)?,
            not_before: time(row.get(5)?),
            not_after: time(row.get(6)?),
        });
    }
    Ok(all)
}

impl Store {
    /// Our authorities of a kind, in the order in which they came.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn authorities(&self, kind: Kind) -> Result<Vec<AuthorityRecord>, StoreError> {
        self.look(move |transaction| read(transaction, kind)).await
    }

    /// Puts authorities in place of those of their kind, and lets `edit` change our own bundle, whose
    /// sequence rises if it does. `action` and `id` are for the audit log.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn set_authorities(
        &self,
        by: By,
        domain: TrustDomain,
        kind: Kind,
        all: Vec<AuthorityRecord>,
        (action, id): (&'static str, String),
        edit: impl FnOnce(&mut Bundle) + Send + 'static,
    ) -> Result<Bundle, StoreError> {
        self.change(move |transaction| {
            let gone = "DELETE FROM authorities WHERE kind = ?1";
            transaction.execute(gone, params![kind.as_str()])?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO authorities (kind, id, slot, tainted, public, upstream_id, \
                 not_before, not_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for one in &all {
                insert.execute(params![
                    kind.as_str(),
                    one.id,
                    one.slot.as_str(),
                    one.tainted,
                    joined(&one.public),
                    one.upstream_id,
                    seconds(one.not_before),
                    seconds(one.not_after),
                ])?;
            }
            let bundle = bundles::edit_own(transaction, &domain, edit)?;
            let detail = serde_json::json!({
                "kind": kind.as_str(),
                "sequence": bundle.sequence,
            });
            audit::append(transaction, &by, action, &id, detail.to_string())?;
            Ok(bundle)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_parted_as_they_were_joined() {
        for all in [vec![], vec![vec![1, 2]], vec![vec![], vec![3; 300]]] {
            assert_eq!(parted(&joined(&all)).unwrap(), all);
        }
        let whole = joined(&[vec![1, 2, 3]]);
        for length in 1..whole.len() {
            parted(&whole[..length]).unwrap_err();
        }
        parted(&[0xff; 8]).unwrap_err();
    }
}
