use super::*;

fn domain() -> TrustDomain {
    id::parse_trust_domain("a.example").unwrap()
}

fn selector(text: &str) -> Selector {
    let (kind, value) = text.split_once(':').unwrap();
    Selector {
        kind: kind.into(),
        value: value.into(),
    }
}

#[test]
fn an_id_is_of_this_domain_and_no_servers() {
    for good in ["spiffe://a.example/w", "spiffe://a.example/spire-like/x"] {
        workload_id(good, &domain()).unwrap();
    }
    for bad in [
        "",
        "spiffe://a.example",
        "spiffe://b.example/w",
        "spiffe://a.example/spire",
        "spiffe://a.example/spire/agent/x",
        "spiffe://a.example/w/",
        "spiffe://A.example/w",
    ] {
        workload_id(bad, &domain()).unwrap_err();
    }
    own_id("parent ID", "spiffe://a.example/spire/server", &domain()).unwrap();
}

#[test]
fn an_entrys_name_is_short_and_plain() {
    assert_eq!(entry_id("").unwrap(), None);
    assert_eq!(entry_id("A-z_0.9").unwrap().as_deref(), Some("A-z_0.9"));
    assert!(entry_id(&"x".repeat(255)).is_ok());
    for bad in [&"x".repeat(256)[..], "a/b", "a b", "ä"] {
        assert_eq!(entry_id(bad).unwrap_err(), EntryError::Id(bad.into()));
    }
}

#[test]
fn selectors_are_there_and_none_is_twice() {
    let set = selectors([selector("unix:uid:0"), selector("unix:gid:0")]).unwrap();
    assert_eq!(set.len(), 2);
    assert_eq!(selectors([]).unwrap_err(), EntryError::NoSelector);
    for bad in ["unix:", ":uid"] {
        let bad = selectors([selector(bad)]).unwrap_err();
        assert!(matches!(bad, EntryError::Selector(_)));
    }
    let colon = Selector {
        kind: "a:b".into(),
        value: "c".into(),
    };
    assert!(matches!(selectors([colon]), Err(EntryError::Selector(_))));
    let twice = selectors([selector("a:b"), selector("a:b")]).unwrap_err();
    assert!(twice.is_repetition());
}

#[test]
fn dns_names_are_checked_as_spire_does() {
    let long = format!("{}.example", "x".repeat(64));
    let longest = format!("{}.xx", vec!["x".repeat(62); 4].join("."));
    for good in [
        "a",
        "a.example",
        "A_b.example",
        "*.example",
        "xn--zcka.example",
        &longest[1..],
    ] {
        assert_eq!(dns::check(good), Ok(()), "{good}");
    }
    for (bad, why) in [
        ("", DnsNameError::Empty),
        ("a.", DnsNameError::Label),
        (".a", DnsNameError::Label),
        (&long[..], DnsNameError::Label),
        (&longest[..], DnsNameError::TooLong),
        ("-a", DnsNameError::Dash),
        ("a-", DnsNameError::Dash),
        ("ab--c", DnsNameError::Dash),
        ("a b", DnsNameError::Character),
        ("ä.example", DnsNameError::Character),
        ("*", DnsNameError::Wildcard),
        ("a*.example", DnsNameError::Wildcard),
        ("a.*.example", DnsNameError::Wildcard),
        ("*.*.example", DnsNameError::Wildcard),
    ] {
        assert_eq!(dns::check(bad), Err(why), "{bad:?}");
    }
    let twice = dns_names(vec!["a".into(), "a".into()]).unwrap_err();
    assert!(twice.is_repetition());
}

#[test]
fn federation_is_with_others_by_either_form_or_with_all() {
    let typed = ["b.example", "spiffe://c.example", "*", "spiffe://b.example"];
    let all = federates_with(typed.map(String::from), &domain()).unwrap();
    let text: Vec<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["b.example", "c.example", "*"]);
    for own in ["a.example", "spiffe://a.example"] {
        let own = federates_with([own.into()], &domain()).unwrap_err();
        assert!(matches!(own, EntryError::FederatedWithItself(_)));
    }
    for bad in ["", "B", "b/c", "spiffe://b.example/x", "**"] {
        let bad = federates_with([bad.into()], &domain()).unwrap_err();
        assert!(matches!(bad, EntryError::Federated(_)), "{bad}");
    }
}

#[test]
fn numbers_and_lengths_have_bounds() {
    assert_eq!(ttl(0).unwrap(), Duration::ZERO);
    assert_eq!(ttl(60).unwrap(), Duration::from_secs(60));
    assert_eq!(ttl(-1).unwrap_err(), EntryError::Ttl(-1));
    assert!(hint("x".repeat(1024)).is_ok());
    assert_eq!(hint("x".repeat(1025)).unwrap_err(), EntryError::Hint(1025));
}
