//! Two nodes: plain TCP in at a.example, mTLS between them, plain TCP out at b.example.

use std::net::SocketAddr;

use super::{Node, Upstream, World, ports};

/// The two nodes and where an application connects.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) sending: Node,
    pub(crate) receiving: Node,
    /// Plain side of the sending node.
    pub(crate) address: SocketAddr,
    /// mTLS side of the receiving node.
    pub(crate) gate: SocketAddr,
}

impl Pair {
    /// A pair in front of `upstream`.
    pub(crate) fn start(world: &World, upstream: SocketAddr) -> Self {
        let (address, gate) = (ports::free(), ports::free());
        let receiving = Node::start(world, "b.example", &receiving(world, gate, upstream));
        let sending = Node::start(world, "a.example", &sending(world, address, gate));
        Self {
            sending,
            receiving,
            address,
            gate,
        }
    }
}

/// A receiving node in front of `upstream`, with more keys of its endpoint; and where its mTLS side
/// is.
pub(crate) fn gate(world: &World, upstream: &Upstream, more: &str) -> (Node, SocketAddr) {
    let listen = ports::free();
    let endpoints = receiving(world, listen, upstream.address) + more;
    (Node::start(world, "b.example", &endpoints), listen)
}

/// The endpoint of b.example, `/back`, which lets `/front` of a.example in.
pub(crate) fn receiving(world: &World, listen: SocketAddr, forward: SocketAddr) -> String {
    format!(
        "  in:
    listen: mtls://{listen}
    forward: tcp://{forward}
    identity: {}
    accept: [spiffe://a.example/front]
",
        world.identity(&world.b, "back")
    )
}

/// The endpoint of a.example, `/front`, for which `/back` of b.example must answer.
pub(crate) fn sending(world: &World, listen: SocketAddr, forward: SocketAddr) -> String {
    format!(
        "  out:
    listen: tcp://{listen}
    forward: mtls://{forward}
    identity: {}
    expect: [spiffe://b.example/back]
",
        world.identity(&world.a, "front")
    )
}
