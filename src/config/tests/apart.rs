use super::{errors, load_text};

/// A file of endpoints `a`, `b`, … that listen like this; each is one line, from line 4.
fn several(endpoints: &[&str]) -> String {
    let mut text = "site: b.example\nidentity: unix:///run/a.sock\nendpoints:\n".to_owned();
    for (letter, keys) in ('a'..).zip(endpoints) {
        let side = if keys.contains("mtls:") {
            "forward: tcp://h:1, accept: [spiffe://a.example/w]"
        } else {
            "forward: mtls://h:1, expect: [spiffe://a.example/w]"
        };
        text.push_str(&format!("  {letter}: {{listen: {keys}, {side}}}\n"));
    }
    text
}

#[test]
fn endpoints_that_cannot_be_told_apart_name_both_places() {
    let first = "of `endpoints.a.listen` at etc/f.yaml:4:15";
    for (endpoints, expected) in [
        (
            ["mtls://127.0.0.1:1", "tcp://127.0.0.1:1"],
            "only mTLS endpoints share an address, and this is that",
        ),
        (
            ["tcp://127.0.0.1:1", "tcp://127.0.0.1:1"],
            "only mTLS endpoints share an address, and this is that",
        ),
        (["unix:///run/x", "unix:///run//x"], "this is the socket"),
        (
            ["mtls://127.0.0.1:1", "mtls://127.0.0.1:1, name: a"],
            "the server name a.b.example is already that",
        ),
        (
            [
                "mtls://127.0.0.1:1, default: true",
                "mtls://127.0.0.1:1, default: true",
            ],
            "the `default` of this address is already that",
        ),
        (
            [
                "mtls://127.0.0.1:1",
                "mtls://127.0.0.1:1, proxy_protocol: {in: true, from: [10.0.0.0/8]}",
            ],
            "one address has one `proxy_protocol.from`, and this one differs from that",
        ),
        (
            ["mtls://0.0.0.0:1", "mtls://127.0.0.1:1"],
            "127.0.0.1:1 overlaps with the address 0.0.0.0:1",
        ),
        (
            ["tcp://127.0.0.1:1", "mtls://0.0.0.0:1"],
            "0.0.0.0:1 overlaps with the address 127.0.0.1:1",
        ),
        (
            ["'mtls://[::]:1'", "mtls://127.0.0.1:1"],
            "127.0.0.1:1 overlaps with the address [::]:1",
        ),
        (
            ["'mtls://[::]:1'", "mtls://0.0.0.0:1"],
            "0.0.0.0:1 overlaps with the address [::]:1",
        ),
        (
            ["'tcp://[::ffff:127.0.0.1]:1'", "tcp://127.0.0.1:1"],
            "only mTLS endpoints share an address, and this is that",
        ),
    ] {
        let found = errors(&several(&endpoints));
        let expected = format!("5:15: endpoints.b.listen: {expected} {first}");
        assert_eq!(found, [expected], "{endpoints:?}");
    }
}

#[test]
fn the_admin_address_is_taken_as_well() {
    let text = several(&["mtls://0.0.0.0:9901", "unix:///run/admin.sock"]);
    let tcp = errors(&format!("{text}admin: 127.0.0.1:9901\n"));
    let expected = "4:15: endpoints.a.listen: 0.0.0.0:9901 overlaps with the address \
                    127.0.0.1:9901 of `admin` at etc/f.yaml:6:8";
    assert_eq!(tcp, [expected]);
    let unix = errors(&format!("{text}admin: unix:///run/admin.sock\n"));
    let expected = "5:15: endpoints.b.listen: this is the socket of `admin` at etc/f.yaml:6:8";
    assert_eq!(unix, [expected]);
}

#[test]
fn endpoints_that_can_be_told_apart_are_accepted() {
    let text = several(&[
        "mtls://127.0.0.1:1",
        "mtls://127.0.0.1:1, default: true",
        "mtls://127.0.0.1:1, tls: {min: '1.2'}",
        "mtls://127.0.0.1:2, default: true, name: a",
        "mtls://0.0.0.0:3",
        "tcp://127.0.0.2:1",
        "'tcp://[::1]:1'",
        "unix:///run/x",
    ]);
    assert_eq!(load_text(&text).unwrap().endpoints.len(), 8);
}

#[test]
fn an_overlap_is_seen_among_many_addresses() {
    let mut text = several(&["tcp://127.0.0.1:1", "tcp://127.0.0.2:1", "mtls://0.0.0.0:1"]);
    let found = errors(&text);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("6:15: "), "{found:?}");
    text = text.replace("0.0.0.0:1", "0.0.0.0:2");
    assert!(load_text(&text).is_ok());
}

#[test]
fn thousands_of_endpoints_on_one_address_are_read() {
    let mut text = several(&["mtls://0.0.0.0:1"]);
    for number in 0..9_000 {
        text.push_str(&format!(
            "  e{number}: {{listen: mtls://0.0.0.0:1, forward: tcp://h:1, accept: \
             [spiffe://a.example/w]}}\n"
        ));
    }
    assert_eq!(load_text(&text).unwrap().endpoints.len(), 9_001);
}
