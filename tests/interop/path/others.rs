//! iperf3's server, gates between, and what `sekisho check` says of a path.

use std::ffi::{OsStr, OsString};

use super::{SERVER, defaults, finds, found, names, number, says, server, set, short};
use crate::{
    support::{Node, World, node::SEKISHO, pair},
    wan::path::{Path, Tools, needs},
};

const FRONT: &str = "127.0.0.1:7201";
const GATE: &str = "10.99.0.2:8443";

#[test]
fn a_server_of_iperf3() {
    let Some(tools) = needs(&["iperf3"]) else {
        return;
    };
    let path = Path::start(&tools, "--rtt 30ms", &[]);
    defaults(&path);
    set(&path, 1, "tcp_rmem=4096 131072 262144");
    let server = path.server();
    let words = [SERVER, "-t", "5s", "-C", "cubic"];
    // It is found out, and does not mind. Nobody tells of its end.
    let others = ["slow_reader"];
    let guessed = finds("window_there", &others, || found(&path, 0, &words));
    assert_eq!(guessed["server"], "iperf3", "{}", short(&guessed));
    let told = [&words[..], &["--iperf3"]].concat();
    let told = finds("window_there", &others, || found(&path, 0, &told));
    says(&told, "there: sysctl -w net.ipv4.tcp_rmem");
    // iperf3 counted the same.
    assert!(number(&told, "/bytes") > 1e6);
    set(&path, 1, "tcp_rmem=4096 131072 6291456");
    set(&path, 0, "tcp_rmem=4096 131072 262144");
    let back = [&words[..], &["--iperf3", "--reverse"]].concat();
    finds("window_here", &[], || found(&path, 0, &back));
    assert!(server.said().contains("receiver"), "{}", server.said());
}

/// Two gates: one at each end, and our own stream through both.
fn gates(world: &World, path: &Path<'_>, tools: &Tools) -> [Node; 2] {
    let ip = tools.place("ip");
    let by = |host: usize| {
        ["netns", "exec", &path.names[host], SEKISHO]
            .map(OsString::from)
            .to_vec()
    };
    let start = |host: usize, site: &str, endpoints: &str| {
        let words = by(host);
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        let node = Node::start_by(
            world,
            site,
            endpoints,
            &[&[ip.as_os_str()], &words[..]].concat(),
        );
        node.wait_ready();
        node
    };
    let gate = GATE.parse().unwrap();
    let back = pair::receiving(world, gate, "127.0.0.1:5201".parse().unwrap());
    let front = pair::sending(world, FRONT.parse().unwrap(), gate)
        + "    socket: {forward: {congestion: cubic}}\n";
    [start(0, "a.example", &front), start(1, "b.example", &back)]
}

#[test]
fn between_two_gates() {
    let Some(tools) = needs(&[]) else { return };
    let options = "--rtt 20ms --rate 500M --loss 0.1% --one-way --seed 7";
    let path = Path::start(&tools, options, &[]);
    defaults(&path);
    let listen = ["--listen", "127.0.0.1:5201"];
    let server = path.start_at(1, &[&[SEKISHO, "bench", "server"], &listen[..]].concat());
    server.wait_for("listening at");
    let world = World::new();
    let nodes = gates(&world, &path, &tools);
    // The connection that crosses the path is the gate's, not ours.
    let found = names("loss", || found(&path, 0, &[FRONT, "-t", "5s"]));
    assert_eq!(found["between"]["is_proxy"], true, "{}", short(&found));
    let carriers = found["carriers"].as_array().unwrap();
    assert_eq!(carriers.len(), 1);
    assert_eq!(carriers[0]["remote"], GATE);
    assert!(number(&found, "/min_rtt_seconds") >= 0.02);
    drop(nodes);
}

#[test]
fn check_warns_of_what_is_far() {
    let Some(tools) = needs(&[]) else { return };
    for (trip, is_far) in [("100ms", true), ("4ms", false)] {
        let path = Path::start(&tools, &format!("--rtt {trip}"), &[]);
        defaults(&path);
        let _server = server(&path);
        let world = World::new();
        let endpoints = pair::sending(&world, FRONT.parse().unwrap(), SERVER.parse().unwrap());
        world.write(
            "far.yaml",
            &format!("site: a.example\nendpoints:\n{endpoints}"),
        );
        let said = path.run(0, &[SEKISHO, "check", "-c", &world.name("far.yaml")]);
        assert_eq!(said.contains("ms away"), is_far, "{said}");
        assert_eq!(
            said.contains("sysctl -w net.ipv4.tcp_rmem"),
            is_far,
            "{said}"
        );
    }
}
