//! What happens to connections when policy, bundle or SVID change under them.

use std::{sync::Arc, time::Duration};

use rustls::AlertDescription;
use sekisho_testkit::{site::Site, wait::wait_for};
use tokio::time::Instant;

use crate::harness::{SOON, World, alert, end, ping, policy};

const ALLOW: &str = "default allow := true";
const DENY: &str = "default allow := false";
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn no_decision_no_bytes() {
    for (rules, reason) in [
        (DENY, "policy_denied"),
        ("allow if input.nothing", "policy_undefined"),
        ("allow := \"yes\"", "policy_error"),
    ] {
        let world = World::new().await;
        world.apply(&[world.receiving("back")], Some(&policy(rules)));
        let mut stream = world.dial("/front").await.unwrap();
        let error = ping(&mut stream).await.unwrap_err();
        assert_eq!(
            alert(&error),
            Some(AlertDescription::AccessDenied),
            "{rules}"
        );
        world.until("refused", reason, 1).await;
        assert_eq!(world.echo.accepted(), 0, "{rules}");
    }
}

#[tokio::test]
async fn a_connection_opened_just_before_and_one_during_a_reload_that_denies_are_both_cut() {
    let world = World::new().await;
    let spec = world.receiving("back");
    world.apply(std::slice::from_ref(&spec), Some(&policy(ALLOW)));
    let mut before = world.dial("/front").await.unwrap();
    ping(&mut before).await.unwrap();
    // This one has its ClientHello read, and is in the middle of its handshake while the policy
    // changes: the sockets are joined by hand.
    let mut during = HalfWay::begin(&world).await;
    let since = Instant::now();
    world.apply(&[spec], Some(&policy(DENY)));
    let error = end(&mut before).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::AccessDenied));
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    during.finish().await;
    world.until("refused", "policy_denied", 1).await;
    // The one that was cut.
    world.until("allowed", "policy_denied", 1).await;
    assert_eq!(
        world.echo.accepted(),
        1,
        "the second never reached the service"
    );
}

/// A client that stops after its ClientHello.
struct HalfWay {
    connection: rustls::ClientConnection,
    stream: tokio::net::TcpStream,
}

impl HalfWay {
    async fn begin(world: &World) -> Self {
        use tokio::io::AsyncWriteExt as _;
        let issued = world.a.svid("/front");
        let config =
            sekisho_testkit::danger::client_config(Some(&issued), &[&rustls::version::TLS13]);
        let name = "back.b.example".try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        let mut stream = tokio::net::TcpStream::connect(world.gate).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        // The server's answer is there: it has chosen the endpoint and waits for the client.
        stream.readable().await.unwrap();
        Self { connection, stream }
    }

    async fn finish(&mut self) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut buffer = vec![0; 16 * 1024];
        while self.connection.is_handshaking() {
            let count = self.stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the handshake ended early");
            let mut bytes = &buffer[..count];
            while !bytes.is_empty() {
                self.connection.read_tls(&mut bytes).unwrap();
                self.connection.process_new_packets().unwrap();
            }
        }
        let mut flight = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut flight).unwrap();
        }
        self.stream.write_all(&flight).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_slips_through_while_the_policy_changes() {
    let world = Arc::new(World::new().await);
    let spec = world.receiving("back");
    world.apply(std::slice::from_ref(&spec), Some(&policy(ALLOW)));
    let deny = policy(DENY);
    let dialling: Vec<_> = (0..60)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let Ok(mut stream) = world.dial("/front").await else {
                    return false;
                };
                // Held until cut: whoever was let in must be cut too.
                let _ = ping(&mut stream).await;
                end(&mut stream).await.is_err()
            })
        })
        .collect();
    wait_for("some connections are through", SOON, || {
        world.echo.accepted() > 5
    })
    .await;
    world.apply(&[spec], Some(&deny));
    for dial in dialling {
        assert!(dial.await.unwrap(), "a connection outlived the reload");
    }
    assert_eq!(world.count("allowed", ""), 0);
}

#[tokio::test]
async fn a_new_svid_breaks_nothing_and_shows_in_new_handshakes() {
    let world = World::with_gate(|_| {}).await;
    let spec = world.receiving("back");
    let mut old = world.dial("/front").await.unwrap();
    ping(&mut old).await.unwrap();
    let leaf = |stream: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    world.supply(&spec, &[world.a.bundle(), world.b.bundle()]);
    let mut new = world.dial("/front").await.unwrap();
    ping(&mut new).await.unwrap();
    assert_ne!(leaf(&old), leaf(&new));
    ping(&mut old).await.unwrap();
}

#[tokio::test]
async fn a_ca_that_leaves_the_bundle_takes_its_connections_along() {
    let world = World::with_gate(|_| {}).await;
    let spec = world.receiving("back");
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let other = Site::new("a.example");
    world.supply(&spec, &[other.bundle(), world.b.bundle()]);
    let error = end(&mut stream).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::AccessDenied));
    world.until("allowed", "bundle_changed", 1).await;
}

#[tokio::test]
async fn a_bundle_that_grows_touches_nothing() {
    let world = World::with_gate(|_| {}).await;
    let spec = world.receiving("back");
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let other = Site::new("a.example");
    let both = world
        .a
        .bundle()
        .authorities()
        .iter()
        .chain(other.bundle().authorities());
    let both = both.map(|ca| ca.der().clone()).collect::<Vec<_>>();
    let grown = sekisho_certs::TrustBundle::new(world.a.domain().clone(), both).unwrap();
    world.supply(&spec, &[&Arc::new(grown), world.b.bundle()]);
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn a_running_connection_outlives_the_peers_svid_and_a_new_one_is_refused() {
    let world = World::with_gate(|_| {}).await;
    let spec = world.receiving("back");
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let late = Site::new("c.example");
    world.clock.advance(Duration::from_secs(48 * 3600));
    // Even a change of bundles, which asks again, does not ask for the time of today.
    world.supply(&spec, &[world.a.bundle(), world.b.bundle(), late.bundle()]);
    ping(&mut stream).await.unwrap();
    assert!(world.dial("/front").await.is_err());
    world.until("refused", "no_identity", 1).await;
}

#[tokio::test]
async fn a_decision_with_a_ttl_is_asked_again_when_it_ends() {
    let world = World::new().await;
    // The policy engine asks the host for the time.
    let until = sekisho_certs::Clock::now(&sekisho_certs::SystemClock)
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
        + 700_000_000;
    let rules = format!("allow := {{\"allowed\": time.now_ns() < {until}, \"ttl\": \"100ms\"}}");
    world.apply(&[world.receiving("back")], Some(&policy(&rules)));
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let error = end(&mut stream).await.unwrap_err();
    assert_eq!(alert(&error), Some(AlertDescription::AccessDenied));
    world.until("allowed", "policy_denied", 1).await;
}

#[tokio::test]
async fn a_ttl_longer_than_any_life_is_for_ever() {
    let world = World::new().await;
    let rules = "allow := {\"allowed\": true, \"ttl\": \"200000000000000d\"}";
    world.apply(&[world.receiving("back")], Some(&policy(rules)));
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    drop(stream);
    wait_for("it is over", SOON, || world.proxy.registry().is_empty()).await;
    let refused: u64 = ["policy_error", "policy_denied"]
        .iter()
        .map(|reason| world.count("refused", reason))
        .sum();
    assert_eq!(refused, 0);
}
