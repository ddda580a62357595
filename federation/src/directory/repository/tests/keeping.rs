//! What keeping a directory takes beside changing it: what is put away, due and told; one hand at a time.

use super::*;

#[test]
fn what_came_between_two_visits_of_the_host_is_put_away_too() {
    let here = Federation::new(1);
    let mut tokyo = here.join("tokyo.example");
    let repository = &here.repository;
    let say = |member: &Member| {
        let version = repository.next_version(&member.domain).unwrap();
        let sent = Submission::new(&member.descriptor(), version, &[&member.key], here.now());
        repository.accept(&sent.unwrap(), here.now()).unwrap();
    };
    let first = tokyo.descriptor();
    for sequence in 2..20 {
        tokyo.sequence = sequence;
        say(&tokyo);
    }
    here.publish();
    let there = |version| repository.is_there(&versioned("td-tokyo.example", version));
    // What the snapshot before names, and the last ones.
    let left: Vec<u64> = (1..=19).filter(|version| there(*version)).collect();
    assert_eq!(left, [1, 16, 17, 18, 19]);
    let hash = metadata::sha256(&first.to_json());
    assert!(repository.is_there(&target_file(&hash, "td-tokyo.example.json")));
    // Signed again, with the same descriptor all the time.
    for _ in 0..8 {
        say(&tokyo);
        here.publish();
    }
    assert!(!there(1) && !there(16));
    assert!(!repository.is_there(&target_file(&hash, "td-tokyo.example.json")));
    let report = repository.verify(None, here.now()).unwrap();
    assert_eq!(report.complaints, []);
}

#[test]
fn several_are_admitted_at_a_time_and_none_if_one_is_wrong() {
    let here = Federation::new(16);
    let repository = &here.repository;
    let members: Vec<Member> = (0..20)
        .map(|number| Member::new(&format!("s{number}.example")))
        .collect();
    let mut sent: Vec<Submission> = members.iter().map(|one| one.request(&here)).collect();
    let no_request = Submission::new(
        &members[0].descriptor(),
        1.try_into().unwrap(),
        &[&members[0].key],
        here.now(),
    );
    sent.push(no_request.unwrap());
    let registrars = here.two_registrars();
    let all: Vec<&Submission> = sent.iter().collect();
    assert!(repository.admit_all(&all, &registrars, here.now()).is_err());
    assert_eq!(
        (repository.members().unwrap(), repository.drafts().unwrap()),
        (vec![], vec![])
    );
    let states = repository
        .admit_all(&all[..20], &registrars, here.now())
        .unwrap();
    assert!(
        states
            .iter()
            .all(|state| state.is_complete() && state.version == 2)
    );
    here.publish();
    let report = repository.verify(None, here.now()).unwrap();
    assert_eq!((report.members.len(), report.complaints), (20, vec![]));
}

#[test]
fn what_is_due_is_told_before_it_ends() {
    let here = Federation::new(1);
    let tokyo = here.join("tokyo.example");
    let due = || -> Vec<String> {
        let roles = here.repository.roles(here.now()).unwrap();
        let due = roles.into_iter().filter(|one| one.due);
        due.map(|one| format!("{} {}", one.by, one.role)).collect()
    };
    assert_eq!(due(), Vec::<String>::new());
    here.pass(121 * DAY);
    assert_eq!(due(), ["registrars marks", "registrars bin"]);
    here.pass(130 * DAY);
    assert_eq!(due()[..2], ["institutions root", "institutions targets"]);
    let said = here.repository.said(&tokyo.domain).unwrap().unwrap();
    assert_eq!(said.version, 1);
    assert_eq!(said.descriptor, Some(tokyo.descriptor()));
}

#[test]
fn who_signs_is_told_what_changes() {
    let here = Federation::new(1);
    let (tokyo, osaka) = (here.join("tokyo.example"), here.join("osaka.example"));
    let (repository, one) = (&here.repository, signers(&here.registrars[..1]));
    let now = here.now();
    let changes = |role: &str| repository.changes(role).unwrap().changes;
    repository
        .propose_root(&RootChange::default(), now)
        .unwrap();
    assert_eq!(changes("root"), Vec::<String>::new(), "the same for longer");
    let next = keys(2);
    let change = RootChange {
        institutions: Some(set(&next, two())),
        registrars: Some(set(&here.registrars[..2], two())),
        bins: Some(16),
        ..RootChange::default()
    };
    repository.propose_root(&change, now).unwrap();
    let said = changes("root").join("\n");
    for word in ["institutions: 2 of 3 -> 2 of 2", &next[0].public().id()] {
        assert!(said.contains(word), "{said}");
    }
    assert!(!said.contains("host"), "{said}");
    repository.propose_targets(&change, now).unwrap();
    let said = changes("targets").join("\n");
    assert!(said.contains("bins: 1 -> 16"), "{said}");
    let gone = format!("registrars: - {}", here.registrars[2].public().id());
    assert!(said.contains(&gone), "{said}");
    // Sorted anew, nobody is new.
    for (name, _) in names::bins(16) {
        assert_eq!(changes(&name), Vec::<String>::new());
    }
    for role in ["targets", "marks"] {
        repository.discard_draft(role).unwrap();
    }
    let kyoto = Member::new("kyoto.example");
    let mut other = Member::new("osaka.example");
    other.sequence = 2;
    for member in [&kyoto, &other] {
        repository.admit(&member.request(&here), &one, now).unwrap();
    }
    repository.suspend(&tokyo.domain, &one, now).unwrap();
    let said = changes("bin");
    let fingerprint = |one: &Member| continuity::fingerprint(&one.set());
    let expected = [
        format!("+ kyoto.example {}", fingerprint(&kyoto)),
        format!(
            "~ osaka.example {} -> {}",
            fingerprint(&osaka),
            fingerprint(&other)
        ),
        "~ tokyo.example is suspended".into(),
    ];
    assert_eq!(said, expected);
    let marks = ["hpci".parse().unwrap()].into();
    repository
        .set_marks(&osaka.domain, marks, &one, now)
        .unwrap();
    assert_eq!(changes("marks"), ["osaka.example: + hpci"]);
    repository.discard_draft("bin").unwrap();
    repository.expel(&osaka.domain, &one, now).unwrap();
    assert_eq!(changes("bin"), ["- osaka.example"]);
}

#[test]
fn a_folder_is_in_one_hand_at_a_time() {
    let here = Federation::new(1);
    let locked = here.repository.lock().unwrap();
    let file = fs::File::open(here.path().join(".lock")).unwrap();
    assert!(file.try_lock().is_err());
    drop(locked);
    file.try_lock().unwrap();
}

#[test]
fn a_signature_that_undoes_another_is_refused() {
    let (here, there) = (Federation::new(1), tempfile::tempdir().unwrap());
    let (repository, signers) = (&here.repository, &here.institutions);
    let change = RootChange::default();
    repository.propose_root(&change, here.now()).unwrap();
    let other = Repository::new(there.path());
    for file in ["metadata/1.root.json", "drafts/root.json"] {
        let bytes = repository.read(file, usize::MAX - 1).unwrap().unwrap();
        other.write(file, &bytes).unwrap();
    }
    repository.sign_draft("root", &[&signers[0]]).unwrap();
    other.sign_draft("root", &[&signers[1]]).unwrap();
    // A good one, and one that does not hold in the name of who has signed already.
    let sent = other.signatures_of_draft("root").unwrap();
    let mut sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
    let mut bad = sent["signatures"][0].clone();
    bad["keyid"] = signers[0].public().id().into();
    sent["signatures"].as_array_mut().unwrap().push(bad);
    let error = repository.merge_signatures(sent.to_string().as_bytes());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("would undo"), "{error}");
    let drafts = repository.drafts().unwrap();
    let signed = &drafts[0].signatures[0].signed;
    assert_eq!(*signed, [signers[0].public().id()]);
}

#[test]
fn who_has_a_members_key_alone_names_no_other_recovery_key() {
    let here = Federation::new(1);
    let tokyo = here.join("tokyo.example");
    let (repository, now) = (&here.repository, here.now());
    let mut descriptor = tokyo.descriptor();
    descriptor.recovery = Some(FileKey::generate().unwrap().public().id());
    let version = repository.next_version(&tokyo.domain).unwrap();
    let sent = Submission::new(&descriptor, version, &[&tokyo.key], now).unwrap();
    let error = repository.accept(&sent, now).unwrap_err().to_string();
    assert!(error.contains("another recovery key"), "{error}");
}

#[test]
fn what_is_so_already_and_who_has_no_say_leave_no_draft() {
    let here = Federation::new(1);
    let tokyo = here.join("tokyo.example");
    here.mark(&tokyo, &["hpci"]);
    let (repository, now) = (&here.repository, here.now());
    let (marks, one) = (["hpci".parse().unwrap()].into(), &here.registrars[0]);
    let same = repository.set_marks(&tokyo.domain, marks, &[one], now);
    assert!(same.unwrap().is_complete());
    assert_eq!(repository.drafts().unwrap(), []);
    let stranger = FileKey::generate().unwrap();
    let error = repository.suspend(&tokyo.domain, &[&stranger], now);
    assert!(error.unwrap_err().to_string().contains("may not sign"));
    assert_eq!(repository.drafts().unwrap(), []);
}

#[test]
fn nobody_asks_for_keys_that_he_has_not() {
    let here = Federation::new(1);
    let (tokyo, other) = (Member::new("tokyo.example"), Member::new("tokyo.example"));
    let sent = tokyo.request(&here).with_keys(other.set());
    let (repository, all) = (&here.repository, here.two_registrars());
    let error = repository.admit(&sent, &all, here.now()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("not signed by the keys that it names"),
        "{error}"
    );
    assert_eq!(repository.members().unwrap(), []);
}
