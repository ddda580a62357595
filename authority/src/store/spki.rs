//! The keys of CAs by their names: so it is seen that two trust domains bring the same.

use aws_lc_rs::digest;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Bundle, StoreError};

/// SHA-256 of the public key of a CA; empty for what cannot be read, which nobody is verified by.
pub(super) fn of(der: &[u8]) -> Vec<u8> {
    let parsed = X509Certificate::from_der(der);
    parsed.map_or_else(
        |_| Vec::new(),
        |(_, ca)| {
            digest::digest(&digest::SHA256, ca.public_key().raw)
                .as_ref()
                .to_vec()
        },
    )
}

/// Fills in the names of keys that were stored by a version that had none.
pub(super) fn name_keys(connection: &Connection) -> Result<(), rusqlite::Error> {
    let mut unnamed =
        connection.prepare("SELECT number, der FROM x509_authorities WHERE spki = x''")?;
    let rows = unnamed.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (number, der) in rows.collect::<Result<Vec<(i64, Vec<u8>)>, _>>()? {
        let text = "UPDATE x509_authorities SET spki = ?2 WHERE number = ?1";
        connection.execute(text, params![number, of(&der)])?;
    }
    Ok(())
}

/// Refuses a bundle with a CA that another domain has: either could speak for the other
/// (SPIFFE_Federation.md §7.3).
pub(super) fn shares_no_key(
    transaction: &Transaction<'_>,
    bundle: &Bundle,
) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "SELECT bundles.trust_domain FROM x509_authorities \
         JOIN bundles ON bundles.number = x509_authorities.bundle \
         WHERE x509_authorities.spki = ?1 AND bundles.trust_domain <> ?2 LIMIT 1",
    )?;
    for authority in &bundle.x509 {
        let spki = of(&authority.der);
        if spki.is_empty() {
            continue;
        }
        let other = statement
            .query_row(params![spki, bundle.domain.as_str()], |row| row.get(0))
            .optional()?;
        if let Some(first) = other {
            return Err(StoreError::SharedKey {
                first,
                second: bundle.domain.to_string(),
            });
        }
    }
    Ok(())
}
