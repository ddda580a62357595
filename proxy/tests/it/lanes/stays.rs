//! What a stream over lanes lives through: rotation, policies, CAs; and peers that know no lanes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sekisho_certs::{TrustBundle, tls::MinVersion};
use sekisho_proxy::{
    Options,
    endpoint::spec::{Address, EndpointSpec, Forward, Lanes, Listen, MtlsTarget},
};
use sekisho_testkit::{danger, ports, site::Site, wait::wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{counts, open, pair, world};
use crate::{
    harness::{SOON, World, connect, end, list, ping, policy},
    layer::{echoed, echoed_while},
};

/// A TLS echo that is no sekisho, and how many handshakes it has begun.
async fn stock(world: &World, protocols: &[&[u8]]) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(world.gate).await.unwrap();
    let svid = world.b.svid("/back");
    let mut config = danger::server_config(&svid, &[&rustls::version::TLS13]);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let (mut reader, mut writer) = tokio::io::split(stream);
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    let _ = writer.shutdown().await;
                }
            });
        }
    });
    begun
}

#[tokio::test]
async fn a_stock_peer_has_plain_tls() {
    for (protocols, first) in [(&[][..], 1), (&[&b"h2"[..], b"http/1.1"][..], 2)] {
        let world = World::new().await;
        let begun = stock(&world, protocols).await;
        let listen = ports::free();
        let [front, _] = pair(&world, listen, 4);
        world.apply(&[front], None);
        echoed(TcpStream::connect(listen).await.unwrap(), 1 << 20).await;
        assert_eq!(begun.load(Ordering::SeqCst), first);
        // One that refuses what is offered is not offered it again.
        echoed(TcpStream::connect(listen).await.unwrap(), 1 << 20).await;
        assert_eq!(begun.load(Ordering::SeqCst), first + 1);
        world.until("allowed", "", 2).await;
    }
}

#[tokio::test]
async fn lanes_without_a_server_name_go_to_the_endpoint_that_has_none() {
    let world = World::new().await;
    let listen = ports::free();
    let [mut front, back] = pair(&world, listen, 3);
    if let Forward::Mtls { targets, .. } = &mut front.forward {
        targets[0].server_name = None;
    }
    world.apply(&[front, back], None);
    let mut stream = TcpStream::connect(listen).await.unwrap();
    ping(&mut stream).await.unwrap();
    wait_for("three lanes", SOON, || open(&world) == 3).await;
    echoed(stream, 1 << 20).await;
}

#[tokio::test]
async fn a_client_that_offers_other_protocols_has_plain_tls() {
    let world = World::with_gate(|_| {}).await;
    let svid = world.a.svid("/front");
    let mut config = danger::client_config(Some(&svid), &[&rustls::version::TLS13]);
    config.alpn_protocols = vec![b"h2".to_vec(), b"istio".to_vec()];
    let mut stream = connect(world.gate, "back.b.example", config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_allows_one_lane_has_plain_tls() {
    let world = World::new().await;
    let listen = ports::free();
    let [front, mut back] = pair(&world, listen, 4);
    back.path.listen.lanes = Lanes::Most(1.try_into().unwrap());
    world.apply(&[front, back], None);
    let mut stream = TcpStream::connect(listen).await.unwrap();
    ping(&mut stream).await.unwrap();
    assert_eq!(counts(&world), None);
    echoed(stream, 1 << 20).await;
    world.until("allowed", "", 2).await;
}

#[tokio::test]
async fn a_short_path_has_plain_tls_unless_lanes_are_asked_for() {
    let world = World::new().await;
    let listen = ports::free();
    let [mut front, back] = pair(&world, listen, 4);
    front.path.forward.lanes = Lanes::Auto;
    world.apply(&[front, back], None);
    let mut stream = TcpStream::connect(listen).await.unwrap();
    ping(&mut stream).await.unwrap();
    assert_eq!(counts(&world), None);
}

/// The trust of both of a domain's CAs.
fn both(one: &Site, other: &Site) -> Arc<TrustBundle> {
    let (one, other) = (one.bundle(), other.bundle());
    let all = one.authorities().iter().chain(other.authorities());
    let all = all.map(|ca| ca.der().clone()).collect::<Vec<_>>();
    Arc::new(TrustBundle::new(one.trust_domain().clone(), all).unwrap())
}

#[tokio::test]
async fn a_stream_outlives_the_svids_and_the_ca_that_it_began_with() {
    let (world, mut stream, between) = world(3).await;
    ping(&mut stream).await.unwrap();
    wait_for("three lanes", SOON, || open(&world) == 3).await;
    let [front, back] = pair(&world, ports::free(), 3);
    let next = Site::new("a.example");
    let grown = both(&world.a, &next);
    world.supply(&back, &[&grown, world.b.bundle()]);
    world.supply_svid(
        &front,
        next.svid("/front").svid(),
        &[&grown, world.b.bundle()],
    );
    ping(&mut stream).await.unwrap();
    // A lane that is lost is replaced by one of the new SVID.
    between.cut(0);
    let lost =
        |count| counts(&world).is_some_and(|counts| counts.lost >= count && counts.open == 3);
    wait_for("it is replaced", SOON, || lost(1)).await;
    // At the other side too: else that would know of no lane with the new CA.
    let all = || world.proxy.registry().snapshot();
    let entered = || {
        let counts = |live: &sekisho_proxy::live::Live| {
            let details = live.details();
            details.client_lanes.as_ref().map(|lanes| lanes.counts())
        };
        let mut counts = all().into_iter().filter_map(|live| counts(&live));
        counts.any(|counts| counts.opened == 4 && counts.open == 3)
    };
    wait_for("it is there", SOON, entered).await;
    // The old CA goes, and with it the two lanes that need it; the stream does not.
    world.supply(&back, &[next.bundle(), world.b.bundle()]);
    wait_for("they are replaced", SOON, || lost(3)).await;
    ping(&mut stream).await.unwrap();
    assert_eq!(world.count("allowed", "bundle_changed"), 0);
    // And when no lane is trusted, it ends.
    let other = Site::new("a.example");
    world.supply(&back, &[other.bundle(), world.b.bundle()]);
    end(&mut stream).await.unwrap_err();
    world.until("allowed", "bundle_changed", 1).await;
    world.until("allowed", "refused_by_peer", 1).await;
}

#[tokio::test]
async fn a_policy_that_allows_is_not_noticed_and_one_that_denies_ends_it_at_both_sides() {
    let world = World::new().await;
    let listen = ports::free();
    let specs = pair(&world, listen, 3);
    world.apply(&specs, Some(&policy("default allow := true")));
    let mut stream = TcpStream::connect(listen).await.unwrap();
    ping(&mut stream).await.unwrap();
    wait_for("three lanes", SOON, || open(&world) == 3).await;
    world.apply(&specs, Some(&policy("default allow := true\n# changed")));
    ping(&mut stream).await.unwrap();
    assert_eq!(counts(&world).unwrap().lost, 0);
    let deny = "default allow := true\nallow := false if input.sekisho.endpoint == \"back\"";
    world.apply(&specs, Some(&policy(deny)));
    end(&mut stream).await.unwrap_err();
    world.until("allowed", "policy_denied", 1).await;
    world.until("allowed", "refused_by_peer", 1).await;
}

#[tokio::test]
async fn lanes_at_both_sides_of_one_proxy() {
    let world = World::new().await;
    let (listen, middle) = (ports::free(), ports::free());
    let target = |address, name: &str| MtlsTarget {
        address: Address::Ip(address),
        server_name: Some(name.into()),
    };
    let [mut front, mut back] = pair(&world, listen, 2);
    let mut mid = EndpointSpec {
        forward: Forward::Mtls {
            targets: vec![target(world.gate, "back.b.example")],
            expect: list(&["spiffe://b.example/back"]),
            min_version: MinVersion::Tls13,
        },
        ..world.receiving("mid")
    };
    mid.path.forward.lanes = Lanes::Most(3.try_into().unwrap());
    if let Listen::Mtls { address, .. } = &mut mid.listen {
        *address = middle;
    }
    if let Listen::Mtls { accept, .. } = &mut back.listen {
        *accept = list(&["spiffe://b.example/mid"]);
    }
    if let Forward::Mtls {
        targets, expect, ..
    } = &mut front.forward
    {
        *targets = vec![target(middle, "mid.b.example")];
        *expect = list(&["spiffe://b.example/mid"]);
    }
    world.apply(&[front, mid, back], None);
    echoed(TcpStream::connect(listen).await.unwrap(), 16 << 20).await;
    wait_for("it is over", SOON, || world.proxy.registry().is_empty()).await;
    wait_for("nothing is kept", SOON, || world.proxy.memory().held() == 0).await;
}

#[tokio::test]
async fn a_receiver_that_does_not_read_costs_a_bounded_amount_of_memory() {
    let world = World::with_options(&Options {
        // Enough not to be what bounds it.
        buffers: 1 << 40,
        workers: 2,
        ..Options::default()
    })
    .await;
    let listen = ports::free();
    // Without anything between them that could lose the last word.
    world.apply(&pair(&world, listen, 4), None);
    let stream = TcpStream::connect(listen).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    // The echo gives back what it gets, and nobody takes it.
    let sender = tokio::spawn(async move { while writer.write_all(&[7; 65_536]).await.is_ok() {} });
    let memory = || world.proxy.memory().held();
    wait_for("windows are full", SOON, || memory() > 2 << 20).await;
    let mut part = vec![0; 65_536];
    let mut received = 0;
    while received < 32 << 20 {
        // Windows double only for who takes what comes: by 4 MiB that were taken, to 8 MiB each way. Later it
        // is what two ends may have each way, a window and a buffer that is being filled.
        let most = if received < 4 << 20 { 64 } else { 4 * 65 };
        assert!(memory() <= most << 20, "{} by {received}", memory());
        received += reader.read(&mut part).await.unwrap();
    }
    sender.abort();
    drop(reader);
    wait_for("nothing is kept any more", SOON, || memory() == 0).await;
}

#[tokio::test]
async fn a_stream_that_rests_keeps_no_memory_and_goes_on() {
    let (world, mut stream, _between) = world(4).await;
    let memory = || world.proxy.memory().held();
    for _ in 0..2 {
        let text = vec![7; 1 << 20];
        let mut back = vec![0; text.len()];
        let (mut reader, mut writer) = stream.split();
        let mut most = 0;
        let receive = async {
            for part in back.chunks_mut(64 << 10) {
                reader.read_exact(part).await?;
                most = most.max(memory());
            }
            Ok::<_, std::io::Error>(())
        };
        let (sent, received) = tokio::join!(writer.write_all(&text), receive);
        sent.and(received).unwrap();
        assert!(back == text);
        assert!(most > 0, "what it was moved through");
        wait_for("nothing is kept", SOON, || memory() == 0).await;
    }
    assert_eq!(world.proxy.registry().len(), 2);
}

#[tokio::test]
async fn svids_rotate_while_lanes_die_and_bytes_flow() {
    let (world, mut stream, between) = world(4).await;
    ping(&mut stream).await.unwrap();
    wait_for("four lanes", SOON, || open(&world) == 4).await;
    let specs = pair(&world, ports::free(), 4);
    let rounds = AtomicUsize::new(0);
    let lost = || counts(&world).map_or(0, |counts| counts.lost);
    echoed_while(stream, |_| {
        let done = rounds.load(Ordering::Relaxed);
        if lost() >= done as u64 && open(&world) == 4 {
            for spec in &specs {
                world.supply(spec, &[world.a.bundle(), world.b.bundle()]);
            }
            rounds.fetch_add(1, Ordering::Relaxed);
            between.cut(done);
        }
        done < 8
    })
    .await;
}
