//! Tells when files may have changed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
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
    folders: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
}

impl Changes {
    /// Watches `paths`, files or folders, which need not exist yet. Where the system refuses a
    /// watch, they are looked at every 30 seconds.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |_| {
            // A full channel already says that something changed.
            let _ = sender.try_send(());
        });
        let mut changes = Self {
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
            events,
        };
        changes.add(paths);
        changes
    }

    /// Watches these too.
    pub fn add<'a>(&mut self, paths: impl IntoIterator<Item = &'a Path>) {
        for path in paths {
            let own = path.is_dir().then_some(path);
            for folder in own.into_iter().chain(nearest_folder(path)) {
                let Some(watcher) = &mut self.watcher else {
                    return;
                };
                if self.folders.contains(folder) {
                    continue;
                }
                if watcher.watch(folder, RecursiveMode::NonRecursive).is_ok() {
                    self.folders.insert(folder.to_owned());
                }
            }
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
