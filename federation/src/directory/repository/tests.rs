mod keeping;

use std::time::Duration;

use sekisho_certs::id::parse_trust_domain;

use super::*;
use crate::directory::{
    continuity::{SignedStatement, Statement, Verdict, What},
    fixture::{Federation, Member, keys, set, signers, two},
    key::{FileKey, Signer as _},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn a_member_joins_speaks_and_is_seen() {
    let federation = Federation::new(16);
    let mut tokyo = federation.join("tokyo.example");
    federation.mark(&tokyo, &["hpci"]);
    tokyo.rotate_ca(&federation);
    let report = federation
        .repository
        .verify(None, federation.now())
        .unwrap();
    assert_eq!(report.complaints, []);
    let [member] = report.members.as_slice() else {
        panic!("one member")
    };
    assert_eq!(member.trust_domain, "tokyo.example");
    assert_eq!(member.version, 2);
    assert_eq!(member.marks, ["hpci"]);
}

#[test]
fn new_keys_are_not_published_without_their_word() {
    let here = Federation::new(1);
    let mut tokyo = here.join("tokyo.example");
    let repository = &here.repository;
    let (before, now) = (tokyo.set(), here.now());
    let old = std::mem::replace(&mut tokyo.key, FileKey::generate().unwrap());
    let sent = tokyo.request(&here);
    let sent = sent
        .with_rekey(&before, tokyo.set(), None, &[&old])
        .unwrap();
    let one = signers(&here.registrars[..1]);
    let other = signers(&here.registrars[1..2]);
    assert!(!repository.admit(&sent, &one, now).unwrap().is_complete());
    // Meanwhile the member says something by its old key: the request is of a version that is taken.
    tokyo.sequence += 1;
    let version = repository.next_version(&tokyo.domain).unwrap();
    let word = Submission::new(&tokyo.descriptor(), version, &[&old], now).unwrap();
    assert!(repository.accept(&word, now).unwrap());
    let bin = || repository.member(&tokyo.domain).unwrap().unwrap().0.id();
    let error = repository
        .admit(&sent, &other, now)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("version 2 is sent, and 2 is there"),
        "{error}"
    );
    assert_eq!(bin(), before.id());
    let error = repository.admit(&sent, &here.two_registrars(), now);
    assert!(error.is_err());
    assert_eq!(bin(), before.id());
}

#[test]
fn one_registrar_is_not_enough_and_a_stranger_is_none() {
    let federation = Federation::new(1);
    let member = Member::new("tokyo.example");
    let sent = member.request(&federation);
    let repository = &federation.repository;
    let now = federation.now();
    let stranger = FileKey::generate().unwrap();
    let error = repository.admit(&sent, &[&stranger], now).unwrap_err();
    assert!(error.to_string().contains("may not sign"), "{error}");
    let first = &federation.registrars[0];
    let state = repository.admit(&sent, &[first], now).unwrap();
    assert!(!state.is_complete());
    // Twice is still one.
    let state = repository.admit(&sent, &[first], now).unwrap();
    assert!(!state.is_complete());
    federation.publish();
    assert_eq!(repository.members().unwrap(), []);
    federation.pass(Duration::from_secs(60));
    let second = &federation.registrars[2];
    let state = repository
        .admit(&sent, &[second], federation.now())
        .unwrap();
    assert!(state.is_complete(), "{state:?}");
    federation.publish();
    assert_eq!(repository.members().unwrap().len(), 1);
    assert_eq!(repository.drafts().unwrap(), []);
}

#[test]
fn signatures_travel_as_files() {
    let (here, there) = (Federation::new(1), tempfile::tempdir().unwrap());
    let repository = &here.repository;
    repository
        .propose_root(&RootChange::default(), here.now())
        .unwrap();
    // A copy at another institution.
    let other = Repository::new(there.path());
    for file in ["metadata/1.root.json", "drafts/root.json"] {
        let bytes = repository.read(file, usize::MAX - 1).unwrap().unwrap();
        other.write(file, &bytes).unwrap();
    }
    other.sign_draft("root", &[&here.institutions[1]]).unwrap();
    let sent = other.signatures_of_draft("root").unwrap();
    repository
        .sign_draft("root", &[&here.institutions[0]])
        .unwrap();
    assert!(repository.publish_draft("root").is_err());
    let state = repository.merge_signatures(&sent).unwrap();
    assert!(state.is_complete());
    // A second time it brings nothing.
    assert!(repository.merge_signatures(&sent).is_err());
    repository.publish_draft("root").unwrap();
    here.publish();
    let report = repository.verify(None, here.now()).unwrap();
    assert_eq!((report.root, report.complaints), (2, Vec::new()));
}

#[test]
fn signatures_of_another_draft_are_refused() {
    let here = Federation::new(1);
    let repository = &here.repository;
    repository
        .propose_root(&RootChange::default(), here.now())
        .unwrap();
    repository
        .sign_draft("root", &[&here.institutions[0]])
        .unwrap();
    let sent = repository.signatures_of_draft("root").unwrap();
    here.pass(DAY);
    repository
        .propose_root(&RootChange::default(), here.now())
        .unwrap();
    let error = repository.merge_signatures(&sent).unwrap_err().to_string();
    assert!(error.contains("same draft"), "{error}");
    let error = repository.merge_signatures(b"{}").unwrap_err().to_string();
    assert!(error.contains("role"), "{error}");
}

#[test]
fn institutions_change_by_the_word_of_both() {
    let mut here = Federation::new(1);
    let next = keys(3);
    let change = RootChange {
        institutions: Some(set(&next, two())),
        ..RootChange::default()
    };
    let repository = here.repository.clone();
    repository.propose_root(&change, here.now()).unwrap();
    repository.sign_draft("root", &signers(&next)).unwrap();
    let error = repository.publish_draft("root").unwrap_err().to_string();
    assert!(error.contains("0 of 2 signatures of root 1"), "{error}");
    repository
        .sign_draft("root", &signers(&here.institutions))
        .unwrap();
    repository.publish_draft("root").unwrap();
    here.institutions = next;
    // Those who went cannot sign the targets any more, which hold until they are signed anew.
    repository
        .propose_targets(&RootChange::default(), here.now())
        .unwrap();
    repository
        .sign_draft("targets", &signers(&here.institutions))
        .unwrap();
    repository.publish_draft("targets").unwrap();
    here.publish();
    assert_eq!(repository.verify(None, here.now()).unwrap().complaints, []);
}

#[test]
fn members_are_sorted_into_more_bins() {
    let here = Federation::new(1);
    let repository = &here.repository;
    let members: Vec<Member> = (0..8)
        .map(|number| here.join(&format!("s{number}.example")))
        .collect();
    let all = here.two_registrars();
    repository
        .suspend(&members[7].domain, &all, here.now())
        .unwrap();
    here.publish();
    let change = RootChange {
        bins: Some(16),
        ..RootChange::default()
    };
    let states = repository.propose_targets(&change, here.now()).unwrap();
    assert_eq!(states.len(), 17);
    repository
        .sign_draft("targets", &signers(&here.institutions))
        .unwrap();
    for state in states.iter().skip(1) {
        repository.sign_draft(&state.role, &all).unwrap();
    }
    repository.sign_draft(names::MARKS, &all).unwrap();
    repository.publish_draft("targets").unwrap();
    for draft in repository.drafts().unwrap() {
        repository.publish_draft(&draft.role).unwrap();
    }
    here.publish();
    let report = repository.verify(None, here.now()).unwrap();
    assert_eq!(report.complaints, []);
    assert_eq!(report.members.len(), 8);
    let suspended = report
        .members
        .iter()
        .filter(|one| one.standing == Standing::Suspended);
    assert_eq!(suspended.count(), 1);
}

#[test]
fn who_is_suspended_says_nothing_and_comes_back() {
    let here = Federation::new(1);
    let tokyo = here.join("tokyo.example");
    let repository = &here.repository;
    let all = here.two_registrars();
    repository.suspend(&tokyo.domain, &all, here.now()).unwrap();
    let version = repository.next_version(&tokyo.domain).unwrap();
    let sent = Submission::new(&tokyo.descriptor(), version, &[&tokyo.key], here.now()).unwrap();
    let error = repository
        .accept(&sent, here.now())
        .unwrap_err()
        .to_string();
    assert!(error.contains("suspended"), "{error}");
    repository.resume(&tokyo.domain, &all, here.now()).unwrap();
    repository.accept(&sent, here.now()).unwrap();
    repository.expel(&tokyo.domain, &all, here.now()).unwrap();
    assert_eq!(repository.members().unwrap(), []);
    assert!(repository.expel(&tokyo.domain, &all, here.now()).is_err());
    here.publish();
}

#[test]
fn what_is_sent_has_to_be_the_members_and_newer() {
    let here = Federation::new(1);
    let mut tokyo = here.join("tokyo.example");
    tokyo.sequence = 5;
    tokyo.rotate_ca(&here);
    let repository = &here.repository;
    let (now, domain) = (here.now(), tokyo.domain.clone());
    let version = repository.next_version(&domain).unwrap();
    let mut stranger = Member::new("tokyo.example");
    stranger.sequence = 9;
    let sent = Submission::new(&stranger.descriptor(), version, &[&stranger.key], now).unwrap();
    let error = repository.accept(&sent, now).unwrap_err().to_string();
    assert!(error.contains("threshold"), "{error}");
    let again = Submission::new(
        &tokyo.descriptor(),
        1.try_into().unwrap(),
        &[&tokyo.key],
        now,
    );
    let error = repository
        .accept(&again.unwrap(), now)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("version 1 is sent, and 2 is there"),
        "{error}"
    );
    tokyo.sequence = 4;
    let older = Submission::new(&tokyo.descriptor(), version, &[&tokyo.key], now).unwrap();
    let error = repository.accept(&older, now).unwrap_err().to_string();
    assert!(error.contains("spiffe_sequence 4"), "{error}");
    here.pass(31 * DAY);
    let error = repository
        .accept(&older, here.now())
        .unwrap_err()
        .to_string();
    assert!(error.contains("expired"), "{error}");
    let other = Member::new("osaka.example");
    let sent = Submission::new(&other.descriptor(), version, &[&other.key], here.now()).unwrap();
    let error = repository
        .accept(&sent, here.now())
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a member"), "{error}");
    let domain = parse_trust_domain("kyoto.example").unwrap();
    assert_eq!(repository.member(&domain).unwrap(), None);
}

#[test]
fn the_host_leaves_out_what_does_not_hold() {
    let here = Federation::new(1);
    let tokyo = here.join("tokyo.example");
    here.join("osaka.example");
    let repository = &here.repository;
    // Somebody pushes rubbish into the folder.
    repository
        .write("metadata/2.td-tokyo.example.json", b"{}")
        .unwrap();
    let hosted = repository
        .host(&here.host, &Lives::default(), here.now())
        .unwrap();
    let [complaint] = hosted.complaints.as_slice() else {
        panic!("one complaint: {hosted:?}")
    };
    assert_eq!(complaint.role, "td-tokyo.example");
    assert_eq!(hosted.changed, 0);
    repository
        .remove("metadata/2.td-tokyo.example.json")
        .unwrap();
    tokyo.say(&here, &tokyo.descriptor());
    let stranger = FileKey::generate().unwrap();
    let error = repository.host(&stranger, &Lives::default(), here.now());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("not the one of the host")
    );
    assert_eq!(here.host.public(), repository.host_key().unwrap());
}

#[test]
fn old_files_are_put_away() {
    let here = Federation::new(1);
    let mut tokyo = here.join("tokyo.example");
    for _ in 0..20 {
        tokyo.rotate_ca(&here);
    }
    let count = |folder: &str| fs::read_dir(here.path().join(folder)).unwrap().count();
    assert!(count("metadata") < 64, "{}", count("metadata"));
    assert!(count("targets") < 16, "{}", count("targets"));
    let report = here.repository.verify(None, here.now()).unwrap();
    assert_eq!(report.complaints, []);
}

#[test]
fn a_veto_is_taken_from_the_keys_it_speaks_of_alone() {
    let here = Federation::new(1);
    let tokyo = here.join("tokyo.example");
    let other = Member::new("tokyo.example");
    let said = Statement {
        member: "tokyo.example".into(),
        from: tokyo.set().id(),
        what: What::Veto {
            against: other.set().id(),
        },
    };
    let signed =
        |by: &Member| SignedStatement::new(&said, 1.try_into().unwrap(), &[&by.key]).unwrap();
    let repository = &here.repository;
    let add = |by: &Member| repository.take_statement(&tokyo.domain, signed(by), &tokyo.set());
    assert!(
        add(&other)
            .unwrap_err()
            .to_string()
            .contains("signed by its keys")
    );
    add(&tokyo).unwrap();
    let all = repository.continuity(&tokyo.domain).unwrap();
    assert_eq!(
        all.judge(&tokyo.set(), false, None, &other.set()),
        Verdict::Vetoed
    );
}

#[test]
fn a_second_directory_in_the_same_place_is_refused() {
    let here = Federation::new(1);
    let init = Init {
        institutions: set(&here.institutions, two()),
        registrars: set(&here.registrars, two()),
        host: here.host.public(),
        bins: 1,
    };
    let error = here.repository.init(&init, &[], here.now()).unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = Repository::new(empty.path())
        .verify(None, here.now())
        .unwrap_err();
    assert!(error.to_string().contains("1.root.json"), "{error}");
}

#[test]
fn a_registrar_signs_nothing_that_somebody_else_has_put_into_a_draft() {
    let here = Federation::new(1);
    let repository = &here.repository;
    let (tokyo, thief) = (Member::new("tokyo.example"), Member::new("evil.example"));
    let now = here.now();
    let (first, second) = (&here.registrars[0], &here.registrars[1]);
    repository
        .admit(&tokyo.request(&here), &[first], now)
        .unwrap();
    // Whoever can write the folder adds one.
    let other = Federation::new(1);
    let smuggled = thief.request(&other);
    let mut draft: serde_json::Value = serde_json::from_slice(
        &repository
            .read("drafts/bin.json", 1 << 20)
            .unwrap()
            .unwrap(),
    )
    .unwrap();
    other
        .repository
        .admit(&smuggled, &[&other.registrars[0]], now)
        .unwrap();
    let from: serde_json::Value = serde_json::from_slice(
        &other
            .repository
            .read("drafts/bin.json", 1 << 20)
            .unwrap()
            .unwrap(),
    )
    .unwrap();
    let role = from["signed"]["delegations"]["roles"][0].clone();
    draft["signed"]["delegations"]["roles"]
        .as_array_mut()
        .unwrap()
        .insert(0, role);
    let keys = from["signed"]["delegations"]["keys"]
        .as_object()
        .unwrap()
        .clone();
    draft["signed"]["delegations"]["keys"]
        .as_object_mut()
        .unwrap()
        .extend(keys);
    repository
        .write("drafts/bin.json", draft.to_string().as_bytes())
        .unwrap();
    let error = repository
        .admit(&tokyo.request(&here), &[second], now)
        .unwrap_err();
    assert!(error.to_string().contains("other changes"), "{error}");
    // A version that nobody has signed is no base either.
    repository.discard_draft("bin").unwrap();
    let mut forged = draft;
    forged["signatures"] = serde_json::json!([]);
    repository
        .write("metadata/2.bin.json", forged.to_string().as_bytes())
        .unwrap();
    let error = repository
        .admit(&tokyo.request(&here), &[second], now)
        .unwrap_err();
    assert!(error.to_string().contains("threshold"), "{error}");
}

#[test]
fn a_thief_does_not_push_a_revocation_out() {
    let here = Federation::new(1);
    let tokyo = here.join("tokyo.example");
    let (repository, now) = (&here.repository, here.now());
    let set = tokyo.set();
    let revoke = |version: u64| {
        let version = version.try_into().unwrap();
        Submission::revocation(&tokyo.domain, &set, version, &[&tokyo.key]).unwrap()
    };
    repository.accept(&revoke(2), now).unwrap();
    // Junk in the member's name, which is signed by nobody who could say it.
    let stranger = FileKey::generate().unwrap();
    let veto = Submission::veto(&tokyo.domain, &set, &set, &[&stranger]).unwrap();
    let mut junk = serde_json::to_value(revoke(3)).unwrap();
    junk["statement"] = serde_json::to_value(&veto).unwrap();
    let junk = Submission::read(junk.to_string().as_bytes()).unwrap();
    let error = repository.accept(&junk, now).unwrap_err().to_string();
    assert!(error.contains("not signed by whom"), "{error}");
    for version in 3..80 {
        repository.accept(&revoke(version), now).unwrap();
    }
    let sent = Submission::new(
        &tokyo.descriptor(),
        80.try_into().unwrap(),
        &[&tokyo.key],
        now,
    );
    let error = repository
        .accept(&sent.unwrap(), now)
        .unwrap_err()
        .to_string();
    assert!(error.contains("revoked"), "{error}");
}
