//! By whoever hosts the directory, or stands between.

use super::*;

/// Row 1: mirror or network controlled. Check: the timestamp ends after a day (`in_force`).
#[tokio::test]
async fn a_mirror_that_shows_the_past_is_noticed_after_a_day() {
    let (federation, mut sites, mut here) = known(&["tokyo.example"]).await;
    let past = Mirror::of(&federation);
    sites[0].rotate_ca(&federation);
    past.show(&federation);
    federation.pass(23 * HOUR);
    here.sync(&[]).await;
    federation.pass(2 * HOUR);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "expired", "{error}");
    // What was known serves on, and everybody sees its age.
    assert!(here.bundle("tokyo.example").is_some());
    assert_eq!(here.status("tokyo.example").age, 2 * 3600);
    assert_eq!(here.client.status().fault.unwrap().reason, "expired");
}

/// Row 2: the host's keys stolen, to forge. Check: a member's role by its own keys
/// (`signed_by_delegates` in `look`).
#[tokio::test]
async fn the_hosts_keys_forge_no_member() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let thief = Site::new("tokyo.example");
    let mut descriptor = thief.descriptor();
    descriptor.bundle = Arc::new(thief.bundle().with_hints(Some(9), None));
    let version = federation.repository.next_version(&thief.domain).unwrap();
    let now = federation.now();
    let sent = Submission::new(&descriptor, version, &[&thief.key], now).unwrap();
    federation.repository.accept_unchecked(&sent).unwrap();
    // A host that has been taken over says whatever it likes of versions.
    host_says(&federation, "td-tokyo.example", version.get());
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("signatures"));
    assert!(here.has(&sites[0]), "what was known stays");
}

/// Row 2: the same, to name a member. Check: a bin by the registrars' keys (`read_delegated`).
#[tokio::test]
async fn the_hosts_keys_admit_nobody() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let bin = role(&federation, "bin", 2);
    let mut forged = bin.clone();
    forged.signed.version = 3.try_into().unwrap();
    let thief = Site::new("osaka.example");
    let (keys, mut delegated) = thief.set().delegation("td-osaka.example");
    delegated.paths = metadata::PathSet::Paths(vec![
        metadata::PathPattern::new("td-osaka.example.json").unwrap(),
    ]);
    let all = forged.signed.delegations.as_mut().unwrap();
    all.keys.extend(keys);
    all.roles.push(delegated);
    forged.signatures.clear();
    metadata::sign(&mut forged, &[&federation.host]).unwrap();
    let bytes = serde_json::to_vec(&forged).unwrap();
    overwrite(&federation, "metadata/3.bin.json", &bytes);
    host_says(&federation, "bin", 3);
    here.sync(&["osaka.example"]).await;
    assert!(here.bundle("osaka.example").is_none());
    let status = here.client.status();
    assert!(
        status
            .broken
            .iter()
            .any(|(role, fault)| role == "osaka.example" && fault.reason == "signatures")
    );
    assert!(here.has(&sites[0]), "what was known stays");
}

/// Row 2: the host's keys stolen, to take a member's word back. Check: no version is confirmed that is
/// older than what was seen (`confirm`).
#[tokio::test]
async fn the_hosts_keys_take_no_member_back() {
    let (federation, mut sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    host_says(&federation, "td-tokyo.example", 1);
    federation.pass(HOUR);
    sites[1].rotate_ca_quietly(&federation);
    host_says(&federation, "td-osaka.example", 2);
    here.sync(&[]).await;
    assert!(here.has(&sites[0]));
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("rollback"));
    assert_eq!(
        here.status("tokyo.example").age,
        3600,
        "it is not confirmed"
    );
    assert!(here.has(&sites[1]), "nobody else is touched");
    assert_eq!(here.reason("osaka.example"), None);
}

/// Row 2: the host's keys stolen, to undo what registrars have done. Check: versions of a snapshot
/// (`take_snapshot`).
#[tokio::test]
async fn the_hosts_keys_bring_nobody_back_who_was_expelled() {
    let (federation, sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    let mut there = Here::new(&federation);
    there.sync(&["osaka.example"]).await;
    let before = role(&federation, "bin", 3);
    let all = federation.two_registrars();
    federation
        .repository
        .expel(&sites[1].domain, &all, federation.now())
        .unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert!(here.bundle("osaka.example").is_none());
    assert!(before.signed.delegations.unwrap().roles.len() == 2);
    // Whoever has lost what the host said last, too, by the snapshot alone.
    there.sync(&[]).await;
    fs::remove_file(there.data.path().join("state/timestamp.json")).unwrap();
    let mut there = there.again(&federation);
    host_says(&federation, "bin", 3);
    for one in [&mut here, &mut there] {
        one.sync(&["osaka.example"]).await;
        assert!(one.bundle("osaka.example").is_none());
    }
    assert!(here.has(&sites[0]));
    // What was seen is remembered by whoever comes back, too, and whatever lies beside it.
    fs::remove_file(here.data.path().join("state/timestamp.json")).unwrap();
    let mut here = here.again(&federation);
    host_says(&federation, "bin", 3);
    here.sync(&["osaka.example"]).await;
    assert!(here.bundle("osaka.example").is_none());
}

/// Row 2: the host's keys stolen, and changed by a root. Check: the version that a member's record has
/// (`look`), since the snapshot before counts for nothing then.
#[tokio::test]
async fn a_host_with_new_keys_takes_no_member_back() {
    let (mut federation, sites, mut here) = known(&["tokyo.example"]).await;
    let first = fs::read(federation.path().join("metadata/1.td-tokyo.example.json")).unwrap();
    // Another word with the same bundle: its sequence would tell otherwise.
    let mut descriptor = sites[0].descriptor();
    descriptor.contacts = vec!["noc@tokyo.example".into()];
    sites[0].say(&federation, &descriptor);
    here.sync(&[]).await;
    federation.host = FileKey::generate().unwrap();
    let change = RootChange {
        host: Some(federation.host.public()),
        ..RootChange::default()
    };
    federation.rotate_root(&change);
    overwrite(&federation, "metadata/1.td-tokyo.example.json", &first);
    host_says(&federation, "td-tokyo.example", 1);
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("rollback"));
    assert_eq!(here.status("tokyo.example").version, 2);
}

/// Row 3: a root of an attacker's own making, or one that gives the institutions' power to keys that nobody
/// has. Checks: the keys of the root before, and of the root itself (`next_root`).
#[tokio::test]
async fn a_root_needs_the_keys_of_both() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let others = fixture::keys(3);
    let change = RootChange {
        institutions: Some(fixture::set(&others, fixture::two())),
        ..RootChange::default()
    };
    let repository = &federation.repository;
    for by in [&others, &federation.institutions] {
        repository.propose_root(&change, federation.now()).unwrap();
        repository.sign_draft("root", &signers(by)).unwrap();
        let draft = fs::read(federation.path().join("drafts/root.json")).unwrap();
        overwrite(&federation, "metadata/2.root.json", &draft);
        let error = here.client.sync(&wanting(&[])).await.unwrap_err();
        assert_eq!(error.reason(), "signatures", "{error}");
        assert_eq!(here.client.status().root, 1);
        fs::remove_file(federation.path().join("metadata/2.root.json")).unwrap();
    }
    assert!(here.has(&sites[0]));
}

/// Row 7: rollback of all. Check: version of the timestamp (`take_timestamp`).
#[tokio::test]
async fn an_older_timestamp_is_refused() {
    let (federation, mut sites, mut here) = known(&["tokyo.example"]).await;
    // The same snapshot, which was signed for again.
    let earlier = Mirror::of(&federation);
    federation.pass(MINUTE);
    federation.publish();
    here.sync(&[]).await;
    earlier.show(&federation);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "rollback", "{error}");
    for _ in 0..2 {
        federation.publish();
    }
    here.sync(&[]).await;
    let past = Mirror::of(&federation);
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    past.show(&federation);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "rollback", "{error}");
    assert!(here.has(&sites[0]));
    // Over a restart too.
    let mut here = here.again(&federation);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "rollback", "{error}");
}

/// Row 7: mix and match: each file is well signed, and they do not belong together. Checks: the hash of
/// the snapshot (`take_snapshot`), the version of a role (`is_version`).
#[tokio::test]
async fn files_that_do_not_belong_together_are_refused() {
    let (federation, mut sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    let snapshot = |federation: &Federation| federation.repository.snapshot().unwrap().unwrap();
    let old = snapshot(&federation);
    sites[0].rotate_ca(&federation);
    let new = snapshot(&federation);
    overwrite(&federation, &new.file, &old.bytes);
    // By what has changed since the one before, it would be built nevertheless.
    let delta = new.file.replace("snapshot", "snapshot-delta");
    fs::remove_file(federation.path().join(delta)).unwrap();
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "hash", "{error}");
    overwrite(&federation, &new.file, &new.bytes);
    // The first version of its role, in place of the second.
    let first = fs::read(federation.path().join("metadata/1.td-tokyo.example.json")).unwrap();
    let second = fs::read(federation.path().join("metadata/2.td-tokyo.example.json")).unwrap();
    overwrite(&federation, "metadata/2.td-tokyo.example.json", &first);
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("version"));
    assert_eq!(here.reason("osaka.example"), None);
    overwrite(&federation, "metadata/2.td-tokyo.example.json", &second);
    here.sync(&[]).await;
    assert!(here.has(&sites[0]));
}

/// Rows 1 and 2: another descriptor in the place of the one that a member has signed. Check: its hash (`target`).
#[tokio::test]
async fn a_descriptor_that_its_member_has_not_signed_is_refused() {
    let (federation, mut sites, mut here) = known(&["tokyo.example"]).await;
    let before = sites[0].bundle();
    sites[0].rotate_ca(&federation);
    let hash = metadata::sha256(&sites[0].descriptor().to_json());
    let file = format!("targets/{hash}.td-tokyo.example.json");
    let signed = fs::read(federation.path().join(&file)).unwrap();
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    let mut lie = thief.descriptor();
    lie.recovery = None;
    let distrust = br#"{"trust_domain":"tokyo.example","bundle":{"keys":[],"spiffe_sequence":9}}"#;
    for other in [lie.to_json(), distrust.to_vec()] {
        assert!(other.len() <= signed.len(), "its length alone says nothing");
        overwrite(&federation, &file, &other);
        here.sync(&[]).await;
        assert_eq!(here.reason("tokyo.example").as_deref(), Some("hash"));
        assert_eq!(here.bundle("tokyo.example").as_deref(), Some(&before));
    }
    overwrite(&federation, &file, &signed);
    here.sync(&[]).await;
    assert!(here.has(&sites[0]));
}

/// Row 9: huge metadata. Check: bounds on every file (`most`, `get_small`).
#[tokio::test]
async fn huge_files_are_not_read() {
    let (federation, mut sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    sites[0].rotate_ca(&federation);
    let huge = vec![b' '; 70 * 1024];
    overwrite(&federation, "metadata/2.td-tokyo.example.json", &huge);
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("unreachable"));
    assert!(
        here.status("tokyo.example")
            .fault
            .unwrap()
            .problem
            .contains("longer than")
    );
    assert_eq!(here.reason("osaka.example"), None);
    // A small form that is of gigabytes.
    let bomb = {
        use std::io::Write as _;
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..64 {
            writer.write_all(&vec![0; 1024 * 1024]).unwrap();
        }
        writer.finish().unwrap()
    };
    federation.pass(MINUTE);
    sites[1].rotate_ca_quietly(&federation);
    host_says(&federation, "td-osaka.example", 2);
    let snapshot = federation.repository.snapshot().unwrap().unwrap().file;
    fs::write(federation.path().join(format!("{snapshot}.gz")), bomb).unwrap();
    // By what has changed since the one before, it would not be asked for.
    let delta = snapshot.replace("snapshot", "snapshot-delta");
    fs::remove_file(federation.path().join(delta)).unwrap();
    here.sync(&[]).await;
    assert!(here.has(&sites[1]), "the large form is taken");
    let error = Repository::new(federation.path());
    overwrite(
        &federation,
        "metadata/timestamp.json",
        &vec![b' '; 65 * 1024],
    );
    assert!(error.timestamp().is_err());
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

/// Row 10: the host cannot be reached. Check: `max_stale` (`member`).
#[tokio::test]
async fn without_the_host_what_is_known_serves_until_it_is_too_old() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    fs::rename(
        federation.path().join("metadata"),
        federation.path().join("away"),
    )
    .unwrap();
    federation.pass(6 * DAY);
    assert!(here.client.sync(&wanting(&[])).await.is_err());
    assert!(here.has(&sites[0]));
    assert_eq!(here.status("tokyo.example").age, 6 * 24 * 3600);
    federation.pass(2 * DAY);
    let mut here = here.again(&federation);
    assert!(here.client.sync(&wanting(&[])).await.is_err());
    assert!(here.bundle("tokyo.example").is_none());
    let member = here.client.members().get(&sites[0].domain).unwrap().clone();
    assert_eq!(member.age(federation.now()), 8 * DAY);
    fs::rename(
        federation.path().join("away"),
        federation.path().join("metadata"),
    )
    .unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert!(here.has(&sites[0]));
    // Or for as long as the operator says.
    let Here { client, data, root } = here;
    drop(client);
    federation.pass(2 * HOUR);
    let mut shorter = settings(&federation, &data, &root);
    shorter.max_stale = Some(HOUR);
    let clock = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
    let client = Client::open(shorter, clock).unwrap();
    let member = client.members().get(&sites[0].domain).unwrap();
    assert!(member.bundle().is_none());
}

/// A host with two faces. Check: `contradict`.
#[tokio::test]
async fn two_statements_that_cannot_both_be_true_raise_the_alarm() {
    let (federation, mut sites, mut here) = known(&["tokyo.example"]).await;
    let fork = Mirror::of(&federation);
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    // To the others the host shows another history.
    let elsewhere = Repository::new(fork.0.path());
    federation.pass(MINUTE);
    let other = elsewhere.host_says(
        &federation.host,
        &[("td-osaka.example", 7)],
        federation.now(),
    );
    other.unwrap();
    let statement = elsewhere.timestamp().unwrap().unwrap().bytes;
    let error = here.client.compare(&statement).unwrap_err();
    assert_eq!(error.reason(), "split_view", "{error}");
    assert_eq!(here.client.status().alarm.unwrap().reason, "split_view");
    for file in ["split-view-ours.json", "split-view-theirs.json"] {
        assert!(here.data.path().join("state").join(file).exists(), "{file}");
    }
    // An alarm outlives the process.
    let mut here = here.again(&federation);
    assert_eq!(here.client.status().alarm.unwrap().reason, "split_view");
    here.client.quiet();
    // The operator has looked: neither the next gossip nor a restart says it again, nor what the host signs anew
    // about the same snapshot.
    here.client.compare(&statement).unwrap();
    let mut here = here.again(&federation);
    here.client.compare(&statement).unwrap();
    federation.pass(MINUTE);
    federation.publish();
    here.sync(&[]).await;
    here.client.compare(&statement).unwrap();
    assert_eq!(here.client.status().alarm, None);
    // What the host has not signed raises nothing, and neither does what is merely older or newer.
    let mut forged: serde_json::Value = serde_json::from_slice(&statement).unwrap();
    forged["signatures"][0]["sig"] = "00".repeat(64).into();
    here.client.compare(forged.to_string().as_bytes()).unwrap();
    here.client.compare(b"{}").unwrap();
    let past = here.client.statement().unwrap().to_vec();
    federation.publish();
    here.sync(&[]).await;
    here.client.compare(&past).unwrap();
    assert_eq!(here.client.status().alarm, None);
}
