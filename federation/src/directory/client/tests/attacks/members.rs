//! By members, and by whoever has their keys.

use super::*;

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

/// Row 9: a member who says more than may be read. Check: the length that its role names (`target`).
#[tokio::test]
async fn a_member_who_says_too_much_is_not_read() {
    let (federation, sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    let (domain, key) = (&sites[0].domain, &sites[0].key);
    let version = federation.repository.next_version(domain).unwrap();
    let mut text = sites[0].descriptor().to_json();
    text.resize(crate::directory::descriptor::MOST + 1, b' ');
    let (repository, now) = (&federation.repository, federation.now());
    let said = repository.accept_text(domain, version, &text, &[key], now);
    said.unwrap();
    host_says(&federation, "td-tokyo.example", version.get());
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("too_large"));
    assert_eq!(here.reason("osaka.example"), None);
    assert!(here.has(&sites[0]));
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

/// Row 6: a member copies a CA key that another has announced. Check: possession (`Owners::claim`).
#[tokio::test]
async fn a_ca_key_that_was_copied_keeps_its_owner_from_nothing() {
    // Whichever comes first by its name.
    for name in ["osaka.example", "zurich.example"] {
        a_ca_key_was_copied(name).await;
    }
}

async fn a_ca_key_was_copied(name: &str) {
    let (federation, mut sites, mut here) = known(&[name]).await;
    let mut thief = sites.remove(0);
    let owner = Site::new("tokyo.example");
    thief.copy_ca_key(&owner);
    let descriptor = thief.descriptor();
    thief.say(&federation, &descriptor);
    here.sync(&[]).await;
    assert!(
        here.has(&thief),
        "it is seen first, and nobody else has the key"
    );
    let sent = owner.request(&federation);
    let all = federation.two_registrars();
    let now = federation.now();
    federation.repository.admit(&sent, &all, now).unwrap();
    federation.publish();
    here.sync(&["tokyo.example"]).await;
    assert!(here.has(&owner), "{:?}", here.status("tokyo.example"));
    let refused = |here: &Here| {
        assert!(here.bundle(name).is_none());
        let fault = here.status(name).fault.unwrap();
        assert_eq!(fault.reason, "shared_key");
        assert!(fault.problem.contains("tokyo.example"), "{}", fault.problem);
    };
    refused(&here);
    // Nor after a restart, nor by saying it again.
    let mut here = here.again(&federation);
    refused(&here);
    thief.sequence += 1;
    let descriptor = thief.descriptor();
    thief.say(&federation, &descriptor);
    here.sync(&[]).await;
    refused(&here);
    assert!(here.has(&owner));
    // And it is heard again once it gives up the key.
    thief.more.clear();
    thief.sequence += 1;
    let descriptor = thief.descriptor();
    thief.say(&federation, &descriptor);
    here.sync(&[]).await;
    assert!(here.has(&thief) && here.has(&owner));
}

/// Row 6: the CA key of who went is free for who shows that it has it. Check: `let_go` (`is_none`), and after a restart
/// (`load`).
#[tokio::test]
async fn the_ca_key_of_who_went_is_free() {
    for again in [false, true] {
        let (federation, mut sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
        let all = federation.two_registrars();
        let (repository, now) = (&federation.repository, federation.now());
        repository.expel(&sites[0].domain, &all, now).unwrap();
        federation.publish();
        here.sync(&[]).await;
        if again {
            here = here.again(&federation);
        }
        let profile = sekisho_testkit::Profile::ca("osaka.example");
        sites[1].ca = sites[0].ca.renewed(&profile);
        sites[1].sequence = 2;
        let descriptor = sites[1].descriptor();
        sites[1].say(&federation, &descriptor);
        here.sync(&[]).await;
        assert_eq!(here.reason("osaka.example"), None);
        assert!(here.has(&sites[1]));
    }
}

/// Row 6: the same by one who comes second, with the owner's very certificate. Check: the name in it
/// (`TrustBundle::new`).
#[tokio::test]
async fn a_ca_certificate_that_names_another_domain_is_refused() {
    let (federation, sites, mut here) = known(&["tokyo.example", "osaka.example"]).await;
    let text = String::from_utf8(sites[0].descriptor().to_json()).unwrap();
    let text = text.replace(
        r#""trust_domain":"tokyo.example""#,
        r#""trust_domain":"osaka.example""#,
    );
    let (domain, key) = (&sites[1].domain, &sites[1].key);
    let version = federation.repository.next_version(domain).unwrap();
    let now = federation.now();
    let repository = &federation.repository;
    let said = repository.accept_text(domain, version, text.as_bytes(), &[key], now);
    said.unwrap();
    host_says(&federation, "td-osaka.example", version.get());
    here.sync(&[]).await;
    let fault = here.status("osaka.example").fault.unwrap();
    assert_eq!(fault.reason, "descriptor");
    let problem = fault.problem;
    assert!(
        problem.contains("osaka.example") && problem.contains("another trust domain"),
        "{problem}"
    );
    assert!(here.has(&sites[0]) && here.has(&sites[1]));
}

/// Row 8: a member stops signing. Checks: its own end (`confirm`, `look`).
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
    // And who sees it for the first time believes nothing of it.
    let mut there = Here::new(&federation);
    there.sync(&["osaka.example"]).await;
    there.sync(&["tokyo.example"]).await;
    assert!(there.bundle("tokyo.example").is_none());
    assert!(there.has(&sites[1]));
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

/// What was known and cannot be read. Check: `lost`.
#[tokio::test]
async fn a_member_whose_record_is_gone_bad_is_not_seen_as_for_the_first_time() {
    let (federation, mut sites, here) = known(&["tokyo.example"]).await;
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
    // Later keys are followed as everybody's are.
    let before = sites[0].set();
    let old = std::mem::replace(&mut sites[0].key, FileKey::generate().unwrap());
    let sent = sites[0]
        .request(&federation)
        .with_rekey(&before, sites[0].set(), None, &[&old])
        .unwrap();
    let all = federation.two_registrars();
    federation
        .repository
        .admit(&sent, &all, federation.now())
        .unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example"), None);
}
