//! The SPIFFE bundle format (Trust_Domain_and_Bundle.md §4, §5.1.1) and bundles as values.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sekisho_certs::{BundleError, BundleSet, TrustBundle, TrustDomain};
use sekisho_testkit::{KeyKind, Profile, Site, TestCa, clock::present};
use serde_json::{Value, json};

const RECORDED: [&str; 3] = [
    include_str!("../data/hokkaido-1.json"),
    include_str!("../data/hokkaido-2-prepared.json"),
    include_str!("../data/endpoint-body.json"),
];

fn a() -> TrustDomain {
    TrustDomain::new("a.example").unwrap()
}

fn key(site: &Site) -> Value {
    json!({"use": "x509-svid", "kty": "EC", "x5c": [STANDARD.encode(site.ca().der())]})
}

fn read(document: &Value) -> Result<TrustBundle, BundleError> {
    TrustBundle::from_json(a(), document.to_string().as_bytes())
}

#[test]
fn what_spire_writes_is_written_again_as_it_was() {
    for text in RECORDED {
        let domain = TrustDomain::new("hokkaido.example").unwrap();
        let bundle = TrustBundle::from_json(domain, text.as_bytes()).unwrap();
        let recorded: Value = serde_json::from_str(text).unwrap();
        assert_eq!(bundle.to_json(), recorded);
    }
}

#[test]
fn spires_rotation_adds_a_ca_and_raises_the_sequence() {
    let domain = TrustDomain::new("hokkaido.example").unwrap();
    let read = |text: &str| TrustBundle::from_json(domain.clone(), text.as_bytes()).unwrap();
    let [first, prepared, endpoint] = RECORDED.map(read);
    assert_eq!((first.sequence(), prepared.sequence()), (Some(1), Some(3)));
    assert_eq!(
        (first.authorities().len(), prepared.authorities().len()),
        (1, 2)
    );
    assert_eq!(first.refresh_hint(), None);
    assert_eq!(endpoint.refresh_hint(), Some(Duration::from_secs(300)));
}

#[test]
fn a_bundle_of_each_kind_of_key_is_read_back_as_it_was() {
    for kind in [KeyKind::EcP256, KeyKind::Rsa2048, KeyKind::Ed25519] {
        let ca = TestCa::root(&Profile::ca("a.example"), kind, present());
        let bundle = ca.bundle("a.example");
        let document = bundle.to_json();
        assert_eq!(read(&document).unwrap(), bundle);
        let key = document["keys"][0].as_object().unwrap();
        let names: Vec<_> = key.keys().map(String::as_str).collect();
        match kind {
            KeyKind::EcP256 => assert_eq!(names, ["crv", "kty", "use", "x", "x5c", "y"]),
            KeyKind::Rsa2048 => assert_eq!(names, ["e", "kty", "n", "use", "x5c"]),
            KeyKind::Ed25519 => assert_eq!(names, ["crv", "kty", "use", "x", "x5c"]),
        }
    }
}

#[test]
fn sequence_and_refresh_hint_are_read_to_64_bits() {
    let document = json!({"keys": [], "spiffe_sequence": u64::MAX, "spiffe_refresh_hint": 60});
    let bundle = read(&document).unwrap();
    assert_eq!(bundle.sequence(), Some(u64::MAX));
    assert_eq!(bundle.refresh_hint(), Some(Duration::from_secs(60)));
    assert_eq!(bundle.to_json(), document);
}

#[test]
fn sequence_and_refresh_hint_must_be_whole_numbers() {
    for wrong in [json!(-1), json!(1.5), json!("1"), json!([])] {
        assert!(read(&json!({"keys": [], "spiffe_sequence": wrong})).is_err());
        assert!(read(&json!({"keys": [], "spiffe_refresh_hint": wrong})).is_err());
    }
}

#[test]
fn no_keys_mean_that_nobody_is_trusted_and_missing_keys_are_an_error() {
    assert!(read(&json!({"keys": []})).unwrap().authorities().is_empty());
    for wrong in [
        json!({}),
        json!({"keys": null}),
        json!({"keys": {}}),
        json!([]),
        json!(1),
    ] {
        assert!(matches!(read(&wrong), Err(BundleError::Json(_))), "{wrong}");
    }
}

#[test]
fn keys_of_unknown_or_missing_use_are_ignored() {
    let (site, mut unknown, mut missing) = (Site::new("a.example"), json!({}), json!({}));
    for (key_, use_) in [
        (&mut unknown, json!("wit-svid")),
        (&mut missing, Value::Null),
    ] {
        *key_ = key(&Site::new("a.example"));
        key_["use"] = use_;
    }
    missing.as_object_mut().unwrap().remove("use");
    let document = json!({"keys": [unknown, missing, {"kty": "new"}, key(&site)]});
    let bundle = read(&document).unwrap();
    assert_eq!(bundle.authorities().len(), 1);
    assert_eq!(bundle.authorities()[0].der(), site.ca().der());
    // And never written: SPIRE refuses a whole bundle for a use that it does not know.
    assert_eq!(bundle.to_json()["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_without_a_certificate_is_ignored() {
    for x5c in [None, Some(json!([]))] {
        let mut key = json!({"use": "x509-svid", "kty": "EC"});
        if let Some(x5c) = x5c {
            key["x5c"] = x5c;
        }
        assert!(
            read(&json!({"keys": [key]}))
                .unwrap()
                .authorities()
                .is_empty()
        );
    }
}

#[test]
fn a_key_with_two_certificates_is_refused() {
    let der = STANDARD.encode(Site::new("a.example").ca().der());
    let key = json!({"use": "x509-svid", "kty": "EC", "x5c": [der, der]});
    let error = read(&json!({"keys": [key]})).unwrap_err();
    assert!(error.to_string().contains("exactly one"), "{error}");
}

#[test]
fn a_key_whose_certificate_cannot_be_read_is_refused() {
    for wrong in [json!("x"), json!([1]), json!(["*"]), json!(["AAAA"])] {
        let key = json!({"use": "x509-svid", "kty": "EC", "x5c": wrong});
        assert!(read(&json!({"keys": [key]})).is_err(), "{wrong}");
    }
}

#[test]
fn a_jwt_key_needs_an_id_and_is_passed_on_whole() {
    let key = json!({"use": "jwt-svid", "kty": "EC", "kid": "1", "new": [1, 2]});
    let bundle = read(&json!({"keys": [key]})).unwrap();
    assert!(bundle.authorities().is_empty());
    assert_eq!(bundle.to_json()["keys"][0], key);
    assert!(read(&json!({"keys": [{"use": "jwt-svid", "kty": "EC"}]})).is_err());
    assert!(read(&json!({"keys": [{"use": "jwt-svid", "kty": "EC", "kid": ""}]})).is_err());
}

#[test]
fn a_bundle_has_bounds() {
    let many = vec![json!({"kty": "new"}); 1025];
    let error = read(&json!({"keys": many})).unwrap_err();
    assert!(matches!(error, BundleError::TooLarge { limit: 1024, .. }));
    let key = key(&Site::new("a.example"));
    let error = read(&json!({"keys": vec![key; 257]})).unwrap_err();
    assert!(matches!(error, BundleError::TooLarge { limit: 256, .. }));
    let text = vec![b' '; 8 * 1024 * 1024 + 1];
    let error = TrustBundle::from_file(a(), &text).unwrap_err();
    assert!(matches!(error, BundleError::TooLarge { .. }));
}

#[test]
fn a_file_may_hold_json_or_pem() {
    let site = Site::new("a.example");
    let json = format!("\n {}", site.bundle().to_json());
    let pem = format!("a comment\n{}", site.ca().pem());
    for text in [json, pem] {
        let bundle = TrustBundle::from_file(a(), text.as_bytes()).unwrap();
        assert_eq!(bundle.authorities()[0].der(), site.ca().der());
    }
    for text in ["", "\n", "x", &site.svid("/x").key_pem()] {
        let error = TrustBundle::from_file(a(), text.as_bytes()).unwrap_err();
        assert_eq!(error, BundleError::NotABundle, "{text}");
    }
}

#[test]
fn half_of_a_pem_file_is_refused() {
    let (one, two) = (Site::new("a.example"), Site::new("a.example"));
    let whole = one.ca().pem() + &two.ca().pem();
    for length in [whole.len() / 4, whole.len() - 10] {
        let half = &whole.as_bytes()[..length];
        assert!(TrustBundle::from_file(a(), half).is_err(), "{length} bytes");
    }
}

#[test]
fn a_bundle_map_is_read_back_as_it_was() {
    let (one, two) = (Site::new("a.example"), Site::new("b.example"));
    let mut set = BundleSet::default();
    for site in [&one, &two] {
        let bundle = (**site.bundle()).clone().with_hints(Some(7), None);
        set.insert(Arc::new(bundle)).unwrap();
    }
    let text = set.to_bundle_map().to_string();
    assert_eq!(BundleSet::from_bundle_map(text.as_bytes()).unwrap(), set);
}

#[test]
fn a_bundle_map_with_a_trust_domain_twice_is_refused() {
    let text = r#"{"trust_domains": {"a.example": {"keys": []}, "a.example": {"keys": []}}}"#;
    let error = BundleSet::from_bundle_map(text.as_bytes()).unwrap_err();
    assert_eq!(error, BundleError::Duplicate(a()));
}

#[test]
fn a_bundle_map_with_something_that_is_no_trust_domain_is_refused() {
    for name in ["A.example", "spiffe://a.example", "a.example/x", "", "a b"] {
        let text = json!({"trust_domains": {name: {"keys": []}}}).to_string();
        let error = BundleSet::from_bundle_map(text.as_bytes()).unwrap_err();
        assert!(
            matches!(error, BundleError::TrustDomain(_)),
            "{name}: {error}"
        );
    }
    for text in [
        "",
        "{}",
        "[]",
        r#"{"trust_domains": []}"#,
        r#"{"trust_domains": {"a": 1}}"#,
    ] {
        assert!(
            BundleSet::from_bundle_map(text.as_bytes()).is_err(),
            "{text}"
        );
    }
}

#[test]
fn two_trust_domains_with_the_same_ca_key_are_refused() {
    let nameless = TestCa::root(
        &Profile::ca("a.example").with_uris([]),
        KeyKind::EcP256,
        present(),
    );
    // Another certificate, the same key.
    let again = nameless.renewed(&Profile::ca("b.example").with_uris([]));
    let mut set = BundleSet::default();
    set.insert(Arc::new(nameless.bundle("a.example"))).unwrap();
    let before = set.clone();
    let error = set.insert(Arc::new(again.bundle("b.example"))).unwrap_err();
    assert!(matches!(error, BundleError::SharedKey { .. }));
    assert_eq!(set, before);

    let map = json!({"trust_domains": {
        "a.example": nameless.bundle("a.example").to_json(),
        "b.example": again.bundle("b.example").to_json(),
    }});
    let error = BundleSet::from_bundle_map(map.to_string().as_bytes()).unwrap_err();
    assert!(matches!(error, BundleError::SharedKey { .. }));
}

#[test]
fn one_trust_domain_may_renew_its_ca_with_the_same_key() {
    let ca = TestCa::new("a.example");
    let again = ca.renewed(&Profile::ca("a.example"));
    let mut set = BundleSet::default();
    set.insert(Arc::new(ca.bundle("a.example"))).unwrap();
    set.insert(Arc::new(again.bundle("a.example"))).unwrap();
    assert_eq!(set.len(), 1);
    assert_eq!(set.get(&a()).unwrap().authorities()[0].der(), again.der());
}

#[test]
fn who_has_a_ca_key_shows_it_by_a_certificate_of_its_own_making() {
    let ca = |kind| TestCa::root(&Profile::ca("a.example"), kind, present());
    for kind in [KeyKind::EcP256, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let bundle = ca(kind).bundle("a.example");
        assert!(bundle.authorities()[0].proves_possession(&a()), "{kind:?}");
    }
    // Made by another: of whose key it is, it says nothing.
    let by_another =
        TestCa::new("a.example").intermediate(&Profile::ca("a.example"), KeyKind::EcP256);
    let without_name = TestCa::root(
        &Profile::ca("a.example").with_uris([]),
        KeyKind::EcP256,
        present(),
    );
    for ca in [by_another, without_name] {
        assert!(!ca.bundle("a.example").authorities()[0].proves_possession(&a()));
    }
    let bundle = ca(KeyKind::EcP256).bundle("a.example");
    let b = sekisho_certs::id::parse_trust_domain("b.example").unwrap();
    assert!(!bundle.authorities()[0].proves_possession(&b));
}
