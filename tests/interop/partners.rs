//! Other programs' mTLS at the other end: Envoy, Go's TLS with go-spiffe, and Java's.

mod envoy;
mod go_spiffe;
mod java;

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
};

use sekisho_testkit::Site;

use crate::support::{Node, Process, Upstream, World, pair, ports, transfer, world::identity};

/// A program with an mTLS side and a plain side.
type Partner = fn(&Role<'_>) -> Option<Gate>;

/// What such a program is to do.
pub(crate) struct Role<'a> {
    world: &'a World,
    side: Side,
    /// Our file names: `<own>.pem`, `<own>.key`.
    own: &'a str,
    /// Who must be at the other end.
    peer: (&'a Site, &'a str),
    forward: SocketAddr,
    versions: Versions,
    habit: Habit,
}

/// What the program does besides, where it can be told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Usual,
    /// Writes to TLS in pieces of random sizes.
    Pieces,
    /// Renews the keys of both directions (KeyUpdate) after each mebibyte.
    Renewal,
}

/// Which side is mTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Plain in, mTLS out.
    Dial,
    /// mTLS in, plain out.
    Serve,
}

/// What the program is told of TLS versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Nothing.
    Default,
    /// To speak TLS 1.3.
    Tls13,
}

/// It runs.
pub(crate) struct Gate {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl<'a> Role<'a> {
    /// Comes to sekisho as `/<own>` of a.example, and wants `/<peer>` of b.example there.
    pub(crate) fn dial(
        world: &'a World,
        own: &'a str,
        peer: &'a str,
        forward: SocketAddr,
        versions: Versions,
    ) -> Self {
        world.issue(&world.a, own);
        Self {
            world,
            side: Side::Dial,
            own,
            peer: (&world.b, peer),
            forward,
            versions,
            habit: Habit::Usual,
        }
    }

    /// Answers as `/<own>` of a.example, to `/<peer>` of b.example only.
    fn serve(world: &'a World, own: &'a str, peer: &'a str, forward: SocketAddr) -> Self {
        world.issue(&world.a, own);
        Self {
            world,
            side: Side::Serve,
            own,
            peer: (&world.b, peer),
            forward,
            versions: Versions::Default,
            habit: Habit::Usual,
        }
    }

    fn peer_id(&self) -> String {
        let (site, name) = self.peer;
        site.id(&format!("/{name}")).to_string()
    }
}

/// Starts Envoy.
pub(crate) fn envoy(role: &Role<'_>) -> Option<Gate> {
    envoy::start(role)
}

/// A sending node of b.example, `/out`, that expects `/server` of a.example at `forward`.
fn sending(world: &World, forward: SocketAddr) -> (Node, SocketAddr) {
    let listen = ports::free();
    world.issue(&world.b, "out");
    let endpoints = format!(
        "  out:
    listen: tcp://{listen}
    forward: mtls://{forward}
    identity: {}
    expect: [spiffe://a.example/server]
",
        identity("out")
    );
    (Node::start(world, "b.example", &endpoints), listen)
}

fn carries_to_sekisho(partner: Partner) {
    carries_to(partner, Habit::Usual, transfer::large());
}

fn carries_to(partner: Partner, habit: Habit, bytes: usize) {
    let world = World::new();
    let upstream = transfer::server();
    let (node, listen) = pair::gate(&world, &upstream, "");
    let mut role = Role::dial(&world, "front", "back", listen, Versions::Tls13);
    role.habit = habit;
    let Some(gate) = partner(&role) else { return };
    let mut stream = TcpStream::connect(gate.address).unwrap();
    transfer::carry(&mut stream, bytes).unwrap();
    drop(stream);
    let line = node.closed();
    assert_eq!(line["client_id"], "spiffe://a.example/front");
    assert_eq!(line["own_id"], "spiffe://b.example/back");
    assert_eq!(line["tls_version"], "TLSv1.3");
    assert_eq!(line["bytes_to_upstream"], bytes + transfer::BESIDE);
    assert_eq!(line["bytes_to_client"], bytes + 64);
    assert_eq!(upstream.accepted(), 1);
}

fn carries_from_sekisho(partner: Partner) {
    carries_from(partner, Habit::Usual, transfer::large());
}

fn carries_from(partner: Partner, habit: Habit, bytes: usize) {
    let world = World::new();
    let upstream = transfer::server();
    let mut role = Role::serve(&world, "server", "out", upstream.address);
    role.habit = habit;
    let Some(gate) = partner(&role) else { return };
    let (node, listen) = sending(&world, gate.address);
    let mut stream = TcpStream::connect(listen).unwrap();
    transfer::carry(&mut stream, bytes).unwrap();
    drop(stream);
    let line = node.closed();
    assert_eq!(line["upstream_id"], "spiffe://a.example/server");
    assert_eq!(line["own_id"], "spiffe://b.example/out");
    assert_eq!(line["tls_version"], "TLSv1.3");
    assert_eq!(upstream.accepted(), 1);
}

/// Somebody with a valid SVID that is not on our list comes.
fn sekisho_refuses_the_client(partner: Partner) {
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = pair::gate(&world, &upstream, "");
    let role = Role::dial(&world, "stranger", "back", listen, Versions::Tls13);
    let Some(gate) = partner(&role) else { return };
    let _stream = TcpStream::connect(gate.address).unwrap();
    let line = node.refused("not_accepted");
    assert_eq!(line["client_id"], "spiffe://a.example/stranger");
    assert_eq!(upstream.accepted(), 0);
}

/// Somebody comes who wants another than us.
fn client_refuses_sekisho(partner: Partner) {
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = pair::gate(&world, &upstream, "");
    let role = Role::dial(&world, "front", "other", listen, Versions::Tls13);
    let Some(gate) = partner(&role) else { return };
    let _stream = TcpStream::connect(gate.address).unwrap();
    node.refused("refused_by_peer");
    assert_eq!(upstream.accepted(), 0);
}

/// Somebody with a valid SVID that is not on our list answers.
fn sekisho_refuses_the_server(partner: Partner) {
    let world = World::new();
    let upstream = Upstream::echo();
    let role = Role::serve(&world, "impostor", "out", upstream.address);
    let Some(gate) = partner(&role) else { return };
    let (node, listen) = sending(&world, gate.address);
    let _stream = TcpStream::connect(listen).unwrap();
    let line = node.refused("not_expected");
    assert_eq!(line["claimed_id"], "spiffe://a.example/impostor");
    assert_eq!(upstream.accepted(), 0);
}

/// Somebody answers who does not want us.
fn server_refuses_sekisho(partner: Partner) {
    let world = World::new();
    let upstream = Upstream::echo();
    let role = Role::serve(&world, "server", "another", upstream.address);
    let Some(gate) = partner(&role) else { return };
    let (node, listen) = sending(&world, gate.address);
    let _stream = TcpStream::connect(listen).unwrap();
    node.refused("refused_by_peer");
    assert_eq!(upstream.accepted(), 0);
}

/// An application that sends at once does not hide why it was refused.
fn server_refuses_sekisho_in_the_midst_of_data(partner: Partner) {
    let world = World::new();
    let upstream = Upstream::echo();
    let role = Role::serve(&world, "server", "another", upstream.address);
    let Some(gate) = partner(&role) else { return };
    let (node, listen) = sending(&world, gate.address);
    for bytes in [100, 64 * 1024 * 1024] {
        let mut stream = TcpStream::connect(listen).unwrap();
        // It breaks off somewhere.
        let _ = transfer::send(&mut stream, bytes);
        node.refused("refused_by_peer");
    }
    assert_eq!(upstream.accepted(), 0);
}

/// The end of one direction, through all four proxied sides, leaves the other open.
fn keeps_half_closes(partner: Partner) {
    let world = World::new();
    let upstream = Upstream::start(|mut stream| {
        let count = io::copy(&mut stream, &mut io::sink())?;
        stream.write_all(&count.to_be_bytes())?;
        stream.shutdown(Shutdown::Write)
    });
    let ask = |address: SocketAddr| {
        let mut stream = TcpStream::connect(address).unwrap();
        transfer::send(&mut stream, 3_000_000).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, 3_000_000_u64.to_be_bytes());
    };
    let (node, listen) = pair::gate(&world, &upstream, "");
    let role = Role::dial(&world, "front", "back", listen, Versions::Tls13);
    let Some(gate) = partner(&role) else { return };
    ask(gate.address);
    node.closed();
    drop(node);

    let role = Role::serve(&world, "server", "out", upstream.address);
    let Some(gate) = partner(&role) else { return };
    let (node, listen) = sending(&world, gate.address);
    ask(listen);
    node.closed();
}

mod with_envoy {
    use super::envoy::start as envoy;

    #[test]
    fn envoy_that_refuses_sekisho_in_the_midst_of_data_is_known_to_have_refused() {
        super::server_refuses_sekisho_in_the_midst_of_data(envoy);
    }

    #[test]
    fn envoy_and_sekisho_keep_half_closes() {
        super::keeps_half_closes(envoy);
    }

    #[test]
    fn envoy_carries_data_intact_to_sekisho() {
        super::carries_to_sekisho(envoy);
    }

    #[test]
    fn sekisho_carries_data_intact_to_envoy() {
        super::carries_from_sekisho(envoy);
    }

    #[test]
    fn sekisho_refuses_envoy_as_a_client_that_is_not_accepted() {
        super::sekisho_refuses_the_client(envoy);
    }

    #[test]
    fn envoy_refuses_sekisho_as_a_server_it_does_not_expect() {
        super::client_refuses_sekisho(envoy);
    }

    #[test]
    fn sekisho_refuses_envoy_as_a_server_that_is_not_expected() {
        super::sekisho_refuses_the_server(envoy);
    }

    #[test]
    fn envoy_refuses_sekisho_as_a_client_it_does_not_accept() {
        super::server_refuses_sekisho(envoy);
    }
}

mod with_go_spiffe {
    use super::{Habit, go_spiffe::start as go_spiffe};

    /// Many records of every size.
    const BYTES: usize = 256 * 1024 * 1024;

    #[test]
    fn go_spiffe_that_writes_in_random_pieces_carries_data_intact_to_sekisho() {
        super::carries_to(go_spiffe, Habit::Pieces, BYTES);
    }

    #[test]
    fn sekisho_carries_data_intact_to_go_spiffe_that_writes_in_random_pieces() {
        super::carries_from(go_spiffe, Habit::Pieces, BYTES);
    }

    #[test]
    fn go_spiffe_that_refuses_sekisho_in_the_midst_of_data_is_known_to_have_refused() {
        super::server_refuses_sekisho_in_the_midst_of_data(go_spiffe);
    }

    #[test]
    fn go_spiffe_and_sekisho_keep_half_closes() {
        super::keeps_half_closes(go_spiffe);
    }

    #[test]
    fn go_spiffe_carries_data_intact_to_sekisho() {
        super::carries_to_sekisho(go_spiffe);
    }

    #[test]
    fn sekisho_carries_data_intact_to_go_spiffe() {
        super::carries_from_sekisho(go_spiffe);
    }

    #[test]
    fn sekisho_refuses_go_spiffe_as_a_client_that_is_not_accepted() {
        super::sekisho_refuses_the_client(go_spiffe);
    }

    #[test]
    fn go_spiffe_refuses_sekisho_as_a_server_it_does_not_expect() {
        super::client_refuses_sekisho(go_spiffe);
    }

    #[test]
    fn sekisho_refuses_go_spiffe_as_a_server_that_is_not_expected() {
        super::sekisho_refuses_the_server(go_spiffe);
    }

    #[test]
    fn go_spiffe_refuses_sekisho_as_a_client_it_does_not_accept() {
        super::server_refuses_sekisho(go_spiffe);
    }
}

mod with_java {
    /// A hundred and more renewals each way, and requests by the thousand.
    const RENEWED: usize = 128 << 20;

    use super::{Habit, java::start as java};

    #[test]
    fn java_and_sekisho_keep_half_closes() {
        super::keeps_half_closes(java);
    }

    #[test]
    fn java_carries_data_intact_to_sekisho() {
        super::carries_to_sekisho(java);
    }

    #[test]
    fn sekisho_carries_data_intact_to_java() {
        super::carries_from_sekisho(java);
    }

    // Java asks for new keys with every record that it receives beyond its limit, until they come:
    // as many times as records are under way.
    #[test]
    fn java_that_renews_its_keys_every_mebibyte_carries_data_intact_to_sekisho() {
        super::carries_to(java, Habit::Renewal, RENEWED);
    }

    #[test]
    fn sekisho_carries_data_intact_to_java_that_renews_its_keys_every_mebibyte() {
        super::carries_from(java, Habit::Renewal, RENEWED);
    }

    #[test]
    fn sekisho_refuses_java_as_a_client_that_is_not_accepted() {
        super::sekisho_refuses_the_client(java);
    }

    #[test]
    fn sekisho_refuses_java_as_a_server_that_is_not_expected() {
        super::sekisho_refuses_the_server(java);
    }
}
