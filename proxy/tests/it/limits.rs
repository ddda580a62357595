//! Bounds, bad input, and neighbours that are not harmed by it.

use std::time::Duration;

use sekisho_testkit::{ports, wait::wait_for};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::harness::{SOON, World, end, ping};

#[tokio::test]
async fn a_connection_past_the_limit_is_refused_and_a_place_given_back_is_used() {
    let world = World::with_gate(|spec| spec.limits.connections = 1).await;
    let mut first = world.dial("/front").await.unwrap();
    ping(&mut first).await.unwrap();
    assert!(world.dial("/front").await.is_err());
    world.until("refused", "limit", 1).await;
    drop(first);
    wait_for("the place is free", SOON, || {
        world.endpoint("back").active() == 0
    })
    .await;
    let mut second = world.dial("/front").await.unwrap();
    ping(&mut second).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_stalls_in_the_handshake_is_dropped_and_others_pass() {
    let world = World::with_gate(|spec| spec.timeouts.handshake = Duration::from_millis(300)).await;
    let mut stalled = Vec::new();
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(world.gate).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stalled.push(stream);
    }
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    for mut stream in stalled {
        let _ = end(&mut stream).await;
    }
    world.until("refused", "handshake_timeout", 3).await;
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn handshakes_in_flight_are_bounded() {
    let world = World::with_gate(|spec| spec.limits.handshakes = 8).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(TcpStream::connect(world.gate).await.unwrap());
    }
    wait_for("eight handshakes wait", SOON, || {
        world.proxy.registry().len() == 8
    })
    .await;
    let mut ninth = TcpStream::connect(world.gate).await.unwrap();
    let _ = end(&mut ninth).await;
    world.until("refused", "limit", 1).await;
    stalled.clear();
    wait_for("they are gone", SOON, || world.proxy.registry().is_empty()).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn what_is_not_tls_is_called_so() {
    let world = World::with_gate(|_| {}).await;
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0xff; 64],
        b"\x16\x03\x01\x00\x05hello",
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(world.gate).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let _ = stream.shutdown().await;
        let _ = end(&mut stream).await;
    }
    world.until("refused", "not_tls", 4).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_is_down_is_said_to_be_and_the_other_endpoint_serves() {
    let world = World::new().await;
    let mut down = world.receiving("down");
    down.forward = crate::harness::plain(&[ports::free()]);
    world.apply(&[down, world.receiving("back")], None);
    let issued = world.a.svid("/front");
    let mut stream = world.dial_as(&issued, "down.b.example").await.unwrap();
    assert!(end(&mut stream).await.is_err());
    world.until("refused", "upstream_unreachable", 1).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_without_an_svid_refuses_and_recovers() {
    let world = World::new().await;
    let spec = world.receiving("back");
    world
        .proxy
        .apply(
            &crate::harness::desired(std::slice::from_ref(&spec), None),
            true,
        )
        .unwrap();
    assert!(!world.proxy.is_ready());
    assert!(world.dial("/front").await.is_err());
    world.until("refused", "no_identity", 1).await;
    world.supply(&spec, &[world.a.bundle(), world.b.bundle()]);
    assert!(world.proxy.is_ready());
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn a_refused_peer_that_does_not_leave_keeps_its_place_among_the_handshakes() {
    let world = World::with_gate(|spec| spec.limits.handshakes = 4).await;
    let config = sekisho_testkit::danger::client_config(None, &[&rustls::version::TLS13]);
    let mut lingering = Vec::new();
    for _ in 0..4 {
        // The handshake is over for a client before it is refused for want of a certificate.
        let stream = crate::harness::connect(world.gate, "back.b.example", config.clone()).await;
        lingering.push(stream.unwrap());
    }
    wait_for("all are refused, and linger", SOON, || {
        world.proxy.registry().len() == 4
    })
    .await;
    assert!(world.dial("/front").await.is_err());
    world.until("refused", "limit", 1).await;
    drop(lingering);
    world.until("refused", "no_certificate", 4).await;
    ping(&mut world.dial("/front").await.unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_handshake_message_that_is_cut_into_ever_more_records_is_not_collected() {
    let world = World::new().await;
    let listen = ports::free();
    world.apply(&[world.sending("front", listen)], None);
    let server = tokio::net::TcpListener::bind(world.gate).await.unwrap();
    let flood = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        // A ServerHello that announces all that a message may have, a byte a record.
        let mut bytes = [2, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat(0));
        let mut sent = 0;
        while sent < 4 << 20 {
            let records: Vec<u8> = bytes
                .by_ref()
                .take(1000)
                .flat_map(|byte| [22, 3, 3, 0, 1, byte])
                .collect();
            if stream.write_all(&records).await.is_err() {
                break;
            }
            sent += records.len();
        }
        sent
    });
    let mut stream = TcpStream::connect(listen).await.unwrap();
    assert!(ping(&mut stream).await.is_err());
    world.until("refused", "tls_failed", 1).await;
    flood.await.unwrap();
}
