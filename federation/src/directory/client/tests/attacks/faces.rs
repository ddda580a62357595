//! By a host with two faces, which takes care.

use super::*;
use crate::directory::gossip::{self, Gossip};

/// Row 2: the same by a host that never shows the same number to both at one time. Check: what was shown
/// before is kept, and compared (`Trusted::recent`).
#[tokio::test]
async fn a_host_that_shows_each_number_to_one_site_at_a_time_is_found_out() {
    let (federation, mut sites, mut here) = known(&["tokyo.example"]).await;
    let fork = Mirror::of(&federation);
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    // The other site is shown another history, of which the numbers are ahead.
    let elsewhere = Repository::new(fork.0.path());
    let mut there = Here::new(&federation);
    there.client.settings.source = Source::Folder(fork.0.path().to_owned());
    for version in [7, 8, 9] {
        federation.pass(MINUTE);
        let now = federation.now();
        let says = [("td-osaka.example", version)];
        elsewhere.host_says(&federation.host, &says, now).unwrap();
        there.sync(&[]).await;
    }
    let theirs = there.client.statement().unwrap().to_vec();
    here.client.compare(&theirs).unwrap();
    let told = |here: &Here| Gossip {
        seen: vec![here.client.seen()],
        ..Gossip::default()
    };
    assert_eq!(told(&here).doubts(&told(&here)), [0; 0]);
    // After a restart both still know what they were shown.
    let (mut here, there) = (here.again(&federation), there.again(&federation));
    let shared: Vec<u64> = told(&here).doubts(&told(&there));
    let [number] = shared.as_slice() else {
        panic!("{shared:?}");
    };
    // A hash alone is nobody's word: the proof is what the host has signed.
    assert_eq!(here.client.status().alarm, None);
    let mut proofs = there.client.proofs().filter(|(one, _)| one == number);
    let proof = proofs.next().unwrap().1.to_vec();
    // It is found by what was shown before, not by what is shown now.
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    let error = here.client.compare(&proof).unwrap_err();
    assert_eq!(error.reason(), "split_view", "{error}");
    // Once the operator has looked, the same is no news, and what comes after it is.
    here.client.quiet();
    let mut here = here.again(&federation);
    sites[0].rotate_ca(&federation);
    here.sync(&[]).await;
    here.client.compare(&proof).unwrap();
    assert_eq!(told(&here).doubts(&told(&there)), [number + 2]);
}

/// So many are kept, and no more.
#[tokio::test]
async fn what_a_host_has_shown_is_remembered_within_bounds() {
    let (federation, _, mut here) = known(&["tokyo.example"]).await;
    for version in 2..80 {
        host_says(&federation, "td-osaka.example", version);
        here.sync(&[]).await;
    }
    let seen = here.client.seen().snapshots;
    assert_eq!(seen.len(), gossip::SEEN);
    let last = here.client.status().snapshot;
    assert_eq!(seen.keys().next_back(), Some(&last));
    assert_eq!(here.again(&federation).client.seen().snapshots, seen);
}

/// Row 2: by a new host, whose numbers are lower than those that the operator has looked at. Check: whose host's
/// they are (`remember_statements`).
#[tokio::test]
async fn what_was_looked_at_of_one_host_excuses_no_other() {
    let (mut federation, _, mut here) = known(&["tokyo.example"]).await;
    let early = Mirror::of(&federation);
    for version in 2..6 {
        host_says(&federation, "td-osaka.example", version);
        here.sync(&[]).await;
    }
    here.client.quiet();
    early.show(&federation);
    federation.host = FileKey::generate().unwrap();
    let change = RootChange {
        host: Some(federation.host.public()),
        ..RootChange::default()
    };
    federation.rotate_root(&change);
    let fork = Mirror::of(&federation);
    host_says(&federation, "td-osaka.example", 7);
    let elsewhere = Repository::new(fork.0.path());
    let says = [("td-osaka.example", 8)];
    let now = federation.now();
    elsewhere.host_says(&federation.host, &says, now).unwrap();
    here.sync(&[]).await;
    let theirs = elsewhere.timestamp().unwrap().unwrap().bytes;
    let mut here = here.again(&federation);
    let error = here.client.compare(&theirs).unwrap_err();
    assert_eq!(error.reason(), "split_view", "{error}");
}

/// What a neighbour tells is bounded, and so is what it is asked for. Checks: `Gossip::read`, `Gossip::doubts`.
#[test]
fn what_a_neighbour_tells_is_bounded() {
    let site = Site::new("tokyo.example");
    let veto = Submission::veto(&site.domain, &site.set(), &site.set(), &[&site.key]).unwrap();
    let seen = |host: &str, hash: &str| gossip::Seen {
        host: host.into(),
        snapshots: (1..=64).map(|number| (number, hash.into())).collect(),
    };
    let told = Gossip {
        timestamps: vec![String::new(); 100],
        seen: vec![seen("one", "00"); 100],
        statements: vec![veto; 100],
    };
    let read = Gossip::read(&told.to_json()).unwrap();
    let counts = (read.timestamps.len(), read.seen.len());
    assert_eq!((counts, read.statements.len()), ((8, 8), 48));
    let mut long = told.to_json();
    long.resize(gossip::MOST + 1, b' ');
    assert!(Gossip::read(&long).is_err());
    let of = |seen| Gossip {
        seen: vec![seen],
        ..Gossip::default()
    };
    let ours = of(seen("one", "01"));
    assert_eq!(ours.doubts(&read), [64, 63, 62, 61]);
    assert_eq!(ours.doubts(&of(seen("other", "00"))), [0; 0]);
}

/// Row 2: the host hides what we say ourselves. Check: what was taken of us is compared with what is shown
/// (`behind`).
#[tokio::test]
async fn a_host_that_hides_our_own_word_is_told_of() {
    let (federation, _, mut here) = known(&["tokyo.example"]).await;
    let own = federation.join("own.example");
    here.sync(&[]).await;
    assert_eq!(here.client.status().own, 1);
    let behind = |here: &Here| {
        let status = here.client.status();
        let own = status
            .broken
            .iter()
            .find(|(role, _)| role == "td-own.example");
        own.map(|(_, fault)| fault.reason.clone())
    };
    let now = federation.now().duration_since(SystemTime::UNIX_EPOCH);
    here.client.own_word(2, now.unwrap().as_secs());
    for minute in 1..=30 {
        assert_eq!(behind(&here), None, "{minute}: its host may be at it");
        federation.pass(MINUTE);
        host_says(&federation, "td-tokyo.example", 1);
        here.sync(&[]).await;
    }
    assert_eq!(behind(&here).as_deref(), Some("behind"));
    own.say(&federation, &own.descriptor());
    here.sync(&[]).await;
    assert_eq!(behind(&here), None);
    assert_eq!(here.client.status().own, 2);
    // One that has gone back, and was followed, is behind nothing any more.
    let now = federation.now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    here.client.own_word(57, now - 3600);
    assert_eq!(behind(&here).as_deref(), Some("behind"));
    here.client.own_word(2, now);
    assert_eq!(behind(&here), None);
}

/// Row 1: a mirror that makes one name of two in what has changed, so that the bytes of the snapshot are right and what
/// is read of them is not. Check: `is_flat` of what stands in a delta (`by_deltas`).
#[tokio::test]
async fn a_delta_cannot_be_read_as_another_snapshot_than_it_writes() {
    let (federation, sites, mut here) = known(&["tokyo.example"]).await;
    let later = ["x.example", "y.example"].map(Site::new);
    let sent: Vec<_> = later.iter().map(|site| site.request(&federation)).collect();
    let all = federation.two_registrars();
    for one in &sent {
        let now = federation.now();
        federation.repository.admit(one, &all, now).unwrap();
    }
    let number = federation.publish().snapshot;
    let file = federation
        .path()
        .join(format!("metadata/{number}.snapshot-delta.json"));
    let text = fs::read_to_string(&file).unwrap();
    let mut delta: serde_json::Value = serde_json::from_str(&text).unwrap();
    let roles = delta["roles"].as_object_mut().unwrap();
    let (x, y) = (roles.remove("td-x.example"), roles.remove("td-y.example"));
    let both = format!(
        r#"td-x.example.json":{{"version":{}}},"td-y.example"#,
        x.unwrap()
    );
    roles.insert(both, y.unwrap());
    fs::write(&file, delta.to_string()).unwrap();
    here.sync(&["x.example", "y.example"]).await;
    assert_eq!(here.client.status().snapshot, number);
    assert!(later.iter().chain(&sites).all(|site| here.has(site)));
    assert_eq!(here.client.status().broken, []);
}
