//! Streams over several lanes, with what may happen to them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use sekisho_proxy::{
    endpoint::spec::{EndpointSpec, Lanes},
    lanes::LaneCounts,
};
use sekisho_testkit::{ports, wait::wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::AbortHandle,
};

use crate::{
    harness::{SOON, World, ping},
    layer::{echoed, echoed_while},
};

mod raw;
mod refused;
mod stays;

/// What lies between two proxies: connections through it can be cut, or made to stand still.
pub(crate) struct Between {
    pub(crate) address: SocketAddr,
    connections: Arc<Mutex<Vec<Connection>>>,
}

#[derive(Clone)]
struct Connection {
    task: AbortHandle,
    still: Arc<Notify>,
}

impl Between {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let list = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut one, _)) = listener.accept().await {
                let still = Arc::new(Notify::new());
                let told = Arc::clone(&still);
                let task = tokio::spawn(async move {
                    let mut other = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut one, &mut other) => {}
                        // Both ends stay open, and hear nothing of each other.
                        () = told.notified() => std::future::pending().await,
                    }
                });
                let task = task.abort_handle();
                list.lock().unwrap().push(Connection { task, still });
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn open(&self) -> Vec<Connection> {
        let mut list = self.connections.lock().unwrap();
        list.retain(|one| !one.task.is_finished());
        list.clone()
    }

    pub(crate) fn made(&self) -> usize {
        self.open().len()
    }

    /// Cuts one, the `index`th of those that are there.
    fn cut(&self, index: usize) {
        let open = self.open();
        if let Some(one) = open.get(index % open.len().max(1)) {
            one.task.abort();
        }
    }

    /// Makes one stand still: nothing comes through it any more, and neither end hears that it is gone.
    fn still(&self, index: usize) {
        self.open()[index].still.notify_one();
    }
}

/// An endpoint `back` that has lanes, and one `front` that sends to it, by so many.
pub(crate) fn pair(world: &World, listen: SocketAddr, lanes: u8) -> [EndpointSpec; 2] {
    let back = world.receiving("back");
    let mut front = world.sending("front", listen);
    front.path.forward.lanes = Lanes::Most(lanes.try_into().unwrap());
    [front, back]
}

async fn world(lanes: u8) -> (World, TcpStream, Between) {
    let mut world = World::new().await;
    let (gate, listen) = (world.gate, ports::free());
    let between = Between::start(gate).await;
    let mut specs = pair(&world, listen, lanes);
    world.gate = between.address;
    specs[0] = pair(&world, listen, lanes)[0].clone();
    world.gate = gate;
    world.apply(&specs, None);
    let stream = TcpStream::connect(listen).await.unwrap();
    (world, stream, between)
}

/// What the sending side's stream has been through.
fn counts(world: &World) -> Option<LaneCounts> {
    let all = world.proxy.registry().snapshot();
    let of = |live: &sekisho_proxy::live::Live| {
        let details = live.details();
        details.upstream_lanes.as_ref().map(|lanes| lanes.counts())
    };
    all.iter().find_map(|live| of(live))
}

fn open(world: &World) -> usize {
    counts(world).map_or(0, |counts| counts.open)
}

#[tokio::test]
async fn a_stream_goes_over_four_lanes_and_every_byte_is_in_its_place() {
    let (world, mut stream, between) = world(4).await;
    ping(&mut stream).await.unwrap();
    wait_for("four lanes", SOON, || open(&world) == 4).await;
    assert_eq!(between.made(), 4);
    echoed(stream, 64 << 20).await;
    // Three of the five that came were lanes of the first.
    world.until("allowed", "", 5).await;
    wait_for("nothing is kept any more", SOON, || {
        world.proxy.memory().held() == 0
    })
    .await;
    assert!(world.proxy.registry().is_empty());
}

#[tokio::test]
async fn a_lane_that_dies_loses_nothing_and_is_replaced() {
    let (world, mut stream, between) = world(4).await;
    ping(&mut stream).await.unwrap();
    wait_for("four lanes", SOON, || open(&world) == 4).await;
    let cuts = std::sync::atomic::AtomicUsize::new(0);
    let lost = || counts(&world).map_or(0, |counts| counts.lost);
    echoed_while(stream, |sent| {
        let done = cuts.load(std::sync::atomic::Ordering::Relaxed);
        // One after the other, each once the one before was noticed and replaced.
        if sent > done * (1 << 20) && lost() >= done as u64 && open(&world) == 4 {
            cuts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            between.cut(done);
        }
        done < 10
    })
    .await;
    // The last one that was cut may not have been replaced any more.
    wait_for("all are over", SOON, || world.proxy.registry().is_empty()).await;
    assert!(
        world.count("allowed", "") >= 4 + 10,
        "{}",
        world.count("allowed", "")
    );
}

#[tokio::test]
async fn lanes_that_stand_still_hold_nothing_back_for_long() {
    let (world, mut stream, between) = world(4).await;
    ping(&mut stream).await.unwrap();
    wait_for("four lanes", SOON, || open(&world) == 4).await;
    let stopped = std::sync::atomic::AtomicU64::new(0);
    let after = std::sync::atomic::AtomicUsize::new(0);
    echoed_while(stream, |sent| {
        let done = stopped.load(std::sync::atomic::Ordering::Relaxed);
        let counts = counts(&world).unwrap();
        // One, and another: what was under way on them is sent by the two that are left, long before anybody
        // knows that they are gone.
        if done < 2 && sent > 8 << 20 && (done == 0 || counts.repeated > 0) {
            assert_eq!((counts.lost, counts.open), (0, 4));
            stopped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            after.store(sent, std::sync::atomic::Ordering::Relaxed);
            between.still(usize::try_from(done).unwrap());
        }
        done < 2 || sent < after.load(std::sync::atomic::Ordering::Relaxed) + (64 << 20)
    })
    .await;
}

#[tokio::test]
async fn all_lanes_die_and_the_stream_goes_on() {
    let (world, mut stream, between) = world(3).await;
    ping(&mut stream).await.unwrap();
    wait_for("three lanes", SOON, || open(&world) == 3).await;
    for round in 1..4 {
        for one in between.open() {
            one.task.abort();
        }
        let lost = || counts(&world).is_some_and(|counts| counts.lost >= 3 * round);
        wait_for("they are gone", SOON, lost).await;
        ping(&mut stream).await.unwrap();
        wait_for("three lanes again", SOON, || open(&world) == 3).await;
    }
    echoed(stream, 1 << 20).await;
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (world, stream, _between) = world(2).await;
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(b"all of it").await.unwrap();
    writer.shutdown().await.unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"all of it");
    wait_for("it is over", SOON, || world.proxy.registry().is_empty()).await;
}
