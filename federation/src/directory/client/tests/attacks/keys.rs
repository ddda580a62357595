//! By who hides or overtakes what a member has said of its own keys.

use std::num::NonZeroU64;

use super::*;

/// The word of a thief who has the key of this site, and a CA of his own.
fn thiefs_word(federation: &Federation, site: &Site) -> u64 {
    let mut lie = site.descriptor();
    let ca = Site::new(site.domain.as_str());
    lie.bundle = Arc::new(ca.bundle().with_hints(Some(9), None));
    let (repository, now) = (&federation.repository, federation.now());
    let version = repository.next_version(&site.domain).unwrap();
    let sent = Submission::new(&lie, version, &[&site.key], now).unwrap();
    repository.accept_unchecked(&sent).unwrap();
    version.get()
}

fn revocation(federation: &Federation, site: &Site) -> Submission {
    let version = federation.repository.next_version(&site.domain).unwrap();
    Submission::revocation(&site.domain, &site.set(), version, &[&site.key]).unwrap()
}

fn veto(site: &Site, against: &KeySet) -> SignedStatement {
    Submission::veto(&site.domain, &site.set(), against, &[&site.key]).unwrap()
}

fn others() -> KeySet {
    let key = FileKey::generate().unwrap().public();
    KeySet::new(vec![key], NonZeroU64::MIN).unwrap()
}

fn hide_statements(federation: &Federation, site: &Site) {
    for end in ["json", "json.gz"] {
        let file = format!("continuity/{}.{end}", site.domain);
        let _ = fs::remove_file(federation.path().join(file));
    }
}

/// Row 5: the thief's next word overtakes the revocation between two looks of ours. Check: whoever has missed a
/// version asks what was said in between (`seen_each` in `follow_keys`).
#[tokio::test]
async fn a_revocation_that_was_overtaken_is_heard() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let sent = revocation(&federation, &sites[0]);
    let taken = federation.repository.accept(&sent, federation.now());
    assert!(taken.unwrap());
    let version = thiefs_word(&federation, &sites[0]);
    host_says(&federation, "td-tokyo.example", version);
    here.sync(&[]).await;
    assert!(here.bundle("tokyo.example").is_none());
    assert_eq!(here.status("tokyo.example").standing, "revoked");
}

/// Row 5: the same of a member that we have never seen. Check: statements are asked for at first sight
/// (`follow_keys`).
#[tokio::test]
async fn keys_that_were_revoked_are_not_taken_at_first_sight() {
    let (federation, sites, mut here) = known(&["osaka.example"]).await;
    let tokyo = federation.join("tokyo.example");
    let sent = revocation(&federation, &tokyo);
    let taken = federation.repository.accept(&sent, federation.now());
    assert!(taken.unwrap());
    let version = thiefs_word(&federation, &tokyo);
    host_says(&federation, "td-tokyo.example", version);
    here.sync(&["tokyo.example"]).await;
    assert!(here.bundle("tokyo.example").is_none());
    let broken = here.client.status().broken;
    let fault = broken.iter().find(|(role, _)| role == "tokyo.example");
    assert_eq!(fault.map(|(_, fault)| &*fault.reason), Some("revoked"));
    assert!(here.has(&sites[0]));
}

/// Row 5: registrars who name other keys of a member that has revoked its own. Check: what was revoked leads on by the
/// recovery key alone (`follow_keys`).
#[tokio::test]
async fn keys_that_follow_revoked_ones_need_the_recovery_key() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let sent = revocation(&federation, &sites[0]);
    let taken = federation.repository.accept(&sent, federation.now());
    assert!(taken.unwrap());
    federation.publish();
    here.sync(&[]).await;
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    collude(&federation, &thief);
    here.sync(&[]).await;
    assert!(here.bundle("tokyo.example").is_none());
    let status = here.status("tokyo.example");
    assert_eq!(status.standing, "revoked");
    let waits = continuity::fingerprint(&thief.set());
    assert_eq!(status.pending_keys, Some(waits));
}

/// Row 5: a thief names a recovery key of his own, and later new keys by that. Check: the first that was named stands
/// (`take`).
#[tokio::test]
async fn a_thief_names_no_other_recovery_key() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let (repository, now) = (&federation.repository, federation.now());
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    let mut lie = sites[0].descriptor();
    lie.recovery = thief.descriptor().recovery;
    let version = repository.next_version(&thief.domain).unwrap();
    let sent = Submission::new(&lie, version, &[&sites[0].key], now).unwrap();
    repository.accept_unchecked(&sent).unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.status("tokyo.example").version, version.get());
    let recovery = &thief.recovery;
    let sent = thief.request(&federation).with_rekey(
        &sites[0].set(),
        thief.set(),
        Some(recovery.public()),
        &[recovery],
    );
    let all = federation.two_registrars();
    repository.admit(&sent.unwrap(), &all, now).unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("rekey"));
    assert!(here.has(&sites[0]));
}

/// Row 4: a veto that one site has seen in the directory, which hides it from another. Checks: it is told on
/// (`continuity`), and counts where it was heard.
#[tokio::test]
async fn a_veto_that_one_site_has_seen_is_told_to_another() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let mut there = Here::new(&federation);
    there.sync(&["tokyo.example"]).await;
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    collude(&federation, &thief);
    let veto = veto(&sites[0], &thief.set());
    let added = federation
        .repository
        .add_statement(&sites[0].domain, veto.clone());
    added.unwrap();
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("vetoed"));
    let told: Vec<_> = here.client.heard().cloned().collect();
    assert_eq!(told, [veto]);
    hide_statements(&federation, &sites[0]);
    there.sync(&[]).await;
    assert_eq!(there.reason("tokyo.example").as_deref(), Some("rekey"));
    assert!(there.client.hear(&told[0]));
    there.sync(&[]).await;
    assert_eq!(there.reason("tokyo.example").as_deref(), Some("vetoed"));
}

/// Row 5: whoever fills what is heard of a member. Checks: a revocation is worth more than a veto, what was heard
/// outlives the member's next word, and nobody else speaks (`hear`, `take`).
#[tokio::test]
async fn a_revocation_is_heard_whatever_was_heard_before() {
    let (federation, mut sites, mut here) = known(&["tokyo.example"]).await;
    let vetoes: Vec<_> = (0..HEARD).map(|_| veto(&sites[0], &others())).collect();
    for veto in &vetoes {
        assert!(here.client.hear(veto));
    }
    assert!(!here.client.hear(&veto(&sites[0], &others())), "full");
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    assert!(here.has(&sites[0]));
    assert!(here.client.heard().eq(&vetoes));
    // From keys that are not its own, and by keys that are none of it.
    let (tokyo, stranger) = (&sites[0], Site::new("tokyo.example"));
    let by = |from: &Site, key: &FileKey| {
        let sent = Submission::revocation(&tokyo.domain, &from.set(), NonZeroU64::MIN, &[key]);
        sent.unwrap().statement().unwrap().clone()
    };
    for lie in [by(&stranger, &tokyo.key), by(tokyo, &stranger.key)] {
        assert!(!here.client.hear(&lie));
    }
    let revoked = by(tokyo, &tokyo.key);
    assert!(here.client.hear(&revoked));
    assert!(here.client.heard().any(|one| *one == revoked));
    assert!(here.bundle("tokyo.example").is_none());
    let here = here.again(&federation);
    assert!(here.bundle("tokyo.example").is_none());
    assert_eq!(here.status("tokyo.example").standing, "revoked");
}

/// What was known is damaged, and the directory has other keys than those that the operator has accepted a moment ago.
/// Check: `accepted` (`look`).
#[tokio::test]
async fn other_keys_than_the_operator_has_accepted_are_not_taken() {
    let (federation, sites, here) = known(&["tokyo.example"]).await;
    let file = here.data.path().join("state/members/tokyo.example.member");
    fs::write(file, "{").unwrap();
    let mut here = here.again(&federation);
    here.sync(&[]).await;
    let keys = continuity::fingerprint(&sites[0].set());
    assert!(here.client.accept_rekey(&sites[0].domain, &keys).unwrap());
    let mut thief = Site::new("tokyo.example");
    thief.sequence = 9;
    collude(&federation, &thief);
    here.sync(&["tokyo.example"]).await;
    assert!(here.bundle("tokyo.example").is_none());
    let broken = here.client.status().broken;
    let fault = broken.iter().find(|(role, _)| role == "tokyo.example");
    assert_eq!(fault.map(|(_, fault)| &*fault.reason), Some("rekey"));
}
