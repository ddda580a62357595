//! Files of entries.

use std::path::Path;

use sekisho_certs::id::parse_trust_domain;
use sekisho_spire_api::types;

use super::super::{ConfigErrors, entries::read, error::Report, files::Source};

fn load(text: &str) -> Result<Vec<types::Entry>, ConfigErrors> {
    let path = Path::new("etc/e.yaml");
    let source = Source {
        file: path.into(),
        text: text.into(),
    };
    let site = parse_trust_domain("b.example").unwrap();
    let env = |name: &str| (name == "UID").then(|| "7".to_owned());
    read(path, &[source], &site, &env, Report::default())
}

#[test]
fn an_identity_and_selectors_are_enough() {
    let text = "entries:\n  - {spiffe_id: /broker/osaka, selectors: [\"unix:uid:${UID}\"]}\n";
    let [entry] = load(text).unwrap().try_into().unwrap();
    assert_eq!(entry.id, "apply.broker.osaka");
    assert_eq!(entry.spiffe_id.unwrap().path, "/broker/osaka");
    assert_eq!(entry.parent_id.unwrap().path, "/node/local");
    assert_eq!(entry.selectors[0].value, "uid:7");
}

#[test]
fn all_that_can_be_said_is_understood() {
    let text = "site: b.example\nentries:\n  - spiffe_id: /w\n    id: one\n    parent: /spire/agent/x509pop/abc\n    \
                selectors: [unix:uid:1, unix:path:/bin/w]\n    federates_with: [\"*\"]\n    dns_names: [w.b.example]\n    \
                x509_ttl: 48h\n    jwt_ttl: 5m\n    hint: db\n    admin: true\n    downstream: true\n    \
                on_demand: true\n    jwt_id: true\n";
    let [entry] = load(text).unwrap().try_into().unwrap();
    assert_eq!(
        (entry.id.as_str(), entry.x509_svid_ttl, entry.jwt_svid_ttl),
        ("apply.one", 172_800, 300)
    );
    assert_eq!(
        (entry.federates_with, entry.dns_names),
        (vec!["*".into()], vec!["w.b.example".into()])
    );
    assert!(entry.admin && entry.downstream && entry.hint == "db");
    let more = entry.additional_attributes.unwrap();
    assert!(more.disable_x509_svid_prefetch && more.jwt_svid_include_jti);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (item, expected) in [
        (
            "{spiffe_id: w, selectors: [a:b]}",
            "2:17: entries[0].spiffe_id: expected a path that begins with `/`, as in /broker/osaka; it stands below `site`, found \"w\"",
        ),
        (
            "{spiffe_id: /w}",
            "2:5: entries[0].selectors: missing: expected a list of selectors, as in [\"unix:uid:1000\"]",
        ),
        (
            "{spiffe_id: /w, selectors: [uid]}",
            "2:33: entries[0].selectors[0]: expected TYPE:VALUE, as in unix:uid:1000, found \"uid\"",
        ),
        (
            "{spiffe_id: /w, selectors: [a:b, a:b]}",
            "2:38: entries[0].selectors[1]: this selector is there already",
        ),
        (
            "{spiffe_id: /w, id: a b, selectors: [a:b]}",
            "2:5: entries[0]: \"apply.a b\" is no name: give `id`, letters, digits, `.`, `_` and `-`",
        ),
        (
            "{spiffe_id: /w, selectors: [a:b]}\n  - {spiffe_id: /w, selectors: [a:c]}",
            "3:5: entries[1]: already given at etc/e.yaml:2:5",
        ),
    ] {
        let errors = load(&format!("entries:\n  - {item}\n")).unwrap_err();
        let all: Vec<_> = errors.errors().iter().map(ToString::to_string).collect();
        assert_eq!(all, [format!("etc/e.yaml:{expected}")], "{item}");
    }
    let other = load("site: c.example\nentries:\n  - {spiffe_id: /w, selectors: [a:b]}\n");
    assert!(
        other
            .unwrap_err()
            .to_string()
            .contains("site: these are entries of b.example")
    );
}
