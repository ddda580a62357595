use super::*;

fn told(name: &str, marks: &[&str], confirmed: SystemTime) -> (String, Told) {
    let facts = Member {
        trust_domain: name.into(),
        marks: marks.iter().map(ToString::to_string).collect(),
        ..Member::default()
    };
    let told = Told {
        facts: Arc::new(facts),
        confirmed,
    };
    (name.into(), told)
}

fn known(members: Vec<(String, Told)>, unknown: &[&str], answered: u64) -> Known {
    Known {
        members: members.into_iter().collect(),
        unknown: unknown.iter().map(ToString::to_string).collect(),
        answered,
    }
}

fn interest(domains: &[&str], marks: &[&str]) -> Interest {
    Interest {
        domains: domains.iter().map(ToString::to_string).collect(),
        marks: marks.iter().map(ToString::to_string).collect(),
    }
}

fn names(message: &WatchMembersResponse) -> Vec<&str> {
    let members = message.members.iter();
    members.map(|one| one.trust_domain.as_str()).collect()
}

const THEN: SystemTime = SystemTime::UNIX_EPOCH;

#[test]
fn a_proxy_is_told_what_it_wants_once_and_what_has_changed() {
    let mut said = Said {
        covered: Some(2),
        ..Said::default()
    };
    let wants = interest(&["a.example", "x.example"], &["hpci"]);
    let all = |at| {
        vec![
            told("a.example", &[], at),
            told("b.example", &["hpci"], at),
            told("c.example", &["other"], at),
        ]
    };
    // Kept from before: told at once, and not called complete.
    let news = said.news(&known(all(THEN), &[], 1), &wants, THEN);
    assert_eq!(news.len(), 1);
    assert_eq!(names(&news[0]), ["a.example", "b.example"]);
    let news = said.news(
        &known(all(THEN), &["x.example", "y.example"], 2),
        &wants,
        THEN,
    );
    assert_eq!(news.len(), 1);
    assert!(news[0].complete && news[0].members.is_empty());
    assert_eq!(news[0].unknown, ["x.example"]);
    assert!(
        said.news(&known(all(THEN), &["x.example"], 3), &wants, THEN)
            .is_empty()
    );
    // A little younger is not worth a word; much younger is, without the rest.
    let little = THEN + Duration::from_secs(5);
    assert!(
        said.news(&known(all(little), &["x.example"], 3), &wants, little)
            .is_empty()
    );
    let much = THEN + YOUNGER;
    let news = said.news(&known(all(much), &["x.example"], 3), &wants, much);
    assert!(news[0].members.is_empty());
    assert_eq!(news[0].ages.len(), 2);
    // One loses its mark, the other is expelled.
    let fewer = vec![told("b.example", &[], much)];
    let news = said.news(&known(fewer, &["x.example"], 4), &wants, much);
    assert_eq!(news[0].removed, ["a.example", "b.example"]);
    assert!(!news[0].complete);
}

#[test]
fn large_answers_come_in_parts() {
    let member = |number: usize| Member {
        trust_domain: format!("s{number}.example"),
        bundle: vec![0; LARGEST / 2 - 1000],
        ..Member::default()
    };
    let parts = parts((0..5).map(member).collect());
    let counts: Vec<_> = parts.iter().map(|part| part.members.len()).collect();
    assert_eq!(counts, [2, 2, 1]);
    assert!(parts.iter().all(|part| part.encoded_len() <= LARGEST));
}
