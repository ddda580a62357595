//! An SVID in files.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sekisho_certs::{
    Svid,
    source::{Changes, Supply, watch_files},
    tls::provider,
};
use sekisho_testkit::{Issued, Site, wait_until};
use tempfile::TempDir;
use tokio::sync::watch;

fn watch(cert: &Path, key: &Path) -> watch::Receiver<Arc<Supply>> {
    watch_files(cert.into(), key.into(), Arc::new(provider()))
}

fn is(svid: &Svid) -> impl FnMut(&Arc<Supply>) -> bool {
    let serial = svid.serial().to_owned();
    move |supply| {
        supply.problem.is_none() && supply.svids.iter().map(|svid| svid.serial()).eq([&serial])
    }
}

/// Writes beside and renames, as careful writers do.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

struct Pair {
    folder: TempDir,
    cert: PathBuf,
    key: PathBuf,
    site: Site,
}

impl Pair {
    fn new() -> (Self, Issued) {
        let (folder, site) = (tempfile::tempdir().unwrap(), Site::new("a.example"));
        let issued = site.svid("/x");
        let (cert, key) = issued.write(folder.path(), "x");
        let pair = Self {
            folder,
            cert,
            key,
            site,
        };
        (pair, issued)
    }
}

#[tokio::test]
async fn the_svid_is_there_at_once() {
    let (pair, issued) = Pair::new();
    let supply = watch(&pair.cert, &pair.key);
    assert!(is(&issued.svid())(&supply.borrow()));
    assert!(supply.borrow().bundles.is_empty());
}

#[tokio::test]
async fn half_of_a_new_pair_changes_nothing_and_the_other_half_completes_it() {
    let (pair, old) = Pair::new();
    let mut supply = watch(&pair.cert, &pair.key);
    let new = pair.site.svid("/x");
    replace(&pair.cert, &new.chain_pem());
    let told = |supply: &Arc<Supply>| supply.problem.is_some();
    let half = wait_until(&mut supply, "half of a pair is told", told).await;
    assert_eq!(half.svids[0].serial(), old.svid().serial());
    let problem = half.problem.as_deref().unwrap();
    assert!(problem.contains("does not belong"), "{problem}");
    replace(&pair.key, &new.key_pem());
    wait_until(&mut supply, "the new pair", is(&new.svid())).await;
}

#[tokio::test]
async fn a_damaged_or_missing_file_changes_nothing_and_is_told() {
    let (pair, old) = Pair::new();
    let mut supply = watch(&pair.cert, &pair.key);
    let mut damage = async |what: &str, text: &str| {
        let contains = |supply: &Arc<Supply>| {
            supply
                .problem
                .as_deref()
                .is_some_and(|problem| problem.contains(text))
        };
        let now = wait_until(&mut supply, what, contains).await;
        assert_eq!(now.svids[0].serial(), old.svid().serial());
    };
    fs::write(&pair.key, "x").unwrap();
    damage("a damaged key", "no private key in PEM").await;
    fs::write(&pair.cert, "x").unwrap();
    damage("a damaged certificate", "no certificates in PEM").await;
    fs::remove_file(&pair.cert).unwrap();
    damage("a missing certificate", "No such file").await;
    let new = pair.site.svid("/x");
    new.write(pair.folder.path(), "x");
    wait_until(&mut supply, "recovery", is(&new.svid())).await;
}

#[tokio::test]
async fn files_and_their_folder_may_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("one/two");
    let mut supply = watch(&deep.join("x.pem"), &deep.join("x.key"));
    assert!(supply.borrow().svids.is_empty());
    assert!(supply.borrow().problem.is_some());
    fs::create_dir_all(&deep).unwrap();
    let issued = Site::new("a.example").svid("/x");
    issued.write(&deep, "x");
    wait_until(&mut supply, "files that come later", is(&issued.svid())).await;
}

#[tokio::test]
async fn a_change_between_the_first_look_and_the_watch_is_not_missed() {
    let (pair, _) = Pair::new();
    // The watch begins with the first await.
    let mut supply = watch(&pair.cert, &pair.key);
    let new = pair.site.svid("/x");
    new.write(pair.folder.path(), "x");
    wait_until(&mut supply, "the change", is(&new.svid())).await;
}

#[tokio::test]
async fn certificate_and_key_may_stand_in_one_file() {
    let (pair, _) = Pair::new();
    let mut supply = watch(&pair.cert, &pair.cert);
    let new = pair.site.svid("/x");
    replace(&pair.cert, &(new.key_pem() + &new.chain_pem()));
    wait_until(&mut supply, "one file", is(&new.svid())).await;
}

/// As Kubernetes mounts secrets: `x.pem -> ..data/x.pem`, `..data -> ..1`, and `..data` is
/// replaced by rename.
#[tokio::test]
async fn a_folder_behind_a_symbolic_link_is_swapped_at_once() {
    let (folder, site) = (tempfile::tempdir().unwrap(), Site::new("a.example"));
    let (root, data) = (folder.path(), folder.path().join("..data"));
    let put = |name: &str| {
        fs::create_dir(root.join(name)).unwrap();
        let issued = site.svid("/x");
        issued.write(&root.join(name), "x");
        symlink(name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), &data).unwrap();
        issued
    };
    let first = put("..1");
    for name in ["x.pem", "x.key"] {
        symlink(Path::new("..data").join(name), root.join(name)).unwrap();
    }
    let mut supply = watch(&root.join("x.pem"), &root.join("x.key"));
    assert!(is(&first.svid())(&supply.borrow()));
    for name in ["..2", "..3"] {
        let next = put(name);
        wait_until(&mut supply, name, is(&next.svid())).await;
    }
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_watched_again() {
    let folder = tempfile::tempdir().unwrap();
    let (own, site) = (folder.path().join("own"), Site::new("a.example"));
    fs::create_dir(&own).unwrap();
    site.svid("/x").write(&own, "x");
    let mut supply = watch(&own.join("x.pem"), &own.join("x.key"));
    for name in ["old-1", "old-2"] {
        fs::rename(&own, folder.path().join(name)).unwrap();
        fs::create_dir(&own).unwrap();
        let new = site.svid("/x");
        new.write(&own, "x");
        wait_until(&mut supply, "the new folder", is(&new.svid())).await;
        let newer = site.svid("/x");
        newer.write(&own, "x");
        wait_until(&mut supply, "a change in the new folder", is(&newer.svid())).await;
    }
}

#[tokio::test]
async fn reading_a_file_is_no_change_of_it() {
    let (pair, _) = Pair::new();
    let mut changes = Changes::of([pair.cert.as_path()]);
    let news = async |changes: &mut Changes| {
        let bound = Duration::from_millis(300);
        tokio::time::timeout(bound, changes.next()).await.is_ok()
    };
    fs::read(&pair.cert).unwrap();
    assert!(!news(&mut changes).await);
    fs::write(&pair.cert, "x").unwrap();
    assert!(news(&mut changes).await);
}

#[tokio::test]
async fn the_watch_ends_with_its_last_reader() {
    let (pair, _) = Pair::new();
    let supply = watch(&pair.cert, &pair.key);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    assert_eq!(tasks(), 1);
    drop(supply);
    let bound = Duration::from_secs(5);
    sekisho_testkit::wait_for("the end of the watch", bound, || tasks() == 0).await;
}
