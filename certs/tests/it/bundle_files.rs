//! Bundles in files: each of the three forms, while they change.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use sekisho_certs::{
    BundleSet, TrustDomain,
    source::{BundlesSpec, watch_bundles},
};
use sekisho_testkit::{Profile, Site, TestCa, clock::present, wait_until};
use tempfile::TempDir;
use tokio::sync::watch;

fn own() -> TrustDomain {
    TrustDomain::new("own.example").unwrap()
}

fn watch(specs: Vec<BundlesSpec>) -> watch::Receiver<Arc<BundleSet>> {
    watch_bundles(specs, own(), false)
}

fn folder_of(sites: &[&Site]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for site in sites {
        site.write_bundle(folder.path());
    }
    folder
}

fn folder(folder: &TempDir) -> Vec<BundlesSpec> {
    vec![BundlesSpec::Folder(folder.path().into())]
}

fn files<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> BundlesSpec {
    let files = files
        .into_iter()
        .map(|(name, path)| (name.into(), path.into()));
    BundlesSpec::Files(BTreeMap::from_iter(files))
}

fn names(set: &BundleSet) -> Vec<String> {
    set.iter()
        .map(|bundle| bundle.trust_domain().to_string())
        .collect()
}

/// Holds where the bundles are those of exactly these sites.
fn are(sites: &[&Site]) -> impl FnMut(&Arc<BundleSet>) -> bool {
    let mut expected = BundleSet::default();
    for site in sites {
        expected.insert(Arc::clone(site.bundle())).unwrap();
    }
    move |set| **set == expected
}

#[tokio::test]
async fn a_folder_is_followed() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let files = folder_of(&[&a]);
    let mut bundles = watch(folder(&files));
    assert!(are(&[&a])(&bundles.borrow()));
    b.write_bundle(files.path());
    wait_until(&mut bundles, "a new bundle", are(&[&a, &b])).await;
    let new_a = Site::new("a.example");
    new_a.write_bundle(files.path());
    wait_until(&mut bundles, "a changed bundle", are(&[&new_a, &b])).await;
    fs::remove_file(files.path().join("a.example.json")).unwrap();
    wait_until(&mut bundles, "a withdrawn bundle", are(&[&b])).await;
}

#[tokio::test]
async fn a_damaged_bundle_keeps_its_last_good_form() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let files = folder_of(&[&a]);
    let mut bundles = watch(folder(&files));
    for (number, damage) in ["", "{", r#"{"keys": 1}"#].into_iter().enumerate() {
        fs::write(files.path().join("a.example.json"), damage).unwrap();
        // The next bundle tells that the damaged one was seen.
        let b = Site::new(&format!("b{number}.example"));
        b.write_bundle(files.path());
        let name = b.domain().clone();
        let seen = |set: &Arc<BundleSet>| set.get(&name).is_some();
        let set = wait_until(&mut bundles, "the next bundle", seen).await;
        assert_eq!(set.get(a.domain()), Some(a.bundle()), "{damage:?}");
    }
    let new_a = Site::new("a.example");
    new_a.write_bundle(files.path());
    b.write_bundle(files.path());
    let recovered = |set: &Arc<BundleSet>| set.get(a.domain()) == Some(new_a.bundle());
    wait_until(&mut bundles, "recovery", recovered).await;
}

#[tokio::test]
async fn other_files_of_a_folder_are_passed_over() {
    let a = Site::new("a.example");
    let files = folder_of(&[&a]);
    for name in [
        "README",
        "A.example.json",
        ".json",
        "a b.json",
        "b.example.json.new",
    ] {
        fs::write(files.path().join(name), a.bundle().to_json().to_string()).unwrap();
    }
    assert_eq!(names(&watch(folder(&files)).borrow()), ["a.example"]);
}

#[tokio::test]
async fn a_folder_that_is_gone_says_nothing_and_one_that_is_empty_trusts_nobody() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let (own, other) = (folder_of(&[&a]), folder_of(&[]));
    let specs = [folder(&own), folder(&other)].concat();
    let mut bundles = watch(specs);
    assert!(are(&[&a])(&bundles.borrow()));
    let moved = own.path().with_extension("moved");
    fs::rename(own.path(), &moved).unwrap();
    b.write_bundle(other.path());
    wait_until(&mut bundles, "the other folder", are(&[&a, &b])).await;
    fs::create_dir(own.path()).unwrap();
    wait_until(&mut bundles, "an empty folder", are(&[&b])).await;
    fs::remove_dir_all(moved).unwrap();
}

#[tokio::test]
async fn a_map_is_followed_and_a_damaged_one_keeps_what_it_had() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let (own, other) = (tempfile::tempdir().unwrap(), folder_of(&[]));
    let path = own.path().join("map.json");
    let write = |sites: &[&Site]| {
        let mut set = BundleSet::default();
        for site in sites {
            set.insert(Arc::clone(site.bundle())).unwrap();
        }
        fs::write(&path, set.to_bundle_map().to_string()).unwrap();
    };
    write(&[&a, &b]);
    let specs = vec![
        BundlesSpec::Map(path.clone()),
        BundlesSpec::Folder(other.path().into()),
    ];
    let mut bundles = watch(specs);
    assert!(are(&[&a, &b])(&bundles.borrow()));
    write(&[&b]);
    wait_until(&mut bundles, "a withdrawn bundle", are(&[&b])).await;
    fs::write(&path, "{").unwrap();
    a.write_bundle(other.path());
    wait_until(&mut bundles, "the other folder", are(&[&a, &b])).await;
}

#[tokio::test]
async fn files_are_followed_in_both_formats() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let own = tempfile::tempdir().unwrap();
    let (a_files, b_files) = (
        a.write_files(own.path(), "a"),
        b.write_files(own.path(), "b"),
    );
    let mut bundles = watch(vec![files([
        ("a.example", a_files.bundle_pem.as_path()),
        ("b.example", b_files.bundle_json.as_path()),
    ])]);
    assert!(are(&[&a, &b])(&bundles.borrow()));
    let new_a = Site::new("a.example");
    fs::write(&a_files.bundle_pem, new_a.ca().pem()).unwrap();
    wait_until(&mut bundles, "a changed file", are(&[&new_a, &b])).await;
}

#[tokio::test]
async fn a_file_that_is_gone_keeps_its_last_good_form() {
    let (a, b) = (Site::new("a.example"), Site::new("b.example"));
    let own = folder_of(&[&a]);
    let path = own.path().join("a.example.json");
    let later = own.path().join("b.example.json");
    let mut bundles = watch(vec![files([
        ("a.example", path.as_path()),
        ("b.example", later.as_path()),
    ])]);
    assert!(are(&[&a])(&bundles.borrow()));
    fs::remove_file(&path).unwrap();
    b.write_bundle(own.path());
    wait_until(&mut bundles, "the next bundle", are(&[&a, &b])).await;
}

#[tokio::test]
async fn the_first_of_two_for_one_trust_domain_wins() {
    let (first, second) = (Site::new("a.example"), Site::new("a.example"));
    let (one, two) = (folder_of(&[&first]), folder_of(&[&second]));
    let bundles = watch([folder(&one), folder(&two)].concat());
    assert!(are(&[&first])(&bundles.borrow()));
}

/// However early its name stands in the alphabet.
#[tokio::test]
async fn a_site_cannot_push_another_out_by_publishing_its_ca() {
    let profile = Profile::ca("b.example").with_uris([]);
    let b = Site::with_ca(
        "b.example",
        TestCa::root(&profile, Default::default(), present()),
    );
    let (a, c) = (Site::new("a.example"), Site::new("c.example"));
    let files = folder_of(&[&a, &b]);
    let mut bundles = watch(folder(&files));
    assert!(are(&[&a, &b])(&bundles.borrow()));
    let thief = Site::with_ca("a.example", b.ca().renewed(&profile));
    thief.write_bundle(files.path());
    c.write_bundle(files.path());
    wait_until(&mut bundles, "the next bundle", are(&[&a, &b, &c])).await;
    // A key may move with its owner, who gives up the old name.
    fs::remove_file(files.path().join("b.example.json")).unwrap();
    wait_until(&mut bundles, "the key's new owner", are(&[&thief, &c])).await;
}

#[tokio::test]
async fn a_bundle_of_our_own_domain_is_refused_unless_files_are_its_source() {
    let (a, own_site) = (Site::new("a.example"), Site::new("own.example"));
    let files = folder_of(&[&a, &own_site]);
    assert!(are(&[&a])(&watch(folder(&files)).borrow()));
    let allowed = watch_bundles(folder(&files), own(), true);
    assert!(are(&[&a, &own_site])(&allowed.borrow()));
}

#[tokio::test]
async fn without_files_there_are_no_bundles_and_no_watch() {
    let bundles = watch(Vec::new());
    assert!(bundles.borrow().is_empty());
    assert!(bundles.has_changed().is_err());
}
