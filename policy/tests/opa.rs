//! The same policies and inputs put to the real `opa`.
//!
//! `opa` is looked for in `${XDG_CACHE_HOME:-$HOME/.cache}/sekisho/interop/bin` and on PATH.
//! Without it these tests are skipped, but fail where the variable `CI` is set.

#![expect(
    clippy::disallowed_methods,
    reason = "the interop binary is found by environment"
)]
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeMap, env, fs, io::Write as _, path::PathBuf, process::Command};

use sekisho_certs::id::parse_workload_id;
use sekisho_policy::{
    Client, DEFAULT_DECISION, Direction, Input, Limits, Policy,
    commands::{eval, test},
};
use serde_json::Value;

const INSTALL: &str = "go install github.com/open-policy-agent/opa@v1.18.0";

fn opa() -> Option<PathBuf> {
    let cache = env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|_| env::var("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let installed = cache.ok().map(|cache| cache.join("sekisho/interop/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let found = installed
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|dir| dir.join("opa"))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "no opa: {INSTALL}");
        // Past the test runner, which keeps what a test that passes prints to itself.
        let said = format!("SKIPPED: no opa to compare with; get it by: {INSTALL}\n");
        let _ = std::io::stderr().write_all(said.as_bytes());
    }
    found
}

const POLICIES: &[&str] = &[
    "allow := input.sekisho.service == \"kafka\"",
    "default allow := false\nallow if input.sekisho.client.trust_domain == \"osaka.example\"",
    "allow if input.sekisho.client.trust_domain == \"osaka.example\"",
    "default allow := {\"allowed\": false, \"reason\": \"no\"}\n\
     allow := {\"allowed\": true, \"ttl\": \"30s\"} if \"lab\" in input.sekisho.client.path_segments",
    "allow if net.cidr_contains(\"192.0.2.0/24\", input.attributes.source.address.socketAddress.address)",
    "allow if glob.match(\"spiffe://*.example/**\", [\".\", \"/\"], input.attributes.source.principal)",
    "allow if regex.match(`^spiffe://[a-z]+\\.example/lab/[a-z]+$`, input.attributes.source.principal)",
    "allow if { walk(input.sekisho, [path, \"kafka\"]); path == [\"service\"] }",
    "allow if every s in input.sekisho.client.path_segments { count(s) >= 3 }",
    "allow if sprintf(\"%s/%d/%v\", [input.sekisho.service, count(input.parsed_path), [1, \"x\"]]) == \"kafka/1/[1, \\\"x\\\"]\"",
    "allow if { some site, ids in data.peers; input.sekisho.client.spiffe_id in ids; site == \"osaka\" }",
    "allow if object.get(input, [\"sekisho\", \"claimed\", \"x\"], \"none\") == \"none\"",
    "allow if { split(input.sekisho.site, \".\", parts); parts[0] == \"hokkaido\" }",
    "allow if not input.sekisho.claimed.x",
    "allow if time.parse_duration_ns(\"30s\") == 30000000000",
    "allow if json.marshal(input.sekisho.client) == concat(\"\", [\"{\\\"path_segments\\\":\", json.marshal(input.sekisho.client.path_segments), \",\\\"spiffe_id\\\":\\\"\", input.sekisho.client.spiffe_id, \"\\\",\\\"trust_domain\\\":\\\"osaka.example\\\"}\"])",
    "allow if upper(trim_suffix(input.sekisho.site, \".example\")) == \"HOKKAIDO\"",
    "ok(x) := y if { y := {\"kafka\": true, \"ldap\": false}[x] }\nallow := ok(input.sekisho.service)",
];

fn inputs() -> Vec<Input> {
    let id = |text| parse_workload_id(text).unwrap();
    let base = Input {
        site: "hokkaido.example".into(),
        endpoint: "from-osaka".into(),
        direction: Direction::Inbound,
        service: "kafka".into(),
        source: Some("192.0.2.7:40123".parse().unwrap()),
        destination: None,
        own_id: Some(id("spiffe://hokkaido.example/broker/osaka")),
        sni: Some("from-osaka.hokkaido.example".into()),
        client: Client::Workload(id("spiffe://osaka.example/lab/sender")),
        upstream: None,
        federation: None,
        claimed: BTreeMap::new(),
    };
    vec![
        base.clone(),
        Input {
            service: "ldap".into(),
            source: Some("[2001:db8::7]:1".parse().unwrap()),
            client: Client::Workload(id("spiffe://kyushu.example/a/b")),
            claimed: BTreeMap::from([("x".into(), "y".into())]),
            ..base.clone()
        },
        Input {
            client: Client::Unknown,
            source: None,
            ..base
        },
    ]
}

fn directory(body: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("a.rego"),
        format!("package sekisho.authz\n\n{body}\n"),
    )
    .unwrap();
    fs::create_dir(dir.path().join("peers")).unwrap();
    let data = r#"{"osaka": ["spiffe://osaka.example/lab/sender"], "kyushu": []}"#;
    fs::write(dir.path().join("peers/data.json"), data).unwrap();
    dir
}

#[test]
fn opa_and_sekisho_give_the_same_results() {
    let Some(opa) = opa() else { return };
    for body in POLICIES {
        let dir = directory(body);
        let policy = Policy::load(dir.path(), DEFAULT_DECISION, Limits::default()).unwrap();
        let mut evaluator = policy.evaluator();
        for input in inputs() {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), input.to_json().to_string()).unwrap();
            let output = Command::new(&opa)
                .args([
                    "eval",
                    "--strict-builtin-errors",
                    "--format",
                    "json",
                    "--data",
                ])
                .arg(dir.path())
                .arg("--input")
                .arg(file.path())
                .arg("data.sekisho.authz.allow")
                .output()
                .unwrap();
            let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
            let theirs = &theirs["result"][0]["expressions"][0]["value"];
            let ours = eval(dir.path(), input.to_json(), "data.sekisho.authz.allow").unwrap();
            let ours = &ours["result"][0]["expressions"][0]["value"];
            assert_eq!(ours, theirs, "{body}\n{}", input.to_json());
            let allowed = theirs.as_bool().or_else(|| theirs["allowed"].as_bool());
            assert_eq!(
                evaluator.decide(&input).allowed,
                allowed == Some(true),
                "{body}"
            );
        }
    }
}

#[test]
fn opa_and_sekisho_end_tests_with_the_same_code() {
    let Some(opa) = opa() else { return };
    for tests in [
        "test_a if allow",
        "test_a if not allow",
        "test_a if allow\ntodo_test_b if allow",
        "test_a if allow with input as {\"x\": 1}",
        "test_a := 7",
    ] {
        let dir = directory("allow := true");
        let text = format!("package sekisho.authz\n\n{tests}\n");
        fs::write(dir.path().join("a_test.rego"), text).unwrap();
        let theirs = Command::new(&opa)
            .arg("test")
            .arg(dir.path())
            .output()
            .unwrap();
        let ours = test(dir.path(), None).unwrap().exit_code(false);
        assert_eq!(Some(i32::from(ours)), theirs.status.code(), "{tests}");
    }
}
