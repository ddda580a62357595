use sekisho_certs::id::parse_trust_domain;
use sekisho_testkit::TestCa;
use serde_json::json;

use super::*;

fn domain() -> TrustDomain {
    parse_trust_domain("tokyo.example").unwrap()
}

fn bundle() -> TrustBundle {
    let ca = TestCa::new("tokyo.example");
    TrustBundle::new(domain(), [ca.der().clone()]).unwrap()
}

fn with(field: &str, value: Value) -> Result<Descriptor, DescriptorError> {
    let mut json: Value =
        serde_json::from_slice(&Descriptor::new(Arc::new(bundle())).to_json()).unwrap();
    json[field] = value;
    Descriptor::read(&domain(), json.to_string().as_bytes())
}

#[test]
fn what_is_written_is_read() {
    let id = parse_workload_id("spiffe://tokyo.example/mdx").unwrap();
    let gateways = vec!["tokyo.sinet.example:9443".parse().unwrap()];
    let marks = ["hpci".parse().unwrap()].into();
    let mut descriptor = Descriptor::new(Arc::new(bundle()));
    descriptor.services = vec![Service::new("mdx", gateways, id, marks).unwrap()];
    descriptor.endpoints = vec![Endpoint {
        url: "https://tokyo.example:8443".into(),
        profile: "https_spiffe".into(),
        endpoint_spiffe_id: Some("spiffe://tokyo.example/spire/server".into()),
    }];
    descriptor.recovery = Some("ab".repeat(32));
    descriptor.contacts = vec!["noc@tokyo.example".into()];
    let read = Descriptor::read(&domain(), &descriptor.to_json()).unwrap();
    assert_eq!(read, descriptor);
}

#[test]
fn what_a_later_version_says_is_let_be() {
    assert!(with("weather", json!("fair")).is_ok());
}

#[test]
fn each_refusal_names_its_field() {
    let service = |id: &str, gateway: &str, name: &str| json!([{"name": name, "gateways": [gateway], "spiffe_id": id}]);
    let own = "spiffe://tokyo.example/mdx";
    for (field, value, word) in [
        ("trust_domain", json!("osaka.example"), "osaka.example"),
        ("trust_domain", json!("TOKYO.example"), "TOKYO.example"),
        ("bundle", json!({}), "keys"),
        ("bundle", json!([]), "SPIFFE bundle"),
        ("max_stale", json!(1), "max_stale"),
        ("max_stale", json!(u64::MAX), "max_stale"),
        ("recovery_key_hash", json!("AB"), "recovery_key_hash"),
        ("contacts", json!(vec!["a"; 17]), "contacts"),
        ("contacts", json!(["a\nb"]), "contacts"),
        (
            "services",
            service("spiffe://osaka.example/mdx", "t.example:1", "mdx"),
            "mdx",
        ),
        (
            "services",
            service("spiffe://tokyo.example", "t.example:1", "mdx"),
            "spiffe_id",
        ),
        ("services", service(own, "t.example", "mdx"), "gateway"),
        ("services", service(own, "t.example:1", "M/x"), "M/x"),
        (
            "services",
            json!([
                service(own, "t.example:1", "mdx")[0],
                service(own, "t.example:1", "mdx")[0]
            ]),
            "twice",
        ),
        (
            "endpoints",
            json!([{"url": "a", "profile": "b", "c": 1}]),
            "c",
        ),
    ] {
        let error = with(field, value.clone()).unwrap_err().to_string();
        assert!(error.contains(word), "{field} {value}: {error}");
    }
}
