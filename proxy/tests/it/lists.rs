//! Who is let in, and who answers.

use rustls::AlertDescription;
use sekisho_testkit::{danger, ports, profile::Profile};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{World, alert, connect, end, list, ping};

#[tokio::test]
async fn an_accepted_peer_reaches_the_service_and_half_close_is_kept() {
    let world = World::with_gate(|_| {}).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"last words");
    world.until("allowed", "", 1).await;
}

#[tokio::test]
async fn a_peer_that_is_not_accepted_gets_access_denied_and_nothing_is_dialled() {
    let world = World::with_gate(|_| {}).await;
    let mut stream = world.dial("/other").await.unwrap();
    let error = ping(&mut stream).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::AccessDenied));
    world.until("refused", "not_accepted", 1).await;
    assert_eq!(world.echo.accepted(), 0);
}

#[tokio::test]
async fn a_ca_of_site_b_that_signs_an_svid_with_site_as_id_is_refused() {
    let world = World::with_gate(|_| {}).await;
    let forged = world
        .b
        .ca()
        .issue(&Profile::leaf("spiffe://a.example/front"));
    let refused = match world.dial_as(&forged, "back.b.example").await {
        Ok(mut stream) => ping(&mut stream).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    world.until("refused", "bad_chain", 1).await;
    assert_eq!(world.echo.accepted(), 0);
}

#[tokio::test]
async fn two_endpoints_of_one_address_are_told_apart_by_name_and_each_shows_its_own_svid() {
    let world = World::new().await;
    let one = world.receiving("one");
    let mut two = world.receiving("two");
    if let sekisho_proxy::endpoint::spec::Listen::Mtls { accept, .. } = &mut two.listen {
        *accept = list(&["spiffe://a.example/second"]);
    }
    world.apply(&[one, two], None);
    let first = world.a.svid("/front");
    let second = world.a.svid("/second");
    for (issued, name, path) in [
        (&first, "one.b.example", "/one"),
        (&second, "two.b.example", "/two"),
    ] {
        let mut stream = world.dial_as(issued, name).await.unwrap();
        ping(&mut stream).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        let shown = String::from_utf8_lossy(&shown[0]).into_owned();
        assert!(shown.contains(&format!("spiffe://b.example{path}")));
    }
    // Accepted by one, it names the other.
    let mut stream = world.dial_as(&first, "two.b.example").await.unwrap();
    assert!(ping(&mut stream).await.is_err());
    world.until("refused", "not_accepted", 1).await;
    let error = world.dial_as(&first, "three.b.example").await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName));
    world.until("refused", "unknown_name", 1).await;
}

#[tokio::test]
async fn both_sides_are_verified_from_a_plain_socket_to_the_service() {
    let world = World::new().await;
    let app = ports::free();
    world.apply(&[world.receiving("back"), world.sending("out", app)], None);
    let mut stream = TcpStream::connect(app).await.unwrap();
    ping(&mut stream).await.unwrap();
    drop(stream);
    world.until("allowed", "", 2).await;
}

#[tokio::test]
async fn another_identity_at_the_right_address_is_refused_within_the_handshake() {
    let world = World::new().await;
    let app = ports::free();
    let mut sending = world.sending("out", app);
    if let sekisho_proxy::endpoint::spec::Forward::Mtls { expect, .. } = &mut sending.forward {
        *expect = list(&["spiffe://b.example/somebody-else"]);
    }
    world.apply(&[world.receiving("back"), sending], None);
    let mut stream = TcpStream::connect(app).await.unwrap();
    assert!(
        end(&mut stream).await.is_err(),
        "a refusal must not look like an orderly end"
    );
    world.until("refused", "not_expected", 1).await;
    world.until("refused", "refused_by_peer", 1).await;
    assert_eq!(world.echo.accepted(), 0);
}

#[tokio::test]
async fn the_sending_side_says_that_the_other_side_refused() {
    let world = World::new().await;
    let app = ports::free();
    let mut sending = world.sending("out", app);
    sending.own_id = Some(world.a.id("/stranger"));
    world.apply(&[world.receiving("back"), sending], None);
    let mut stream = TcpStream::connect(app).await.unwrap();
    assert!(ping(&mut stream).await.is_err());
    world.until("refused", "not_accepted", 1).await;
    world.until("refused", "refused_by_peer", 1).await;
}

#[tokio::test]
async fn no_ticket_is_given_so_nothing_can_be_resumed() {
    let world = World::with_gate(|_| {}).await;
    let issued = world.a.svid("/front");
    let mut config = danger::client_config(Some(&issued), &[&rustls::version::TLS13]);
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    for _ in 0..2 {
        let mut stream = connect(world.gate, "back.b.example", config.clone())
            .await
            .unwrap();
        ping(&mut stream).await.unwrap();
        let connection = stream.get_ref().1;
        assert_eq!(
            connection.handshake_kind(),
            Some(rustls::HandshakeKind::Full)
        );
        assert_eq!(connection.tls13_tickets_received(), 0);
    }
}
