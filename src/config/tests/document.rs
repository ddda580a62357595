use sekisho_policy::{Limits, Policy};

use super::load_text;
use crate::config::{Attest, keys};

#[test]
fn every_key_stands_in_the_reference() {
    let document = include_str!("../../../docs/configuration.md");
    for (path, keys) in keys::ALL {
        for key in keys.known {
            let name = format!("`{path}{key}`");
            assert!(
                document.contains(&name),
                "docs/configuration.md has no {name}"
            );
        }
        for key in keys.later {
            let name = format!("`{key}`");
            assert!(
                document.contains(&name),
                "docs/configuration.md has no {name}"
            );
        }
    }
}

#[test]
fn the_examples_of_the_reference_are_right() {
    let document = include_str!("../../../docs/configuration.md");
    let blocks = document.split("```yaml\n").skip(1);
    let blocks: Vec<_> = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    let [
        first,
        second,
        connect,
        authority,
        evidence,
        below,
        oidc,
        directory,
        federation,
    ] = blocks.as_slice()
    else {
        panic!("{} examples", blocks.len());
    };
    let config = load_text(&[*first, *second].concat()).unwrap();
    let head = "site: osaka.example\nidentity: unix:///run/a.sock\n";
    let own = load_text(&format!("{head}{connect}")).unwrap();
    let [out] = own.endpoints.as_slice() else {
        panic!("{} endpoints", own.endpoints.len());
    };
    assert!(out.spec.any_site().is_some() && out.warnings.is_empty());
    let own = load_text(directory).unwrap().federation.unwrap();
    assert_eq!(own.directory.unwrap().places.len(), 1);
    let names: Vec<_> = config
        .endpoints
        .iter()
        .map(|one| one.spec.name.as_str())
        .collect();
    assert_eq!(names, ["from-osaka", "to-tokyo"]);
    assert!(config.endpoints.iter().all(|one| one.warnings.is_empty()));
    let file = super::authority::load(authority).unwrap();
    assert_eq!(file.authority.unwrap().attest.len(), 3);
    let file = super::authority::load(evidence).unwrap();
    assert!(matches!(
        file.authority.unwrap().attest.as_slice(),
        [Attest::Evidence(_)]
    ));
    assert!(file.agent.unwrap().wants_token());
    let file = super::authority::load(below).unwrap();
    assert!(file.authority.unwrap().upstream.is_some());
    let file = super::authority::load(oidc).unwrap();
    assert_eq!(file.oidc.unwrap().domains.len(), 1);
    let file = super::authority::load(federation).unwrap();
    assert_eq!(file.federation.unwrap().peers.len(), 1);
}

#[test]
fn the_attestation_policy_of_the_reference_is_one() {
    let document = include_str!("../../../docs/configuration.md");
    let policy = document.split("```rego\npackage sekisho.attest").nth(1);
    let policy = policy.and_then(|text| text.split("```").next()).unwrap();
    let policy = Policy::from_text(
        "attest.rego",
        &format!("package sekisho.attest{policy}"),
        sekisho_authority::attest::evidence::DECISION,
        Limits::default(),
    );
    let answer = policy.unwrap().question().ask(serde_json::json!({
        "evidence": [{"type": "join_token"}],
    }));
    assert_eq!(answer.unwrap()["allow"], serde_json::json!(false));
}
