use super::{INBOUND, errors, site};

/// The endpoints of the table: a right one, in lines 2 to 7 if one line stands before.
fn with_top(line: &str) -> String {
    format!("{line}\n{}", site(INBOUND))
}

#[test]
fn keys_of_the_top_level_say_what_they_expect() {
    let identity = "unix:///SOCKET, {cert, key, bundles}, {embedded: {data: DIR}} or {delegated, \
                    selectors}";
    let bundles = "a map of trust domain to file, a Bundle Map file (*.json) or a folder (ending \
                   in `/`)";
    let known = "expected one of: site, identity, bundles, policy, endpoints, workers, admin, \
                 drain, log, record, buffers, authority, agent, oidc, federation, user";
    let workers = "expected a number from 1 to 256, found";
    let admin = "1:8: admin: expected a loopback address and port, as in 127.0.0.1:9901, or \
                 unix:///PATH, found";
    let unit = "expected a duration with its unit (ms, s, m, h, d), as in 300ms, 30s or 1h30m, \
                found";
    let rule = "a policy cannot be switched off; a folder of that name is ./none";
    let table = [
        (
            "federation: {}",
            "1:13: federation: expected a map such as {directory: URL, root: FILE}, or {endpoint: \
             {listen: ADDRESS:PORT}, peers: {TRUST DOMAIN: {…}}}"
                .into(),
        ),
        (
            "authority: 1",
            "1:12: authority: expected a map such as {listen: ADDRESS:PORT}, found \"1\"".into(),
        ),
        (
            "agent: 1",
            "1:8: agent: expected a map such as {authority: [HOST:PORT], bootstrap: FILE, \
             join_token: {file: FILE}}, found \"1\""
                .into(),
        ),
        (
            "tenants: 1",
            "1:1: tenants: `tenants` is not in this version".into(),
        ),
        (
            "worker: 1",
            format!("1:1: worker: unknown key, did you mean `workers`?; {known}"),
        ),
        ("quux: 1", format!("1:1: quux: unknown key; {known}")),
        ("workers: 0", format!("1:10: workers: {workers} \"0\"")),
        ("workers: 257", format!("1:10: workers: {workers} \"257\"")),
        ("workers: -1", format!("1:10: workers: {workers} \"-1\"")),
        ("workers: +1", format!("1:10: workers: {workers} \"+1\"")),
        ("workers: [1]", format!("1:10: workers: {workers} a list")),
        ("workers:", format!("1:1: workers: {workers} nothing")),
        ("admin: 0.0.0.0:9901", format!("{admin} \"0.0.0.0:9901\"")),
        ("admin: 127.0.0.1:0", format!("{admin} \"127.0.0.1:0\"")),
        ("admin: localhost:1", format!("{admin} \"localhost:1\"")),
        (
            "admin: unix://run/a",
            "1:8: admin: expected unix:// and the absolute path of a socket, at most 107 bytes, \
             found \"unix://run/a\""
                .into(),
        ),
        ("drain: 30", format!("1:8: drain: {unit} \"30\"")),
        ("drain: -1s", format!("1:8: drain: {unit} \"-1s\"")),
        (
            "drain: 25h",
            "1:8: drain: expected a duration from 0s to 1d, found \"25h\"".into(),
        ),
        (
            "log: text",
            "1:6: log: expected {format, level, access}, found \"text\"".into(),
        ),
        (
            "log: {format: xml}",
            "1:15: log.format: expected text or json, found \"xml\"".into(),
        ),
        (
            "log: {level: Info}",
            "1:14: log.level: expected error or warn or info or debug or trace, found \"Info\""
                .into(),
        ),
        (
            "log: {access: yes}",
            "1:15: log.access: expected true or false, found \"yes\"".into(),
        ),
        (
            "log: {acess: true}",
            "1:7: log.acess: unknown key, did you mean `access`?; expected one of: format, \
             level, access"
                .into(),
        ),
        (
            "identity: file.pem",
            format!("1:11: identity: expected {identity}, found \"file.pem\""),
        ),
        (
            "identity: [a]",
            format!("1:11: identity: expected {identity}, found a list"),
        ),
        (
            "identity: {delegated: unix:///run/x}",
            "1:1: identity.selectors: missing: expected a list of selectors, as in \
             [\"unix:uid:1000\"]"
                .into(),
        ),
        (
            "identity: {cert: b.pem}",
            "1:1: identity.key: missing: expected the PEM file of the private key".into(),
        ),
        (
            "identity: {key: b.pem, cert: [x]}",
            "1:30: identity.cert: expected the PEM file of the SVID, found a list".into(),
        ),
        (
            "identity: {embedded: {data: d}, cert: b.pem}",
            "1:33: identity.cert: an embedded identity has no files: give either `embedded` or \
             `cert` and `key`"
                .into(),
        ),
        (
            "identity: {embedded: d}",
            "1:22: identity.embedded: expected {data: DIR}, found \"d\"".into(),
        ),
        (
            "identity: {embedded: {}}",
            "1:12: identity.embedded.data: missing: expected the folder of the embedded CA".into(),
        ),
        (
            "bundles: [x]",
            format!("1:10: bundles: expected {bundles}, found a list"),
        ),
        (
            "bundles: x.pem",
            format!("1:10: bundles: expected {bundles}, found \"x.pem\""),
        ),
        (
            "bundles: {}",
            format!("1:10: bundles: expected {bundles}, found an empty map"),
        ),
        (
            "bundles: {b.example: x}",
            "1:11: bundles.b.example: this is our own trust domain: its bundle comes from \
             `identity`"
                .into(),
        ),
        (
            "bundles: {A.example: x}",
            "1:11: bundles.A.example: \"A.example\" must be written in lower case up to its path: \
             \"a.example\""
                .into(),
        ),
        (
            "bundles: {a.example: [x]}",
            "1:22: bundles.a.example: expected the file of this trust domain's bundle, found a \
             list"
                .into(),
        ),
        ("policy: none", format!("1:9: policy: {rule}")),
        (
            "policy: [p]",
            "1:9: policy: expected a folder, or {dir: DIR, decision: NAME}, found a list".into(),
        ),
        (
            "policy: {decision: a.b}",
            "1:1: policy.dir: missing: expected the folder of the policy".into(),
        ),
        (
            "policy: {dir: p, decision: allow}",
            "1:28: policy.decision: expected the name of a rule, as in sekisho/authz/allow, \
             found \"allow\""
                .into(),
        ),
        (
            "site: c.example",
            "2:1: site: already given at etc/f.yaml:1:1".into(),
        ),
    ];
    for (line, expected) in table {
        let mut found = errors(&with_top(line));
        // The second site is not the one of the identity; only the duplicate counts here.
        found.truncate(1);
        assert_eq!(found, [expected], "{line}");
    }
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        errors("workers: 1"),
        [
            "1:1: site: missing: expected this site's trust domain, as in hokkaido.example",
            "1:1: endpoints: missing: expected a map of name to endpoint",
        ]
    );
    for (endpoints, found) in [("", "nothing"), (" {}", "an empty map"), (" [a]", "a list")] {
        let errors = errors(&format!("site: b.example\nendpoints:{endpoints}"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(&format!("found {found}")), "{errors:?}");
    }
}

#[test]
fn a_site_is_a_trust_domain_in_lower_case() {
    let text = site(INBOUND);
    for wrong in [
        "B.example",
        "spiffe://b.example",
        "\"\"",
        "b example",
        "[b]",
        "",
    ] {
        let errors = errors(&text.replace("site: b.example", &format!("site: {wrong}")));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(": site: "), "{errors:?}");
    }
}

#[test]
fn what_is_not_yaml_has_a_place() {
    for (text, expected) in [
        (
            "",
            " missing: expected `site` and `endpoints`, the file is empty",
        ),
        (
            "# nothing\n",
            " missing: expected `site` and `endpoints`, the file is empty",
        ),
        (
            "a",
            "1:1: expected a map with `site`, and `endpoints`, `authority`, `agent` or `oidc`, found \"a\"",
        ),
        (
            "~",
            "1:1: expected a map with `site`, and `endpoints`, `authority`, `agent` or `oidc`, found nothing",
        ),
        (
            "site: b\n---\nsite: c\n",
            "2:1: not valid YAML: a second document in the file",
        ),
        (
            "site: !!str b",
            "1:7: site: not valid YAML: tags such as !!str are not used here",
        ),
        (
            "a: {<<: {b: c}}",
            "1:5: a: not valid YAML: merge keys (`<<`) are not used here",
        ),
        ("[a]: b", "1:1: not valid YAML: a key must be a word"),
        (
            "a: &a [*a]",
            "1:8: a[0]: not valid YAML: an alias inside of what it stands for",
        ),
    ] {
        assert_eq!(errors(text)[0], expected, "{text}");
    }
    let errors = errors("site: b\n  x: [");
    assert!(errors[0].starts_with("2:4: "), "{errors:?}");
}

#[test]
fn a_duplicate_key_names_both_places() {
    let text = site(&format!(
        "{INBOUND}listen: x\nlimits: {{handshakes: 4, handshakes: 5}}"
    ));
    assert_eq!(
        errors(&text),
        [
            "8:5: endpoints.x.listen: already given at etc/f.yaml:4:5",
            "9:29: endpoints.x.limits.handshakes: already given at etc/f.yaml:9:14",
        ]
    );
}

#[test]
fn bombs_are_refused_quickly() {
    let mut aliases = "a0: &a0 [xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx]\n".to_owned();
    for level in 1..25 {
        let below = level - 1;
        let line = format!("a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}]\n");
        aliases.push_str(&line);
    }
    let found = errors(&aliases);
    assert!(
        found[0].contains("anchors and aliases repeat too much"),
        "{found:?}"
    );
    let flow = errors(&"[".repeat(100_000));
    assert_eq!(flow.len(), 1);
    let block = errors(&"- ".repeat(100_000));
    assert_eq!(block.len(), 1);
    let mut stacked = "a0: &a0 [x]\n".to_owned();
    for level in 1..40 {
        stacked.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let stacked = errors(&stacked);
    assert!(stacked[0].contains("nested deeper than 32"), "{stacked:?}");
}

#[test]
fn too_many_endpoints_are_refused() {
    let mut text = "site: b.example\nendpoints:\n".to_owned();
    for number in 0..10_001 {
        text.push_str(&format!("  e{number}: x\n"));
    }
    assert_eq!(errors(&text), ["1:1: endpoints: more than 10000 endpoints"]);
}
