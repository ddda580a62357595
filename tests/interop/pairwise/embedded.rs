//! Nodes without authority and agent: the CA is embedded in the process of the endpoints, and federates
//! there.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Node, Upstream, World,
    node::SEKISHO,
    ports,
    wait::{until, until_within},
};

const A: &str = "a.example";
const B: &str = "b.example";

/// A node in a folder of its own.
struct Site {
    world: World,
    name: &'static str,
    other: &'static str,
    gate: SocketAddr,
    sender: SocketAddr,
    bundles: SocketAddr,
}

impl Site {
    fn new(name: &'static str, other: &'static str) -> Self {
        Self {
            world: World::new(),
            name,
            other,
            gate: ports::free(),
            sender: ports::free(),
            bundles: ports::free(),
        }
    }

    /// Starts it with these lines after its endpoints: a gate, and a way to the other's.
    fn start(&self, to: SocketAddr, service: &Upstream, more: &str) -> Node {
        let endpoints = format!(
            "  in: {{listen: \"mtls://{}\", forward: \"tcp://{}\", as: /gate, accept: [\"spiffe://{other}/*\"]}}\n  \
             out: {{listen: \"tcp://{}\", forward: \"mtls://{to}\", as: /sender, expect: [\"spiffe://{other}/gate\"]}}\n\
             identity: {{embedded: {{data: ca}}}}\n{more}",
            self.gate,
            service.address,
            self.sender,
            other = self.other,
        );
        Node::start(&self.world, self.name, &endpoints)
    }

    fn endpoint(&self, peers: &str) -> String {
        format!(
            "federation:\n  endpoint: {{listen: {}, refresh: 1m}}\n  allow: [127.0.0.0/8]\n{peers}",
            self.bundles
        )
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(SEKISHO);
        command.args(line.split(' ')).arg("-c");
        let config = self.world.file(&format!("{}.yaml", self.name));
        command.arg(config).output().unwrap()
    }

    fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {error}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    fn says(&self) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.sender)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        exchange(&mut stream)?;
        Ok(stream)
    }

    fn reaches(&self) -> TcpStream {
        let what = format!("a way from {} to {}", self.name, self.other);
        until_within(Duration::from_secs(60), &what, || self.says().ok())
    }

    /// Names of its CAs that sign or will, by slot.
    fn ca(&self, slot: &str) -> String {
        let shown = self.json("ca show");
        let slots = shown.as_array().unwrap();
        let one = slots.iter().find(|one| one["slot"] == slot);
        one.unwrap_or_else(|| panic!("{shown}"))["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// How many CAs it knows of the other.
    fn known(&self) -> usize {
        let shown = self.json(&format!("bundle show --id {}", self.other));
        let cas = shown["bundles"][0]["authorities"].as_array();
        cas.map_or(0, Vec::len)
    }

    /// The serial number of what its gate shows.
    fn shown(&self, node: &Node) -> String {
        let (_, body) = node.get("/status");
        let status: Value = serde_json::from_str(&body).unwrap();
        let endpoints = status["endpoints"].as_array().unwrap();
        let gate = endpoints.iter().find(|one| one["name"] == "in").unwrap();
        gate["svid"]["serial"].as_str().unwrap().to_owned()
    }
}

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back)
}

#[test]
fn nodes_with_embedded_cas_federate_rotate_and_part() {
    let [a, b] = [Site::new(A, B), Site::new(B, A)];
    let echo = Upstream::echo();
    // b was there before, by itself: whoever has its bundle goes on with it.
    drop(b.start(a.gate, &echo, ""));
    let before = fs::read_to_string(b.world.file("ca/bundle.json")).unwrap();
    let key = fs::read_to_string(b.world.file("ca/ca.key")).unwrap();
    a.world.write("b.json", &before);
    let a_runs = a.start(b.gate, &echo, &a.endpoint(""));
    let exported = a.run("bundle export").stdout;
    b.world
        .write("a.json", &String::from_utf8(exported).unwrap());
    let peer = format!(
        "  peers: {{{A}: {{url: \"https://{}/\", profile: https_spiffe, id: \"spiffe://{A}/spire/server\", bundle: a.json}}}}\n",
        a.bundles
    );
    let b_runs = b.start(a.gate, &echo, &b.endpoint(&peer));
    assert!(!b.world.file("ca/ca.key").exists());
    let data = b.world.file("ca");
    for file in fs::read_dir(data.join("keys")).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file:?}");
    }
    // The endpoint is known by the certificate from before.
    a.json(&format!(
        "federation add {B} --url https://{}/ --profile https_spiffe --endpoint-id spiffe://{B}/spire/server --bundle {}",
        b.bundles,
        a.world.name("b.json")
    ));
    let mut held = [a.reaches(), b.reaches()];
    assert!(!b_runs.process.said().contains(key.lines().nth(1).unwrap()));

    for (site, other, runs) in [(&a, &b, &a_runs), (&b, &a, &b_runs)] {
        site.json("ca prepare");
        other.json(&format!("federation refresh {}", site.name));
        assert_eq!(other.known(), 2);
        let (old, new) = (site.ca("active"), site.ca("prepared"));
        site.json(&format!("ca activate {new} --force"));
        // What it shows is made anew by the new one, before the old one is believed no more.
        let serial = site.shown(runs);
        site.json(&format!("ca taint {old}"));
        until("another SVID", || {
            (site.shown(runs) != serial).then_some(())
        });
        site.json(&format!("ca revoke {old}"));
        other.json(&format!("federation refresh {}", site.name));
        assert_eq!(other.known(), 1);
        site.reaches();
        other.reaches();
    }
    // What was open when it began goes on, but the connections of certificates that a revoked CA has signed.
    for stream in &mut held {
        assert!(exchange(stream).is_err(), "its CA is gone");
    }
    let now = fs::read_to_string(b.world.file("ca/bundle.json")).unwrap();
    assert_ne!(now, before);

    // At its end, and with a signal, all is as before.
    let serial = b.shown(&b_runs);
    b_runs.process.signal(Signal::SIGUSR1);
    until("another SVID", || {
        (b.shown(&b_runs) != serial).then_some(())
    });
    drop(b_runs);
    let b_runs = b.start(a.gate, &echo, &b.endpoint(&peer));
    assert_eq!(
        fs::read_to_string(b.world.file("ca/bundle.json")).unwrap(),
        now
    );
    let mut held = a.reaches();
    b.reaches();

    // Who is no peer any more is cut off, in both directions.
    a.json(&format!("federation remove {B}"));
    until("the end of what was held", || exchange(&mut held).err());
    assert!(a.says().is_err() && b.says().is_err());
    drop(b_runs);
    // Without `federation` its CA is still the one of the folder.
    let _b = b.start(a.gate, &echo, "");
    assert_eq!(
        fs::read_to_string(b.world.file("ca/bundle.json")).unwrap(),
        now
    );
    assert!(!b.world.file("ca/ca.key").exists());
    assert!(b.says().is_err());
    // With it again, at a reload, others come to its endpoint, and commands find it in between too.
    b.json("ca show");
    assert!(TcpStream::connect(b.bundles).is_err());
    let file = format!("{B}.yaml");
    let text = fs::read_to_string(b.world.file(&file)).unwrap();
    b.world.write(&file, &(text + &b.endpoint(&peer)));
    until("its endpoint", || TcpStream::connect(b.bundles).ok());
    let socket = b.world.file("ca/api.sock").metadata().unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o700);
}
