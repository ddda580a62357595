//! Several endpoints on one port, told apart by server name.

use std::{io::Write as _, net::SocketAddr, path::Path, process::Command};

use crate::support::{
    Node, Process, Upstream, World, openssl, ports, program::program, world::identity,
};

/// `red` accepts `/red-client`, `blue` accepts `/blue-client`; each has a service and an SVID of
/// its own.
struct Two {
    world: World,
    red: Upstream,
    blue: Upstream,
    node: Node,
    listen: SocketAddr,
}

fn two() -> Two {
    let world = World::new();
    let (red, blue) = (Upstream::echo(), Upstream::echo());
    let listen = ports::free();
    let mut endpoints = String::new();
    for (name, upstream) in [("red", &red), ("blue", &blue)] {
        world.issue(&world.b, name);
        world.issue(&world.a, &format!("{name}-client"));
        endpoints.push_str(&format!(
            "  {name}:
    listen: mtls://{listen}
    forward: tcp://{}
    as: /{name}
    identity: {}
    accept: [spiffe://a.example/{name}-client]
",
            upstream.address,
            identity(name)
        ));
    }
    Two {
        node: Node::start(&world, "b.example", &endpoints),
        world,
        red,
        blue,
        listen,
    }
}

#[test]
fn each_endpoint_of_a_port_shows_its_own_svid() {
    let openssl = program!("openssl");
    let two = two();
    for name in ["red", "blue"] {
        let server_name = format!("{name}.b.example");
        let own = format!("{name}-client");
        let more = ["-servername", server_name.as_str()];
        let mut client = openssl::client(&openssl, &two.world, two.listen, Some(&own), &more);
        client.wait_for("END CERTIFICATE");
        let mut input = client.input();
        writeln!(input, "hello {name}").unwrap();
        client.wait_for(&format!("hello {name}"));
        drop(input);
        let (_, said) = client.ended();
        assert_eq!(
            uri_names(&openssl, &two.world, &said),
            [format!("spiffe://b.example/{name}")]
        );
        let line = two.node.closed();
        assert_eq!(line["endpoint"], name);
        assert_eq!(line["sni"], server_name);
    }
    assert_eq!((two.red.accepted(), two.blue.accepted()), (1, 1));
}

/// The URI names of the first certificate in `text`.
fn uri_names(openssl: &Path, world: &World, text: &str) -> Vec<String> {
    world.write("seen.pem", text);
    let mut command = Command::new(openssl);
    command.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]);
    let (status, said) = Process::start(command.arg(world.file("seen.pem"))).ended();
    assert!(status.success(), "{said}");
    said.split([' ', ',', '\n'])
        .filter_map(|word| word.strip_prefix("URI:").map(str::to_owned))
        .collect()
}

#[test]
fn a_client_that_names_one_endpoint_and_is_accepted_by_another_is_refused() {
    let openssl = program!("openssl");
    let two = two();
    let more = ["-servername", "red.b.example"];
    let mut client = openssl::client(&openssl, &two.world, two.listen, Some("blue-client"), &more);
    let (_, said) = client.ended();
    assert!(said.contains("alert access denied"), "{said}");
    let line = two.node.refused("not_accepted");
    assert_eq!(line["endpoint"], "red");
    assert_eq!(line["client_id"], "spiffe://a.example/blue-client");
    assert_eq!((two.red.accepted(), two.blue.accepted()), (0, 0));
}

#[test]
fn a_name_that_no_endpoint_has_is_refused_with_the_alert_unrecognized_name() {
    let openssl = program!("openssl");
    let two = two();
    for more in [&["-servername", "green.b.example"][..], &["-noservername"]] {
        let mut client =
            openssl::client(&openssl, &two.world, two.listen, Some("red-client"), more);
        let (_, said) = client.ended();
        assert!(said.contains("alert number 112"), "{said}");
        two.node.refused("unknown_name");
    }
    assert_eq!((two.red.accepted(), two.blue.accepted()), (0, 0));
}
