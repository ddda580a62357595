//! Endpoints without TLS on either side: bulk goes through a pipe of the kernel.

use sekisho_proxy::endpoint::spec::{EndpointSpec, Listen, LocalClients};
use sekisho_testkit::{ports, wait::wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    harness::{SOON, World, end, ping},
    layer::{echoed, read_late},
};

/// An endpoint from plain TCP to the echo, and a connection to it.
async fn plain(world: &World) -> TcpStream {
    let listen = ports::free();
    let spec = EndpointSpec {
        listen: Listen::Tcp {
            address: listen,
            local: LocalClients::Anyone,
            from: Vec::new(),
        },
        own_id: None,
        ..world.receiving("plain")
    };
    world
        .proxy
        .apply(&crate::harness::desired(&[spec], None), true)
        .unwrap();
    TcpStream::connect(listen).await.unwrap()
}

/// Bytes of the one connection there is, both directions: all, and those that stayed in the kernel.
fn moved(world: &World) -> (u64, u64) {
    let all = world.proxy.registry().snapshot();
    let [one] = all.as_slice() else {
        panic!("{} connections", all.len());
    };
    let counters = &one.counters;
    (
        counters.to_upstream() + counters.to_client(),
        counters.spliced(),
    )
}

#[tokio::test]
async fn a_little_is_copied_and_bulk_stays_in_the_kernel() {
    let world = World::new().await;
    let mut stream = plain(&world).await;
    for _ in 0..10 {
        ping(&mut stream).await.unwrap();
    }
    // Counted when it is written, which may be after it has come.
    wait_for("all is counted", SOON, || moved(&world) == (80, 0)).await;
    let live = world.proxy.registry().snapshot();
    echoed(stream, 64 << 20).await;
    world.until("allowed", "", 1).await;
    let spliced = live[0].counters.spliced();
    assert!(spliced >= 32 << 20, "{spliced} bytes of 128 MiB");
    wait_for("nothing is kept", SOON, || world.proxy.memory().held() == 0).await;
}

#[tokio::test]
async fn a_receiver_that_does_not_read_costs_a_bounded_amount_of_memory() {
    let world = World::new().await;
    let mut stream = plain(&world).await;
    ping(&mut stream).await.unwrap();
    let live = world.proxy.registry().snapshot();
    read_late(&world, stream).await;
    assert!(live[0].counters.spliced() > 0);
}

#[tokio::test]
async fn urgent_data_stops_nothing_and_loses_nothing_else() {
    const BULK: usize = 16 << 20;
    const REST: usize = 5000;
    let world = World::new().await;
    let stream = plain(&world).await;
    let (mut reader, mut writer) = stream.into_split();
    let sent = async {
        writer.write_all(&vec![7; BULK]).await.unwrap();
        // Between pieces of bulk, when splice(2) is in use.
        wait_for("bulk is spliced", SOON, || moved(&world).1 > 0).await;
        let socket = socket2::SockRef::from(writer.as_ref());
        assert_eq!(socket.send_out_of_band(b"!").unwrap(), 1);
        writer.write_all(&[8; REST]).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let both = async { tokio::join!(sent, reader.read_to_end(&mut back)) };
    let ((), read) = tokio::time::timeout(SOON, both).await.expect("an end");
    assert_eq!(read.unwrap(), BULK + REST);
    assert!(back[..BULK].iter().all(|byte| *byte == 7));
    assert_eq!(back[BULK..], [8; REST]);
}

#[tokio::test]
async fn a_stream_that_is_cut_while_bytes_are_in_a_pipe_gives_the_memory_back() {
    let world = World::new().await;
    let mut stream = plain(&world).await;
    let (_reader, mut writer) = stream.split();
    let memory = || world.proxy.memory().held();
    let send = async { while writer.write_all(&[7; 65_536]).await.is_ok() {} };
    tokio::select! {
        () = send => panic!("nobody reads, so it cannot end"),
        () = wait_for("something is in a pipe", SOON, || memory() > 0 && moved(&world).1 > 0) => {}
    }
    world.proxy.apply(&[], true).unwrap();
    wait_for("the connection is gone", SOON, || {
        world.proxy.registry().is_empty()
    })
    .await;
    assert_eq!(memory(), 0);
    assert!(
        end(&mut stream).await.is_err(),
        "a cut stream is no whole one"
    );
}
