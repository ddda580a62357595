//! `agent`.

use std::path::Path;

use super::{errors, load_text};
use crate::config::{NodeProof, Secret, Workload};

const ALONE: &str = "site: b.example\nagent:\n  authority: [authority.b.example:8081, \"[::1]:8081\"]\n  \
                     bootstrap: bundle.pem\n  join_token: {file: token}\n";
const BESIDE: &str = "site: b.example\nauthority: {listen: 0.0.0.0:8081}\nagent: {}\n";

#[test]
fn an_agent_alone_needs_an_authority_a_bundle_and_a_token() {
    let agent = load_text(ALONE).unwrap().agent.unwrap();
    assert_eq!(agent.authority, ["authority.b.example:8081", "[::1]:8081"]);
    assert_eq!(
        agent.bootstrap.as_deref(),
        Some(Path::new("etc/bundle.pem"))
    );
    let token = NodeProof::JoinToken(Secret::File("etc/token".into()));
    assert_eq!(agent.attest, Some(token));
    assert_eq!(agent.socket, Path::new("/run/sekisho/agent/api.sock"));
    assert_eq!(agent.workloads, [Workload::Unix]);
    assert!(agent.keyring);
}

#[test]
fn beside_its_authority_it_needs_nothing() {
    let agent = load_text(BESIDE).unwrap().agent.unwrap();
    assert_eq!(agent.authority, ["127.0.0.1:8081"]);
    assert_eq!((agent.bootstrap, agent.attest), (None, None));
}

#[test]
fn endpoints_ask_the_agent_of_the_same_file() {
    let text = format!(
        "{}endpoints:\n  x:\n    listen: mtls://127.0.0.1:7000\n    forward: tcp://127.0.0.1:7001\n    \
         accept: [spiffe://a.example/w]\n",
        BESIDE.replace("{}", "{socket: /run/other.sock}")
    );
    let config = load_text(&text).unwrap();
    let source = config.endpoints[0].identity.clone().unwrap();
    let expected = sekisho_certs::source::SourceSpec::WorkloadApi {
        socket: "/run/other.sock".into(),
    };
    assert_eq!(source, expected);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let with = |lines: &str| errors(&format!("{ALONE}{lines}"));
    for (lines, expected) in [
        (
            "  listen: 10.0.0.1:80\n",
            "6:11: agent.listen: expected an address of loopback and a port, as in 127.0.0.1:8090, found \"10.0.0.1:80\"",
        ),
        (
            "  seal: tpm\n",
            "6:9: agent.seal: expected keyring or file, found \"tpm\"",
        ),
        (
            "  x509pop: {cert: c, key: k}\n",
            "6:3: agent.x509pop: one kind of attestation; several together are not in this version",
        ),
        (
            "  workloads: [k8x]\n",
            "6:15: agent.workloads[0]: expected unix, found \"k8x\"",
        ),
        (
            "  availability: 3y\n",
            "6:17: agent.availability: expected a duration with its unit (ms, s, m, h, d), as in 300ms, 30s or 1h30m, found \"3y\"",
        ),
        (
            "  insecure_bootstrap: true\n",
            "6:3: agent.insecure_bootstrap: unknown key; expected one of: authority, bootstrap, socket, listen, data, join_token, x509pop, workloads, availability, seal, delegated, user",
        ),
        (
            "  delegated: {socket: a.sock, delegates: {spiffe://b.example: [spiffe://b.example/w]}}\n",
            "6:43: agent.delegated.delegates.spiffe://b.example: \"spiffe://b.example\" has no path: only a CA may carry a bare trust domain",
        ),
    ] {
        assert_eq!(with(lines), [expected], "{lines}");
    }
    let alone = errors("site: b.example\nagent: {}\n");
    let missing = |key: &str| {
        alone
            .iter()
            .any(|line| line.contains(&format!("agent.{key}: missing")))
    };
    assert!(
        ["authority", "bootstrap", "join_token"]
            .iter()
            .all(|key| missing(key)),
        "{alone:?}"
    );
}
