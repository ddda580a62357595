//! SIGTERM: what runs may end, nothing new begins.

use std::{
    io::{self, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};

use nix::sys::signal::Signal;

use crate::support::{Pair, Upstream, World, transfer};

const HALF: usize = 8 * 1024 * 1024;

/// A service that sends one half, says so, waits, and sends the other.
fn in_two_halves() -> (Upstream, Receiver<()>, Sender<()>) {
    let (half_sent, on_half) = channel();
    let (go_on, wait) = channel();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |mut stream| {
        transfer::send(&mut stream, HALF)?;
        half_sent.send(()).unwrap();
        wait.lock().unwrap().recv().map_err(io::Error::other)?;
        transfer::send(&mut stream, HALF)?;
        stream.shutdown(Shutdown::Write)
    });
    (upstream, on_half, go_on)
}

#[test]
fn a_node_told_to_end_lets_a_transfer_finish_and_takes_no_new_connections() {
    let world = World::new();
    let (upstream, on_half, go_on) = in_two_halves();
    let mut pair = Pair::start(&world, upstream.address);
    let mut stream = TcpStream::connect(pair.address).unwrap();
    transfer::receive(&mut stream, HALF).unwrap();
    on_half.recv().unwrap();

    pair.receiving.process.signal(Signal::SIGTERM);
    pair.receiving.process.wait_for("\"draining\"");
    let (status, text) = pair.receiving.get("/ready");
    assert_eq!(status, 503);
    assert!(text.starts_with("draining"), "{text}");
    // Whoever is still let into the queue of the socket is not served.
    crate::support::wait::until("a socket that is closed", || {
        let error = TcpStream::connect(pair.gate).err()?;
        (error.kind() == io::ErrorKind::ConnectionRefused).then_some(())
    });
    let _refused = TcpStream::connect(pair.address).unwrap();
    pair.sending.refused("upstream_unreachable");

    go_on.send(()).unwrap();
    transfer::receive(&mut stream, HALF).unwrap();
    stream.write_all(b"thanks").unwrap();
    drop(stream);
    let (status, said) = pair.receiving.process.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    // The attempts to connect may stand before it.
    let line = std::iter::repeat_with(|| pair.receiving.access())
        .find(|line| line["connection"] == 1)
        .unwrap();
    assert_eq!(line["end"], "closed", "{line:#}");
    assert_eq!(line["bytes_to_client"], 2 * HALF);
    assert_eq!(upstream.accepted(), 1);
}
