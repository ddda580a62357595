//! The audit log: a line for every change, each with a hash over itself and the line before, so that
//! none can be altered or left out without it being seen.

use std::time::SystemTime;

use aws_lc_rs::digest;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{By, Store, StoreError, seconds, time};

type Hash = [u8; 32];
/// What the first line has in place of the hash of one before.
const BEGINNING: Hash = [0; 32];

/// An authority of ours was revoked.
pub(crate) const REVOKE: &str = "authority.revoke";
/// A root above was.
pub(crate) const REVOKE_ROOT: &str = "authority.revoke_upstream";

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1 on, without gaps.
    pub number: i64,
    /// When.
    pub at: SystemTime,
    /// Who.
    pub caller: String,
    /// What was done, such as `entry.create`.
    pub action: String,
    /// To what.
    pub object: String,
    /// With what, in JSON.
    pub detail: String,
    /// Over this line and all before.
    pub hash: Hash,
}

/// What is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// A line is not what was written, or one before it is not.
    #[error("line {0} of the audit log does not fit what stands before it: it was altered")]
    Altered(i64),
    /// A line is gone.
    #[error("line {0} of the audit log is missing")]
    Missing(i64),
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Each field with its length in front, so that no two lines have the same bytes.
fn hash(before: &Hash, line: &Line) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before);
    context.update(&line.number.to_be_bytes());
    context.update(&seconds(line.at).to_be_bytes());
    for text in [&line.caller, &line.action, &line.object, &line.detail] {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    let mut hash = BEGINNING;
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Line> {
    Ok(Line {
        number: row.get(0)?,
        at: time(row.get(1)?),
        caller: row.get(2)?,
        action: row.get(3)?,
        object: row.get(4)?,
        detail: row.get(5)?,
        hash: row.get(6)?,
    })
}

const COLUMNS: &str = "number, at, caller, action, object, detail, hash";

/// Adds a line in the transaction of the change that it tells of.
pub(super) fn append(
    transaction: &Transaction<'_>,
    by: &By,
    action: &str,
    object: &str,
    detail: String,
) -> Result<(), StoreError> {
    let last = transaction
        .prepare_cached("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")?
        .query_row([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Hash>(1)?))
        })
        .optional()?;
    let (number, before) = last.unwrap_or((0, BEGINNING));
    let mut line = Line {
        number: number + 1,
        at: by.at,
        caller: by.caller.clone(),
        action: action.into(),
        object: object.into(),
        detail,
        hash: BEGINNING,
    };
    line.hash = hash(&before, &line);
    transaction
        .prepare_cached(
            "INSERT INTO audit (number, at, caller, action, object, detail, hash) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            line.number,
            seconds(line.at),
            line.caller,
            line.action,
            line.object,
            line.detail,
            line.hash
        ])?;
    Ok(())
}

impl Store {
    /// Writes a line for what changes nothing here: something was signed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn note(
        &self,
        by: By,
        action: &'static str,
        object: String,
    ) -> Result<(), StoreError> {
        self.change(move |transaction| append(transaction, &by, action, &object, "{}".into()))
            .await
    }

    /// All that was ever revoked, by its lines.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn revoked(&self) -> Result<Vec<String>, StoreError> {
        self.look(move |transaction| {
            // In the words of its index.
            let text =
                format!("SELECT object FROM audit WHERE action IN ('{REVOKE}', '{REVOKE_ROOT}')");
            let mut statement = transaction.prepare_cached(&text)?;
            let objects = statement.query_map([], |row| row.get(0))?;
            Ok(objects.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Lines behind number `after`, at most `most`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audit_lines(&self, after: i64, most: usize) -> Result<Vec<Line>, StoreError> {
        self.look(move |transaction| {
            let text =
                format!("SELECT {COLUMNS} FROM audit WHERE number > ?1 ORDER BY number LIMIT ?2");
            let mut statement = transaction.prepare_cached(&text)?;
            let lines = statement.query_map(params![after, most], read)?;
            Ok(lines.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Checks every line against the one before. Returns how many there are, and the last hash:
    /// whoever notes both elsewhere can see later whether lines were cut off at the end.
    ///
    /// # Errors
    /// The first line that does not fit.
    pub async fn verify_audit(&self) -> Result<(i64, Hash), AuditError> {
        const AT_ONCE: usize = 1000;
        let (mut number, mut before) = (0, BEGINNING);
        loop {
            let lines = self.audit_lines(number, AT_ONCE).await?;
            if lines.is_empty() {
                return Ok((number, before));
            }
            for line in lines {
                if line.number != number + 1 {
                    return Err(AuditError::Missing(number + 1));
                }
                if hash(&before, &line) != line.hash {
                    return Err(AuditError::Altered(line.number));
                }
                (number, before) = (line.number, line.hash);
            }
        }
    }
}
