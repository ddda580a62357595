//! The administrators' commands against an authority that runs.

mod admin;
mod apply;
mod bundles;
mod mint;
mod server;

use std::process::Command;

use serde_json::{Value, json};

use crate::support::node::SEKISHO;
use admin::Admin;

const CREATE: &str = "entry create --parent-id /node/local --spiffe-id /w --selector unix:uid:1";

#[test]
fn entries_are_made_changed_and_deleted() {
    let admin = Admin::start();
    let made = admin.json(&format!("{CREATE} --entry-id one --hint db --x509-ttl 2h"));
    assert_eq!(made[0]["spiffe_id"], "spiffe://a.example/w");
    assert_eq!(admin.json("entry show one")[0]["x509_svid_ttl"], 7200);
    let again = admin.refused(CREATE, 1);
    assert!(again.contains("AlreadyExists"), "{again}");
    let reserved = admin.refused(&CREATE.replace("/w ", "/spire/w "), 1);
    assert!(reserved.contains("InvalidArgument"), "{reserved}");
    let selector = admin.refused(&CREATE.replace("unix:uid:1", "uid"), 2);
    assert!(selector.contains("TYPE:VALUE"), "{selector}");
    assert_eq!(admin.json("entry count")["count"], 1);
    assert_eq!(admin.json("entry count --selector unix:uid:2")["count"], 0);
    assert_eq!(
        admin.json("entry list --spiffe-id /w --hint db")[0]["id"],
        "one"
    );
    let missing = admin.refused("entry delete one two", 1);
    assert!(
        missing.contains("two: ") && !missing.contains("one: "),
        "{missing}"
    );
    assert_eq!(admin.json("entry list"), json!([]));
    admin.json(&format!("{CREATE} --entry-id one"));
    let gone = admin.json("entry delete one");
    assert_eq!(gone[0]["done"], "deleted");
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let admin = Admin::start();
    let more = "--hint db --x509-ttl 2h --dns w.a.example --admin --on-demand --jwt-id";
    let made = admin.json(&format!(
        "{CREATE} --entry-id one {more} --expires-at 4102444800"
    ));
    let changed = admin.json("entry update --entry-id one --hint other");
    let mut expected = made;
    expected[0]["hint"] = "other".into();
    expected[0]["revision_number"] = 1.into();
    assert_eq!(changed, expected);
    let changed =
        admin.json("entry update --entry-id one --clear dns --clear jwt-id --x509-ttl 0s");
    expected[0]["dns_names"] = json!([]);
    expected[0]["jwt_id"] = false.into();
    expected[0]["x509_svid_ttl"] = 0.into();
    expected[0]["revision_number"] = 2.into();
    assert_eq!(changed, expected);
    let nothing = admin.refused("entry update --entry-id one", 2);
    assert!(nothing.contains("--help"), "{nothing}");
    admin.refused("entry update --entry-id one --hint x --clear hint", 2);
    let missing = admin.refused("entry update --entry-id two --hint x", 1);
    assert!(
        missing.contains("two: ") && missing.contains("NotFound"),
        "{missing}"
    );
}

#[test]
fn what_is_malformed_is_a_wrong_command_line() {
    let admin = Admin::start();
    for line in [
        &CREATE.replace("/w ", "w "),
        &CREATE.replace("/w ", "spiffe://A.example/w "),
        &CREATE.replace("/node/local", "//node"),
        &format!("{CREATE} --x509-ttl 500ms"),
        &format!("{CREATE} --federates-with B.example"),
        "entry show",
        "node show agent",
        "node evict spiffe://a.example",
        "token create --ttl 1500ms",
        "x509 mint --id w",
        "jwt mint --id /w",
        "bundle set --id b/c",
        "bundle delete --id b.example --mode all",
        "federation create --id b.example --url http://b.example/ --profile https_web",
        "federation create --id b.example --url https://b.example/ --profile https_spiffe",
        "federation update --id b.example",
        "logger set --level loud",
    ] {
        let said = admin.refused(line, 2);
        assert!(!said.is_empty(), "{line}");
    }
}

#[test]
fn authorities_rotate_and_a_token_is_in_no_log() {
    let admin = Admin::start();
    for jwt in ["", " --jwt"] {
        let id = |state: &Value| state[0]["id"].as_str().unwrap().to_owned();
        let old = id(&admin.json(&format!("ca show{jwt}")));
        let new = id(&admin.json(&format!("ca prepare{jwt}")));
        let early = admin.refused(&format!("ca taint {old}{jwt}"), 1);
        assert!(early.contains("InvalidArgument"), "{early}");
        admin.json(&format!("ca activate {new}{jwt}"));
        admin.json(&format!("ca taint {old}{jwt}"));
        admin.json(&format!("ca revoke {old}{jwt}"));
        assert_eq!(id(&admin.json(&format!("ca show{jwt}"))), new);
    }
    let token = admin.json("token create --ttl 1m --spiffe-id /node/n1");
    let value = token["value"].as_str().unwrap();
    assert!(value.len() > 30 && !admin.authority.said().contains(value));
    assert_eq!(admin.json("node list"), json!([]));
    let unknown = admin.refused("node evict /spire/agent/join_token/x", 1);
    assert!(unknown.contains("NotFound"), "{unknown}");
}

#[test]
fn nobody_at_the_socket_is_told_with_what_to_do() {
    let output = Command::new(SEKISHO)
        .args(["entry", "list", "--socket", "/nowhere/api.sock"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("--socket PATH") && text.contains("/nowhere/api.sock"),
        "{text}"
    );
}
