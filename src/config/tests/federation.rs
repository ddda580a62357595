//! `federation`.

use std::{path::Path, time::Duration};

use super::{errors, load_text};
use crate::config::{AcmeConfig, DirectoryPlace, FederationConfig, ShownConfig};

const SITE: &str = "site: b.example\nauthority: {}\n";
const PEER: &str = "url: \"https://osaka.example:8443\", profile: https_spiffe, \
                    id: spiffe://osaka.example/spire/server, bundle: osaka.json";

fn federation(text: &str) -> FederationConfig {
    let config = load_text(&format!("{SITE}federation: {text}\n"));
    config
        .unwrap_or_else(|errors| panic!("{errors}"))
        .federation
        .unwrap()
}

#[test]
fn an_address_is_enough_for_an_endpoint_and_a_peer_says_everything() {
    let own = federation("{endpoint: {listen: 0.0.0.0:8443}}");
    let endpoint = own.endpoint.unwrap();
    assert_eq!(endpoint.listen, "0.0.0.0:8443".parse().unwrap());
    assert_eq!(endpoint.refresh, Duration::from_secs(300));
    assert_eq!(endpoint.shown, ShownConfig::Spiffe);
    assert_eq!(
        (own.peers, own.allow, own.warnings),
        (vec![], vec![], vec![])
    );
    let own = federation(&format!(
        "{{endpoint: {{listen: 0.0.0.0:443, profile: https_web, cert: c.pem, key: k.pem, refresh: 1h}}, \
         peers: {{osaka.example: {{{PEER}}}, tokyo.example: {{url: \"https://t.example/b?c\", \
         profile: https_web}}}}, allow: [10.0.0.0/8, \"fd00::/8\"]}}"
    ));
    let endpoint = own.endpoint.unwrap();
    assert_eq!(endpoint.refresh, Duration::from_secs(3600));
    let web = ShownConfig::Web {
        cert: "etc/c.pem".into(),
        key: "etc/k.pem".into(),
    };
    assert_eq!(endpoint.shown, web);
    let [osaka, tokyo] = own.peers.as_slice() else {
        panic!("{:?}", own.peers)
    };
    assert_eq!(osaka.domain.as_str(), "osaka.example");
    assert_eq!(osaka.url.to_string(), "https://osaka.example:8443");
    let id = osaka.id.as_ref().unwrap().to_string();
    assert_eq!(id, "spiffe://osaka.example/spire/server");
    assert_eq!(osaka.bundle.as_deref(), Some(Path::new("etc/osaka.json")));
    assert_eq!((tokyo.id.as_ref(), tokyo.bundle.as_ref()), (None, None));
    assert_eq!(own.allow.len(), 2);
    let own = federation(
        "{endpoint: {listen: 0.0.0.0:443, profile: https_web, acme: {directory: \"https://acme.example/dir\", \
         domain: bundle.b.example, email: admin@b.example, ca: acme.pem}}}",
    );
    let acme = AcmeConfig {
        directory: "https://acme.example/dir".into(),
        domain: "bundle.b.example".into(),
        email: Some("admin@b.example".into()),
        ca: Some("etc/acme.pem".into()),
    };
    assert_eq!(own.endpoint.unwrap().shown, ShownConfig::Acme(acme));
    // The endpoint of another domain is known by the bundle of that one.
    federation(
        "{peers: {c.example: {url: \"https://hub.example\", profile: https_spiffe, \
         id: spiffe://hub.example/spire/server}}}",
    );
}

#[test]
fn nothing_reads_it_without_an_authority() {
    let config = load_text(
        "site: b.example\nagent: {authority: [\"a.example:1\"], bootstrap: b.pem, join_token: {env: T}}\n\
         federation: {allow: [10.0.0.0/8]}\n",
    );
    let own = config.unwrap().federation.unwrap();
    let warning = own.warnings[0].to_string();
    assert!(
        warning.contains("3:13: federation: warning: nothing here reads it"),
        "{warning}"
    );
}

#[test]
fn what_is_wrong_with_it_is_told_with_its_place() {
    let peer = |name: &str, of: &str| format!("{{peers: {{{name}: {{{of}}}}}}}");
    let osaka = |of: &str| peer("osaka.example", of);
    for (text, expected) in [
        (
            "{endpoint: {}}".into(),
            "3:14: federation.endpoint.listen: missing: expected an IP address",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, profile: https_web, cert: c}}".into(),
            "3:14: federation.endpoint.key: missing: expected a PEM file",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, profile: https_web, cert: c, acme: {domain: a.example}}}".into(),
            "3:64: federation.endpoint.cert: a certificate comes from files or by `acme`",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, profile: https_web, acme: {domain: a.example}}}".into(),
            "3:64: federation.endpoint.acme.directory: missing: expected the directory of an ACME server",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, profile: https_web, acme: {directory: \"http://a\", domain: A}}}".into(),
            "federation.endpoint.acme.directory: expected the directory of an ACME server",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, profile: https_web, acme: {directory: \"https://a\", domain: a, email: a}}}".into(),
            "federation.endpoint.acme.email: expected an e-mail address, found \"a\"",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, acme: {}}}".into(),
            "3:44: federation.endpoint.acme: with `profile: https_spiffe` the endpoint shows",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, cert: c, key: k}}".into(),
            "3:44: federation.endpoint.cert: with `profile: https_spiffe` the endpoint shows",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, profile: spiffe}}".into(),
            "3:53: federation.endpoint.profile: expected https_spiffe or https_web, found \"spiffe\"",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, refresh: 30s}}".into(),
            "3:53: federation.endpoint.refresh: expected a duration from 1m to 1d, found \"30s\"",
        ),
        (
            "{endpoint: {listen: 0.0.0.0:1, refresh: 3h}}".into(),
            "3:53: federation.endpoint.refresh: must be at most a ninth of `authority.ca_ttl`",
        ),
        (
            peer("b.example", PEER),
            "3:22: federation.peers.b.example: is this site itself",
        ),
        (
            peer("Osaka.example", PEER),
            "3:22: federation.peers.Osaka.example: ",
        ),
        (
            osaka(""),
            "3:22: federation.peers.osaka.example.url: missing: expected the address",
        ),
        (
            osaka("url: \"https://o.example\""),
            "3:22: federation.peers.osaka.example.profile: missing: expected https_spiffe or https_web",
        ),
        (
            osaka(&PEER.replace("https:", "http:")),
            "3:43: federation.peers.osaka.example.url: expected the address of a bundle endpoint",
        ),
        (
            osaka(&PEER.replace(", bundle: osaka.json", "")),
            "3:22: federation.peers.osaka.example.bundle: missing: expected a file with the bundle",
        ),
        (
            osaka(&PEER.replace("/spire/server", "")),
            "3:100: federation.peers.osaka.example.id: ",
        ),
        (
            osaka("url: \"https://o.example\", profile: https_spiffe"),
            "3:22: federation.peers.osaka.example.id: missing: expected the SPIFFE ID of the endpoint",
        ),
        (
            osaka("url: \"https://o.example\", profile: https_web, id: spiffe://osaka.example/x"),
            "federation.peers.osaka.example.id: with `profile: https_web`",
        ),
        (
            "{allow: [10.0.0.1/8]}".into(),
            "3:22: federation.allow[0]: 10.0.0.1/8 has bits set beyond its prefix",
        ),
        (
            "{directory: \"https://d.example\"}".into(),
            "3:1: federation.root: missing: expected a file with a root",
        ),
        (
            "{directory: \"ftp://d.example\", root: r.json}".into(),
            "3:25: federation.directory: expected the address of a directory",
        ),
        (
            "{directory: \"https://d.example/?a=b\", root: r.json}".into(),
            "3:25: federation.directory: expected the address of a directory",
        ),
        (
            "{directory: [\"https://d.example\", fed], root: r.json}".into(),
            "federation.root: 2 directories need as many roots, in the same order",
        ),
        (
            "{directory: fed, root: r.json, threshold: 2}".into(),
            "federation.threshold: expected a number from 1 to 1",
        ),
        (
            "{directory: fed, root: r.json, rekey_wait: 1m}".into(),
            "federation.rekey_wait: expected",
        ),
        (
            "{root: r.json, peers: {}}".into(),
            "federation.root: is of a directory: `directory` says where that is",
        ),
    ] {
        let text: String = text;
        let all = errors(&format!("{SITE}federation: {text}\n"));
        assert!(
            all.iter().any(|line| line.contains(expected)),
            "{text}: {all:#?}"
        );
    }
}

#[test]
fn a_directory_is_two_lines_and_several_have_a_threshold() {
    let text = format!(
        "{SITE}federation: {{directory: \"https://directory.example\", root: root.json}}\n"
    );
    let own = load_text(&text).unwrap().federation.unwrap();
    assert_eq!(own.warnings, []);
    let one = own.directory.unwrap();
    let [(DirectoryPlace::Url(url), root)] = one.places.as_slice() else {
        panic!("{one:?}")
    };
    assert_eq!(url, "https://directory.example");
    assert!(root.ends_with("root.json"));
    assert_eq!(
        (one.threshold, one.max_stale, one.rekey_wait),
        (1, None, None)
    );
    let text = format!(
        "{SITE}federation: {{directory: [\"https://jp.example\", fed], root: [a.json, b.json], \
         threshold: 1, member: m, services: s.yaml, max_stale: 3d, rekey_wait: 7d}}\n"
    );
    let own = load_text(&text).unwrap().federation.unwrap();
    let two = own.directory.unwrap();
    assert_eq!((two.places.len(), two.threshold), (2, 1));
    assert!(matches!(&two.places[1].0, DirectoryPlace::Folder(folder) if folder.ends_with("fed")));
    assert!(two.member.unwrap().ends_with("m") && two.services.unwrap().ends_with("s.yaml"));
}
