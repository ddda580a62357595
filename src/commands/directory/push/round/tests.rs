use std::sync::Arc;

use sekisho_certs::{TrustBundle, id::parse_trust_domain, members::Source};
use sekisho_federation::directory::client::MemberStatus;
use sekisho_testkit::TestCa;

use super::*;

fn domain(name: &str) -> TrustDomain {
    parse_trust_domain(name).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn pushing(folder: &tempfile::TempDir, named: &[&str], mark: &str) -> Pushing {
    let own = domain("own.example");
    Pushing {
        socket: "/none".into(),
        memory: Memory::open(folder.path(), &own).unwrap(),
        own,
        named: set(named),
        marks: [mark.parse().unwrap()].into(),
        take_over: false,
        threshold: 2,
        begun: UNIX_EPOCH + Duration::from_secs(1000),
    }
}

fn member(name: &str, marks: &[&str]) -> Member {
    let marks = marks.iter().map(|mark| mark.parse().unwrap()).collect();
    let member = Member::new(domain(name), Source::Directory, UNIX_EPOCH);
    member.with_marks(marks).unwrap()
}

fn with(member: Member, bundle: TrustBundle) -> Member {
    member.with_bundle(Arc::new(bundle)).unwrap()
}

fn loaded(name: &str, marks: &[&str]) -> Member {
    with(member(name, marks), TestCa::new(name).bundle(name))
}

/// A directory that was last followed then, and knows of these.
fn directory(age: Option<u64>, known: &[&str]) -> Status {
    let known = known.iter().map(|name| MemberStatus {
        trust_domain: (*name).to_owned(),
        standing: "expelled",
        version: 1,
        sequence: None,
        keys: String::new(),
        pending_keys: None,
        age: 0,
        used: false,
        marks: Vec::new(),
        fault: None,
    });
    Status {
        at: 1500,
        source: "fed".into(),
        root: 1,
        snapshot: 1,
        snapshot_sha256: String::new(),
        age,
        roles: 1,
        members: known.collect(),
        fault: None,
        alarm: None,
        broken: Vec::new(),
        own: 0,
        shown: None,
    }
}

#[test]
fn only_who_was_asked_for_and_is_believed_has_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let pushing = pushing(
        &folder,
        &["a.example", "stale.example", "empty.example"],
        "hpci",
    );
    let empty = TrustBundle::new(domain("empty.example"), []).unwrap();
    let all = [
        loaded("a.example", &[]),
        loaded("b.example", &["hpci", "other"]),
        loaded("c.example", &["other"]),
        member("stale.example", &["hpci"]),
        with(member("empty.example", &["hpci"]), empty),
    ];
    let members = Members::new(&pushing.own, all.map(Arc::new)).unwrap();
    let (said, failed) = pushing.said(&members, &[directory(Some(0), &[])]);
    let names: Vec<_> = said.bundles.keys().map(String::as_str).collect();
    assert_eq!(names, ["a.example", "b.example"]);
    assert_eq!((said.unsure.len(), failed.len()), (0, 0));
    assert_eq!(said.named, pushing.named);
}

#[test]
fn of_whom_a_directory_has_not_said_anything_yet_nothing_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let pushing = pushing(&folder, &["a.example"], "hpci");
    let nobody = Members::default();
    let unsure = |status: &[Status]| !pushing.said(&nobody, status).0.unsure.is_empty();
    // Never followed; before this process began; since.
    assert!(unsure(&[directory(None, &[])]));
    assert!(unsure(&[directory(Some(501), &[])]));
    assert!(!unsure(&[directory(Some(500), &[])]));
    // What is remembered of it counts, whenever that was.
    assert!(!unsure(&[directory(Some(501), &["a.example"])]));
    // Each of several has to have spoken.
    let spoken = || directory(Some(0), &[]);
    assert!(unsure(&[spoken(), directory(None, &["b.example"])]));
    assert!(!unsure(&[spoken(), spoken()]));
}

#[test]
fn a_member_that_two_directories_do_not_agree_on_yet_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let pushing = pushing(&folder, &["a.example"], "hpci");
    let knows = |standing: &'static str, used: bool| {
        let mut status = directory(Some(0), &["a.example"]);
        status.members[0].standing = standing;
        status.members[0].used = used;
        status
    };
    let members = |all: Vec<Member>| {
        Members::new(&domain("own.example"), all.into_iter().map(Arc::new)).unwrap()
    };
    let unsure = |members: &Members, status: &[Status]| {
        let (said, _) = pushing.said(members, status);
        said.unsure.contains("a.example")
    };
    let both = [knows("member", true), knows("member", true)];
    assert!(unsure(&members(vec![]), &both));
    assert!(unsure(&members(vec![member("a.example", &[])]), &both));
    // Who distrusts itself, is out at one of them, or too old, is not waited for.
    let nobody = TrustBundle::new(domain("a.example"), []).unwrap();
    let distrusted = with(member("a.example", &[]), nobody);
    assert!(!unsure(&members(vec![distrusted]), &both));
    for other in [knows("expelled", false), knows("member", false)] {
        assert!(!unsure(&members(vec![]), &[knows("member", true), other]));
    }
    assert!(!unsure(&members(vec![]), &[knows("member", true)]));
}
