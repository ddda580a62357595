//! Marks, services of other sites, and what a catalogue may name.

use std::path::Path;

use sekisho_certs::{IdList, source::SourceSpec};
use sekisho_proxy::endpoint::spec::{Address, Forward};

use super::{INBOUND, OUTBOUND, endpoint, errors, load_text, site};
use crate::node::federation::is_needed;

fn named(lines: &[&str]) -> IdList {
    IdList::Named(lines.iter().map(|line| line.parse().unwrap()).collect())
}

#[test]
fn a_list_may_have_lines_by_mark() {
    let text = INBOUND.replace("[spiffe://a.example/w]", "[mark:hpci, mark:mdx/kafka/*]");
    let read = endpoint(&site(&text));
    let lists: Vec<_> = read.spec.lists().cloned().collect();
    assert_eq!(lists, [named(&["mark:hpci", "mark:mdx/kafka/*"])]);
    assert!(is_needed(&read.spec) && read.warnings.is_empty());
    assert!(!is_needed(&endpoint(&site(INBOUND)).spec));
    let wrong = INBOUND.replace("[spiffe://a.example/w]", "[mark:HPCI]");
    let error = errors(&site(&wrong)).remove(0);
    assert!(
        error.starts_with("6:14: endpoints.x.accept[0]: mark \"HPCI\""),
        "{error}"
    );
}

#[test]
fn a_service_of_another_site_needs_no_list_and_may_have_one() {
    let lines = OUTBOUND.replace("mtls://a.example:7000", "site://tokyo.example/mdx");
    let narrowed = endpoint(&site(&lines)).spec;
    assert_eq!(narrowed.forward.to_string(), "site://tokyo.example/mdx");
    let lines = lines.replace("expect: [spiffe://a.example/w]\n", "");
    let allow = "federation: {allow: [10.1.0.0/16, fd00::/8]}\n";
    let read = endpoint(&format!("{allow}{}", site(&lines)));
    let Forward::Mtls {
        targets, expect, ..
    } = &read.spec.forward
    else {
        panic!("plain");
    };
    assert_eq!(*expect, named(&["spiffe://tokyo.example/*"]));
    let Address::Site(service) = &targets[0].address else {
        panic!("no service");
    };
    assert_eq!(service.domain.as_str(), "tokyo.example");
    assert_eq!(service.service, "mdx");
    assert_eq!(service.allow.len(), 2);
    assert!(is_needed(&read.spec));
    // It is read here, if by no authority.
    let config = load_text(&format!("{allow}{}", site(&lines))).unwrap();
    assert!(config.federation.unwrap().warnings.is_empty());
    let config = load_text(&format!("{allow}{}", site(OUTBOUND))).unwrap();
    assert_eq!(config.federation.unwrap().warnings.len(), 1);
}

#[test]
fn beside_an_address_a_list_is_needed_and_our_own_site_is_no_other() {
    let both = OUTBOUND.replace("mtls://a.example:7000", "[site://t.example/m, mtls://a:1]");
    let both = both.replace("expect: [spiffe://a.example/w]\n", "");
    let error = errors(&site(&both)).remove(0);
    assert!(error.contains("endpoints.x.expect: missing"), "{error}");
    let own = load_text(&site(OUTBOUND)).unwrap().site;
    let ours = OUTBOUND.replace("mtls://a.example:7000", &format!("site://{own}/m"));
    let error = errors(&site(&ours)).remove(0);
    assert!(
        error.contains("not looked up in its own catalogue"),
        "{error}"
    );
    let mixed = OUTBOUND.replace("mtls://a.example:7000", "[site://t.example/m, tcp://b:1]");
    let error = errors(&site(&mixed)).remove(0);
    assert!(error.contains("or none is"), "{error}");
    let name = OUTBOUND.replace("a.example:7000", "a.example:7000/n");
    let name = name.replace("[spiffe://a.example/w]", "[mark:hpci]");
    let error = errors(&site(&name)).remove(0);
    assert!(error.contains("but a mark names none"), "{error}");
}

#[test]
fn an_identity_that_knows_no_other_sites_is_warned_of() {
    let embedded = "{embedded: {data: ca}}\nas: /w";
    let marked = INBOUND.replace("[spiffe://a.example/w]", "[mark:hpci]");
    let marked = marked.replace("unix:///run/a.sock", embedded);
    let warnings = endpoint(&site(&marked)).warnings;
    assert!(
        warnings
            .iter()
            .any(|one| one.message.contains("lets nobody in"))
    );
    let found = OUTBOUND.replace("mtls://a.example:7000", "site://tokyo.example/mdx");
    let found = found.replace("unix:///run/a.sock", embedded);
    let warnings = endpoint(&site(&found)).warnings;
    assert!(
        warnings
            .iter()
            .any(|one| one.message.contains("will not be found"))
    );
}

#[test]
fn an_embedded_ca_with_federation_knows_other_sites_and_there_is_one() {
    let marked = INBOUND.replace("[spiffe://a.example/w]", "[mark:hpci]");
    let marked = marked.replace("unix:///run/a.sock", "{embedded: {data: ca}}\nas: /w");
    let federation = "federation: {directory: d, root: r.json}\n";
    let config = load_text(&format!("{federation}{}", site(&marked))).unwrap();
    assert!(config.federation.as_ref().unwrap().warnings.is_empty());
    assert!(config.endpoints[0].warnings.is_empty());
    let own = config.site_authority().unwrap();
    assert_eq!(own.socket, Path::new("etc/ca/api.sock"));
    assert_eq!((own.listen, own.attest.len()), (None, 0));
    // Beside an authority it stays by itself, and `allow` alone is for endpoints.
    for other in [
        "authority: {}\nfederation: {directory: d, root: r.json}\n",
        "federation: {allow: [10.0.0.0/8]}\n",
    ] {
        let config = load_text(&format!("{other}{}", site(&marked))).unwrap();
        let source = config.endpoints[0].identity.clone().unwrap();
        assert!(matches!(
            source,
            SourceSpec::Embedded {
                federated: false,
                ..
            }
        ));
    }
    let refused = |text: &str, says: &str| {
        let all = errors(text);
        assert!(all.iter().any(|one| one.contains(says)), "{all:?}");
    };
    let two = format!(
        "{federation}{}  y:\n    listen: mtls://127.0.0.1:7001\n    forward: tcp://127.0.0.1:1\n    \
         as: /y\n    accept: [mark:hpci]\n    identity: {{embedded: {{data: other}}}}\n",
        site(&marked)
    );
    refused(
        &two,
        "federation: is that of one CA, and endpoints name two: etc/ca and etc/other",
    );
    let long = marked.replace("data: ca", &format!("data: /{}", "d".repeat(100)));
    refused(
        &format!("{federation}{}", site(&long)),
        "no room for a socket",
    );
    let rare = "federation: {endpoint: {listen: 0.0.0.0:1, refresh: 3h}}\n";
    refused(
        &format!("{rare}{}", site(&marked)),
        "must be at most a ninth",
    );
}

#[test]
fn networks_of_a_catalogue_say_what_they_expect() {
    let error = |line: &str| errors(&format!("{line}\n{}", site(INBOUND))).remove(0);
    let text = error("federation: {allow: [10.1.0.1/16]}");
    assert!(
        text.contains("federation.allow[0]: 10.1.0.1/16 has bits set"),
        "{text}"
    );
    let text = error("federation: {allow: all}");
    assert!(
        text.contains("federation.allow: expected a list of networks"),
        "{text}"
    );
    let all = errors(&format!("federation: {{alow: []}}\n{}", site(INBOUND)));
    assert!(
        all.iter().any(|text| text.contains("federation.alow")),
        "{all:?}"
    );
}

const ANY: &str = "\
listen: connect://127.0.0.1:3128
forward: site://*
expect: [mark:hpci]
identity: unix:///run/a.sock
";

#[test]
fn a_client_may_say_by_connect_which_site_it_wants() {
    let read = endpoint(&format!(
        "federation: {{allow: [10.1.0.0/16]}}\n{}",
        site(ANY)
    ));
    let spec = &read.spec;
    assert_eq!(spec.listen.to_string(), "connect://127.0.0.1:3128");
    assert_eq!(spec.forward.to_string(), "site://*");
    let any = spec.any_site().unwrap();
    assert_eq!((&any.service, any.allow.len()), (&None, 1));
    assert!(is_needed(spec) && spec.site_services().next().is_none());
    let open = |one: &crate::config::EndpointConfig| {
        let mut all = one.warnings.iter();
        all.any(|one| one.message.contains("any user of the host could speak as"))
    };
    assert!(open(&read));
    let one = ANY.replace("site://*", "site://*/mdx") + "local: [user:root]\n";
    let read = endpoint(&site(&one.replace("127.0.0.1", "[::1]")));
    assert_eq!(read.spec.forward.to_string(), "site://*/mdx");
    assert!(!open(&read));
    let embedded = ANY.replace("unix:///run/a.sock", "{embedded: {data: ca}}\nas: /w");
    let warnings = endpoint(&site(&embedded)).warnings;
    let found = |text: &str| warnings.iter().any(|one| one.message.contains(text));
    assert!(found("will not be found"));
}

#[test]
fn connect_and_any_site_go_together_and_with_nothing_else() {
    let refused = |from: &str, to: &str, says: &str| {
        let text = ANY.replace(from, to);
        assert_ne!(text, ANY);
        let all = errors(&site(&text));
        assert!(all.iter().any(|one| one.contains(says)), "{text}{all:?}");
    };
    refused(
        "connect:",
        "tcp:",
        "endpoints.x.forward: which site is meant",
    );
    refused(
        "connect://127.0.0.1:3128",
        "mtls://127.0.0.1:3128\naccept: [mark:hpci]",
        "which site is meant",
    );
    refused(
        "connect://127.0.0.1:3128",
        "unix:///run/c.sock",
        "which site is meant",
    );
    refused(
        "site://*",
        "site://t.example/m",
        "has clients say where they go",
    );
    refused(
        "site://*",
        "mtls://t.example:1",
        "has clients say where they go",
    );
    refused(
        "site://*",
        "tcp://127.0.0.1:1",
        "has clients say where they go",
    );
    refused("site://*", "[site://*, site://t.example/m]", "stands alone");
    refused("site://*", "[site://*, site://*/m]", "stands alone");
    refused("site://*", "[tcp://127.0.0.1:1, site://*]", "stands alone");
    refused("site://*", "site://*/M", "site://* or site://*/SERVICE");
    refused("site://*", "site://*x", "site://* or site://*/SERVICE");
    refused("site://*", "site://*/", "site://* or site://*/SERVICE");
    refused("127.0.0.1:3128", "10.0.0.1:3128", "is on loopback");
    refused("127.0.0.1:3128", "0.0.0.0:3128", "is on loopback");
    refused(
        "127.0.0.1:3128",
        "localhost:3128",
        "names are not looked up here",
    );
    refused("expect: [mark:hpci]\n", "", "endpoints.x.expect: missing");
    refused(
        "expect:",
        "from: [10.0.0.0/8]\nexpect:",
        "for this host only",
    );
    refused(
        "expect:",
        "accept: [mark:hpci]\nexpect:",
        "has peers to accept",
    );
    refused("expect:", "name: x\nexpect:", "is chosen by server name");
    refused("mark:hpci", "federated", "needs a `policy`");
}
