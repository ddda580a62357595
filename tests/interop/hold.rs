//! A thousand connections through two nodes, while SVIDs rotate and policies reload.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sekisho_certs::{SystemClock, id::parse_workload_id, issue::Ca};
use sekisho_testkit::{Issued, danger, wait::wait_for};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Barrier, watch},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use crate::support::{Node, World, ports};

const MANY: usize = 900;
const FEW: usize = 100;
/// Rotations and reloads: one more than the thirty that must be seen.
const ROUNDS: usize = 31;
const PATIENCE: Duration = Duration::from_secs(60);
const POLICY: &str = "package sekisho.authz\n\ndefault allow := false\n\n";
const ALLOW_ALL: &str = "allow if input.sekisho.client.trust_domain == \"a.example\"\n";
const ALLOW_MANY: &str = "allow if input.sekisho.client.path_segments == [\"many\"]\n";

/// How a held connection fared.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It answered rightly until it was told to stop.
    Held,
    /// It ended before that, at this time.
    Cut(Instant),
}

#[test]
fn a_thousand_connections_live_through_rotations_and_reloads_and_exactly_the_denied_are_cut() {
    // Sockets of clients and echo alone are 2,000.
    raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(hold());
}

fn raise_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(
        most >= 4096,
        "this test needs 4,096 open files (`ulimit -n`)"
    );
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    address
}

/// The two nodes, each with a CA of its own.
struct Nodes {
    world: World,
    sending: Node,
    receiving: Node,
    gate: SocketAddr,
    many: SocketAddr,
    few: SocketAddr,
}

impl Nodes {
    fn start(service: SocketAddr) -> Self {
        let world = World::new();
        let (gate, many, few) = (ports::free(), ports::free(), ports::free());
        write_policy(&world, ALLOW_ALL, 0);
        let sender = |name: &str, listen: SocketAddr| {
            format!(
                "  {name}:\n    listen: tcp://{listen}\n    forward: mtls://{gate}/back\n    as: /{name}\n    \
                 identity: {{embedded: {{data: ca-a}}}}\n    bundles: {{b.example: ca-b/bundle.json}}\n    \
                 expect: [spiffe://b.example/back]\n"
            )
        };
        let back = format!(
            "  back:\n    listen: mtls://{gate}\n    forward: tcp://{service}\n    as: /back\n    \
             identity: {{embedded: {{data: ca-b}}}}\n    bundles: {{a.example: ca-a/bundle.json}}\n    \
             accept: [\"spiffe://a.example/*\"]\n    policy: policy/\n"
        );
        let receiving = Node::start(&world, "b.example", &back);
        let sending = Node::start(
            &world,
            "a.example",
            &(sender("many", many) + &sender("few", few)),
        );
        Self {
            world,
            sending,
            receiving,
            gate,
            many,
            few,
        }
    }

    fn status(node: &Node) -> Value {
        serde_json::from_str(&node.get("/status").1).unwrap()
    }

    /// Rotations of all endpoints of both nodes, at least.
    fn rotations(&self) -> u64 {
        let of = |node| {
            let status = Self::status(node);
            let endpoints = status["endpoints"].as_array().unwrap().clone();
            let count = |endpoint: &Value| endpoint["svid"]["rotations"].as_u64().unwrap();
            endpoints.iter().map(count).min().unwrap()
        };
        of(&self.sending).min(of(&self.receiving))
    }

    fn revision(&self) -> String {
        let status = Self::status(&self.receiving);
        status["endpoints"][0]["policy_revision"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn trusts(&self) -> bool {
        let of = |node| {
            let status = Self::status(node);
            let endpoints = status["endpoints"].as_array().unwrap().clone();
            endpoints
                .iter()
                .all(|endpoint| !endpoint["trusts"].as_array().unwrap().is_empty())
        };
        of(&self.sending) && of(&self.receiving)
    }

    /// The serial number of the leaf that a new handshake shows.
    async fn leaf(&self) -> Vec<u8> {
        let read = |name| fs::read_to_string(self.world.file(name)).unwrap();
        let ca = Ca::from_pem(&read("ca-a/ca.pem"), &read("ca-a/ca.key")).unwrap();
        let id = parse_workload_id("spiffe://a.example/many").unwrap();
        let now = sekisho_certs::Clock::now(&SystemClock);
        let (leaf, key) = ca.issue(&id, now, Duration::from_secs(60)).unwrap();
        let issued = Issued {
            chain: vec![leaf],
            key,
        };
        let config = danger::client_config(Some(&issued), &[&rustls::version::TLS13]);
        let stream = TcpStream::connect(self.gate).await.unwrap();
        let name = "back.b.example".try_into().unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = stream.await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

fn write_policy(world: &World, rule: &str, round: usize) {
    world.write(
        "policy/authz.rego.new",
        &format!("{POLICY}{rule}# round {round}\n"),
    );
    fs::rename(
        world.file("policy/authz.rego.new"),
        world.file("policy/authz.rego"),
    )
    .unwrap();
}

/// Sends a block that says who and which, and checks that it comes back, every tenth of a second.
async fn carry(
    address: SocketAddr,
    number: usize,
    begun: Arc<Barrier>,
    mut stop: watch::Receiver<bool>,
    exchanges: Arc<AtomicUsize>,
) -> Fate {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    let mut round = 0_usize;
    let mut begun = Some(begun);
    while !*stop.borrow_and_update() {
        let block: Vec<u8> = (0..512)
            .map(|index| u8::try_from((index * 7 + number * 31 + round) % 251).unwrap())
            .collect();
        let exchange = async {
            stream.write_all(&block).await?;
            let mut back = vec![0; block.len()];
            stream.read_exact(&mut back).await?;
            assert_eq!(
                back, block,
                "connection {number}, round {round}: other bytes came back"
            );
            Ok::<_, std::io::Error>(())
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Fate::Cut(Instant::now()),
            Err(_) => panic!("connection {number} hangs"),
        }
        exchanges.fetch_add(1, Ordering::Relaxed);
        if let Some(begun) = begun.take() {
            begun.wait().await;
        }
        round += 1;
        tokio::select! {
            _ = pace.tick() => {}
            _ = stop.changed() => {}
        }
    }
    Fate::Held
}

async fn hold() {
    let nodes = Nodes::start(echo().await);
    wait_for("the nodes trust each other", PATIENCE, || nodes.trusts()).await;
    let begun = Arc::new(Barrier::new(MANY + FEW + 1));
    let exchanges = Arc::new(AtomicUsize::new(0));
    let (stop, stopped) = watch::channel(false);
    let (mut many, mut few) = (JoinSet::new(), JoinSet::new());
    for number in 0..MANY + FEW {
        let (set, address) = if number < MANY {
            (&mut many, nodes.many)
        } else {
            (&mut few, nodes.few)
        };
        set.spawn(carry(
            address,
            number,
            Arc::clone(&begun),
            stopped.clone(),
            Arc::clone(&exchanges),
        ));
    }
    begun.wait().await;

    let mut leaves = BTreeSet::from([nodes.leaf().await]);
    let mut revisions = BTreeSet::from([nodes.revision()]);
    let pause = round_time();
    for round in 1..=ROUNDS {
        let began = Instant::now();
        let rotations = nodes.rotations();
        nodes.sending.process.signal(Signal::SIGUSR1);
        nodes.receiving.process.signal(Signal::SIGUSR1);
        write_policy(&nodes.world, ALLOW_ALL, round);
        let before = revisions.len();
        wait_for("a rotation and a reload", PATIENCE, || {
            revisions.insert(nodes.revision());
            revisions.len() > before && nodes.rotations() > rotations
        })
        .await;
        leaves.insert(nodes.leaf().await);
        tokio::time::sleep_until((began + pause).into()).await;
    }
    assert!(leaves.len() > 30, "{} leaves were seen", leaves.len());
    assert!(
        revisions.len() > 30,
        "{} revisions were seen",
        revisions.len()
    );
    assert!(
        many.try_join_next().is_none() && few.try_join_next().is_none(),
        "a connection broke"
    );

    // One reload denies a hundred of them.
    write_policy(&nodes.world, ALLOW_MANY, ROUNDS + 1);
    let known = revisions.len();
    wait_for("the reload", PATIENCE, || {
        revisions.insert(nodes.revision());
        revisions.len() > known
    })
    .await;
    let applied = Instant::now();
    let mut last = Duration::ZERO;
    while let Some(fate) = few.join_next().await {
        let Fate::Cut(at) = fate.unwrap() else {
            panic!("a denied connection was held");
        };
        last = last.max(at.saturating_duration_since(applied));
    }
    assert!(last < cut_within(), "the last was cut after {last:?}");
    // The others go on: all of them exchange once more before they are told to stop.
    let so_far = exchanges.load(Ordering::Relaxed);
    wait_for("the others go on", PATIENCE, || {
        exchanges.load(Ordering::Relaxed) >= so_far + 2 * MANY
    })
    .await;
    stop.send_replace(true);
    let mut held = 0;
    while let Some(fate) = many.join_next().await {
        assert_eq!(fate.unwrap(), Fate::Held);
        held += 1;
    }
    assert_eq!(held, MANY);
    // Each is counted when its goodbye has been said.
    let denied = "{endpoint=\"back\",decision=\"allowed\",reason=\"policy_denied\"}";
    let count = || nodes.receiving.ended().get(denied).copied();
    wait_for("all of them are counted", PATIENCE, || count() >= Some(100)).await;
    assert_eq!(count(), Some(100));
    eprintln!(
        "{MANY} + {FEW} connections, {} exchanges, {} leaves, {} revisions; the last denied one was cut {last:?} after the reload",
        exchanges.load(Ordering::Relaxed),
        leaves.len(),
        revisions.len(),
    );
}

/// How soon the denied ones must be gone: `HOLD_CUT_MS`, a second on a machine that does nothing
/// else; by default more, since tests run beside this one and may take both cores.
fn cut_within() -> Duration {
    let value = std::env::var("HOLD_CUT_MS").ok();
    Duration::from_millis(value.and_then(|value| value.parse().ok()).unwrap_or(20_000))
}

/// How long a round takes at least: `HOLD_ROUND_MS`, by default as long as it needs.
fn round_time() -> Duration {
    let value = std::env::var("HOLD_ROUND_MS").ok();
    Duration::from_millis(value.and_then(|value| value.parse().ok()).unwrap_or(0))
}
