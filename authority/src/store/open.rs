//! Opening: rights, check, migrations, backup.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, backup::Backup};

use super::{Store, StoreError, spki};

/// Each brings the database from one version to the next. Never changed, only added to.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];
/// How long another program may hold the file before a job fails.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pages that a backup copies at a time.
const PAGES: i32 = 256;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be made or read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What stands in it is damaged. Nothing was changed.
    #[error("{}: {problem}. Nothing was changed; restore a backup (`sekisho authority backup` makes them)", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What SQLite says.
        problem: String,
    },
    /// A newer sekisho has written it.
    #[error("{}: has version {found}, and this program knows up to {known}: run the newer sekisho that wrote it", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// It was written by an older sekisho, and is not to be changed.
    #[error("{}: has version {found}, and this program reads version {known}: start the authority with this program once, or use the program that wrote it", path.display())]
    Older {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// SQLite refuses.
    #[error("{}: {error}", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        error: StoreError,
    },
}

impl Store {
    /// Opens the database in `path`, or makes one there (mode 0600), checks it and brings it to
    /// this program's version.
    ///
    /// # Errors
    /// Each of [`OpenError`]'s variants.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io {
            path: path.into(),
            error,
        };
        let failed = |error| refused(path, error);
        // Made by us first: SQLite would use the umask. Its companions get the rights of the file.
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(io)?;
        drop(file);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        check(&connection, path, failed)?;
        for (pragma, value) in [
            ("journal_mode", "WAL"),
            // A change that was answered survives a loss of power.
            ("synchronous", "FULL"),
            ("foreign_keys", "ON"),
            ("secure_delete", "ON"),
        ] {
            connection
                .pragma_update(None, pragma, value)
                .map_err(failed)?;
        }
        migrate(&mut connection, path, failed)?;
        spki::name_keys(&connection).map_err(failed)?;
        Self::start(connection, path.into())
    }

    /// Opens the database in `path` to read it, while an authority may be writing it. Nothing is made
    /// there or changed: it must have this program's version.
    ///
    /// # Errors
    /// Each of [`OpenError`]'s variants.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| refused(path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        check(&connection, path, failed)?;
        let (found, known) = (version(&connection, path, failed)?, MIGRATIONS.len());
        if found < known {
            return Err(OpenError::Older {
                path: path.into(),
                found,
                known,
            });
        }
        Self::start(connection, path.into())
    }

    /// Copies the database, as it is at this moment, to `path`: a file that is not there yet.
    ///
    /// # Errors
    /// When the copy cannot be written. A part of it may be there then.
    pub async fn backup(&self, path: PathBuf) -> Result<(), StoreError> {
        self.job(move |connection| {
            fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| StoreError::Failed(format!("{}: {error}", path.display())))?;
            let mut copy = Connection::open(&path)?;
            let backup = Backup::new(connection, &mut copy)?;
            backup.run_to_completion(PAGES, Duration::ZERO, None)?;
            Ok(())
        })
        .await
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn refused(path: &Path, error: rusqlite::Error) -> OpenError {
    match StoreError::from(error) {
        StoreError::Corrupt(problem) => OpenError::Damaged {
            path: path.into(),
            problem,
        },
        error => OpenError::Store {
            path: path.into(),
            error,
        },
    }
}

/// SQLite's own look at all pages: a damaged database would be found much later otherwise.
fn check(
    connection: &Connection,
    path: &Path,
    failed: impl Fn(rusqlite::Error) -> OpenError,
) -> Result<(), OpenError> {
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged {
        path: path.into(),
        problem: verdict,
    })
}

/// The version of the database, which is not above ours.
fn version(
    connection: &Connection,
    path: &Path,
    failed: impl Fn(rusqlite::Error) -> OpenError,
) -> Result<usize, OpenError> {
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed)?;
    if found > MIGRATIONS.len() {
        return Err(OpenError::Newer {
            path: path.into(),
            found,
            known: MIGRATIONS.len(),
        });
    }
    Ok(found)
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    failed: impl Fn(rusqlite::Error) -> OpenError + Copy,
) -> Result<(), OpenError> {
    let found = version(connection, path, failed)?;
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(migration).map_err(failed)?;
        transaction
            .pragma_update(None, "user_version", version + 1)
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}
