//! Every row of the attack table of docs/federation.md: each test performs the attack, and shows what it
//! comes to. The name of the check that holds stands with it: without that check, the test fails.

use std::{fs, path::Path};

use super::*;
use crate::directory::{
    continuity::{self, KeySet},
    fixture,
    metadata::{self, Signed, Targets},
    repository::{Repository, versioned},
};

/// A copy of all files, as a mirror has them.
fn copy(from: &Path, to: &Path) {
    for folder in ["metadata", "targets", "continuity"] {
        let _ = fs::remove_dir_all(to.join(folder));
        fs::create_dir_all(to.join(folder)).unwrap();
        let Ok(entries) = fs::read_dir(from.join(folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
        }
    }
}

/// A mirror of the directory as it is now, which shows that for ever.
struct Mirror(TempDir);

impl Mirror {
    fn of(federation: &Federation) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(federation.path(), folder.path());
        Self(folder)
    }

    fn show(&self, federation: &Federation) {
        copy(self.0.path(), federation.path());
    }
}

/// Writes a role over the one that is there, small form and all.
fn overwrite(federation: &Federation, file: &str, bytes: &[u8]) {
    let _ = fs::remove_file(federation.path().join(format!("{file}.gz")));
    fs::write(federation.path().join(file), bytes).unwrap();
}

fn role(federation: &Federation, role: &str, version: u64) -> Signed<Targets> {
    let file = versioned(role, version);
    let bytes = fs::read(federation.path().join(&file)).unwrap();
    metadata::parse(&file, &bytes).unwrap()
}

async fn known(names: &[&str]) -> (Federation, Vec<Site>, Here) {
    let federation = Federation::new(1);
    let sites: Vec<Site> = names.iter().map(|name| federation.join(name)).collect();
    let mut here = Here::new(&federation);
    here.sync(names).await;
    assert!(sites.iter().all(|site| here.has(site)));
    (federation, sites, here)
}

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

/// A snapshot by the host's key with this version of a role, whatever the files hold.
fn host_says(federation: &Federation, role: &str, version: u64) {
    federation
        .repository
        .host_says(&federation.host, &[(role, version)], federation.now())
        .unwrap();
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
    host_says(&federation, "bin", 3);
    here.sync(&["osaka.example"]).await;
    assert!(here.bundle("osaka.example").is_none());
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

/// Row 3: one registrar's key, or one institution's. Check: thresholds (`read_delegated`, `next_root`).
#[tokio::test]
async fn one_key_of_registrars_or_institutions_does_nothing() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let mut bin = role(&federation, "bin", 2);
    bin.signed.version = 3.try_into().unwrap();
    bin.signed.delegations.as_mut().unwrap().roles.clear();
    bin.signatures.clear();
    metadata::sign(&mut bin, &[&federation.registrars[0]]).unwrap();
    let bytes = serde_json::to_vec(&bin).unwrap();
    overwrite(&federation, "metadata/3.bin.json", &bytes);
    host_says(&federation, "bin", 3);
    here.sync(&[]).await;
    assert!(here.has(&sites[0]));
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("signatures"));
    // The next root, signed by one.
    federation
        .repository
        .propose_root(&RootChange::default(), federation.now())
        .unwrap();
    federation
        .repository
        .sign_draft("root", &[&federation.institutions[0]])
        .unwrap();
    let draft = fs::read(federation.path().join("drafts/root.json")).unwrap();
    overwrite(&federation, "metadata/2.root.json", &draft);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "signatures", "{error}");
    assert!(here.has(&sites[0]));
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

/// Replaces a member's keys by those of a thief, as registrars who collude do.
fn collude(federation: &Federation, thief: &Site) {
    let sent = thief.request(federation);
    let all = federation.two_registrars();
    federation
        .repository
        .admit_unchecked(&sent, &all, federation.now())
        .unwrap();
    federation.publish();
}

/// Row 4: registrars collude, against a member that is known. Check: sticky keys (`follow_keys`).
#[tokio::test]
async fn registrars_who_collude_give_no_known_member_new_keys() {
    let (federation, sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    collude(&federation, &thief);
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("rekey"));
    assert!(here.has(&sites[0]), "the old bundle serves");
    assert!(here.has(&sites[1]));
    // A new name is theirs to make: that is what registrars are for.
    federation.join("new.example");
    here.sync(&["new.example"]).await;
    assert!(here.bundle("new.example").is_some());
    // A year later it is still not believed, unless the operator says so.
    let waiting = here.status("tokyo.example").pending_keys.unwrap();
    assert!(!here.client.accept_rekey(&sites[0].domain, "00:11").unwrap());
    assert!(
        here.client
            .accept_rekey(&sites[0].domain, &waiting)
            .unwrap()
    );
    here.sync(&[]).await;
    assert!(here.has(&thief));
}

/// Row 4: by expelling it first. Check: a record outlives its member (`is_none`).
#[tokio::test]
async fn a_member_who_was_expelled_comes_back_by_its_own_keys_alone() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let all = federation.two_registrars();
    federation
        .repository
        .expel(&sites[0].domain, &all, federation.now())
        .unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert!(here.bundle("tokyo.example").is_none(), "it is cut off");
    assert_eq!(here.status("tokyo.example").standing, "expelled");
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    collude(&federation, &thief);
    let mut here = here.again(&federation);
    here.sync(&["tokyo.example"]).await;
    assert!(here.bundle("tokyo.example").is_none());
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("rekey"));
}

/// Row 4: with the waiting period, which is off unless set. Check: a veto (`judge`).
#[tokio::test]
async fn new_keys_that_wait_in_public_are_stopped_by_a_veto() {
    let (federation, sites, here) = known(&["tokyo.example"]).await;
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    collude(&federation, &thief);
    let Here { client, data, root } = here;
    drop(client);
    let waiting = || {
        let mut settings = settings(&federation, &data, &root);
        settings.rekey_wait = Some(7 * DAY);
        let clock = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
        Client::open(settings, clock).unwrap()
    };
    let mut client = waiting();
    client.sync(&wanting(&[])).await.unwrap();
    federation.pass(6 * DAY);
    federation.publish();
    client.sync(&wanting(&[])).await.unwrap();
    let bundle = |client: &Client| {
        client
            .members()
            .get(&sites[0].domain)
            .unwrap()
            .bundle()
            .cloned()
    };
    assert_eq!(bundle(&client).as_deref(), Some(&sites[0].bundle()));
    let veto = Submission::veto(
        &sites[0].domain,
        &sites[0].set(),
        &thief.set(),
        &[&sites[0].key],
    );
    federation
        .repository
        .add_statement(&sites[0].domain, veto.unwrap())
        .unwrap();
    federation.pass(2 * DAY);
    federation.publish();
    client.sync(&wanting(&[])).await.unwrap();
    let status = client.status().members.remove(0);
    assert_eq!(status.fault.unwrap().reason, "vetoed");
}

/// Row 5: a member's key stolen, to speak for another. Check: exactly its own target and name
/// (`signed_by_delegates`, `Descriptor::read`).
#[tokio::test]
async fn a_members_key_speaks_for_that_member_alone() {
    let (federation, sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    // Osaka's role, signed by Tokyo's key.
    let version = federation
        .repository
        .next_version(&sites[1].domain)
        .unwrap();
    let mut lie = Site::new("osaka.example");
    lie.sequence = 9;
    let now = federation.now();
    let sent = Submission::new(&lie.descriptor(), version, &[&sites[0].key], now).unwrap();
    federation.repository.accept_unchecked(&sent).unwrap();
    host_says(&federation, "td-osaka.example", version.get());
    here.sync(&[]).await;
    assert_eq!(here.reason("osaka.example").as_deref(), Some("signatures"));
    assert_eq!(here.reason("tokyo.example"), None);
    // Tokyo's role, with Osaka's descriptor in it.
    let version = federation
        .repository
        .next_version(&sites[0].domain)
        .unwrap();
    let text = br#"{"trust_domain":"osaka.example","bundle":{"keys":[]}}"#.to_vec();
    federation
        .repository
        .accept_text(&sites[0].domain, version, &text, &[&sites[0].key], now)
        .unwrap();
    host_says(&federation, "td-tokyo.example", version.get());
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("descriptor"));
    assert!(here.has(&sites[0]) && here.has(&sites[1]));
}

/// Row 5: a member's key stolen, and revoked by the member. Check: revocation (`is_revoked`), recovery
/// key (`judge`).
#[tokio::test]
async fn a_stolen_key_is_revoked_and_the_recovery_key_brings_the_member_back() {
    let (federation, mut sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    let domain = sites[0].domain.clone();
    let stolen = FileKey::generate().unwrap();
    let stolen = std::mem::replace(&mut sites[0].key, stolen);
    let old = KeySet::new(vec![stolen.public()], std::num::NonZeroU64::MIN).unwrap();
    let version = federation.repository.next_version(&domain).unwrap();
    let sent = Submission::revocation(&domain, &old, version, &[&stolen]).unwrap();
    federation
        .repository
        .accept(&sent, federation.now())
        .unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert!(here.bundle("tokyo.example").is_none());
    assert_eq!(here.status("tokyo.example").standing, "revoked");
    assert!(here.has(&sites[1]));
    // The thief goes on speaking, by a host who hides what was said.
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    let next = federation.repository.next_version(&domain).unwrap();
    let now = federation.now();
    let mut lie = thief.descriptor();
    lie.recovery = sites[0].descriptor().recovery;
    let sent = Submission::new(&lie, next, &[&stolen], now).unwrap();
    let error = federation
        .repository
        .accept(&sent, now)
        .unwrap_err()
        .to_string();
    assert!(error.contains("revoked"), "{error}");
    federation.repository.accept_unchecked(&sent).unwrap();
    for file in [
        "continuity/tokyo.example.json",
        "continuity/tokyo.example.json.gz",
    ] {
        let _ = fs::remove_file(federation.path().join(file));
    }
    federation.publish();
    let mut here = here.again(&federation);
    here.sync(&[]).await;
    assert!(here.bundle("tokyo.example").is_none());
    // The recovery key names new ones, and the registrars take them.
    sites[0].sequence = 10;
    let recovery = &sites[0].recovery;
    let sent = sites[0]
        .request(&federation)
        .with_rekey(&old, sites[0].set(), Some(recovery.public()), &[recovery])
        .unwrap();
    let all = federation.two_registrars();
    federation.repository.admit(&sent, &all, now).unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert!(here.has(&sites[0]), "{:?}", here.status("tokyo.example"));
}

/// Row 5: a stolen key that was revoked, and a member that is suspended and comes back by the same keys. Check:
/// what was revoked stays so (`is_revoked` of a record).
#[tokio::test]
async fn keys_that_were_revoked_do_not_come_back_by_a_detour() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let (domain, now) = (&sites[0].domain, federation.now());
    let version = federation.repository.next_version(domain).unwrap();
    let sent = Submission::revocation(domain, &sites[0].set(), version, &[&sites[0].key]).unwrap();
    federation.repository.accept(&sent, now).unwrap();
    federation.publish();
    here.sync(&[]).await;
    let all = federation.two_registrars();
    federation.repository.suspend(domain, &all, now).unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.status("tokyo.example").standing, "suspended");
    federation.repository.resume(domain, &all, now).unwrap();
    let mut thief = sites[0].descriptor();
    thief.bundle = Arc::new(sites[0].bundle().with_hints(Some(9), None));
    let next = federation.repository.next_version(domain).unwrap();
    let sent = Submission::new(&thief, next, &[&sites[0].key], now).unwrap();
    federation.repository.accept_unchecked(&sent).unwrap();
    for file in [
        "continuity/tokyo.example.json",
        "continuity/tokyo.example.json.gz",
    ] {
        let _ = fs::remove_file(federation.path().join(file));
    }
    federation.publish();
    here.sync(&[]).await;
    assert!(here.bundle("tokyo.example").is_none());
    assert_eq!(here.status("tokyo.example").standing, "revoked");
}

/// Marks that registrars neglect, or a host keeps old. Check: their end (`member`).
#[tokio::test]
async fn marks_that_nobody_has_signed_again_count_no_more() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    federation.mark(&sites[0], &["hpci"]);
    here.sync(&[]).await;
    let hpci: Mark = "hpci".parse().unwrap();
    let has = |here: &Here| {
        let member = here.client.members().get(&sites[0].domain).cloned();
        member.is_some_and(|one| one.marks().contains(&hpci))
    };
    assert!(has(&here));
    for _ in 0..13 {
        federation.pass(14 * DAY);
        federation.publish();
        sites[0].say(&federation, &sites[0].descriptor());
        here.sync(&[]).await;
    }
    assert!(has(&here));
    federation.pass(8 * DAY);
    federation.publish();
    here.sync(&[]).await;
    assert!(!has(&here));
}

/// Row 6: a member's CA stolen: no other domain is touched. Check: no CA key in two domains (`take`).
#[tokio::test]
async fn a_ca_key_is_one_members_alone() {
    let (federation, mut sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    let before = sites[1].bundle();
    let same_key = sites[0]
        .ca
        .renewed(&sekisho_testkit::Profile::ca("osaka.example"));
    sites[1].ca = same_key;
    sites[1].sequence = 2;
    let descriptor = sites[1].descriptor();
    sites[1].say(&federation, &descriptor);
    here.sync(&[]).await;
    assert_eq!(here.reason("osaka.example").as_deref(), Some("shared_key"));
    assert_eq!(here.bundle("osaka.example").as_deref(), Some(&before));
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

/// Row 8: a member stops signing. Check: its own end (`confirm`).
#[tokio::test]
async fn a_member_who_stops_signing_goes_stale_alone() {
    let (federation, mut sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    federation.pass(29 * DAY);
    sites[1].rotate_ca(&federation);
    here.sync(&[]).await;
    federation.pass(2 * DAY);
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("expired"));
    assert!(here.has(&sites[0]), "what it said last serves");
    assert_eq!(here.status("tokyo.example").age, 2 * 24 * 3600);
    assert_eq!(here.reason("osaka.example"), None);
    for _ in 0..6 {
        federation.pass(DAY);
        federation.publish();
        here.sync(&[]).await;
    }
    assert!(
        here.bundle("tokyo.example").is_none(),
        "until it is too old"
    );
    assert!(here.has(&sites[1]));
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    assert!(here.has(&sites[0]), "and when it signs again, it is back");
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
}

/// A lapsed bin: registrars neglect it. Check: the end of a bin (`confirm`, `look`).
#[tokio::test]
async fn a_lapsed_bin_freezes_its_members_and_nobody_else() {
    let federation = Federation::new(16);
    let sites: Vec<Site> = (0..24)
        .map(|n| federation.join(&format!("s{n}.example")))
        .collect();
    let bin = |site: &Site| federation.repository.bin_of(&site.domain).unwrap();
    let other = sites
        .iter()
        .find(|site| bin(site) != bin(&sites[0]))
        .unwrap();
    let mut here = Here::new(&federation);
    let names = [sites[0].domain.as_str(), other.domain.as_str()];
    here.sync(&names).await;
    federation.pass(170 * DAY);
    let all = federation.two_registrars();
    let due = bin(other);
    assert!(
        federation
            .repository
            .is_due(&due, federation.now())
            .unwrap()
    );
    federation
        .repository
        .propose_again(&due, federation.now())
        .unwrap();
    federation.repository.sign_draft(&due, &all).unwrap();
    federation.repository.publish_draft(&due).unwrap();
    for site in [&sites[0], other] {
        site.say(&federation, &site.descriptor());
    }
    for _ in 0..12 {
        here.sync(&[]).await;
        federation.pass(DAY);
        federation.publish();
    }
    here.sync(&[]).await;
    assert_eq!(here.reason(names[0]).as_deref(), Some("expired"));
    assert!(here.has(&sites[0]), "frozen, not failed");
    assert_eq!(here.reason(names[1]), None);
    // Nobody comes in by it.
    let same = sites
        .iter()
        .skip(1)
        .find(|site| bin(site) == bin(&sites[0]));
    if let Some(same) = same {
        here.sync(&[same.domain.as_str()]).await;
        assert!(here.bundle(same.domain.as_str()).is_none());
    }
}

/// Our own domain. Check: `may_be`.
#[tokio::test]
async fn nobody_tells_us_of_our_own_domain() {
    let federation = Federation::new(1);
    federation.join("own.example");
    let mut here = Here::new(&federation);
    let synced = here.sync(&["own.example"]).await;
    assert_eq!(synced.strangers, [domain("own.example")]);
    let all = Wanted {
        all: true,
        ..Wanted::default()
    };
    here.client.sync(&all).await.unwrap();
    assert!(here.bundle("own.example").is_none());
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
    here.client.quiet();
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

/// What was known and cannot be read. Check: `lost`.
#[tokio::test]
async fn a_member_whose_record_is_gone_bad_is_not_seen_as_for_the_first_time() {
    let (federation, sites, here) = known(&["tokyo.example"]).await;
    let file = here.data.path().join("state/members/tokyo.example.member");
    fs::write(file, "{").unwrap();
    let mut here = here.again(&federation);
    here.sync(&["tokyo.example"]).await;
    assert!(here.bundle("tokyo.example").is_none());
    let status = here.client.status();
    let (_, fault) = status
        .broken
        .iter()
        .find(|(role, _)| role == "tokyo.example")
        .unwrap();
    assert_eq!(fault.reason, "lost");
    let keys = continuity::fingerprint(&sites[0].set());
    assert!(fault.problem.contains(&keys), "{}", fault.problem);
    assert!(here.client.accept_rekey(&sites[0].domain, &keys).unwrap());
    here.sync(&["tokyo.example"]).await;
    assert!(here.has(&sites[0]));
}
