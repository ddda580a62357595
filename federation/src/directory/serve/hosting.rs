//! Hosting beside serving: a new snapshot soon after a change, and a new timestamp every so often.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sekisho_certs::Clock;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use crate::directory::{
    key::Signer,
    repository::{Complaint, Hosted, Lives, Repository, RepositoryError},
};

/// At most one snapshot in so long, and so often it is looked for changes that others make in the folder.
pub(super) const LEAST: Duration = Duration::from_secs(5);

/// What hosts a directory.
#[derive(Clone, Debug)]
pub(super) struct Hosting {
    repository: Repository,
    key: Arc<dyn Signer>,
    every: Duration,
    clock: Arc<dyn Clock>,
    changed: Arc<watch::Sender<()>>,
    /// What was complained of last, so that it is not told again and again.
    told: Arc<Mutex<Vec<Complaint>>>,
}

/// The state of the folder that matters: files are renamed into it.
type Seen = Option<(i64, i64)>;

fn seen(repository: &Repository) -> Seen {
    let meta = repository.folder().join("metadata").metadata().ok()?;
    Some((meta.mtime(), meta.mtime_nsec()))
}

impl Hosting {
    pub(super) fn new(
        repository: Repository,
        key: Arc<dyn Signer>,
        every: Duration,
        clock: Arc<dyn Clock>,
        changed: Arc<watch::Sender<()>>,
    ) -> Self {
        Self {
            repository,
            key,
            every,
            clock,
            changed,
            told: Arc::default(),
        }
    }

    /// Hosts, for as long as it is let.
    pub(super) async fn run(&self) {
        let mut changed = self.changed.subscribe();
        loop {
            let began = Instant::now();
            // What was said up to now is hosted now.
            changed.mark_unchanged();
            let before = self.once().await;
            let earliest = began + LEAST;
            let latest = began + self.every.max(LEAST);
            sleep_until(earliest).await;
            loop {
                if seen(&self.repository) != before {
                    break;
                }
                let look = (Instant::now() + LEAST).min(latest);
                tokio::select! {
                    _ = changed.changed() => break,
                    () = sleep_until(look) => {}
                }
                if Instant::now() >= latest {
                    break;
                }
            }
        }
    }

    /// Hosts once. The state of the folder afterwards, as long as nobody else could change it.
    async fn once(&self) -> Seen {
        let own = self.clone();
        let done = spawn_blocking(move || {
            let locked = own.repository.lock()?;
            let lives = Lives::default();
            let hosted = own.repository.host(&*own.key, &lives, own.clock.now())?;
            let after = seen(&own.repository);
            drop(locked);
            Ok((hosted, after))
        });
        let done: Result<(Hosted, Seen), RepositoryError> = match done.await {
            Ok(done) => done,
            Err(error) => Err(RepositoryError::Io {
                path: self.repository.folder().to_owned(),
                error: io::Error::other(error),
            }),
        };
        match done {
            Ok((hosted, after)) => {
                tracing::debug!(
                    snapshot = hosted.snapshot,
                    timestamp = hosted.timestamp,
                    changed = hosted.changed,
                    "hosted"
                );
                self.tell(hosted.complaints);
                after
            }
            Err(error) => {
                tracing::error!(%error, "the directory cannot be hosted: what is there stays");
                seen(&self.repository)
            }
        }
    }

    fn tell(&self, complaints: Vec<Complaint>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for new in complaints.iter().filter(|one| !told.contains(one)) {
            tracing::warn!(role = new.role, problem = new.problem, "left out");
        }
        *told = complaints;
    }
}
