//! `record`, `tls.resumption`, `buffers`, `socket`.

use std::time::Duration;

use sekisho_proxy::endpoint::spec::{Backend, Keepalive, RecordLayer, SocketOptions, Sockets};

use super::{INBOUND, endpoint, errors, load_text, site};

#[test]
fn sockets_have_every_option_on_each_side() {
    let keys = "socket:\n  listen: {congestion: bbr, send_buffer: 4MiB, receive_buffer: 64KiB, \
                nodelay: false, keepalive: false, user_timeout: 30s, dscp: 10}\n  forward: \
                {keepalive: {time: 2m}}\n";
    let spec = endpoint(&site(&format!("{INBOUND}{keys}"))).spec;
    let listen = SocketOptions {
        congestion: Some("bbr".into()),
        send_buffer: Some(4 << 20),
        receive_buffer: Some(64 << 10),
        nodelay: false,
        keepalive: None,
        user_timeout: Some(Duration::from_secs(30)),
        dscp: Some(10),
    };
    let forward = SocketOptions {
        keepalive: Some(Keepalive {
            time: Duration::from_secs(120),
            ..Keepalive::default()
        }),
        ..SocketOptions::default()
    };
    assert_eq!(spec.sockets, Sockets { listen, forward });
    let none = endpoint(&site(INBOUND)).spec;
    assert_eq!(none.sockets, Sockets::default());
}

#[test]
fn a_unix_socket_has_no_such_options() {
    let text =
        site("listen: unix:///a\nforward: unix:///b\nsocket: {listen: {dscp: 1}, forward: {}}\n");
    let found = errors(&text);
    let rule = "a Unix socket has none of these options";
    assert_eq!(
        found.iter().filter(|error| error.contains(rule)).count(),
        2,
        "{found:?}"
    );
}

#[test]
fn an_endpoints_record_layer_wins_over_the_top_levels() {
    let words = [
        ("auto", RecordLayer::Auto),
        ("aws-lc", RecordLayer::Own(Backend::AwsLc)),
        ("ring", RecordLayer::Own(Backend::Ring)),
        ("rustls", RecordLayer::Rustls),
    ];
    for (word, layer) in words {
        let own = endpoint(&site(&format!("{INBOUND}record: {word}\n"))).spec;
        assert_eq!(own.record, layer);
        let all = endpoint(&format!("{}record: {word}\n", site(INBOUND))).spec;
        assert_eq!(all.record, layer);
        let both = format!(
            "{}record: rustls\n",
            site(&format!("{INBOUND}record: {word}\n"))
        );
        assert_eq!(endpoint(&both).spec.record, layer);
    }
    let spec = endpoint(&site(INBOUND)).spec;
    assert_eq!(spec.record_backend(Backend::Ring), Some(Backend::Ring));
    let old = endpoint(&site(&format!("{INBOUND}tls: {{min: 1.2}}\n"))).spec;
    assert_eq!(
        old.record_backend(Backend::Ring),
        None,
        "ours speaks TLS 1.3 only"
    );
}

#[test]
fn resumption_and_buffers_are_off_and_256_mebibytes_unless_given() {
    assert!(!endpoint(&site(INBOUND)).spec.resumption);
    let keys = format!("{INBOUND}tls: {{resumption: true}}\n");
    assert!(endpoint(&site(&keys)).spec.resumption);
    assert_eq!(load_text(&site(INBOUND)).unwrap().buffers, 256 << 20);
    let text = format!("{}buffers: 1GiB\n", site(INBOUND));
    assert_eq!(load_text(&text).unwrap().buffers, 1 << 30);
    let small = format!("{}buffers: 1MiB\n", site(INBOUND));
    let found = errors(&small);
    assert!(
        found[0].ends_with("expected a size from 16MiB to 1024GiB, found \"1MiB\""),
        "{found:?}"
    );
}
