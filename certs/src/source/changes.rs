//! Tells when files may have changed.

use std::{collections::BTreeSet, path::Path, time::Duration};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;

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
    pub async fn next(&mut self) {
        let Ok(Some(())) = tokio::time::timeout(LOOK_AGAIN, self.events.recv()).await else {
            return;
        };
        let settle = async {
            while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {}
        };
        // Running into the bound is as good as quiet.
        let _ = tokio::time::timeout(AT_MOST, settle).await;
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
