//! Tells when files may have changed.

use std::{collections::BTreeSet, path::Path, time::Duration};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::mpsc, time::Instant};

/// Network file systems tell nothing of changes made elsewhere, so look now and then anyway.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A writer replaces several files one after the other; wait until it has gone quiet.
const QUIET: Duration = Duration::from_millis(100);
/// But do not let a busy folder put it off for ever.
const AT_MOST: Duration = Duration::from_secs(1);

/// A watch on files, by the folders they are in: a file is commonly replaced, not rewritten.
#[derive(Debug)]
pub struct Changes {
    // Kept for its Drop, which ends the watch.
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    /// When [`Changes::next`] last returned.
    looked: Instant,
    /// Events that have not been told yet.
    noticed: Option<Noticed>,
}

/// The first and the last event of a burst.
#[derive(Clone, Copy, Debug)]
struct Noticed {
    first: Instant,
    last: Instant,
}

impl Changes {
    /// Watches `paths`, files or folders, which need not exist yet. Where the system refuses a
    /// watch, they are looked at every 30 seconds.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // A full channel already says that something changed.
            if event.map_or(true, |event| may_change(event.kind)) {
                let _ = sender.try_send(());
            }
        });
        let mut changes = Self {
            watcher: watcher.ok(),
            events,
            looked: Instant::now(),
            noticed: None,
        };
        changes.add(paths);
        changes
    }

    /// Watches these too. Given again, a folder that was replaced is found anew.
    pub fn add<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut folders = BTreeSet::new();
        for path in paths {
            folders.extend(path.is_dir().then_some(path));
            folders.extend(nearest_folder(path));
        }
        for folder in folders {
            // What is refused is looked at now and then.
            let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
        }
    }

    /// Waits until something may have changed. May wake without cause: compare contents.
    ///
    /// Cancel safe: a change that was noticed is told by the next call.
    pub async fn next(&mut self) {
        loop {
            let until = match self.noticed {
                Some(Noticed { first, last }) => (last + QUIET).min(first + AT_MOST),
                None => self.looked + LOOK_AGAIN,
            };
            match tokio::time::timeout_at(until, self.events.recv()).await {
                Ok(Some(())) => {
                    let now = Instant::now();
                    let first = self.noticed.map_or(now, |noticed| noticed.first);
                    self.noticed = Some(Noticed { first, last: now });
                }
                // No watch at all: the clock is all there is.
                Ok(None) => {
                    tokio::time::sleep_until(until).await;
                    break;
                }
                Err(_) => break,
            }
        }
        self.noticed = None;
        self.looked = Instant::now();
    }
}

/// Our own reading is no change: without this a look would cause the next one, for ever.
const fn may_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn nearest_folder(path: &Path) -> Option<&Path> {
    path.ancestors()
        .skip(1)
        .map(|folder| {
            if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            }
        })
        .find(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_noticed_by_a_call_that_was_dropped_is_told_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let mut changes = Changes::of([file.as_path()]);
        std::fs::write(&file, "new").unwrap();
        // Dropped again and again, long before it has gone quiet.
        while changes.noticed.is_none() {
            let _ = tokio::time::timeout(QUIET / 10, changes.next()).await;
        }
        let told = tokio::time::timeout(LOOK_AGAIN / 3, changes.next()).await;
        assert!(told.is_ok());
        assert!(changes.noticed.is_none());
    }
}
