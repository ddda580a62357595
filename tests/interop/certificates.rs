//! Clients without what an SVID needs: each refused with its own word, in log and metric.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use sekisho_testkit::Profile;

use crate::support::{
    Node, Upstream, World, node::refused_labels, openssl, pair, ports, program::program,
    wait::until,
};

/// Whatever `attempt` does, it is refused for `reason`, and counted for it and nothing else.
fn is_refused_for(reason: &str, attempt: impl FnOnce(&World, SocketAddr)) {
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = pair::gate(&world, &upstream, "");
    let before = node.ended();
    attempt(&world, listen);
    node.refused(reason);
    let mut expected = before;
    *expected.entry(refused_labels("in", reason)).or_default() += 1;
    assert_eq!(node.ended(), expected);
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn a_client_without_a_certificate_is_refused_as_no_certificate() {
    let openssl = program!("openssl");
    is_refused_for("no_certificate", |world, listen| {
        let (_, said) = openssl::client(&openssl, world, listen, None, &[]).ended();
        assert!(said.contains("alert"), "{said}");
    });
}

#[test]
fn a_client_with_tls_1_2_only_is_refused_as_tls_version() {
    let openssl = program!("openssl");
    is_refused_for("tls_version", |world, listen| {
        world.issue(&world.a, "front");
        let mut client = openssl::client(&openssl, world, listen, Some("front"), &["-tls1_2"]);
        let (_, said) = client.ended();
        assert!(said.contains("alert number 70"), "{said}");
    });
}

#[test]
fn a_client_with_a_dns_name_only_is_refused_as_no_spiffe_id() {
    let openssl = program!("openssl");
    is_refused_for("no_spiffe_id", |world, listen| {
        let profile = Profile::leaf("")
            .with_uris([])
            .with_dns_names(["front.a.example"]);
        world.a.ca().issue(&profile).write(world.path(), "dns");
        let (_, said) = openssl::client(&openssl, world, listen, Some("dns"), &[]).ended();
        assert!(said.contains("alert"), "{said}");
    });
}

#[test]
fn a_client_that_speaks_no_tls_is_refused_as_not_tls() {
    is_refused_for("not_tls", |_, listen| {
        let mut stream = TcpStream::connect(listen).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // An alert, an end, a reset: anything but silence.
        let _ = stream.read_to_end(&mut answer);
    });
}

#[test]
fn an_expired_svid_at_start_is_a_reason_not_to_be_ready_until_the_files_are_renewed() {
    let openssl = program!("openssl");
    let world = World::new();
    let upstream = Upstream::echo();
    let listen = ports::free();
    let expired = world.b.leaf("/back").valid_between(-7200, -3600);
    let endpoints = pair::receiving(&world, listen, upstream.address);
    // In place of the good one.
    world.b.ca().issue(&expired).write(world.path(), "back");
    let node = Node::start_unready(&world, "b.example", &endpoints);
    let text = until("a reason", || {
        let (status, text) = node.get("/ready");
        assert_eq!(status, 503, "{text}");
        text.contains("in: ").then_some(text)
    });
    assert!(text.contains("expired"), "{text}");

    world.issue(&world.a, "front");
    let client = || openssl::client(&openssl, &world, listen, Some("front"), &[]);
    let (_, said) = client().ended();
    assert!(said.contains("alert number 80"), "{said}");
    node.refused("no_identity");

    world.issue(&world.b, "back");
    node.wait_ready();
    let mut client = client();
    client.wait_for("END CERTIFICATE");
    let mut input = client.input();
    input.write_all(b"through\n").unwrap();
    client.wait_for("through");
    drop(input);
    client.ended();
    assert_eq!(node.closed()["client_id"], "spiffe://a.example/front");
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn ten_refusals_are_counted_as_ten() {
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = pair::gate(&world, &upstream, "");
    for _ in 0..10 {
        TcpStream::connect(listen)
            .unwrap()
            .write_all(&[0; 64])
            .unwrap();
        node.refused("not_tls");
    }
    let expected = BTreeMap::from([(refused_labels("in", "not_tls"), 10)]);
    assert_eq!(node.ended(), expected);
    assert!(fs::exists(node.admin()).unwrap());
}
