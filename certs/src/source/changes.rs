//! Tells when files may have changed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
/// Links followed on the way to a file, as the kernel does.
const MAX_LINKS: usize = 40;
/// What is found while folders come and go is looked at so many times at most.
const MAX_LOOKS: usize = 4;
/// From this number on, folders that are gone are forgotten.
const MAX_FOLDERS: usize = 1000;

/// A watch on files, by the folders they are in: a file is commonly replaced, not rewritten.
/// What else happens in those folders is nobody's business here.
#[derive(Debug)]
pub struct Changes {
    // Kept for its Drop, which ends the watch.
    watcher: Option<RecommendedWatcher>,
    wanted: Arc<Wanted>,
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
        let wanted = Arc::new(Wanted::default());
        let filter = Arc::clone(&wanted);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let news = event.map_or(true, |event| {
                // Without a path it says that events were lost.
                may_change(event.kind)
                    && (event.paths.is_empty() || event.paths.iter().any(|path| filter.has(path)))
            });
            // A full channel already says that something changed.
            if news {
                let _ = sender.try_send(());
            }
        });
        let mut changes = Self {
            watcher: watcher.ok(),
            wanted,
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
        let paths: Vec<&Path> = paths.into_iter().collect();
        for look in 0..MAX_LOOKS {
            let (folders, news) = self.wanted.add(&paths);
            // What came between a look and the watch of its folder was told by nobody: look
            // again, until there is nothing new.
            if look > 0 && !news {
                return;
            }
            for folder in folders {
                // What is refused is looked at now and then.
                let _ = watcher.watch(&folder, RecursiveMode::NonRecursive);
            }
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

/// What counts, by folder; the folders' paths have no links in them, as the events' do not.
#[derive(Debug, Default)]
struct Wanted(Mutex<BTreeMap<PathBuf, Names>>);

/// What counts in a folder.
#[derive(Debug, Default)]
struct Names {
    /// Everything directly in it.
    all: bool,
    these: BTreeSet<OsString>,
}

impl Wanted {
    fn folders(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Names>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something that happened to `path` counts.
    fn has(&self, path: &Path) -> bool {
        let folders = self.folders();
        // The folder itself was moved or removed, and what is in it with it.
        folders.contains_key(path)
            || path.parent().is_some_and(|folder| {
                folders.get(folder).is_some_and(|names| {
                    let name = path.file_name().unwrap_or_default();
                    names.all || names.these.contains(name)
                })
            })
    }

    /// Adds all that `paths` depend on; returns their folders, and whether anything was new.
    fn add(&self, paths: &[&Path]) -> (BTreeSet<PathBuf>, bool) {
        // Not under the lock: a slow file system must not hold up events of others.
        let found = paths.iter().flat_map(|path| trace(path));
        let found: Vec<Wish> = found.collect();
        let mut folders = self.folders();
        if folders.len() > MAX_FOLDERS {
            // Folders of old that Kubernetes swapped away, most of them.
            folders.retain(|folder, _| folder.is_dir());
        }
        let mut news = false;
        let mut all = BTreeSet::new();
        for Wish { folder, name } in found {
            let names = folders.entry(folder.clone()).or_default();
            news |= match name {
                Some(name) => names.these.insert(name),
                None => !std::mem::replace(&mut names.all, true),
            };
            all.insert(folder);
        }
        (all, news)
    }
}

/// A name in a folder, or (`None`) all of them.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    folder: PathBuf,
    name: Option<OsString>,
}

/// All on whose change the contents of `path` depend: itself, each link on the way to it (such as
/// the `..data` that Kubernetes swaps), what is in it if it is a folder; or the first part of it
/// that is missing.
fn trace(path: &Path) -> Vec<Wish> {
    let mut found = Vec::new();
    let Ok(path) = std::path::absolute(path) else {
        return found;
    };
    let parts = |path: &Path| -> VecDeque<OsString> {
        let parts = path.components();
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut left = parts(&path);
    let mut links = 0;
    // Never has a link in it.
    let mut at = PathBuf::new();
    while let Some(part) = left.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => {
                let next = at.join(name);
                let kind = next.symlink_metadata().map(|data| data.file_type());
                if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) && !left.is_empty() {
                    at = next;
                    continue;
                }
                found.push(wish(&at, Some(name)));
                match kind {
                    Ok(kind) if kind.is_symlink() && links < MAX_LINKS => {
                        links += 1;
                        let Ok(target) = next.read_link() else {
                            return found;
                        };
                        let mut target = parts(&target);
                        target.append(&mut left);
                        left = target;
                    }
                    Ok(kind) if kind.is_dir() => {
                        found.push(wish(&next, None));
                        return found;
                    }
                    // The file; or nothing yet, or nothing through which there is a way.
                    _ => return found,
                }
            }
            Some(Component::ParentDir) => {
                at.pop();
            }
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    // A way that ends in `..` or a link to `/`.
    found.push(wish(&at, None));
    found
}

fn wish(folder: &Path, name: Option<&OsStr>) -> Wish {
    Wish {
        folder: folder.to_owned(),
        name: name.map(ToOwned::to_owned),
    }
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

    /// Whether what has been done is told; without news, after a time in which it would have been.
    async fn is_told(changes: &mut Changes) -> bool {
        tokio::time::timeout(4 * QUIET, changes.next())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn another_file_in_the_folder_of_a_file_is_no_change_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("site.yaml"), folder.path().join("log"));
        std::fs::write(&file, "old").unwrap();
        let mut changes = Changes::of([file.as_path()]);
        std::fs::write(&log, "a line").unwrap();
        std::fs::rename(&log, folder.path().join("log.1")).unwrap();
        assert!(!is_told(&mut changes).await);
        std::fs::write(&file, "new").unwrap();
        assert!(is_told(&mut changes).await);
        // By another name first, as careful writers do.
        let partial = folder.path().join(".site.yaml.tmp");
        std::fs::write(&partial, "newer").unwrap();
        assert!(!is_told(&mut changes).await);
        std::fs::rename(&partial, &file).unwrap();
        assert!(is_told(&mut changes).await);
    }

    #[tokio::test]
    async fn a_new_file_in_a_watched_folder_is_told() {
        let root = tempfile::tempdir().unwrap();
        let policy = root.path().join("policy");
        std::fs::create_dir(&policy).unwrap();
        let mut changes = Changes::of([policy.as_path()]);
        std::fs::write(root.path().join("other"), "x").unwrap();
        assert!(!is_told(&mut changes).await);
        std::fs::write(policy.join("new.rego"), "package x").unwrap();
        assert!(is_told(&mut changes).await);
    }

    #[tokio::test]
    async fn a_folder_on_the_way_that_comes_to_be_is_told_and_its_neighbours_are_not() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a/b/file");
        let mut changes = Changes::of([file.as_path()]);
        std::fs::create_dir(root.path().join("z")).unwrap();
        assert!(!is_told(&mut changes).await);
        for made in ["a", "a/b"] {
            std::fs::create_dir(root.path().join(made)).unwrap();
            assert!(is_told(&mut changes).await, "{made}");
            changes.add([file.as_path()]);
        }
        std::fs::write(&file, "x").unwrap();
        assert!(is_told(&mut changes).await);
    }

    #[tokio::test]
    async fn a_link_on_the_way_that_is_swapped_is_told() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["mount", "mount/..1", "mount/..2"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        for folder in ["1", "2"] {
            std::fs::write(at(&format!("mount/..{folder}/file")), folder).unwrap();
        }
        symlink("..1", at("mount/..data")).unwrap();
        symlink("..data/file", at("mount/file")).unwrap();
        // And the whole by yet another link, as `/var/run` is one.
        symlink("mount", at("way")).unwrap();
        let file = at("way/file");
        let mut changes = Changes::of([file.as_path()]);
        symlink("..2", at("mount/..data_tmp")).unwrap();
        assert!(!is_told(&mut changes).await);
        std::fs::rename(at("mount/..data_tmp"), at("mount/..data")).unwrap();
        assert!(is_told(&mut changes).await);
        changes.add([file.as_path()]);
        std::fs::write(at("mount/..2/file"), "3").unwrap();
        assert!(is_told(&mut changes).await);
    }
}
