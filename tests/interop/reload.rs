//! What a changed file does to a running process.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
};

use nix::sys::signal::Signal;
use sekisho_testkit::Site;

use crate::support::{
    Node, Pair, Upstream, World, pair, ports,
    wait::{PATIENCE, until},
};

/// Changes a node's file by replacing it, as an editor does.
fn edit(world: &World, name: &str, change: impl FnOnce(&str) -> String) {
    let text = change(&fs::read_to_string(world.file(name)).unwrap());
    world.write(&format!("{name}.new"), &text);
    fs::rename(world.file(&format!("{name}.new")), world.file(name)).unwrap();
}

fn reloads(node: &Node, result: &str) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&node.get("/status").1).unwrap();
    status["reloads"][result].as_u64().unwrap()
}

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"ping")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back)
}

#[test]
fn a_reload_that_names_another_bundle_cuts_whom_it_does_not_trust() {
    let world = World::new();
    let upstream = Upstream::echo();
    let pair = Pair::start(&world, upstream.address);
    let mut stream = TcpStream::connect(pair.address).unwrap();
    exchange(&mut stream).unwrap();
    world.write("other.pem", &Site::new("a.example").ca().pem());
    edit(&world, "b.example.yaml", |text| {
        text.replace("a.example: a.example.pem", "a.example: other.pem")
    });
    until("the cut", || exchange(&mut stream).err());
    let line = pair.receiving.access();
    assert_eq!(line["reason"], "bundle_changed", "{line:#}");
}

#[test]
fn a_wrong_file_changes_nothing_and_says_where_it_is_wrong() {
    let world = World::new();
    let upstream = Upstream::echo();
    let pair = Pair::start(&world, upstream.address);
    let mut stream = TcpStream::connect(pair.address).unwrap();
    exchange(&mut stream).unwrap();
    edit(&world, "b.example.yaml", |text| {
        text.replace("accept:", "acept:")
    });
    until("a refused reload", || {
        (reloads(&pair.receiving, "refused") > 0).then_some(())
    });
    let status = pair.receiving.get("/status").1;
    assert!(status.contains("acept"), "{status}");
    assert!(status.contains("b.example.yaml:"), "{status}");
    exchange(&mut stream).unwrap();
    exchange(&mut TcpStream::connect(pair.address).unwrap()).unwrap();
    edit(&world, "b.example.yaml", |text| {
        text.replace("acept:", "accept:")
    });
    until("the complaint to go", || {
        let status: serde_json::Value =
            serde_json::from_str(&pair.receiving.get("/status").1).unwrap();
        status["reloads"]["problem"].is_null().then_some(())
    });
    exchange(&mut stream).unwrap();
}

#[test]
fn a_sighup_with_a_policy_that_does_not_parse_keeps_the_old_one() {
    let world = World::new();
    let upstream = Upstream::echo();
    world.write(
        "policy/p.rego",
        "package sekisho.authz\ndefault allow := true\n",
    );
    let gate = ports::free();
    let endpoints = format!(
        "{}    policy: policy/\n",
        pair::receiving(&world, gate, upstream.address)
    );
    let receiving = Node::start(&world, "b.example", &endpoints);
    let address = ports::free();
    let _sending = Node::start(&world, "a.example", &pair::sending(&world, address, gate));
    let mut stream = TcpStream::connect(address).unwrap();
    exchange(&mut stream).unwrap();
    world.write(
        "policy/p.rego",
        "package sekisho.authz\ndefault allow := \n",
    );
    receiving.process.signal(Signal::SIGHUP);
    receiving.process.wait_for("reload refused");
    let said = receiving.process.said();
    assert!(said.contains("p.rego:"), "{said}");
    exchange(&mut stream).unwrap();
    exchange(&mut TcpStream::connect(address).unwrap()).unwrap();
}

#[test]
fn a_socket_that_loses_its_list_of_users_closes_to_them() {
    let world = World::new();
    let upstream = Upstream::echo();
    let gate = ports::free();
    let _receiving = Node::start(
        &world,
        "b.example",
        &pair::receiving(&world, gate, upstream.address),
    );
    let socket = world.name("app.sock");
    let sending = |local: &str| {
        format!(
            "  out:\n    listen: unix://{socket}\n{local}    forward: mtls://{gate}\n    identity: {}\n    \
             expect: [spiffe://b.example/back]\n",
            world.identity(&world.a, "front")
        )
    };
    let local = "    local: [user:root]\n";
    let node = Node::start(&world, "a.example", &sending(local));
    let mode = || fs::metadata(world.file("app.sock")).unwrap().mode() & 0o777;
    assert_eq!(mode(), 0o666);
    edit(&world, "a.example.yaml", |text| text.replace(local, ""));
    until("the reload", || {
        (reloads(&node, "applied") > 0).then_some(())
    });
    assert_eq!(mode(), 0o660);
}

#[test]
fn a_second_node_on_the_same_embedded_ca_waits_until_the_first_is_gone() {
    let world = World::new();
    let endpoint = |name: &str| {
        format!(
            "  {name}:\n    listen: mtls://{}\n    forward: tcp://127.0.0.1:9\n    as: /{name}\n    \
             identity: {{embedded: {{data: ca}}}}\n    bundles: {{a.example: a.example.pem}}\n    \
             accept: [spiffe://a.example/front]\n",
            ports::free()
        )
    };
    let first = Node::start(&world, "b.example", &endpoint("one"));
    let other = World::new();
    let text = endpoint("two").replace("data: ca", &format!("data: {}", world.name("ca")));
    let second = Node::start_unready(
        &other,
        "b.example",
        &text.replace(
            "a.example: a.example.pem",
            &format!("a.example: {}", world.name("a.example.pem")),
        ),
    );
    second.process.wait_for("in use by another process");
    assert_eq!(second.get("/ready").0, 503);
    drop(first);
    second.wait_ready();
}
