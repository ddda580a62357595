//! By those who keep it, or who neglect it.

use super::*;

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
        settings.rekey_wait = Some(7 * HOUR);
        let clock = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
        Client::open(settings, clock).unwrap()
    };
    let mut client = waiting();
    look(&federation, &mut client, 6 * HOUR).await;
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
    look(&federation, &mut client, 2 * HOUR).await;
    let status = client.status().members.remove(0);
    assert_eq!(status.fault.unwrap().reason, "vetoed");
}

/// Follows for so long, every ten minutes.
async fn look(federation: &Federation, client: &mut Client, time: Duration) {
    let end = federation.now() + time;
    while federation.now() < end {
        federation.pass(10 * MINUTE);
        federation.publish();
        client.sync(&wanting(&[])).await.unwrap();
    }
}

/// The same where nobody looks, for a site that was away: a veto could not have been seen. Check: what is counted
/// (`Pending::seen`).
#[tokio::test]
async fn new_keys_wait_for_as_long_as_somebody_looks() {
    let (federation, sites, here) = known(&["tokyo.example"]).await;
    let [mut first, mut thief] = ["tokyo.example"; 2].map(Site::new);
    (first.sequence, thief.sequence) = (9, 10);
    collude(&federation, &first);
    let Here { client, data, root } = here;
    drop(client);
    let waiting = || {
        let mut settings = settings(&federation, &data, &root);
        settings.rekey_wait = Some(2 * HOUR);
        let clock = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
        Client::open(settings, clock).unwrap()
    };
    let has = |client: &Client, site: &Site| {
        let member = client.members().get(&site.domain);
        member
            .and_then(|one| one.bundle())
            .is_some_and(|bundle| **bundle == site.bundle())
    };
    let mut client = waiting();
    look(&federation, &mut client, HOUR + 50 * MINUTE).await;
    // The time in which other keys have stood there does not count for these.
    collude(&federation, &thief);
    look(&federation, &mut client, HOUR + 10 * MINUTE).await;
    // Away for days, and then a look now and then.
    drop(client);
    federation.pass(3 * DAY);
    let mut client = waiting();
    for _ in 0..5 {
        federation.publish();
        client.sync(&wanting(&[])).await.unwrap();
        federation.pass(HOUR);
    }
    assert!(has(&client, &sites[0]), "one hour counts so far");
    look(&federation, &mut client, 40 * MINUTE).await;
    assert!(has(&client, &sites[0]));
    look(&federation, &mut client, 30 * MINUTE).await;
    assert!(has(&client, &thief), "and here the second is over");
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
