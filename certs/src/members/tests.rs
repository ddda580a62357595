use super::*;
use crate::id::{parse_trust_domain, parse_workload_id};

fn domain(name: &str) -> TrustDomain {
    parse_trust_domain(name).unwrap()
}

fn member(name: &str) -> Member {
    Member::new(domain(name), Source::Directory, SystemTime::UNIX_EPOCH)
}

fn marks(words: &[&str]) -> BTreeSet<Mark> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

fn service(name: &str, id: &str) -> Result<Service, MemberError> {
    Service::new(
        name,
        vec!["gw.kyoto.example:8443".parse().unwrap()],
        parse_workload_id(id).unwrap(),
        BTreeSet::new(),
    )
}

#[test]
fn a_mark_is_a_short_word_in_lower_case() {
    for good in ["hpci", "0", "a.b-c", &"m".repeat(63)] {
        assert_eq!(good.parse::<Mark>().unwrap().as_str(), good);
    }
    let long = "m".repeat(64);
    for bad in [
        "", "HPCI", ".a", "-a", "a_b", "a/b", "a b", "é", "a\n", &long,
    ] {
        assert!(bad.parse::<Mark>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_gateway_is_a_host_and_a_port() {
    for good in ["192.0.2.1:8443", "[2001:db8::1]:8443", "gw.kyoto.example:1"] {
        assert_eq!(good.parse::<Gateway>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "gw.kyoto.example",
        "gw.kyoto.example:0",
        "gw.kyoto.example:65536",
        "gw.kyoto.example:+1",
        "192.0.2.1:0",
        "192.0.2.999:1",
        "GW.example:1",
        "gw..example:1",
        "2001:db8::1",
        "a/b:1",
        "user@host:1",
        ":1",
    ] {
        assert!(bad.parse::<Gateway>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_service_belongs_to_its_member() {
    let own = service("mdx", "spiffe://kyoto.example/mdx").unwrap();
    assert_eq!(own.server_name(), "mdx.kyoto.example");
    let foreign = service("mdx", "spiffe://osaka.example/mdx").unwrap();
    assert!(matches!(
        member("kyoto.example").with_services([foreign]),
        Err(MemberError::ServiceOfAnother { .. })
    ));
    let twice = [own.clone(), own.clone()];
    assert!(member("kyoto.example").with_services(twice).is_err());
    let known = member("kyoto.example")
        .with_services([own.clone()])
        .unwrap();
    assert_eq!(known.services().get("mdx"), Some(&own));
    for bad in ["", "a.b", "-a", "a-", "A", "a_b"] {
        assert!(service(bad, "spiffe://kyoto.example/a").is_err(), "{bad:?}");
    }
}

#[test]
fn a_service_without_or_with_too_many_gateways_is_refused() {
    let id = parse_workload_id("spiffe://kyoto.example/mdx").unwrap();
    let gateway: Gateway = "192.0.2.1:1".parse().unwrap();
    for count in [0, MAX_GATEWAYS + 1] {
        let gateways = vec![gateway.clone(); count];
        assert!(Service::new("mdx", gateways, id.clone(), BTreeSet::new()).is_err());
    }
}

#[test]
fn nobody_tells_us_about_ourselves_or_about_one_site_twice() {
    let own = domain("kyoto.example");
    let kyoto = Arc::new(member("kyoto.example"));
    let osaka = Arc::new(member("osaka.example"));
    assert_eq!(
        Members::new(&own, [kyoto]),
        Err(MemberError::OwnDomain(own.clone()))
    );
    assert_eq!(
        Members::new(&own, [Arc::clone(&osaka), osaka]),
        Err(MemberError::Duplicate(domain("osaka.example")))
    );
}

#[test]
fn a_bundle_under_another_name_is_refused() {
    let bundle = TrustBundle::new(domain("osaka.example"), []).unwrap();
    assert!(matches!(
        member("kyoto.example").with_bundle(Arc::new(bundle)),
        Err(MemberError::BundleOfAnother { .. })
    ));
}

#[test]
fn members_are_found_by_name_and_by_mark() {
    let own = domain("tokyo.example");
    let all = (0..100).rev().map(|number| {
        let words: &[&str] = if number % 2 == 0 { &["even"] } else { &["odd"] };
        let member = member(&format!("s{number}.example"));
        Arc::new(member.with_marks(marks(words)).unwrap())
    });
    let members = Members::new(&own, all).unwrap();
    assert_eq!(members.len(), 100);
    for number in 0..100 {
        let name = domain(&format!("s{number}.example"));
        assert_eq!(members.get(&name).unwrap().trust_domain(), &name);
    }
    assert!(members.get(&domain("s100.example")).is_none());
    let even = "even".parse().unwrap();
    assert_eq!(members.with_mark(&even).count(), 50);
    assert!(members.is_marked(&domain("s2.example"), &even));
    assert!(!members.is_marked(&domain("s3.example"), &even));
    let fewer = members.without(&domain("s2.example"));
    assert!(!fewer.is_marked(&domain("s2.example"), &even));
    let again = fewer.with(
        &own,
        Arc::clone(members.get(&domain("s2.example")).unwrap()),
    );
    assert_eq!(again.unwrap(), members);
    assert!(fewer.with(&own, Arc::new(member("tokyo.example"))).is_err());
}

#[test]
fn a_confirmation_changes_the_age_and_no_fact() {
    let own = domain("tokyo.example");
    let set =
        |at| Members::new(&own, [Arc::new(member("kyoto.example").confirmed_at(at))]).unwrap();
    let early = set(SystemTime::UNIX_EPOCH);
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
    let late = set(later);
    assert!(early.same_facts(&late));
    assert_ne!(early, late);
    let kyoto = domain("kyoto.example");
    assert_eq!(
        early.get(&kyoto).unwrap().age(later),
        Duration::from_secs(60)
    );
    assert_eq!(
        late.get(&kyoto).unwrap().age(SystemTime::UNIX_EPOCH),
        Duration::ZERO
    );
    let marked = member("kyoto.example").with_marks(marks(&["a"])).unwrap();
    let marked = Members::new(&own, [Arc::new(marked)]).unwrap();
    assert!(!early.same_facts(&marked));
    // In place: whoever holds the old one sees it.
    let held = Arc::clone(early.get(&kyoto).unwrap());
    early.confirm_as(&marked);
    assert_eq!(held.confirmed(), SystemTime::UNIX_EPOCH);
    early.confirm_as(&late);
    assert_eq!(held.confirmed(), later);
}
