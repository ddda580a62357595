//! PROXY protocol: what we tell, and whom we listen to.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::{Arc, mpsc},
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName, version::TLS13};
use sekisho_testkit::danger;
use socket2::{Domain, Socket, Type};

use crate::support::{Node, Pair, Upstream, World, pair, ports};

/// A client of a.example, `/front`, at an open TCP connection.
fn tls(world: &World, stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let config = danger::client_config(Some(&world.a.svid("/front")), &[&TLS13]);
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, stream)
}

/// A connection to `to` from an address of this host.
fn connect_from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

// ---- out

/// What a v2 header says (haproxy.org, proxy-protocol.txt §2.2).
#[derive(Debug, PartialEq)]
struct Header {
    source: SocketAddr,
    destination: SocketAddr,
    tlvs: Vec<(u8, Vec<u8>)>,
}

fn read_header(stream: &mut TcpStream) -> io::Result<Header> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    assert_eq!(head[..12], *b"\r\n\r\n\0\r\nQUIT\n", "the signature");
    assert_eq!(head[12], 0x21, "version 2, PROXY");
    assert_eq!(head[13], 0x11, "TCP over IPv4");
    let length = u16::from_be_bytes([head[14], head[15]]);
    let mut rest = vec![0; length.into()];
    stream.read_exact(&mut rest)?;
    let (addresses, mut tail) = rest.split_at(12);
    let address = |ip: usize, port: usize| {
        let ip: [u8; 4] = addresses[ip..ip + 4].try_into().unwrap();
        let port = u16::from_be_bytes([addresses[port], addresses[port + 1]]);
        SocketAddr::from((ip, port))
    };
    let (source, destination) = (address(0, 8), address(4, 10));
    let mut tlvs = Vec::new();
    while let [kind, high, low, more @ ..] = tail {
        let (value, next) = more.split_at(u16::from_be_bytes([*high, *low]).into());
        tlvs.push((*kind, value.to_vec()));
        tail = next;
    }
    assert!(tail.is_empty(), "the TLVs fill the header");
    Ok(Header {
        source,
        destination,
        tlvs,
    })
}

#[test]
fn the_service_is_told_addresses_and_spiffe_id_of_the_peer() {
    let world = World::new();
    let (send, headers) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        send.send(read_header(&mut stream)?).unwrap();
        io::copy(&mut &stream, &mut &stream)?;
        stream.shutdown(std::net::Shutdown::Write)
    });
    let listen = ports::free();
    let endpoints =
        pair::receiving(&world, listen, upstream.address) + "    proxy_protocol: {out: true}\n";
    let node = Node::start(&world, "b.example", &endpoints);
    let stream = TcpStream::connect(listen).unwrap();
    let source = stream.local_addr().unwrap();
    let mut stream = tls(&world, stream);
    // Nothing of the header may reach the client, nothing of the client the header.
    stream.write_all(b"hello").unwrap();
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");
    let expected = Header {
        source,
        destination: listen,
        tlvs: vec![(0xd0, b"spiffe://a.example/front".to_vec())],
    };
    assert_eq!(headers.recv().unwrap(), expected);
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    node.closed();
}

// ---- in

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.9 1234 443\r\n";

fn v2(tlvs: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    let length = u16::try_from(12 + tlvs.len()).unwrap();
    header.extend(length.to_be_bytes());
    header.extend([192, 0, 2, 7, 198, 51, 100, 9]);
    header.extend([1234_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat());
    header.extend(tlvs);
    header
}

/// Lets a connection in if, and only if, somebody we believe claims that it comes from
/// 192.0.2.7:1234.
const POLICY: &str = "package sekisho.authz

import rego.v1

default allow := false

allow if input.sekisho.claimed.source == \"192.0.2.7:1234\"
";

const BELIEVING: &str =
    "    proxy_protocol: {in: true, from: [127.0.0.2/32]}\n    policy: policy/\n";

/// A node that believes 127.0.0.2 and nobody else.
fn believing(world: &World, upstream: &Upstream, policy: &str) -> (Node, SocketAddr) {
    world.write("policy/authz.rego", policy);
    pair::gate(world, upstream, BELIEVING)
}

const LISTED: [u8; 4] = [127, 0, 0, 2];
const UNLISTED: [u8; 4] = [127, 0, 0, 1];

/// A connection that begins with `header`; it goes on with TLS and wants an echo.
fn come(world: &World, from: [u8; 4], to: SocketAddr, header: &[u8]) -> io::Result<()> {
    let mut stream = connect_from(from, to);
    stream.write_all(header)?;
    let mut stream = tls(world, stream);
    stream.write_all(b"hello")?;
    let mut echo = [0; 5];
    stream.read_exact(&mut echo)?;
    assert_eq!(&echo, b"hello");
    stream.conn.send_close_notify();
    stream.flush()
}

#[test]
fn a_header_from_a_listed_source_reaches_the_policy_as_a_claim() {
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = believing(&world, &upstream, POLICY);
    for header in [V1.to_vec(), v2(&[])] {
        come(&world, LISTED, listen, &header).unwrap();
        let line = node.closed();
        // What is claimed is not what the kernel says.
        assert!(line["source"].as_str().unwrap().starts_with("127.0.0.2:"));
    }
    assert_eq!(upstream.accepted(), 2);
    let other = b"PROXY TCP4 192.0.2.8 198.51.100.9 1234 443\r\n";
    come(&world, LISTED, listen, other).unwrap_err();
    node.refused("policy_denied");
    assert_eq!(upstream.accepted(), 2);
}

#[test]
fn a_listed_ipv4_source_is_known_where_ipv6_listens_for_both() {
    let world = World::new();
    let upstream = Upstream::echo();
    let port = ports::free().port();
    world.write("policy/authz.rego", POLICY);
    let listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let endpoints = pair::receiving(&world, listen, upstream.address) + BELIEVING;
    let node = Node::start(&world, "b.example", &endpoints);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    come(&world, LISTED, to, V1).unwrap();
    node.closed();
}

#[test]
fn a_spiffe_id_in_a_listed_header_is_a_claim_and_not_the_peer() {
    let world = World::new();
    let upstream = Upstream::echo();
    let policy = POLICY.replace(
        "input.sekisho.claimed.source == \"192.0.2.7:1234\"",
        "{
    input.sekisho.claimed.identity == \"spiffe://c.example/app\"
    input.sekisho.client.spiffe_id == \"spiffe://a.example/front\"
}",
    );
    let (node, listen) = believing(&world, &upstream, &policy);
    let id = b"spiffe://c.example/app";
    let tlv = [&[0xd0, 0, u8::try_from(id.len()).unwrap()], &id[..]].concat();
    come(&world, LISTED, listen, &v2(&tlv)).unwrap();
    assert_eq!(node.closed()["client_id"], "spiffe://a.example/front");
}

#[test]
fn a_header_from_a_source_that_is_not_listed_is_not_read() {
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = believing(&world, &upstream, POLICY);
    for header in [V1.to_vec(), v2(&[])] {
        come(&world, UNLISTED, listen, &header).unwrap_err();
        node.refused("not_tls");
    }
    // Nor is one required of it: it gets as far as the policy, without a claim.
    come(&world, UNLISTED, listen, b"").unwrap_err();
    node.refused("policy_denied");
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn a_listed_source_without_a_header_is_refused() {
    let world = World::new();
    let upstream = Upstream::echo();
    let (node, listen) = believing(&world, &upstream, POLICY);
    come(&world, LISTED, listen, b"").unwrap_err();
    node.refused("proxy_protocol");
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn without_the_setting_the_service_gets_the_bytes_alone() {
    let world = World::new();
    let (send, first) = mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes)?;
        send.send(bytes).unwrap();
        Ok(())
    });
    let pair = Pair::start(&world, upstream.address);
    let mut stream = TcpStream::connect(pair.address).unwrap();
    stream.write_all(b"hello").unwrap();
    assert_eq!(&first.recv().unwrap(), b"hello");
}
