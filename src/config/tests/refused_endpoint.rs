use super::{INBOUND, OUTBOUND, errors, site};

/// The only error of `INBOUND` or `OUTBOUND` with a key more (line 8), or with a line replaced.
fn only_error(base: &str, change: &str) -> String {
    let key = change.split_inclusive(':').next().unwrap();
    let mut replaced = false;
    let mut lines: Vec<String> = base
        .lines()
        .map(|line| {
            if line.starts_with(key) {
                replaced = true;
                change.to_owned()
            } else {
                line.to_owned()
            }
        })
        .collect();
    if !replaced {
        lines.push(change.into());
    }
    let mut errors = errors(&site(&lines.join("\n")));
    assert_eq!(errors.len(), 1, "{change}: {errors:?}");
    errors.remove(0)
}

pub(super) fn check(base: &str, table: &[(&str, &str)]) {
    for (change, expected) in table {
        assert_eq!(only_error(base, change), *expected, "{change}");
    }
}

const LISTEN: &str =
    "mtls://ADDRESS:PORT, tcp://ADDRESS:PORT, connect://ADDRESS:PORT or unix:///PATH";
const LOCAL: &str = "an IP address ([…] around IPv6; names are not looked up here), a colon and a \
                     port from 1 to 65535";
const SOCKET: &str = "unix:// and the absolute path of a socket, at most 107 bytes";
const FORWARD: &str = "mtls://HOST:PORT[/NAME], site://TRUST-DOMAIN/SERVICE, site://*[/SERVICE], tcp://HOST:PORT or \
     unix:///PATH";
const HOST: &str =
    "an IP address ([…] around IPv6) or a DNS name, a colon and a port from 1 to 65535";
#[test]
fn listen_says_what_it_expects() {
    for (value, expected) in [
        ("mtsl://0.0.0.0:9443", LISTEN),
        ("0.0.0.0:9443", LISTEN),
        ("MTLS://0.0.0.0:9443", LISTEN),
        ("mtls://localhost:1", LOCAL),
        ("mtls://0.0.0.0:0", LOCAL),
        ("mtls://0.0.0.0", LOCAL),
        ("mtls://0.0.0.0:65536", LOCAL),
        ("mtls://fd00::1:1", LOCAL),
        ("tcp://127.0.0.1:1/x", LOCAL),
        ("unix://run/a", SOCKET),
        ("unix:/run/a", SOCKET),
        ("unix:///run/", SOCKET),
    ] {
        let error = only_error(INBOUND, &format!("listen: {value}"));
        let rest = format!("4:13: endpoints.x.listen: expected {expected}, found {value:?}");
        assert_eq!(error, rest);
    }
    let long = format!("listen: unix:///{}", "x".repeat(107));
    assert!(only_error(OUTBOUND, &long).contains("at most 107 bytes, found"));
}

#[test]
fn forward_says_what_it_expects() {
    let name = "mtls://HOST:PORT/NAME, NAME being lower-case DNS labels ([a-z0-9_-])";
    let service = "site://TRUST-DOMAIN/SERVICE, SERVICE being a lower-case DNS label ([a-z0-9-])";
    for (value, expected) in [
        ("tpc://a:1", FORWARD),
        ("a:1", FORWARD),
        ("tcp://a", HOST),
        ("tcp://a:0", HOST),
        ("tcp://a:+1", HOST),
        ("tcp://a:1/x", HOST),
        ("tcp://:1", HOST),
        ("tcp://a..b:1", HOST),
        ("tcp://-a:1", HOST),
        ("tcp://10.0.0.256:1", HOST),
        ("tcp://fd00::1:1", HOST),
        ("tcp://user@a:1", HOST),
        ("tcp://ä:1", HOST),
        ("unix:run", SOCKET),
        ("mtls://a:1/", name),
        ("mtls://a:1/B", name),
        ("mtls://a:1/b/c", name),
        ("mtls://a:1/b?c", name),
        ("site://a.example", service),
        ("site://a.example/", service),
        ("site://A.example/s", service),
        ("site://a.example/S", service),
        ("site://a.example/s/t", service),
        ("site://a.example/s.t", service),
        ("site://a.example:1/s", service),
    ] {
        let error = only_error(OUTBOUND, &format!("forward: {value}"));
        let rest = format!("5:14: endpoints.x.forward: expected {expected}, found {value:?}");
        assert_eq!(error, rest);
    }
    check(
        OUTBOUND,
        &[
            (
                "forward: []",
                &format!("5:14: endpoints.x.forward: expected {FORWARD}, found an empty list"),
            ),
            (
                "forward: [mtls://a:1, {}]",
                &format!("5:27: endpoints.x.forward[1]: expected {FORWARD}, found a map"),
            ),
            (
                "forward: [mtls://a:1, mtls://A:1]",
                "5:27: endpoints.x.forward[1]: this target stands twice in the list",
            ),
            (
                "forward: [mtls://a:1, tcp://b:1]",
                "5:14: endpoints.x.forward: either all targets are mtls:// or site://, or none is",
            ),
        ],
    );
}

#[test]
fn a_server_name_needs_one_trust_domain() {
    let rest = "name one, or leave out /n";
    let asks = "7: endpoints.x.forward: /n asks for n.<trust domain of `expect`>, but";
    let error = |expect: &str| {
        let lines = OUTBOUND.replace("a.example:7000", "a.example:7000/n");
        let lines = lines.replace("[spiffe://a.example/w]", expect);
        let lines = format!("policy: p\n{lines}");
        errors(&site(&lines)).remove(0).replace("6:14: ", "7: ")
    };
    assert_eq!(
        error("[spiffe://a.example/w, spiffe://c.example/w, spiffe://a.example/x]"),
        format!("{asks} it names a.example and c.example: {rest}")
    );
    assert_eq!(
        error("[federated]"),
        format!("{asks} [federated] names none: {rest}")
    );
}

#[test]
fn lists_of_peers_say_what_they_expect() {
    let list = "a list of SPIFFE IDs, as in [spiffe://osaka.example/sender], of marks, as in \
                [mark:hpci], or [federated]";
    let id = "a SPIFFE ID, as in spiffe://osaka.example/sender, or a mark, as in mark:hpci";
    check(
        INBOUND,
        &[
            (
                "accept: spiffe://a.example/w",
                &format!(
                    "6:13: endpoints.x.accept: expected {list}, found \"spiffe://a.example/w\""
                ),
            ),
            (
                "accept: []",
                &format!("6:13: endpoints.x.accept: expected {list}, found an empty list"),
            ),
            (
                "accept:",
                &format!("6:5: endpoints.x.accept: expected {list}, found nothing"),
            ),
            (
                "accept: [[a]]",
                &format!("6:14: endpoints.x.accept[0]: expected {id}, found a list"),
            ),
            (
                "accept: [spiffe://a.example/w, spiffe://A.example/w]",
                "6:36: endpoints.x.accept[1]: \"spiffe://A.example/w\" must be written in lower \
                 case up to its path: \"spiffe://a.example/w\"",
            ),
            (
                "accept: [spiffe://a.example/*/w]",
                "6:14: endpoints.x.accept[0]: \"spiffe://a.example/*/w\": `*` may only be the \
                 whole last segment, as in spiffe://site.example/kafka/*",
            ),
            (
                "accept: [spiffe://a.example]",
                "6:14: endpoints.x.accept[0]: \"spiffe://a.example\" has no path: only a CA may \
                 carry a bare trust domain",
            ),
            (
                "accept: [federated, spiffe://a.example/w]",
                "6:14: endpoints.x.accept[0]: `federated` stands alone: it already is every \
                 trusted domain",
            ),
            (
                "accept: [federated]",
                "6:13: endpoints.x.accept: [federated] lets every trusted domain in and needs a \
                 `policy`",
            ),
            (
                "expect: [spiffe://a.example/w]",
                "8:5: endpoints.x.expect: only an mTLS `forward` has peers to expect",
            ),
        ],
    );
    check(
        OUTBOUND,
        &[
            (
                "accept: [spiffe://a.example/w]",
                "8:5: endpoints.x.accept: only an mTLS `listen` has peers to accept",
            ),
            (
                "expect: [federated]",
                "6:13: endpoints.x.expect: [federated] lets every trusted domain in and needs a \
                 `policy`",
            ),
        ],
    );
    let missing = |base: &str, key: &str| {
        let lines: Vec<_> = base.lines().filter(|line| !line.starts_with(key)).collect();
        errors(&site(&lines.join("\n")))
    };
    let accept = format!("3:3: endpoints.x.accept: missing: expected {list}");
    assert_eq!(missing(INBOUND, "accept"), [accept]);
    let expect = format!("3:3: endpoints.x.expect: missing: expected {list}");
    assert_eq!(missing(OUTBOUND, "expect"), [expect]);
    let listen = format!("3:3: endpoints.x.listen: missing: expected {LISTEN}");
    assert_eq!(missing(INBOUND, "listen"), [listen]);
    let forward = format!("3:3: endpoints.x.forward: missing: expected {FORWARD}");
    assert_eq!(missing(INBOUND, "forward"), [forward]);
}

#[test]
fn local_clients_say_what_they_expect() {
    let only = "only a tcp, connect or unix `listen` has local clients";
    check(
        INBOUND,
        &[
            (
                "local: [user:a]",
                &format!("8:5: endpoints.x.local: {only}"),
            ),
            (
                "from: [10.0.0.0/8]",
                &format!("8:5: endpoints.x.from: {only}"),
            ),
        ],
    );
    let list = "a list such as [user:kafka, group:hpc]";
    let item = "expected user:NAME or group:NAME, found";
    check(
        OUTBOUND,
        &[
            (
                "from: [10.0.0.0/8]",
                "8:5: endpoints.x.from: only a tcp `listen` has source addresses",
            ),
            (
                "local: user:a",
                &format!("8:12: endpoints.x.local: expected {list}, found \"user:a\""),
            ),
            (
                "local: []",
                &format!("8:12: endpoints.x.local: expected {list}, found an empty list"),
            ),
            (
                "local: [usr:a]",
                &format!("8:13: endpoints.x.local[0]: {item} \"usr:a\""),
            ),
            (
                "local: [\"user:\"]",
                &format!("8:13: endpoints.x.local[0]: {item} \"user:\""),
            ),
            (
                "local: [a]",
                &format!("8:13: endpoints.x.local[0]: {item} \"a\""),
            ),
            (
                "local: [{user: a}]",
                &format!("8:13: endpoints.x.local[0]: {item} a map"),
            ),
            (
                "listen: tcp://0.0.0.0:1",
                "4:13: endpoints.x.listen: other hosts reach this address: give `from: [CIDR]`, \
                 or listen on loopback",
            ),
        ],
    );
    let tcp = OUTBOUND.replace("unix:///run/out.sock", "tcp://0.0.0.0:1");
    let net = "expected a network, as in 10.1.0.0/16 or fd00::/8, found";
    check(
        &tcp,
        &[
            (
                "from: []",
                "8:11: endpoints.x.from: expected a list of networks, as in [10.1.0.0/16], found \
                 an empty list",
            ),
            (
                "from: [10.0.0.1]",
                &format!("8:12: endpoints.x.from[0]: {net} \"10.0.0.1\""),
            ),
            (
                "from: [10.0.0.1/8]",
                "8:12: endpoints.x.from[0]: 10.0.0.1/8 has bits set beyond its prefix: did you \
                 mean 10.0.0.0/8?",
            ),
        ],
    );
}

#[test]
fn names_say_what_they_expect() {
    let labels = "one or more DNS labels (a-z, 0-9, `_`, and `-` inside), at most 253 letters with \
                  `.` and the site";
    check(
        INBOUND,
        &[
            (
                "name: A",
                &format!("8:11: endpoints.x.name: expected {labels}, found \"A\""),
            ),
            (
                "name: a..b",
                &format!("8:11: endpoints.x.name: expected {labels}, found \"a..b\""),
            ),
            (
                "name: [a]",
                &format!("8:11: endpoints.x.name: expected {labels}, found a list"),
            ),
            (
                "default: 1",
                "8:14: endpoints.x.default: expected true or false, found \"1\"",
            ),
            (
                "as: broker",
                "8:9: endpoints.x.as: expected a path that begins with `/`, as in \
                 /broker/osaka; it stands below `site`, found \"broker\"",
            ),
            (
                "as: /a//b",
                "8:9: endpoints.x.as: \"spiffe://b.example/a//b\" is not a SPIFFE ID: path cannot \
                 contain empty segments",
            ),
            (
                "identity: {embedded: {data: d}}",
                "3:3: endpoints.x.as: missing: expected a path such as /broker/osaka, for the \
                 embedded CA to mint",
            ),
        ],
    );
    let rule = "only an mTLS `listen` is chosen by server name";
    check(
        OUTBOUND,
        &[
            ("name: a", &format!("8:5: endpoints.x.name: {rule}")),
            (
                "default: false",
                &format!("8:5: endpoints.x.default: {rule}"),
            ),
        ],
    );
    for name in ["X", "-x", "_x", "x.y", "x y", "ä"] {
        let found = errors(&site(INBOUND).replace("  x:", &format!("  {name}:")));
        let expected = format!(
            "3:3: endpoints.{name}: expected a name of at most 63 of a-z, 0-9, `_` and `-` that \
             begins with a letter or digit, found {name:?}"
        );
        assert_eq!(found, [expected]);
    }
    let found = errors(&site(INBOUND).replace("  x:", "  x-:"));
    assert_eq!(
        found,
        [format!(
            "3:3: endpoints.x-: \"x-.b.example\" is no server name: give `name`, {labels}"
        )]
    );
}

#[test]
fn an_endpoint_without_mtls_has_no_use_for_an_identity() {
    let plain = "listen: unix:///run/s\nforward: tcp://127.0.0.1:1\n";
    for line in [
        "as: /w",
        "identity: unix:///run/a",
        "bundles: x/",
        "tls: {min: \"1.2\"}",
    ] {
        let key = line.split(':').next().unwrap();
        let expected =
            format!("6:5: endpoints.x.{key}: neither side speaks mTLS: there is no use for it");
        assert_eq!(errors(&site(&format!("{plain}{line}"))), [expected]);
    }
}

#[test]
fn every_endpoint_is_looked_at() {
    let text = "\
site: b.example
identity: {cert: c.pem}
policy: [p]
endpoints:
  a: {listen: x, forward: 1, max_age: 0}
  b: {listen: mtls://0.0.0.0:1, forward: tcp://a:1}
  c: [x]
  d: {listen: mtls://0.0.0.0:1, forward: tcp://a:1, accept: [federated]}
";
    let places: Vec<_> = errors(text)
        .iter()
        .map(|error| error.split(": ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        places,
        [
            "2:1 identity.key",
            "3:9 policy",
            "5:15 endpoints.a.listen",
            "5:27 endpoints.a.forward",
            "5:39 endpoints.a.max_age",
            "6:3 endpoints.b.accept",
            "7:6 endpoints.c",
        ]
    );
}
