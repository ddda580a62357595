//! What the authority remembers, in SQLite: the only place with SQL.
//!
//! One thread owns the database and takes one job at a time; each job is a transaction, so that what
//! a call changes and its line in the audit log are there together or not at all. Little of the SQL
//! is SQLite's own (docs/adr/0011-authority.md).

mod audit;
mod authorities;
mod bundles;
mod changes;
mod directory;
mod entries;
mod nodes;
mod open;
mod peers;
mod relationships;
mod spki;
#[cfg(test)]
mod tests;
mod tokens;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::SystemTime,
};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::epoch::{seconds, time};
pub use audit::{AuditError, Line};
pub(crate) use audit::{REVOKE, REVOKE_ROOT};
pub use authorities::{AuthorityRecord, Kind, Slot};
pub use bundles::{Bundle, Deletion, JwtAuthority, X509Authority};
use changes::{Changed, Changes};
pub use directory::Taken;
pub use entries::{Creation, EntryFilter, Page, SetMatch, Update};
pub use nodes::{Certificate, Node, NodeFilter};
pub use open::OpenError;
pub use peers::{Declared, Peer, Refreshed, Removal, Rollback};
pub use relationships::{EndpointProfile, Origin, Relationship};
pub use tokens::{Spent, Token};

/// Jobs that wait for the thread: past it the authority is overloaded and says so.
const WAITING: usize = 4096;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another program holds a lock on the file, or too many jobs wait.
    #[error("the database is locked or overloaded")]
    Busy,
    /// What was read makes no sense.
    #[error("the database is corrupt: {0}")]
    Corrupt(String),
    /// Nothing can be written.
    #[error("no space is left for the database")]
    Full,
    /// Anything else that SQLite says.
    #[error("database: {0}")]
    Failed(String),
    /// Two trust domains must not share a CA: either could speak for the other.
    #[error("{second} delivers a CA key that already belongs to {first}")]
    SharedKey {
        /// Who had it.
        first: String,
        /// Who brought it again.
        second: String,
    },
    /// The store has been closed.
    #[error("the database is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt(error.to_string())
            }
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Who changes something, and when: for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// A SPIFFE ID, or who it is on this host.
    pub caller: String,
    /// The time of the change.
    pub at: SystemTime,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// An open store. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Store {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    path: PathBuf,
    /// Of entries, and of what they are federated with.
    changes: Arc<Mutex<Changes>>,
}

impl Store {
    fn start(connection: Connection, path: PathBuf) -> Result<Self, OpenError> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                let mut connection = connection;
                while let Some(job) = waiting.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|error| OpenError::Io {
                path: path.clone(),
                error,
            })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            path,
            changes: Arc::new(Mutex::new(Changes::new())),
        })
    }

    /// Does `work` in a transaction, which counts if it is `Ok`.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.job(move |connection| {
            // Immediate: what is read is still so when it is written.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
        .await
    }

    /// The same of what decides which entries an agent may have.
    async fn change_entries<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.change_entries_as(|_| Changed::Anything, work).await
    }

    /// The same where `changed` says what was touched. That is noted by the job itself: whoever asked may
    /// be gone by then, and what was done counts.
    async fn change_entries_as<T: Send + 'static>(
        &self,
        changed: impl FnOnce(&T) -> Changed + Send + 'static,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let changes = Arc::clone(&self.changes);
        self.job(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            let changed = changed(&done);
            let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
            changes.note(changed);
            Ok(done)
        })
        .await
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rises with every change of entries or of what they are federated with.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.changes().version()
    }

    /// The version, and the names of the entries that may have changed since another; `None`: any may
    /// have.
    #[must_use]
    pub fn changes_since(&self, version: u64) -> (u64, Option<BTreeSet<String>>) {
        let changes = self.changes();
        (changes.version(), changes.since(version))
    }

    /// Does `work`, which only reads, on one state of the database.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.job(move |connection| work(&connection.transaction()?))
            .await
    }

    async fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Whoever asked may have gone: what was done stays done.
            let _ = answer.send(work(connection));
        });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        // A job that panicked has dropped its sender, and the thread with it.
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ends when the last job is done; a panic there has been told.
            let _ = thread.join();
        }
    }
}
