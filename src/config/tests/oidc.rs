//! `oidc`, and `authority.upstream`.

use std::path::Path;

use super::{errors, load_text};
use crate::config::{OidcListen, UpstreamConfig};

const SITE: &str = "site: b.example\n";
const TLS: &str = "oidc: {listen: 0.0.0.0:443, domains: [oidc.b.example], cert: c.pem, key: k.pem";

fn tls(more: &str) -> String {
    format!("{SITE}{TLS}{more}}}\n")
}

#[test]
fn an_address_a_domain_and_a_certificate_are_enough() {
    let own = load_text(&tls("")).unwrap().oidc.unwrap();
    let expected = OidcListen::Tls {
        address: "0.0.0.0:443".parse().unwrap(),
        cert: "etc/c.pem".into(),
        key: "etc/k.pem".into(),
    };
    assert_eq!(own.listen, expected);
    assert_eq!(own.issuer.as_str(), "https://oidc.b.example");
    assert_eq!((own.jwks_uri, own.user), (None, None));
    assert_eq!(own.source, Path::new("/run/sekisho/agent/api.sock"));
    let text = format!(
        "{SITE}authority: {{listen: 127.0.0.1:8081}}\nagent: {{socket: a.sock}}\n\
         oidc: {{listen: \"unix:///run/o.sock\", domains: [a.example, b.example], \
         issuer: \"https://b.example/site\", jwks_uri: \"https://cdn.example/k\", user: web}}\n"
    );
    let file = load_text(&text).unwrap();
    let own = file.oidc.unwrap();
    assert_eq!(own.listen, OidcListen::Unix("/run/o.sock".into()));
    assert_eq!(own.issuer.as_str(), "https://b.example/site");
    assert_eq!(own.jwks_uri.as_deref(), Some("https://cdn.example/k"));
    assert_eq!(own.source, Path::new("etc/a.sock"));
    // Tokens name the issuer of the document.
    let issuer = file.authority.unwrap().jwt_issuer;
    assert_eq!(issuer.as_deref(), Some("https://b.example/site"));
}

#[test]
fn what_is_wrong_with_it_is_told_with_its_place() {
    for (text, expected) in [
        (
            format!("{SITE}oidc: {{listen: 0.0.0.0:443, domains: [a.example]}}\n"),
            vec![
                "2:1: oidc.cert: missing: expected a PEM file: the certificate for `domains`, then those between it and a root",
                "2:1: oidc.key: missing: expected a PEM file: the key of the certificate",
            ],
        ),
        (
            format!("{SITE}oidc: {{listen: \"unix:///s\", domains: [a.example], key: k}}\n"),
            vec!["2:51: oidc.key: the proxy in front of a Unix socket has the certificate"],
        ),
        (
            format!("{SITE}oidc: {{listen: \"unix:///s\", domains: [A.example]}}\n"),
            vec![
                "2:39: oidc.domains[0]: expected a domain in lower case, without a port (others than ASCII as xn--…), found \"A.example\"",
            ],
        ),
        (
            format!("{SITE}oidc: {{listen: \"unix:///s\", domains: [a.example, a.example]}}\n"),
            vec!["2:50: oidc.domains[1]: this domain is there already"],
        ),
        (
            tls(", issuer: \"http://oidc.b.example\""),
            vec![
                "2:89: oidc.issuer: must be https://HOST, with a port or a path if it has one, and nothing else",
            ],
        ),
        (
            tls(", issuer: \"https://b.example\""),
            vec!["2:89: oidc.issuer: its host, b.example, must be one of `domains`"],
        ),
        (
            tls(", source: api.sock"),
            vec![
                "2:89: oidc.source: expected unix:// and the absolute path of a socket, at most 107 bytes, found \"api.sock\"",
            ],
        ),
        (
            format!("{SITE}authority: {{jwt_issuer: \"https://b.example\"}}\n{TLS}}}\n"),
            vec![
                "2:25: authority.jwt_issuer: is not the issuer of `oidc`, \"https://oidc.b.example\": whoever verifies tokens by that document refuses them",
            ],
        ),
    ] {
        assert_eq!(errors(&text), expected, "{text}");
    }
}

fn below(upstream: &str) -> String {
    format!("{SITE}authority:\n  upstream: {upstream}\n")
}

#[test]
fn an_authority_above_is_files_or_a_server() {
    let upstream = |text: &str| {
        let file = load_text(&below(text)).unwrap();
        file.authority.unwrap().upstream.unwrap()
    };
    let disk = UpstreamConfig::Disk {
        cert: "etc/c.pem".into(),
        key: "etc/k.pem".into(),
        bundle: None,
    };
    assert_eq!(upstream("{disk: {cert: c.pem, key: k.pem}}"), disk);
    let with_roots = upstream("{disk: {cert: c.pem, key: k.pem, bundle: r.pem}}");
    assert!(matches!(
        with_roots,
        UpstreamConfig::Disk {
            bundle: Some(_),
            ..
        }
    ));
    let spire = UpstreamConfig::Spire {
        authority: vec!["up.b.example:8081".into(), "[::1]:8081".into()],
        socket: "/run/up.sock".into(),
        path: Some("/below".into()),
    };
    let text = "{spire: {authority: [\"up.b.example:8081\", \"[::1]:8081\"], \
                identity: \"unix:///run/up.sock\", as: /below}}";
    assert_eq!(upstream(text), spire);
}

#[test]
fn an_agent_that_leads_above_does_not_wait_for_the_authority_below() {
    let text = |more: &str| {
        format!(
            "{SITE}authority:\n  listen: 127.0.0.1:8082\n  upstream: {{spire: {{authority: [\"up:8081\"], \
             identity: \"unix:///run/up.sock\"}}}}\nagent: {{{more}}}\n"
        )
    };
    let own = "socket: /run/up.sock, authority: [\"up:8081\"], bootstrap: b.pem, \
               join_token: {file: token}";
    assert!(load_text(&text(own)).unwrap().is_below_own_agent());
    let another = load_text(&text("socket: /run/own.sock")).unwrap();
    assert!(!another.is_below_own_agent());
    // Without the address, that of this authority is meant; another one beside it is enough.
    let attests = "socket: /run/up.sock, bootstrap: b.pem, join_token: {file: token}";
    let two = format!("{attests}, authority: [\"127.0.0.1:8082\", \"up:8081\"]");
    load_text(&text(&two)).unwrap();
    let named = |address: &str| format!("{attests}, authority: [\"{address}\"]");
    for waits in [
        "socket: /run/up.sock",
        attests,
        &named("127.0.0.1:8082"),
        &named("localhost:8082"),
    ] {
        for listen in ["127.0.0.1:8082", "0.0.0.0:8082"] {
            let text = text(waits).replace("listen: 127.0.0.1:8082", &format!("listen: {listen}"));
            let [told] = &errors(&text)[..] else {
                panic!("one error: {text}");
            };
            assert!(
                told.starts_with(
                    "3:3: authority.upstream.spire.identity: is the socket of `agent`"
                ),
                "{told}"
            );
        }
    }
    for other in ["127.0.0.1:8081", "10.0.0.1:8082", "localhost:8081"] {
        load_text(&text(&named(other))).unwrap();
    }
}

#[test]
fn what_is_wrong_with_the_one_above_is_told_with_its_place() {
    for (text, expected) in [
        (
            "{}",
            vec!["3:13: authority.upstream: either `disk` or `spire`"],
        ),
        (
            "{disk: {cert: c.pem, key: k.pem}, spire: {authority: [\"a:1\"], identity: \"unix:///s\"}}",
            vec!["3:13: authority.upstream: either `disk` or `spire`"],
        ),
        (
            "{disk: {cert: c.pem}}",
            vec![
                "3:14: authority.upstream.disk.key: missing: expected a PEM file: the key of that CA",
            ],
        ),
        (
            "{spire: {authority: [up], identity: \"unix:///s\"}}",
            vec![
                "3:34: authority.upstream.spire.authority[0]: expected an IP address ([…] around IPv6) or a DNS name, a colon and a port from 1 to 65535, found \"up\"",
            ],
        ),
        (
            "{spire: {authority: [\"a:1\"], identity: \"unix:///s\", as: below}}",
            vec![
                "3:69: authority.upstream.spire.as: expected the path of a SPIFFE ID, as in /below, found \"below\"",
            ],
        ),
    ] {
        assert_eq!(errors(&below(text)), expected, "{text}");
    }
}
