//! Streams through our own record layer: keys that are replaced, slow receivers, workers.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sekisho_certs::{TlsContext, tls};
use sekisho_proxy::{
    Limits, Options, Proxy,
    endpoint::spec::{Address, EndpointSpec, Forward, Listen, MtlsTarget},
};
use sekisho_testkit::{clock::TestClock, ports, wait::wait_for};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{SOON, World, end, list, ping, policy};

/// Most bytes of one write or read.
const PART: usize = 100_000;
/// After so many bytes they begin again.
const PERIOD: usize = 65_536;

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..PERIOD + PART)
        .map(|at| u8::try_from((at ^ (at >> 8).wrapping_mul(31)) & 0xff).unwrap())
        .collect()
});

/// Bytes that tell where in the stream they belong.
fn text(begin: usize, length: usize) -> &'static [u8] {
    &TEXT[begin % PERIOD..][..length]
}

/// Sends `length` bytes to an echo and compares what comes back, both at once.
pub(crate) async fn echoed(stream: impl AsyncRead + AsyncWrite, length: usize) {
    echoed_while(stream, move |sent| sent < length).await;
}

/// The same as long as `goes_on`, of the bytes sent so far.
pub(crate) async fn echoed_while(
    stream: impl AsyncRead + AsyncWrite,
    goes_on: impl Fn(usize) -> bool,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async {
        let mut sent = 0;
        while goes_on(sent) {
            writer.write_all(text(sent, PART)).await.unwrap();
            sent += PART;
        }
        writer.shutdown().await.unwrap();
        sent
    };
    let receive = async {
        let mut received = 0;
        let mut part = vec![0; PART];
        loop {
            let count = reader.read(&mut part).await.unwrap();
            if count == 0 {
                return received;
            }
            assert_eq!(&part[..count], text(received, count), "at byte {received}");
            received += count;
        }
    };
    let (sent, received) = tokio::join!(send, receive);
    assert_eq!(received, sent);
}

fn options(limits: Limits) -> Options {
    Options {
        workers: 2,
        limits,
        ..Options::default()
    }
}

/// A world whose keys are replaced after few records.
async fn restless() -> World {
    let limits = Limits {
        rekey_after: 20,
        ..Limits::default()
    };
    World::with_options(&options(limits)).await
}

fn updates(world: &World, direction: &str) -> u64 {
    let label = format!("sekisho_key_updates_total{{direction=\"{direction}\"}} ");
    let text = world.proxy.metrics_text();
    let line = text.lines().find_map(|line| line.strip_prefix(&label));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn keys_are_replaced_under_way_and_no_byte_is_lost() {
    let world = restless().await;
    let listen = ports::free();
    world.apply(
        &[world.receiving("back"), world.sending("front", listen)],
        None,
    );
    echoed(TcpStream::connect(listen).await.unwrap(), 8 << 20).await;
    world.until("allowed", "", 2).await;
    // 512 full records each way, or more that are not full.
    for direction in ["sent", "received"] {
        let count = updates(&world, direction);
        assert!(count >= 8, "{count} {direction}");
    }
}

#[tokio::test]
async fn rustls_as_the_peer_follows_our_key_updates() {
    let world = restless().await;
    world.apply(&[world.receiving("back")], None);
    let mut stream = world.dial("/front").await.unwrap();
    // One record each way: our key is replaced after each 20, and at the 23rd of theirs, which is an
    // eighth more, they are asked for another.
    for _ in 0..100 {
        ping(&mut stream).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    end(&mut stream).await.unwrap();
    world.until("allowed", "", 1).await;
    assert!(updates(&world, "sent") >= 5);
    assert!(updates(&world, "received") >= 4);
}

#[tokio::test]
async fn records_are_opened_and_sealed_again_between_two_mtls_sides() {
    let world = restless().await;
    let middle = ports::free();
    let mut mid = EndpointSpec {
        forward: Forward::Mtls {
            targets: vec![MtlsTarget {
                address: Address::Ip(world.gate),
                server_name: Some("back.b.example".into()),
            }],
            expect: list(&["spiffe://b.example/back"]),
            min_version: tls::MinVersion::Tls13,
        },
        ..world.receiving("mid")
    };
    if let Listen::Mtls { address, .. } = &mut mid.listen {
        *address = middle;
    }
    let mut back = world.receiving("back");
    if let Listen::Mtls { accept, .. } = &mut back.listen {
        *accept = list(&["spiffe://b.example/mid"]);
    }
    world.apply(&[mid, back], None);
    let config = sekisho_testkit::danger::client_config(
        Some(&world.a.svid("/front")),
        &[&rustls::version::TLS13],
    );
    let stream = crate::harness::connect(middle, "mid.b.example", config).await;
    echoed(stream.unwrap(), 4 << 20).await;
    world.until("allowed", "", 2).await;
}

#[tokio::test]
async fn a_receiver_that_does_not_read_costs_a_bounded_amount_of_memory() {
    let world = World::with_gate(|_| {}).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    read_late(&world, stream).await;
}

/// Sends to the echo without reading, and reads much later what has come back.
pub(crate) async fn read_late<S>(world: &World, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    // The echo gives back what it gets, and nobody takes it: in the end all buffers are full.
    let sender = tokio::spawn(async move {
        let mut sent = 0;
        loop {
            let part = text(sent, 64 * 1024);
            if writer.write_all(part).await.is_err() {
                return;
            }
            sent += part.len();
        }
    });
    let memory = || world.proxy.memory().held();
    wait_for("something is kept", SOON, || memory() > 0).await;
    assert!(memory() <= 4 << 20, "{} bytes for one connection", memory());
    let mut part = vec![0; 64 * 1024];
    let mut received = 0;
    while received < 32 << 20 {
        let count = reader.read(&mut part).await.unwrap();
        assert_eq!(&part[..count], text(received, count));
        received += count;
        assert!(memory() <= 4 << 20);
    }
    sender.abort();
    drop(reader);
    wait_for("nothing is kept any more", SOON, || memory() == 0).await;
}

#[tokio::test]
async fn past_the_bound_of_memory_new_connections_are_refused() {
    let world = World::with_options(&Options {
        buffers: 1,
        ..options(Limits::default())
    })
    .await;
    world.apply(&[world.receiving("back")], None);
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let (reader, mut writer) = tokio::io::split(stream);
    let sender = tokio::spawn(async move { while writer.write_all(&[7; 65_536]).await.is_ok() {} });
    let memory = || world.proxy.memory().held();
    wait_for("something is kept", SOON, || memory() > 0).await;
    // Until every buffer on the way is full, what is kept may still go on, and a connection be let
    // in meanwhile.
    let refused = async { while world.dial("/front").await.is_ok() {} };
    assert!(tokio::time::timeout(SOON, refused).await.is_ok());
    world.until("refused", "limit", 1).await;
    sender.abort();
    drop(reader);
    wait_for("nothing is kept any more", SOON, || memory() == 0).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_bulk_streams_on_one_worker_one_moves_to_the_idle_one() {
    let world = World::with_gate(|_| {}).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = world.dial("/front").await.unwrap();
        ping(&mut stream).await.unwrap();
        streams.push(stream);
    }
    // The fewest connections decide while nobody is busy: the first and the third share a worker.
    assert_eq!(world.proxy.workers().loads(), [2, 1]);
    let _idle = streams.remove(1);
    let seen = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let seen = Arc::clone(&seen);
            tokio::spawn(echoed_while(stream, move |_| !seen.load(Ordering::Relaxed)))
        })
        .collect();
    let workers = world.proxy.workers();
    wait_for("one moves", SOON, || workers.moved() >= 1).await;
    wait_for("each worker has one", SOON, || {
        let text = world.proxy.metrics_text();
        let bulk = |worker| format!("sekisho_worker_bulk_streams{{worker=\"{worker}\"}} 1\n");
        text.contains(&bulk(0)) && text.contains(&bulk(1))
    })
    .await;
    seen.store(true, Ordering::Relaxed);
    for task in tasks {
        // It moved under way, and no byte was lost.
        task.await.unwrap();
    }
    world.until("allowed", "", 2).await;
    wait_for("nobody is busy", SOON, || workers.bulk_loads() == [0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_has_moved_is_asked_again_when_its_decision_ends() {
    let world = World::with_gate(|_| {}).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = world.dial("/front").await.unwrap();
        ping(&mut stream).await.unwrap();
        streams.push(stream);
    }
    let _idle = streams.remove(1);
    // Decided without an end; then again, with one; then they move; then it ends.
    #[expect(
        clippy::disallowed_methods,
        reason = "the policy reads the host's clock"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end = (now + Duration::from_secs(4)).as_nanos();
    let rules = format!("allow := {{\"allowed\": time.now_ns() < {end}, \"ttl\": \"1s\"}}");
    world.endpoint("back").set_policy(Some(policy(&rules)));
    for stream in streams {
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let send = async { while writer.write_all(text(0, PART)).await.is_ok() {} };
            let mut part = vec![0; PART];
            let receive =
                async { while !matches!(reader.read(&mut part).await, Ok(0) | Err(_)) {} };
            tokio::join!(send, receive);
        });
    }
    let workers = world.proxy.workers();
    wait_for("one moves", SOON, || workers.moved() >= 1).await;
    world.until("allowed", "policy_denied", 3).await;
}

#[test]
fn a_proxy_says_what_protects_records() {
    let context = TlsContext {
        provider: Arc::new(tls::provider()),
        clock: TestClock::new(),
    };
    let proxy = Proxy::start(context, &Options::default()).unwrap();
    let aead = proxy.aead();
    assert_eq!(aead.chosen, aead.measured.fastest());
}
