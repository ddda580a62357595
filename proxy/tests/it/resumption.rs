//! `tls: {resumption: true}`: signatures are skipped, and nothing else.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    ClientConfig, HandshakeKind, NamedGroup,
    client::Tls13ClientSessionValue,
    client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue},
    pki_types::ServerName,
};
use sekisho_proxy::endpoint::spec::{EndpointSpec, Listen};
use sekisho_testkit::{ca::Issued, danger, ports, profile::Profile};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::harness::{World, alert, connect, end, list, ping, policy};

/// Gives its newest ticket for any name: what no honest client does.
#[derive(Debug)]
struct Careless {
    cache: ClientSessionMemoryCache,
    ticket: Mutex<Option<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Careless {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.cache.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache.kx_hint(name)
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.ticket.lock().unwrap() = Some(value);
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.ticket.lock().unwrap().take()
    }
}

fn client(issued: &Issued) -> ClientConfig {
    let mut config = danger::client_config(Some(issued), &[&rustls::version::TLS13]);
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

fn careless(issued: &Issued) -> ClientConfig {
    let mut config = client(issued);
    config.resumption = Resumption::store(Arc::new(Careless {
        cache: ClientSessionMemoryCache::new(1),
        ticket: Mutex::default(),
    }));
    config
}

async fn resuming(change: impl FnOnce(&mut EndpointSpec)) -> World {
    World::with_gate(|spec| {
        spec.resumption = true;
        change(spec);
    })
    .await
}

async fn dial(world: &World, config: &ClientConfig) -> TlsStream<TcpStream> {
    connect(world.gate, "back.b.example", config.clone())
        .await
        .unwrap()
}

fn kind(stream: &TlsStream<TcpStream>) -> Option<HandshakeKind> {
    stream.get_ref().1.handshake_kind()
}

/// A connection that brings a ticket.
async fn first(world: &World, config: &ClientConfig) {
    let mut stream = dial(world, config).await;
    assert_eq!(kind(&stream), Some(HandshakeKind::Full));
    ping(&mut stream).await.unwrap();
    assert!(stream.get_ref().1.tls13_tickets_received() > 0);
}

#[tokio::test]
async fn the_next_connection_resumes_and_is_the_same_peer() {
    let world = resuming(|_| {}).await;
    let config = client(&world.a.svid("/front"));
    first(&world, &config).await;
    for _ in 0..3 {
        let mut stream = dial(&world, &config).await;
        assert_eq!(kind(&stream), Some(HandshakeKind::Resumed));
        ping(&mut stream).await.unwrap();
        let live = world.proxy.connection_status();
        let row = live
            .iter()
            .find(|row| row.tls.as_ref().is_some_and(|tls| tls.resumed));
        let id = row.and_then(|row| row.client_id.as_deref());
        assert_eq!(id, Some("spiffe://a.example/front"));
    }
    let text = world.proxy.metrics_text();
    assert!(
        text.contains("sekisho_handshakes_resumed_total 3"),
        "{text}"
    );
}

#[tokio::test]
async fn a_peer_whose_svid_has_expired_since_then_is_refused() {
    let world = resuming(|_| {}).await;
    let short = Profile {
        ends: 60,
        ..Profile::leaf("spiffe://a.example/front")
    };
    let config = client(&world.a.ca().issue(&short));
    first(&world, &config).await;
    world.clock.advance(Duration::from_secs(61));
    let mut stream = dial(&world, &config).await;
    assert_eq!(
        kind(&stream),
        Some(HandshakeKind::Resumed),
        "rustls would let it in"
    );
    let error = end(&mut stream).await.unwrap_err();
    let unknown = rustls::AlertDescription::CertificateUnknown;
    assert_eq!(alert(&error), Some(unknown), "{error}");
    world.until("refused", "expired", 1).await;
    assert_eq!(world.echo.accepted(), 1, "the first one's");
}

#[tokio::test]
async fn a_peer_that_the_policy_denies_since_then_is_denied() {
    let world = resuming(|_| {}).await;
    let config = client(&world.a.svid("/front"));
    first(&world, &config).await;
    world
        .endpoint("back")
        .set_policy(Some(policy("default allow := false")));
    let mut stream = dial(&world, &config).await;
    assert_eq!(kind(&stream), Some(HandshakeKind::Resumed));
    let error = end(&mut stream).await.unwrap_err();
    assert_eq!(alert(&error), Some(rustls::AlertDescription::AccessDenied));
    world.until("refused", "policy_denied", 1).await;
    assert_eq!(world.echo.accepted(), 1);
}

#[tokio::test]
async fn a_peer_that_has_left_the_list_since_then_is_denied() {
    let world = resuming(|_| {}).await;
    let config = client(&world.a.svid("/front"));
    first(&world, &config).await;
    let mut spec = world.receiving("back");
    spec.resumption = true;
    if let Listen::Mtls { accept, .. } = &mut spec.listen {
        *accept = list(&["spiffe://a.example/other"]);
    }
    world.apply(&[spec], None);
    let mut stream = dial(&world, &config).await;
    assert_eq!(
        kind(&stream),
        Some(HandshakeKind::Resumed),
        "the store is the same here"
    );
    let error = end(&mut stream).await.unwrap_err();
    assert_eq!(alert(&error), Some(rustls::AlertDescription::AccessDenied));
    world.until("refused", "not_accepted", 1).await;
}

#[tokio::test]
async fn a_peer_whose_bundle_has_left_cannot_resume_and_is_refused() {
    let world = resuming(|_| {}).await;
    let config = client(&world.a.svid("/front"));
    first(&world, &config).await;
    let mut spec = world.receiving("back");
    spec.resumption = true;
    world.supply(&spec, &[world.b.bundle()]);
    let stream = connect(world.gate, "back.b.example", config.clone()).await;
    let refused = match stream {
        Ok(mut stream) => {
            assert_eq!(kind(&stream), Some(HandshakeKind::Full));
            end(&mut stream).await.is_err()
        }
        Err(_) => true,
    };
    assert!(refused);
    world.until("refused", "unknown_trust_domain", 1).await;
}

#[tokio::test]
async fn sessions_are_forgotten_when_our_svid_rotates() {
    let world = resuming(|_| {}).await;
    let config = client(&world.a.svid("/front"));
    first(&world, &config).await;
    let mut spec = world.receiving("back");
    spec.resumption = true;
    world.supply(&spec, &[world.a.bundle(), world.b.bundle()]);
    let mut stream = dial(&world, &config).await;
    assert_eq!(kind(&stream), Some(HandshakeKind::Full));
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn a_session_of_one_endpoint_is_none_at_another() {
    let world = World::new().await;
    let specs = ["one", "two"].map(|name| EndpointSpec {
        resumption: true,
        ..world.receiving(name)
    });
    world.apply(&specs, None);
    let config = careless(&world.a.svid("/front"));
    let full = Some(HandshakeKind::Full);
    let resumed = Some(HandshakeKind::Resumed);
    // The ticket that the second brings is for the first name's endpoint, and tried at the other.
    for (name, expected) in [
        ("one.b.example", full),
        ("one.b.example", resumed),
        ("two.b.example", full),
    ] {
        let stream = connect(world.gate, name, config.clone()).await;
        let mut stream = stream.unwrap();
        assert_eq!(kind(&stream), expected, "{name}");
        ping(&mut stream).await.unwrap();
    }
}

#[tokio::test]
async fn both_sides_of_a_pair_resume() {
    let world = World::new().await;
    let listen = ports::free();
    let specs =
        [world.receiving("back"), world.sending("front", listen)].map(|spec| EndpointSpec {
            resumption: true,
            ..spec
        });
    world.apply(&specs, None);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(listen).await.unwrap();
        ping(&mut stream).await.unwrap();
    }
    let text = world.proxy.metrics_text();
    assert!(
        text.contains("sekisho_handshakes_resumed_total 4"),
        "{text}"
    );
}

/// A stock TLS server whose sessions outlive its certificate: each connection is served by the next
/// of `configs`.
async fn stock(gate: std::net::SocketAddr, configs: Vec<rustls::ServerConfig>) {
    let listener = tokio::net::TcpListener::bind(gate).await.unwrap();
    for config in configs {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let Ok(mut stream) = acceptor.accept(stream).await else {
            continue;
        };
        let mut bytes = [0; 4];
        // Whether it stays or is refused, the next one comes.
        if stream.read_exact(&mut bytes).await.is_ok() {
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            // Closed before the other end is read, it would be a reset.
            let _ = stream.read(&mut bytes).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_resumes_what_began_under_an_expired_svid_is_dialled_once_more() {
    let world = World::new().await;
    let listen = ports::free();
    let spec = EndpointSpec {
        resumption: true,
        ..world.sending("front", listen)
    };
    world.apply(&[spec], None);
    let short = Profile {
        ends: 60,
        ..Profile::leaf("spiffe://b.example/back")
    };
    let sessions = rustls::server::ServerSessionMemoryCache::new(32);
    let config = |issued: &Issued| {
        let mut config = danger::server_config(issued, &[&rustls::version::TLS13]);
        config.session_storage = Arc::clone(&sessions) as _;
        config
    };
    let old = world.b.ca().issue(&short);
    let new = world.b.svid("/back");
    let configs = vec![config(&old), config(&old), config(&new), config(&new)];
    let server = tokio::spawn(stock(world.gate, configs));
    let through = async || {
        let mut stream = TcpStream::connect(listen).await.unwrap();
        ping(&mut stream).await.unwrap();
        end(&mut stream).await.unwrap();
    };
    through().await;
    through().await;
    let resumed = || {
        let text = world.proxy.metrics_text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("sekisho_handshakes_resumed_total "));
        line.map(ToOwned::to_owned)
    };
    assert_eq!(resumed().as_deref(), Some("1"));
    world.clock.advance(Duration::from_secs(61));
    // Resumed in vain, and then whole: the application sees none of it.
    through().await;
    assert_eq!(resumed().as_deref(), Some("1"));
    server.await.unwrap();
}
