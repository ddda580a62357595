//! TLS 1.2 and the alert that denies.

use std::net::TcpStream;

use crate::{
    partners::{Role, Versions, envoy},
    support::{Upstream, World, openssl, pair, program::program, transfer},
};

const FROM_1_2: &str = "    tls: {min: \"1.2\"}\n";

#[test]
fn stock_envoy_as_a_client_is_refused_with_the_setting_that_would_let_it_in() {
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = pair::gate(&world, &upstream, "");
    let role = Role::dial(&world, "front", "back", listen, Versions::Default);
    let Some(gate) = envoy(&role) else { return };
    let _stream = TcpStream::connect(gate.address).unwrap();
    let line = node.refused("tls_version");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("tls: {min: \"1.2\"}"), "{detail}");
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn stock_envoy_as_a_client_passes_where_the_endpoint_speaks_tls_1_2() {
    let world = World::new();
    let upstream = transfer::server();
    let (node, listen) = pair::gate(&world, &upstream, FROM_1_2);
    let role = Role::dial(&world, "front", "back", listen, Versions::Default);
    let Some(gate) = envoy(&role) else { return };
    let mut stream = TcpStream::connect(gate.address).unwrap();
    transfer::carry(&mut stream, 1024 * 1024).unwrap();
    drop(stream);
    let line = node.closed();
    assert_eq!(line["tls_version"], "TLSv1.2");
    assert_eq!(line["client_id"], "spiffe://a.example/front");
}

/// A verified client that is not on the list sees the alert `access_denied`.
fn sees_access_denied(more: &str, version: &str) {
    let openssl = program!("openssl");
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = pair::gate(&world, &upstream, more);
    world.issue(&world.a, "stranger");
    let mut client = openssl::client(&openssl, &world, listen, Some("stranger"), &[version]);
    let (_, said) = client.ended();
    assert!(said.contains("alert access denied"), "{said}");
    assert!(said.contains("alert number 49"), "{said}");
    let line = node.refused("not_accepted");
    assert_eq!(line["client_id"], "spiffe://a.example/stranger");
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn a_tls_1_3_client_that_is_not_accepted_gets_the_alert_access_denied() {
    sees_access_denied("", "-tls1_3");
}

#[test]
fn a_tls_1_2_client_that_is_not_accepted_gets_the_alert_access_denied() {
    sees_access_denied(FROM_1_2, "-tls1_2");
}
