use std::{collections::BTreeSet, time::Duration};

use prost::Message as _;
use sekisho_certs::id::parse_trust_domain;
use sekisho_testkit::Site;

use super::*;

const THEN: SystemTime = SystemTime::UNIX_EPOCH;

fn member(name: &str) -> Member {
    let site = Site::new(name);
    Member::new(site.domain().clone(), members::Source::Directory, THEN)
        .with_marks(["m".parse().unwrap()].into())
        .unwrap()
        .with_bundle(Arc::clone(site.bundle()))
        .unwrap()
}

fn sent(members: &[Arc<Member>], wanted: &Wanted, known: u64) -> wire::GetMembersResponse {
    let whole = Answer {
        members: members.to_vec(),
        unknown: vec![parse_trust_domain("nobody.example").unwrap()],
    };
    answer(
        whole,
        wanted,
        THEN + Duration::from_secs(7),
        known,
        &Encoded::default(),
    )
}

#[test]
fn an_answer_is_sent_once_and_then_only_ages() {
    let wanted = Wanted {
        domains: ["a.example"]
            .map(|name| parse_trust_domain(name).unwrap())
            .into(),
        ..Wanted::default()
    };
    let one = Arc::new(member("a.example"));
    let first = sent(&[Arc::clone(&one)], &wanted, 0);
    assert!(!first.unchanged && first.revision != 0);
    assert_eq!(first.members[0].age_seconds, 7);
    assert_eq!(first.unknown, ["nobody.example"]);
    // Confirmed again: no fact has changed.
    one.confirm(THEN + Duration::from_secs(5));
    let second = sent(&[Arc::clone(&one)], &wanted, first.revision);
    assert!(second.unchanged && second.members.is_empty());
    assert_eq!(second.revision, first.revision);
    assert_eq!(second.ages[0].trust_domain, "a.example");
    assert_eq!(second.ages[0].age_seconds, 2);
    let marked = (*one).clone().with_marks(BTreeSet::new()).unwrap();
    let third = sent(&[Arc::new(marked)], &wanted, first.revision);
    assert!(!third.unchanged && third.revision != first.revision);
}

#[test]
fn members_by_mark_are_bounded_in_number_and_those_by_name_are_not() {
    let all: Vec<_> = (0..300)
        .map(|number| Arc::new(member(&format!("s{number}.example"))))
        .collect();
    let mut wanted = Wanted {
        marks: ["m".parse().unwrap()].into(),
        ..Wanted::default()
    };
    let by_mark = sent(&all, &wanted, 0);
    assert_eq!(by_mark.members.len(), BY_MARK);
    wanted.domains = all.iter().map(|one| one.trust_domain().clone()).collect();
    let by_name = sent(&all, &wanted, 0);
    assert_eq!(by_name.members.len(), 300);
    assert!(by_name.left_out.is_empty());
}

/// A bundle of `count` CAs.
fn large(name: &str, count: usize) -> Arc<Member> {
    let ders = (0..count).map(|_| Site::new(name).ca().der().clone());
    let domain = parse_trust_domain(name).unwrap();
    let bundle = sekisho_certs::TrustBundle::new(domain.clone(), ders).unwrap();
    let member = Member::new(domain, members::Source::Directory, THEN);
    Arc::new(member.with_bundle(Arc::new(bundle)).unwrap())
}

#[test]
fn what_has_no_place_is_named_or_left_to_whoever_meets_it() {
    // About 160 KiB each.
    let all: Vec<_> = (0..24)
        .map(|number| large(&format!("s{number}.example"), 200))
        .collect();
    let named = Wanted {
        domains: all.iter().map(|one| one.trust_domain().clone()).collect(),
        ..Wanted::default()
    };
    let by_name = sent(&all, &named, 0);
    assert!(by_name.encoded_len() <= MOST, "{}", by_name.encoded_len());
    assert!(!by_name.left_out.is_empty());
    assert_eq!(by_name.members.len() + by_name.left_out.len(), all.len());
    let again = sent(&all, &named, by_name.revision);
    assert!(again.unchanged && again.left_out == by_name.left_out);
    let by_mark = sent(&all, &Wanted::default(), 0);
    let bundles: usize = by_mark.members.iter().map(|one| one.bundle.len()).sum();
    assert!(bundles <= BUNDLES_BY_MARK && !by_mark.members.is_empty());
    assert!(by_mark.left_out.is_empty());
}
