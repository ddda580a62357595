//! `authority`.

use std::{path::Path, time::Duration};

use sekisho_authority::attest::k8s_psat::NameBy;

use super::super::{
    Attest, ClusterConfig, Config, ConfigErrors, EvidenceConfig, Secret, error::Report,
    files::Source, read,
};

const LEAST: &str = "site: b.example\nauthority:\n  socket: run/api.sock\n  data: data\n";

pub(super) fn load(text: &str) -> Result<Config, ConfigErrors> {
    let path = Path::new("etc/f.yaml");
    let source = Source {
        file: path.into(),
        text: text.into(),
    };
    read(path, &[source], &|_| None, Report::default())
}

/// The only error of a file with these lines more below `authority`.
fn error(lines: &str) -> String {
    let text = format!("{LEAST}{lines}");
    let errors = load(&text).expect_err(&text);
    let all: Vec<_> = errors.errors().iter().map(ToString::to_string).collect();
    let [one] = all.as_slice() else {
        panic!("{text}: {all:?}");
    };
    one.trim_start_matches("etc/f.yaml:").into()
}

#[test]
fn a_site_a_socket_and_a_folder_are_enough() {
    let file = load(LEAST).unwrap();
    let config = file.authority.unwrap();
    assert_eq!(file.site.as_str(), "b.example");
    assert_eq!(config.socket, Path::new("etc/run/api.sock"));
    assert_eq!(config.data, Path::new("etc/data"));
    assert_eq!(
        (config.listen, config.encrypt, config.jwt_issuer),
        (None, None, None)
    );
    assert_eq!(config.attest, [Attest::JoinToken]);
    let hour = Duration::from_secs(3600);
    assert_eq!(
        (config.ca_ttl, config.x509_ttl, config.agent_ttl),
        (24 * hour, hour, hour)
    );
    assert_eq!(config.jwt_ttl, Duration::from_secs(300));
    assert!(config.admins.is_empty());
}

#[test]
fn all_that_can_be_said_is_understood() {
    let text = format!(
        "{LEAST}  listen: 0.0.0.0:8081\n  encrypt: {{env: KEY}}\n  ca_ttl: 12h\n  x509_ttl: 2h\n  \
         agent_ttl: 30m\n  jwt_ttl: 1m\n  jwt_issuer: https://b.example\n  \
         attest: [join_token, {{x509pop: {{ca: nodes.pem}}}}]\n  \
         admins: [spiffe://b.example/admin, spiffe://c.example/admin]\nlog: {{format: json}}\n"
    );
    let config = load(&text).unwrap().authority.unwrap();
    assert_eq!(config.listen, Some("0.0.0.0:8081".parse().unwrap()));
    assert_eq!(config.encrypt, Some(Secret::Env("KEY".into())));
    let pop = Attest::X509Pop {
        ca: "etc/nodes.pem".into(),
    };
    assert_eq!(config.attest, [Attest::JoinToken, pop]);
    assert_eq!(config.admins.len(), 2);
    assert_eq!(config.ca_ttl, Duration::from_secs(12 * 3600));
    let spiffe = load(&format!("{LEAST}  attest: [{{x509pop: spiffe}}]\n")).unwrap();
    assert_eq!(spiffe.authority.unwrap().attest, [Attest::X509PopSpiffe]);
    let file = load(&format!("{LEAST}  encrypt: {{file: secret}}\n")).unwrap();
    assert_eq!(
        file.authority.unwrap().encrypt,
        Some(Secret::File("etc/secret".into()))
    );
}

#[test]
fn clusters_have_a_kubeconfig_accounts_and_what_tells_of_them() {
    let text = format!(
        "{LEAST}  attest:\n    - k8s_psat:\n        clusters:\n          campus: {{accounts: [sekisho:agent]}}\n          \
         Lab.2: {{kubeconfig: kube.conf, accounts: [a:b, c:d.e], audience: [x, y], \
         node_labels: [topology.kubernetes.io/zone], pod_labels: [app], name_by: pod}}\n"
    );
    let config = load(&text).unwrap().authority.unwrap();
    let [Attest::K8sPsat(clusters)] = config.attest.as_slice() else {
        panic!("{:?}", config.attest);
    };
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let campus = ClusterConfig {
        kubeconfig: None,
        accounts: set(&["sekisho:agent"]),
        audience: vec!["spire-server".into()],
        node_labels: set(&[]),
        pod_labels: set(&[]),
        name_by: NameBy::Node,
    };
    let lab = ClusterConfig {
        kubeconfig: Some("etc/kube.conf".into()),
        accounts: set(&["a:b", "c:d.e"]),
        audience: vec!["x".into(), "y".into()],
        node_labels: set(&["topology.kubernetes.io/zone"]),
        pod_labels: set(&["app"]),
        name_by: NameBy::Pod,
    };
    let expected = [("campus".to_owned(), campus), ("Lab.2".to_owned(), lab)];
    assert_eq!(*clusters, expected.into());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (lines, expected) in [
        (
            "  listen: 8081\n",
            "5:11: authority.listen: expected an IP address ([…] around IPv6; names are not looked up here), a colon and a port from 1 to 65535, found \"8081\"",
        ),
        (
            "  attest: join_token\n",
            "5:11: authority.attest: expected a list of join_token, {x509pop: {ca: FILE}}, {x509pop: spiffe}, {k8s_psat: {clusters: {NAME: {…}}}} or {sekisho_evidence: {evidence: […]}}, found \"join_token\"",
        ),
        (
            "  attest: [token]\n",
            "5:12: authority.attest[0]: expected a list of join_token, {x509pop: {ca: FILE}}, {x509pop: spiffe}, {k8s_psat: {clusters: {NAME: {…}}}} or {sekisho_evidence: {evidence: […]}}, found \"token\"",
        ),
        (
            "  attest: [join_token, join_token]\n",
            "5:24: authority.attest[1]: this kind of attestation is there already",
        ),
        (
            "  attest: [{x509pop: spiffe}, {x509pop: {ca: a}}]\n",
            "5:31: authority.attest[1]: this kind of attestation is there already",
        ),
        (
            "  attest: [{x509pop: spiffe, k8s_psat: {clusters: {a: {accounts: [a:b]}}}}]\n",
            "5:12: authority.attest[0]: expected a list of join_token, {x509pop: {ca: FILE}}, {x509pop: spiffe}, {k8s_psat: {clusters: {NAME: {…}}}} or {sekisho_evidence: {evidence: […]}}, each an item of its own",
        ),
        (
            "  attest: [{k8s_psat: {clusters: {a: {}}}}]\n",
            "5:35: authority.attest[0].k8s_psat.clusters.a.accounts: missing: expected a list of service accounts, NAMESPACE:NAME, as in [sekisho:agent]",
        ),
        (
            "  attest: [{k8s_psat: {clusters: {a: {accounts: [agent]}}}}]\n",
            "5:50: authority.attest[0].k8s_psat.clusters.a.accounts[0]: expected a list of service accounts, NAMESPACE:NAME, as in [sekisho:agent], found \"agent\"",
        ),
        (
            "  attest: [{k8s_psat: {clusters: {a/b: {accounts: [a:b]}}}}]\n",
            "5:35: authority.attest[0].k8s_psat.clusters.a/b: the name of a cluster has up to 253 letters, digits, dots, dashes and underscores, since it stands in the IDs of agents",
        ),
        (
            "  attest: [{k8s_psat: {clusters: {a: {accounts: [a:b], audience: []}}}}]\n",
            "5:66: authority.attest[0].k8s_psat.clusters.a.audience: expected a list of audiences, as in [spire-server], found an empty list",
        ),
        (
            "  attest: [{k8s_psat: {clusters: {a: {accounts: [a:b], name_by: uid}}}}]\n",
            "5:65: authority.attest[0].k8s_psat.clusters.a.name_by: expected node or pod, found \"uid\"",
        ),
        (
            "  encrypt: {}\n",
            "5:12: authority.encrypt: either `file` or `env`",
        ),
        (
            "  encrypt: {file: a, env: B}\n",
            "5:12: authority.encrypt: either `file` or `env`",
        ),
        (
            "  ca_ttl: 5h\n",
            "5:11: authority.ca_ttl: must be at least six times as long as `x509_ttl` and `agent_ttl`: a CA signs until the last sixth of its life",
        ),
        (
            "  x509_ttl: 5h\n",
            "2:1: authority.ca_ttl: must be at least six times as long as `x509_ttl` and `agent_ttl`: a CA signs until the last sixth of its life",
        ),
        (
            "  admins: [spiffe://b.example]\n",
            "5:12: authority.admins[0]: \"spiffe://b.example\" has no path: only a CA may carry a bare trust domain",
        ),
        (
            "  jwt_issuer: b.example\n",
            "5:15: authority.jwt_issuer: expected the URL that stands in tokens as `iss`, as in https://site.example, found \"b.example\"",
        ),
    ] {
        assert_eq!(error(lines), expected, "{lines}");
    }
    let file = load("site: b.example\nauthority: {listen: 127.0.0.1:8081}\n").unwrap();
    let config = file.authority.unwrap();
    assert_eq!(config.socket, Path::new("/run/sekisho/authority/api.sock"));
    assert_eq!(config.data, Path::new("/var/lib/sekisho/authority"));
    let none = load("site: b.example\n").unwrap_err();
    assert!(none.to_string().contains("endpoints: missing"), "{none}");
}

#[test]
fn evidence_has_pieces_of_its_own_and_a_policy() {
    let attest = |value: &str| {
        let text = format!("{LEAST}  attest: [{{sekisho_evidence: {value}}}]\n");
        load(&text).unwrap().authority.unwrap().attest
    };
    let evidence = vec![
        Attest::JoinToken,
        Attest::X509Pop {
            ca: "etc/nodes.pem".into(),
        },
    ];
    let pieces = "evidence: [join_token, {x509pop: {ca: nodes.pem}}]";
    let expected = |policy: Option<&str>| {
        [Attest::Evidence(EvidenceConfig {
            evidence: evidence.clone(),
            policy: policy.map(Into::into),
        })]
    };
    assert_eq!(attest(&format!("{{{pieces}}}")), expected(None));
    let with_policy = attest(&format!("{{{pieces}, policy: attest}}"));
    assert_eq!(with_policy, expected(Some("etc/attest")));
    for (value, expected) in [
        ("{policy: attest}", "evidence: missing"),
        ("{evidence: [{sekisho_evidence: {}}]}", "unknown key"),
        ("{evidence: [join_token, join_token]}", "there already"),
        ("{evidence: [tpm]}", "expected a list of join_token"),
        (
            "{evidence: [{x509pop: spiffe, k8s_psat: {}}]}",
            "each an item of its own",
        ),
    ] {
        let told = error(&format!("  attest: [{{sekisho_evidence: {value}}}]\n"));
        assert!(told.contains(expected), "{value}: {told}");
    }
}
