//! Server and client over loopback, each mode, in tiny sizes. Nothing timed is asserted.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use sekisho_bench::{
    connections::Connections,
    idle::Idle,
    requests::Requests,
    server::Server,
    throughput::{Direction, Throughput},
};

const SHORT: Duration = Duration::from_millis(50);

fn server() -> Server {
    Server::start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

fn bytes(server: &Server, direction: Direction) -> Throughput {
    Throughput {
        direction,
        streams: 3,
        // Across the end of the pattern.
        bytes: Some(2_500_001),
        verify: true,
        ..Throughput::new(server.address())
    }
}

#[test]
fn streams_arrive_whole_in_every_direction() {
    let server = server();
    for (direction, forward, reverse) in [
        (Direction::Forward, Some(7_500_003), None),
        (Direction::Reverse, None, Some(7_500_003)),
        (Direction::Both, Some(7_500_003), Some(7_500_003)),
    ] {
        let outcome = bytes(&server, direction).run(|_| {}).unwrap();
        assert_eq!(outcome.streams.len(), 3);
        assert_eq!(outcome.forward().map(|way| way.bytes), forward);
        assert_eq!(outcome.reverse().map(|way| way.bytes), reverse);
    }
    assert_eq!(server.accepted(), 9);
}

#[test]
fn streams_end_by_time_and_intervals_add_up() {
    let server = server();
    for direction in [Direction::Forward, Direction::Reverse, Direction::Both] {
        let plan = Throughput {
            direction,
            time: SHORT,
            interval: SHORT / 5,
            rate: Some(80_000_000),
            block: 1000,
            ..Throughput::new(server.address())
        };
        let mut told = 0;
        let outcome = plan.run(|_| told += 1).unwrap();
        assert_eq!(told, outcome.intervals.len());
        let sums = outcome.intervals.iter().map(|interval| interval.sum());
        let (sent, received) = sums.fold((0, 0), |(sent, received), span| {
            (sent + span.sent, received + span.received)
        });
        assert_eq!(sent, outcome.forward().map_or(0, |way| way.bytes));
        assert_eq!(received, outcome.reverse().map_or(0, |way| way.bytes));
    }
}

/// A proxy that lets `good` bytes pass from the client and changes the next.
fn damaging(server: SocketAddr, good: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut upstream = TcpStream::connect(server).unwrap();
        let mut back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut back.0, &mut back.1));
        let mut data = Vec::new();
        client.read_to_end(&mut data).unwrap();
        data[good] ^= 1;
        upstream.write_all(&data).unwrap();
        upstream.shutdown(std::net::Shutdown::Write).unwrap();
    });
    address
}

#[test]
fn a_changed_byte_is_found() {
    let server = server();
    let header = sekisho_bench::header::LENGTH;
    let plan = Throughput {
        address: damaging(server.address(), header + 1234),
        bytes: Some(100_000),
        verify: true,
        ..Throughput::new(server.address())
    };
    let error = plan.run(|_| {}).unwrap_err();
    assert_eq!(error.to_string(), "byte 1234 is not the one that was sent");
}

#[test]
fn requests_are_answered() {
    let server = server();
    for (request, response) in [(100, 200), (1, 1), (300_000, 1_000_000)] {
        let plan = Requests {
            connections: 5,
            time: SHORT,
            request,
            response,
            ..Requests::new(server.address())
        };
        let outcome = plan.run().unwrap();
        assert!(outcome.latency.count() >= 5);
    }
    assert_eq!(server.accepted(), 15);
}

#[test]
fn connections_are_opened_and_closed() {
    let server = server();
    let plan = Connections {
        concurrency: 3,
        time: SHORT,
        ..Connections::new(server.address())
    };
    let outcome = plan.run().unwrap();
    assert_eq!(outcome.failed, 0);
    assert_eq!(outcome.latency.count(), server.accepted());
}

#[test]
fn connections_without_a_server_are_an_error() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let plan = Connections {
        time: SHORT,
        ..Connections::new(address)
    };
    assert!(plan.run().is_err());
}

#[test]
fn idle_connections_answer_afterwards() {
    let server = server();
    for carry in [0, 1 << 20] {
        let plan = Idle {
            connections: 21,
            concurrency: 4,
            carry,
            hold: Duration::ZERO,
            processes: vec![std::process::id()],
            ..Idle::new(server.address())
        };
        let outcome = plan.run().unwrap();
        assert_eq!((outcome.opened, outcome.answered), (21, 21));
        assert_eq!(outcome.processes.len(), 1);
    }
}

#[test]
fn what_is_no_client_is_hung_up_on() {
    let server = server();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&[b'x'; 64]).unwrap();
    let mut answer = Vec::new();
    // A reset where bytes were left unread is as good.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty());
}
