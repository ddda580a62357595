//! By roles that those who should have signed them have not, or not again.

use super::*;
use crate::directory::metadata::{PathPattern, PathSet, TargetName, Timestamp};

const TIMESTAMP: &str = "metadata/timestamp.json";

/// The last timestamp, to be changed.
fn timestamp(federation: &Federation) -> Signed<Timestamp> {
    let last = federation.repository.timestamp().unwrap();
    last.unwrap().signed
}

/// Whatever the host's key signs.
fn signed_by_host(federation: &Federation, timestamp: &mut Signed<Timestamp>) {
    metadata::sign(timestamp, &[&federation.host]).unwrap();
    overwrite(
        federation,
        TIMESTAMP,
        &serde_json::to_vec(timestamp).unwrap(),
    );
}

/// Rows 2 and 3: the host's keys, or one institution's, name registrars. Check: the signatures of `targets`
/// (`take_targets`).
#[tokio::test]
async fn neither_the_host_nor_one_institution_names_registrars() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let thief = FileKey::generate().unwrap().public();
    let mut targets = role(&federation, "targets", 1);
    targets.signed.version = 2.try_into().unwrap();
    let all = targets.signed.delegations.as_mut().unwrap();
    for role in &mut all.roles {
        role.keyids = vec![thief.keyid()];
        role.threshold = std::num::NonZeroU64::MIN;
    }
    all.keys.insert(thief.keyid(), thief.0.clone());
    host_says(&federation, "targets", 2);
    for by in [&federation.host, &federation.institutions[0]] {
        targets.signatures.clear();
        metadata::sign(&mut targets, &[by]).unwrap();
        let bytes = serde_json::to_vec(&targets).unwrap();
        overwrite(&federation, "metadata/2.targets.json", &bytes);
        let error = here.client.sync(&wanting(&[])).await.unwrap_err();
        assert_eq!(error.reason(), "signatures", "{error}");
        assert!(here.has(&sites[0]));
    }
}

/// Row 7: what institutions have signed before, in place of what they have signed since. Check: the version of
/// `targets` (`take_targets`).
#[tokio::test]
async fn what_institutions_have_signed_before_is_refused() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let (repository, now) = (&federation.repository, federation.now());
    let change = RootChange::default();
    repository.propose_targets(&change, now).unwrap();
    let by = signers(&federation.institutions);
    repository.sign_draft("targets", &by).unwrap();
    repository.publish_draft("targets").unwrap();
    let before = fs::read(federation.path().join("metadata/1.targets.json")).unwrap();
    let since = fs::read(federation.path().join("metadata/2.targets.json")).unwrap();
    host_says(&federation, "targets", 2);
    overwrite(&federation, "metadata/2.targets.json", &before);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "version", "{error}");
    assert!(here.has(&sites[0]));
    overwrite(&federation, "metadata/2.targets.json", &since);
    here.sync(&[]).await;
}

/// Row 1: a mirror that lengthens the day by itself. Check: the signature of the timestamp (`stated`).
#[tokio::test]
async fn a_timestamp_that_is_not_the_hosts_is_refused_and_proves_nothing() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let mut stated = timestamp(&federation);
    stated.signed.expires = metadata::until(federation.now(), 9 * DAY);
    let stranger = FileKey::generate().unwrap();
    for keep_host in [true, false] {
        if !keep_host {
            stated.signatures.clear();
        }
        metadata::sign(&mut stated, &[&stranger]).unwrap();
        let bytes = serde_json::to_vec(&stated).unwrap();
        here.client.compare(&bytes).unwrap();
        assert_eq!(here.client.status().alarm, None);
        overwrite(&federation, TIMESTAMP, &bytes);
        let error = here.client.sync(&wanting(&[])).await.unwrap_err();
        assert_eq!(error.reason(), "signatures", "{error}");
    }
    assert!(here.has(&sites[0]));
}

/// Row 18: a root that somebody has changed in the operator's file. Check: its own signatures (`Trusted::new`).
#[tokio::test]
async fn a_root_that_its_own_keys_have_not_signed_is_no_beginning() {
    let federation = Federation::new(1);
    let here = Here::new(&federation);
    let fresh = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(&here.root).unwrap();
    let changed = text.replace(r#""version":1"#, r#""version":2"#);
    assert_ne!(changed, text);
    fs::write(&here.root, changed).unwrap();
    let error = open(&federation, &fresh, &here.root).unwrap_err();
    assert_eq!(error.reason(), "signatures", "{error}");
}

/// Row 1: a mirror, where the host names no hash of its snapshot, as others may. Checks: the signature of the
/// snapshot, and its number (`take_snapshot`).
#[tokio::test]
async fn a_snapshot_that_is_not_the_hosts_is_refused() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let snapshot = federation.repository.snapshot().unwrap().unwrap();
    let mut snapshot = snapshot.signed;
    let number = snapshot.signed.version.checked_add(1).unwrap();
    snapshot.signed.version = number;
    let role = snapshot.signed.meta.get_mut("td-tokyo.example.json");
    role.unwrap().version = 7.try_into().unwrap();
    let mut stated = timestamp(&federation);
    stated.signed.version = stated.signed.version.checked_add(1).unwrap();
    let named = stated.signed.meta.get_mut("snapshot.json").unwrap();
    (named.version, named.hashes, named.length) = (number, None, None);
    signed_by_host(&federation, &mut stated);
    let file = versioned("snapshot", number.get());
    snapshot.signatures.clear();
    metadata::sign(&mut snapshot, &[&FileKey::generate().unwrap()]).unwrap();
    overwrite(&federation, &file, &serde_json::to_vec(&snapshot).unwrap());
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "signatures", "{error}");
    snapshot.signatures.clear();
    metadata::sign(&mut snapshot, &[&federation.host]).unwrap();
    overwrite(&federation, &file, &serde_json::to_vec(&snapshot).unwrap());
    here.sync(&[]).await;
    assert_eq!(here.client.status().snapshot, number.get());
    assert!(here.has(&sites[0]));
    // The same once more, in place of the next.
    let next = number.checked_add(1).unwrap();
    stated.signed.version = stated.signed.version.checked_add(1).unwrap();
    stated.signed.meta.get_mut("snapshot.json").unwrap().version = next;
    signed_by_host(&federation, &mut stated);
    let file = versioned("snapshot", next.get());
    overwrite(&federation, &file, &serde_json::to_vec(&snapshot).unwrap());
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "version", "{error}");
}

/// Row 2: statements that cannot both be true, each way by itself. Check: both halves of `contradict`.
#[tokio::test]
async fn two_statements_are_compared_by_either_number() {
    let (federation, _, mut here) = known(&["tokyo.example"]).await;
    let ours = timestamp(&federation);
    let signed = |mut other: Signed<Timestamp>| {
        metadata::sign(&mut other, &[&federation.host]).unwrap();
        serde_json::to_vec(&other).unwrap()
    };
    let one_more = |number: std::num::NonZeroU64| number.checked_add(1).unwrap();
    let named = |of: &mut Signed<Timestamp>| of.signed.meta.remove("snapshot.json").unwrap();
    // Another snapshot under the same number of the timestamp.
    let mut one = ours.clone();
    let mut meta = named(&mut one);
    (meta.version, meta.hashes) = (one_more(meta.version), None);
    one.signed.meta.insert("snapshot.json".into(), meta);
    // And another timestamp, by which the same snapshot is another.
    let mut other = ours.clone();
    other.signed.version = one_more(other.signed.version);
    let mut meta = named(&mut other);
    meta.hashes = Some(metadata::hashes(b"other").0);
    other.signed.meta.insert("snapshot.json".into(), meta);
    // One more of the same says nothing.
    let mut again = ours;
    again.signed.version = one_more(again.signed.version);
    here.client.compare(&signed(again)).unwrap();
    assert_eq!(here.client.status().alarm, None);
    for lie in [one, other] {
        // What is longer than a timestamp may be is none.
        let mut long = signed(lie.clone());
        long.resize(65 * 1024, b' ');
        here.client.compare(&long).unwrap();
        let error = here.client.compare(&signed(lie)).unwrap_err();
        assert_eq!(error.reason(), "split_view", "{error}");
    }
}

/// Row 2: a host that shows both to us. Check: `contradict` in `take_timestamp`.
#[tokio::test]
async fn a_host_that_shows_us_both_of_its_faces_is_found_out_by_us() {
    let (federation, mut sites, mut here) = known(&["tokyo.example"]).await;
    let mut other = timestamp(&federation);
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    other.signed.version = timestamp(&federation).signed.version;
    let meta = other.signed.meta.get_mut("snapshot.json").unwrap();
    meta.version = meta.version.checked_add(1).unwrap();
    signed_by_host(&federation, &mut other);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "split_view", "{error}");
    assert_eq!(here.client.status().alarm.unwrap().reason, "split_view");
    assert!(here.has(&sites[0]));
}

/// Row 7: a new timestamp by the host's key of an earlier snapshot. Check: its number (`take_timestamp`).
#[tokio::test]
async fn a_timestamp_of_an_earlier_snapshot_is_refused() {
    let (federation, mut sites, mut here) = known(&["tokyo.example"]).await;
    let mut earlier = timestamp(&federation);
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    let last = timestamp(&federation).signed.version;
    earlier.signed.version = last.checked_add(1).unwrap();
    signed_by_host(&federation, &mut earlier);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "rollback", "{error}");
    assert!(error.to_string().contains("its snapshot is"), "{error}");
    assert!(here.has(&sites[0]));
}

/// Row 2: one who has the key of the timestamp goes on to show one snapshot. Check: the end of a snapshot
/// (`in_force`).
#[tokio::test]
async fn a_snapshot_that_nobody_has_signed_again_confirms_nobody() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    federation.pass(8 * DAY);
    let mut stated = timestamp(&federation);
    stated.signed.version = stated.signed.version.checked_add(1).unwrap();
    stated.signed.expires = metadata::until(federation.now(), DAY);
    signed_by_host(&federation, &mut stated);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "expired", "{error}");
    assert!(error.to_string().contains("snapshot.json"), "{error}");
    assert!(here.client.members().get(&sites[0].domain).is_some());
    assert!(here.bundle("tokyo.example").is_none(), "too old by now");
}

/// Institutions who forget what they have signed. Check: the ends of root and targets (`in_force`).
#[tokio::test]
async fn what_institutions_have_not_signed_again_takes_nobody_in() {
    let (federation, _, mut here) = known(&["tokyo.example"]).await;
    federation.pass(300 * DAY);
    federation.rotate_root(&RootChange::default());
    federation.pass(70 * DAY);
    host_says(&federation, "td-tokyo.example", 1);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "expired", "{error}");
    assert!(error.to_string().contains("targets.json"), "{error}");
    federation.pass(300 * DAY);
    host_says(&federation, "td-tokyo.example", 1);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "expired", "{error}");
    assert!(error.to_string().contains("2.root.json"), "{error}");
}

/// Row 1: between two syncs. Checks: what is over, or was not followed, brings nobody in (`fetch`).
#[tokio::test]
async fn nobody_is_fetched_by_what_is_over_or_was_not_followed() {
    let (federation, _, mut here) = known(&["tokyo.example"]).await;
    let osaka = federation.join("osaka.example");
    here.sync(&[]).await;
    let well = fs::read(federation.path().join(TIMESTAMP)).unwrap();
    overwrite(&federation, TIMESTAMP, b"{}");
    assert!(here.client.sync(&wanting(&[])).await.is_err());
    here.client.fetch(&wanting(&["osaka.example"])).await;
    assert!(here.bundle("osaka.example").is_none(), "not followed");
    overwrite(&federation, TIMESTAMP, &well);
    here.sync(&[]).await;
    federation.pass(25 * HOUR);
    here.client.fetch(&wanting(&["osaka.example"])).await;
    assert!(here.bundle("osaka.example").is_none(), "over");
    federation.publish();
    here.sync(&[]).await;
    here.client.fetch(&wanting(&["osaka.example"])).await;
    assert!(here.has(&osaka));
}

/// Row 5: a member's role with the target of another in it, and a bin that delegates a member more than its own. Checks:
/// one target, and exactly its own (`look`).
#[tokio::test]
async fn a_member_has_exactly_its_own_target() {
    let (federation, sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    let mut two = role(&federation, "td-tokyo.example", 1);
    two.signed.version = 2.try_into().unwrap();
    let own = two.signed.targets.values().next().unwrap().clone();
    let more = TargetName::new("td-osaka.example.json").unwrap();
    two.signed.targets.insert(more, own);
    metadata::sign(&mut two, &[&sites[0].key]).unwrap();
    let bytes = serde_json::to_vec(&two).unwrap();
    overwrite(&federation, "metadata/2.td-tokyo.example.json", &bytes);
    host_says(&federation, "td-tokyo.example", 2);
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("malformed"));
    let mut bin = role(&federation, "bin", 3);
    bin.signed.version = 4.try_into().unwrap();
    let all = bin.signed.delegations.as_mut().unwrap();
    let osaka = all.roles.iter_mut();
    let mut osaka = osaka.filter(|one| one.name == "td-osaka.example");
    let paths = ["td-osaka.example.json", "td-tokyo.example.json"];
    let paths = paths.map(|path| PathPattern::new(path).unwrap());
    osaka.next().unwrap().paths = PathSet::Paths(paths.to_vec());
    bin.signatures.clear();
    metadata::sign(&mut bin, &federation.two_registrars()).unwrap();
    let bytes = serde_json::to_vec(&bin).unwrap();
    overwrite(&federation, "metadata/4.bin.json", &bytes);
    host_says(&federation, "bin", 4);
    here.sync(&[]).await;
    assert_eq!(here.reason("osaka.example").as_deref(), Some("delegation"));
    assert!(here.has(&sites[0]) && here.has(&sites[1]));
}
