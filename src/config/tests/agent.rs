//! `agent`.

use std::path::Path;

use super::{errors, load_text};
use sekisho_agent::workload::{DockerSpec, K8sSpec, SystemdSpec, UnixSpec, WorkloadAttestorSpec};
use sekisho_kube::{KubeLogin, KubeServer};

use crate::config::{AgentConfig, CertificateFiles, NodeProof, Piece, Secret};

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
    assert_eq!(
        agent.workloads,
        [WorkloadAttestorSpec::Unix(UnixSpec::default())]
    );
    assert!(agent.keyring);
}

#[test]
fn an_agent_in_a_pod_names_its_cluster() {
    let with =
        |value: &str| ALONE.replace("join_token: {file: token}", &format!("k8s_psat: {value}"));
    let attest = |value: &str| load_text(&with(value)).unwrap().agent.unwrap().attest;
    let proof = |token: &str| {
        Some(NodeProof::K8sPsat {
            cluster: "campus".into(),
            token: token.into(),
        })
    };
    let default = proof("/var/run/secrets/tokens/spire-agent");
    assert_eq!(attest("{cluster: campus}"), default);
    assert_eq!(attest("{cluster: campus, token: psat}"), proof("etc/psat"));
    let name = "expected the name of this node's cluster, as the authority calls it";
    for (value, expected) in [
        ("{}", format!("5:3: agent.k8s_psat.cluster: missing: {name}")),
        ("{cluster: a/b}", format!("5:23: agent.k8s_psat.cluster: {name}, found \"a/b\"")),
        ("campus", "5:13: agent.k8s_psat: expected {cluster: NAME} or {cluster: NAME, token: FILE}, found \"campus\"".into()),
    ] {
        assert_eq!(errors(&with(value)), [expected], "{value}");
    }
}

#[test]
fn several_pieces_are_shown_together() {
    let with =
        |value: &str| ALONE.replace("join_token: {file: token}", &format!("evidence: {value}"));
    let pieces = |text: &str| match load_text(text).unwrap().agent.unwrap() {
        AgentConfig {
            attest: Some(NodeProof::Evidence(pieces)),
            ..
        } => pieces,
        other => panic!("{other:?}"),
    };
    let all =
        "[{join_token: {env: TOKEN}}, {x509pop: {cert: c, key: k}}, {k8s_psat: {cluster: campus}}]";
    let expected = [
        Piece::JoinToken(Secret::Env("TOKEN".into())),
        Piece::X509Pop(CertificateFiles {
            cert: "etc/c".into(),
            key: "etc/k".into(),
        }),
        Piece::K8sPsat {
            cluster: "campus".into(),
            token: None,
        },
    ];
    assert_eq!(pieces(&with(all)), expected);
    let beside = BESIDE.replace(
        "{}",
        "{evidence: [join_token, {x509pop: {cert: c, key: k}}]}",
    );
    assert_eq!(pieces(&beside)[0], Piece::HandedOver);
    let agent = load_text(&beside).unwrap().agent.unwrap();
    assert!(agent.wants_token());
    for (value, expected) in [
        (
            "[join_token]",
            "a token is handed over only where `authority` is in the same file",
        ),
        ("[tpm]", "expected a list of {join_token"),
        ("[{tpm: x}]", "unknown key"),
        (
            "[{join_token: {file: t}, x509pop: {cert: c, key: k}}]",
            "each an item of its own",
        ),
        (
            "[{join_token: {file: t}}, {join_token: {file: t}}]",
            "this piece is there already",
        ),
        (
            "[{x509pop: {cert: c}}]",
            "agent.evidence[0].x509pop.key: missing",
        ),
    ] {
        let all = errors(&with(value));
        assert!(
            all.len() == 1 && all[0].contains(expected),
            "{value}: {all:?}"
        );
    }
}

#[test]
fn workload_attestors_have_settings() {
    let text = format!(
        "{ALONE}  workloads:\n    - unix: {{path: false, size_limit: 1MiB}}\n    - systemd: {{bus: /bus}}\n    \
         - docker: {{socket: /docker.sock}}\n    \
         - k8s: {{node: n1, port: 10251, ca: ca.pem, cert: c.pem, key: k.pem, namespace_labels: true}}\n    - slurm\n"
    );
    let agent = load_text(&text).unwrap().agent.unwrap();
    let kubelet = KubeServer::kubelet()
        .named("n1")
        .at(10251)
        .with_ca("etc/ca.pem");
    let kubelet = kubelet.with_login(KubeLogin::Certificate {
        certificate: "etc/c.pem".into(),
        key: "etc/k.pem".into(),
    });
    let expected = [
        WorkloadAttestorSpec::Unix(UnixSpec {
            discover_path: false,
            size_limit: Some(1 << 20),
            digest: true,
        }),
        WorkloadAttestorSpec::Systemd(SystemdSpec { bus: "/bus".into() }),
        WorkloadAttestorSpec::Docker(DockerSpec {
            socket: "/docker.sock".into(),
        }),
        WorkloadAttestorSpec::K8s(Box::new(K8sSpec {
            kubelet,
            namespace_labels: Some(KubeServer::api_server()),
            ..K8sSpec::default()
        })),
        WorkloadAttestorSpec::Slurm,
    ];
    assert_eq!(agent.workloads, expected);
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
            "6:3: agent.x509pop: one kind of attestation; several together are items of `evidence`",
        ),
        (
            "  k8s_psat: {cluster: campus}\n",
            "6:3: agent.k8s_psat: one kind of attestation; several together are items of `evidence`",
        ),
        (
            "  workloads: [k8x]\n",
            "6:15: agent.workloads[0]: expected a list of unix, systemd, docker, k8s and slurm, or {docker: {…}} with settings, found \"k8x\"",
        ),
        (
            "  workloads: [unix, {unix: {path: false}}]\n",
            "6:21: agent.workloads[1]: this kind of attestation is there already",
        ),
        (
            "  workloads: [{unix: {}, docker: {socket: s}}]\n",
            "6:15: agent.workloads[0]: one kind of attestation in each item of the list",
        ),
        (
            "  workloads: [{k8s: {token: t, read_only_port: 10255}}]\n",
            "6:22: agent.workloads[0].k8s.token: the read-only port has no TLS and no log-in",
        ),
        (
            "  workloads: [{k8s: {skip_kubelet_verification: true}}]\n",
            "6:22: agent.workloads[0].k8s.skip_kubelet_verification: unknown key; expected one of: node, port, ca, token, cert, key, read_only_port, namespace_labels",
        ),
        (
            "  availability: 3y\n",
            "6:17: agent.availability: expected a duration with its unit (ms, s, m, h, d), as in 300ms, 30s or 1h30m, found \"3y\"",
        ),
        (
            "  insecure_bootstrap: true\n",
            "6:3: agent.insecure_bootstrap: unknown key; expected one of: authority, bootstrap, socket, listen, data, join_token, x509pop, k8s_psat, evidence, workloads, availability, seal, delegated, user",
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
