use std::{sync::Mutex, time::SystemTime};

use sekisho_certs::{Members, id::parse_trust_domain};
use sekisho_testkit::Site;
use tokio::sync::watch;

use super::*;

fn member(name: &str, marks: &[&str]) -> Member {
    let marks = marks.iter().map(|mark| mark.parse().unwrap());
    Member::new(domain(name), Source::Directory, SystemTime::UNIX_EPOCH)
        .with_marks(marks.collect())
        .unwrap()
}

fn domain(name: &str) -> TrustDomain {
    parse_trust_domain(name).unwrap()
}

#[test]
fn what_is_not_loaded_is_asked_for_and_what_may_come_is_not_called_unknown() {
    let site = Site::new("loaded.example");
    let loaded = member("loaded.example", &["hpci"])
        .with_bundle(Arc::clone(site.bundle()))
        .unwrap();
    let all = [
        loaded,
        member("bare.example", &["hpci"]),
        member("other.example", &[]),
    ];
    let members = Members::new(&domain("own.example"), all.map(Arc::new)).unwrap();
    let (_keep, members) = watch::channel(members);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let source = Followed::new(members, move |domain| {
        noted.lock().unwrap().push(domain.to_string());
        domain.as_str() == "coming.example"
    });
    let wanted = Wanted {
        domains: ["coming.example", "nobody.example", "other.example"]
            .map(domain)
            .into(),
        marks: ["hpci".parse().unwrap()].into(),
    };
    let answer = source.get(&wanted);
    let names: Vec<_> = answer
        .members
        .iter()
        .map(|member| member.trust_domain().to_string())
        .collect();
    assert_eq!(names, ["bare.example", "loaded.example", "other.example"]);
    assert_eq!(answer.unknown, [domain("nobody.example")]);
    let asked = asked.lock().unwrap().clone();
    let expected = [
        "coming.example",
        "nobody.example",
        "bare.example",
        "other.example",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn of_many_with_one_mark_only_some_are_loaded_and_the_loaded_come_first() {
    let site = Site::new("z.example");
    let loaded = member("z.example", &["m"])
        .with_bundle(Arc::clone(site.bundle()))
        .unwrap();
    let others = (0..1000).map(|number| member(&format!("a{number}.example"), &["m"]));
    let all = others.chain([loaded]).map(Arc::new);
    let members = Members::new(&domain("own.example"), all).unwrap();
    let (_keep, members) = watch::channel(members);
    let count = Arc::new(Mutex::new(0));
    let noted = Arc::clone(&count);
    let source = Followed::new(members, move |_| {
        *noted.lock().unwrap() += 1;
        true
    });
    let wanted = Wanted {
        marks: ["m".parse().unwrap()].into(),
        ..Wanted::default()
    };
    let answer = source.get(&wanted);
    assert_eq!(answer.members.len(), 256);
    assert!(answer.members.iter().any(|one| one.bundle().is_some()));
    assert_eq!(*count.lock().unwrap(), 255);
}
