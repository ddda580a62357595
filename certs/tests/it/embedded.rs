//! The CA inside the process.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sekisho_certs::{
    Clock as _, SpiffeId, Trust, TrustBundle, TrustDomain,
    source::{EmbeddedCa, EmbeddedError, SVID_LIFETIME, Supply, rotation_wait},
    tls::provider,
};
use sekisho_testkit::{Site, TestClock, clock::RuntimeClock, wait_until};

fn domain() -> TrustDomain {
    TrustDomain::new("a.example").unwrap()
}

fn id(path: &str) -> SpiffeId {
    sekisho_certs::id::id_below(&domain(), path).unwrap()
}

fn open(folder: &Path, clock: &Arc<TestClock>) -> Result<Arc<EmbeddedCa>, EmbeddedError> {
    let clock = Arc::clone(clock) as _;
    EmbeddedCa::open(folder, &domain(), Arc::new(provider()), clock)
}

/// Opens what was closed a moment ago. Another test may be starting a program just then: its
/// process has our lock too, until the program begins.
fn reopen(
    folder: &Path,
    domain: &TrustDomain,
    clock: &Arc<TestClock>,
) -> Result<Arc<EmbeddedCa>, EmbeddedError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let clock = Arc::clone(clock) as _;
        match EmbeddedCa::open(folder, domain, Arc::new(provider()), clock) {
            Err(EmbeddedError::Locked(_)) if Instant::now() < deadline => std::thread::yield_now(),
            other => return other,
        }
    }
}

fn serial(supply: &Supply) -> &str {
    supply.svids[0].serial()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_it_issues_is_verified_by_its_bundle() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let ca = open(folder.path(), &clock).unwrap();
    let supply = ca.supply(&id("/x")).unwrap().borrow().clone();
    let algorithms = provider().signature_verification_algorithms;
    let trust = Trust::new(supply.bundles.clone(), algorithms);
    let svid = &supply.svids[0];
    let peer = trust.verify(svid.chain(), clock.now()).unwrap();
    assert_eq!(peer.id(), &id("/x"));
    assert_eq!(svid.not_after(), clock.now() + SVID_LIFETIME);
    assert_eq!(svid.not_before(), clock.now() - Duration::from_secs(10));
}

#[tokio::test]
async fn its_state_is_in_its_folder_and_the_key_is_private() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let data = folder.path().join("one/two");
    let ca = open(&data, &clock).unwrap();
    assert_eq!(mode(&data.join("ca.key")), 0o600);
    assert_eq!(mode(&data.join("bundle.json")), 0o644);
    let text = fs::read(data.join("bundle.json")).unwrap();
    let bundle = TrustBundle::from_file(domain(), &text).unwrap();
    assert_eq!(Some(&Arc::new(bundle)), ca.bundles().get(&domain()));
    let text = fs::read(data.join("ca.pem")).unwrap();
    let bundle = TrustBundle::from_file(domain(), &text).unwrap();
    assert_eq!(bundle.authorities().len(), 1);
}

#[tokio::test]
async fn it_is_the_same_ca_after_a_restart() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let first = open(folder.path(), &clock).unwrap();
    let (bundles, key) = (
        first.bundles().clone(),
        fs::read(folder.path().join("ca.key")).unwrap(),
    );
    let old = first.supply(&id("/x")).unwrap().borrow().clone();
    drop(first);
    let second = reopen(folder.path(), &domain(), &clock).unwrap();
    assert_eq!(second.bundles(), &bundles);
    assert_eq!(fs::read(folder.path().join("ca.key")).unwrap(), key);
    let new = second.supply(&id("/x")).unwrap().borrow().clone();
    assert_ne!(serial(&old), serial(&new));
    let trust = Trust::new(bundles, provider().signature_verification_algorithms);
    for supply in [old, new] {
        assert!(trust.verify(supply.svids[0].chain(), clock.now()).is_ok());
    }
}

#[tokio::test]
async fn it_is_opened_once_at_a_time() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let first = open(folder.path(), &clock).unwrap();
    assert!(matches!(
        open(folder.path(), &clock),
        Err(EmbeddedError::Locked(_))
    ));
    drop(first);
    assert!(reopen(folder.path(), &domain(), &clock).is_ok());
}

#[test]
fn its_lock_keeps_other_processes_out() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let locked = || {
        let lock = folder.path().join("lock");
        let mut flock = std::process::Command::new("flock");
        let status = flock.arg("--nonblock").arg(lock).arg("true").status();
        // util-linux; a host without it has the test above.
        status.is_ok_and(|status| !status.success())
    };
    let there = std::process::Command::new("flock")
        .arg("--version")
        .output()
        .is_ok();
    let ca = open(folder.path(), &clock).unwrap();
    assert_eq!(locked(), there);
    drop(ca);
    assert!(reopen(folder.path(), &domain(), &clock).is_ok());
}

#[test]
fn damaged_state_is_told_and_not_replaced() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    drop(open(folder.path(), &clock).unwrap());
    for name in ["ca.key", "ca.pem"] {
        let path = folder.path().join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, "x").unwrap();
        assert!(reopen(folder.path(), &domain(), &clock).is_err(), "{name}");
        assert_eq!(fs::read(&path).unwrap(), b"x");
        fs::write(&path, good).unwrap();
    }
    fs::remove_file(folder.path().join("ca.pem")).unwrap();
    assert!(reopen(folder.path(), &domain(), &clock).is_err());
}

#[test]
fn a_key_that_belongs_to_another_certificate_is_told() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    drop(open(folder.path(), &clock).unwrap());
    let site = Site::new("a.example");
    fs::write(folder.path().join("ca.pem"), site.ca().pem()).unwrap();
    assert!(reopen(folder.path(), &domain(), &clock).is_err());
}

#[test]
fn the_state_of_another_trust_domain_is_told() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    drop(open(folder.path(), &clock).unwrap());
    let other = TrustDomain::new("b.example").unwrap();
    let opened = reopen(folder.path(), &other, &clock);
    assert!(matches!(opened, Err(EmbeddedError::Bundle { .. })));
}

#[test]
fn a_ca_that_was_not_finished_is_made_anew() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    drop(open(folder.path(), &clock).unwrap());
    fs::remove_file(folder.path().join("ca.key")).unwrap();
    assert!(reopen(folder.path(), &domain(), &clock).is_ok());
    assert_eq!(mode(&folder.path().join("ca.key")), 0o600);
}

#[tokio::test]
async fn rotate_issues_every_svid_anew() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let ca = open(folder.path(), &clock).unwrap();
    for path in ["/x", "/y"] {
        let mut supply = ca.supply(&id(path)).unwrap();
        let before = supply.borrow().clone();
        // The task that listens for it starts with its first await.
        tokio::task::yield_now().await;
        ca.rotate();
        let after = wait_until(&mut supply, "a new serial number", |supply| {
            serial(supply) != serial(&before)
        })
        .await;
        assert_eq!(after.bundles, before.bundles);
        assert_eq!(after.svids[0].id(), &id(path));
    }
}

#[tokio::test]
async fn an_id_asked_for_twice_has_one_supply() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
    let ca = open(folder.path(), &clock).unwrap();
    let (one, two) = (ca.supply(&id("/x")).unwrap(), ca.supply(&id("/x")).unwrap());
    assert!(one.same_channel(&two));
    assert!(!one.same_channel(&ca.supply(&id("/y")).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn an_svid_is_replaced_at_about_half_of_its_life() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), RuntimeClock::new());
    let provider = Arc::new(provider());
    let ca = EmbeddedCa::open(folder.path(), &domain(), provider, clock).unwrap();
    let mut supply = ca.supply(&id("/x")).unwrap();
    for _ in 0..3 {
        supply.borrow_and_update();
        let start = tokio::time::Instant::now();
        supply.changed().await.unwrap();
        let minutes = start.elapsed().as_secs() / 60;
        assert!((26..=33).contains(&minutes), "{minutes} minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_svid_is_replaced_soon_after_the_clock_jumped_past_its_end() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), RuntimeClock::new());
    let (provider, time) = (Arc::new(provider()), Arc::clone(&clock) as _);
    let ca = EmbeddedCa::open(folder.path(), &domain(), provider, time).unwrap();
    let mut supply = ca.supply(&id("/x")).unwrap();
    tokio::time::advance(Duration::from_secs(90)).await;
    clock.jump(SVID_LIFETIME);
    let start = tokio::time::Instant::now();
    supply.changed().await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(62));
    assert!(supply.borrow().svids[0].is_valid_at(clock.now()));
}

#[test]
fn the_time_of_rotation_depends_on_the_svid_alone() {
    let site = Site::new("a.example");
    let second = Duration::from_secs(1);
    let mut waits = Vec::new();
    for hours in [1, 48, 24 * 365] {
        let life = Duration::from_secs(hours * 3600);
        for _ in 0..20 {
            let ends = i64::try_from(life.as_secs()).unwrap();
            let svid = site
                .ca()
                .issue(&site.leaf("/x").valid_between(0, ends))
                .svid();
            let begins = svid.not_before();
            let wait = rotation_wait(&svid, begins);
            assert!(
                wait >= life / 2 - life / 20 - second,
                "{wait:?} of {life:?}"
            );
            assert!(
                wait <= life / 2 + life / 20 + second,
                "{wait:?} of {life:?}"
            );
            assert_eq!(rotation_wait(&svid, begins), wait);
            // Whenever it is asked, the moment is the same.
            assert_eq!(rotation_wait(&svid, begins + life / 4), wait - life / 4);
            assert_eq!(rotation_wait(&svid, begins - life / 4), wait + life / 4);
            // Overdue, or the clock jumped: at once, but not in a loop without pause.
            assert_eq!(rotation_wait(&svid, begins + life * 2), second);
            waits.push(wait.as_nanos() * 1000 / life.as_nanos());
        }
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 10, "SVIDs rotate all at once: {waits:?}");
}
