//! Two hosts: network namespaces joined by a veth, a node in each, iperf3 through them.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::support::{
    Node, Process, World,
    node::SEKISHO,
    pair,
    program::{is_root, program, skip},
    wait::until,
};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Two namespaces, 10.201.0.1 and 10.201.0.2; gone when dropped.
struct Hosts {
    ip: PathBuf,
    names: [String; 2],
}

impl Hosts {
    /// Makes them; `None` where the system does not allow it.
    fn new(ip: PathBuf) -> Option<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("sekisho{}x{number}{side}", process::id());
        let hosts = Self {
            ip,
            names: [name("a"), name("b")],
        };
        let [a, b] = &hosts.names;
        let mut steps = String::new();
        for name in [a, b] {
            writeln!(steps, "netns add {name}\n-n {name} link set lo up").unwrap();
        }
        writeln!(
            steps,
            "-n {a} link add veth0 type veth peer name veth0 netns {b}"
        )
        .unwrap();
        for (name, number) in [(a, 1), (b, 2)] {
            writeln!(steps, "-n {name} addr add 10.201.0.{number}/24 dev veth0").unwrap();
            writeln!(steps, "-n {name} link set veth0 up").unwrap();
        }
        for step in steps.lines() {
            let (status, said) =
                Process::start(Command::new(&hosts.ip).args(step.split(' '))).ended();
            if !status.success() {
                skip(&format!("no network namespaces here: ip {step}: {said}"));
                return None;
            }
        }
        Some(hosts)
    }

    fn node(&self, host: usize, world: &World, site: &str, endpoints: &str) -> Node {
        let by = [
            self.ip.as_os_str(),
            "netns".as_ref(),
            "exec".as_ref(),
            self.names[host].as_ref(),
            SEKISHO.as_ref(),
        ];
        let node = Node::start_by(world, site, endpoints, &by);
        node.wait_ready();
        node
    }

    fn command(&self, host: usize, program: &Path) -> Command {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", &self.names[host]]);
        command.arg(program);
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            // One that was never made cannot be removed.
            let _ = Command::new(&self.ip)
                .args(["netns", "del", name])
                .stderr(process::Stdio::null())
                .status();
        }
    }
}

#[test]
fn iperf3_measures_both_ways_between_two_hosts() {
    let (ip, iperf3) = (program!("ip"), program!("iperf3"));
    if !is_root("network namespaces") {
        return;
    }
    let Some(hosts) = Hosts::new(ip) else { return };
    let world = World::new();
    let [service, gate, entry] = [
        SocketAddr::from(([127, 0, 0, 1], 5201)),
        SocketAddr::from(([10, 201, 0, 2], 7001)),
        SocketAddr::from(([127, 0, 0, 1], 5201)),
    ];
    let receiving = hosts.node(
        1,
        &world,
        "b.example",
        &pair::receiving(&world, gate, service),
    );
    let sending = hosts.node(0, &world, "a.example", &pair::sending(&world, entry, gate));
    let mut command = hosts.command(1, &iperf3);
    let server = Process::start(command.args(["-s", "-B", "127.0.0.1", "--forceflush"]));
    server.wait_for("Server listening");

    for direction in [None, Some("-R")] {
        // The server is busy for a moment after a test.
        let report = until("a measurement", || {
            let mut command = hosts.command(0, &iperf3);
            command
                .args(["-c", "127.0.0.1", "-t", "1", "-J"])
                .args(direction);
            let (_, said) = Process::start(&mut command).ended();
            let report: Value = serde_json::from_str(&said).unwrap();
            match report["error"].as_str() {
                Some(error) if error.contains("busy") => None,
                Some(error) => panic!("iperf3: {error}"),
                None => Some(report),
            }
        });
        for side in ["sum_sent", "sum_received"] {
            let bits = report["end"][side]["bits_per_second"].as_f64().unwrap();
            assert!(bits > 0.0, "{side}: {report:#}");
        }
        eprintln!(
            "iperf3 {}: {:.2} Gb/s",
            direction.unwrap_or("forward"),
            report["end"]["sum_received"]["bits_per_second"]
                .as_f64()
                .unwrap()
                / 1e9
        );
    }
    let line = sending.access();
    assert_eq!(line["decision"], "allowed", "{line:#}");
    assert_eq!(line["upstream_id"], "spiffe://b.example/back");
    let line = receiving.access();
    assert_eq!(line["decision"], "allowed", "{line:#}");
    assert_eq!(line["client_id"], "spiffe://a.example/front");
    assert!(line["source"].as_str().unwrap().starts_with("10.201.0.1:"));
}
