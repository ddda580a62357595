//! `path: auto` on a long path and on a short one, with privileges and without: what the kernel has for
//! the sockets, by `ss`, and what a stream gets, which is told and not judged.

use std::{ffi::OsStr, net::SocketAddr};

use serde_json::Value;

use super::path::{Path, Tools, needs};
use crate::support::{Node, Process, World, node::SEKISHO, pair, wait::until};

/// The plain side of the sending node, the gate, and the service behind it.
pub(super) const PLAIN: &str = "127.0.0.1:5200";
const GATE: &str = "10.99.0.2:9443";
const SERVICE: &str = "127.0.0.1:5201";
/// The same service, directly.
const DIRECT: &str = "10.99.0.2:5202";
/// What Linux has had for long: a receive buffer of 6 MiB at most, by which windows are told in units of
/// 128 bytes.
const SYSCTLS: [&str; 2] = [
    "tcp_rmem=4096 131072 6291456",
    "tcp_wmem=4096 16384 4194304",
];
const LARGEST: u64 = 6_291_456;
/// Takes the privileges away, of setpriv.
pub(super) const WITHOUT: [&str; 2] = ["--bounding-set=-net_admin", "--inh-caps=-net_admin"];

pub(super) struct Sites<'a> {
    pub(super) path: Path<'a>,
    pub(super) sending: Node,
    receiving: Node,
    _servers: [Process; 2],
}

impl<'a> Sites<'a> {
    /// Two nodes at the ends of a path, started by `by`.
    fn start(tools: &'a Tools, world: &World, options: &str, by: &[&str]) -> Self {
        Self::with(tools, world, options, by, "")
    }

    /// The same with more lines of the sending endpoint.
    pub(super) fn with(
        tools: &'a Tools,
        world: &World,
        options: &str,
        by: &[&str],
        more: &str,
    ) -> Self {
        let path = Path::start(tools, options, &[]);
        for host in [0, 1] {
            for setting in SYSCTLS {
                path.run(host, &["sysctl", "-w", &format!("net.ipv4.{setting}")]);
            }
        }
        let servers = [SERVICE, DIRECT].map(|address| {
            let server = path.start_at(1, &[SEKISHO, "bench", "server", "--listen", address]);
            server.wait_for("listening at");
            server
        });
        let [plain, gate, service] =
            [PLAIN, GATE, SERVICE].map(|text| text.parse::<SocketAddr>().unwrap());
        let node = |host: usize, site, endpoints: &str| {
            let words = path.words(host, &[by, &[SEKISHO]].concat());
            let words: Vec<&OsStr> = words.iter().map(AsRef::as_ref).collect();
            let node = Node::start_by(world, site, endpoints, &words);
            node.wait_ready();
            node
        };
        let receiving = node(1, "b.example", &pair::receiving(world, gate, service));
        let sending = pair::sending(world, plain, gate) + more;
        let sending = node(0, "a.example", &sending);
        Self {
            path,
            sending,
            receiving,
            _servers: servers,
        }
    }

    /// A stream of some seconds, under way.
    fn stream(&self, address: &str) -> Process {
        self.stream_for(address, "6s")
    }

    pub(super) fn stream_for(&self, address: &str, time: &str) -> Process {
        let words = [SEKISHO, "bench", "client", address, "-t", time, "--json"];
        self.path
            .start_at(0, &[&words[..], &["-C", "cubic"]].concat())
    }

    /// The path of the only connection of a node, once it relays.
    fn found(&self, node: &Node, side: &str) -> Value {
        until("a connection that relays", || {
            let (_, text) = node.get("/connections");
            let all: Value = serde_json::from_str(&text).unwrap();
            let one = &all["connections"][0];
            (one["relaying"] == true).then(|| one["path"][side].clone())
        })
    }

    /// What the system lets anybody ask for.
    fn asked(&self) -> u64 {
        let said = self.path.try_run(0, &["sysctl", "-n", "net.core.rmem_max"]);
        // Older kernels do not show it in here.
        said.trim().parse().unwrap_or_default()
    }

    /// In what units, as a power of two, windows are told by the system's bounds.
    fn scale(&self) -> u32 {
        LARGEST.max(self.asked()).ilog2() - 15
    }

    /// The only connected socket that `filter` is for, as `ss` shows it.
    fn socket(&self, host: usize, filter: &str) -> Shown {
        let words = ["ss", "-tinmHO", "state", "established", filter];
        Shown(self.path.run(host, &words))
    }
}

/// A line of `ss`.
struct Shown(String);

impl Shown {
    /// The number after a word.
    fn number(&self, word: &str) -> u64 {
        let rest = self
            .0
            .split(word)
            .nth(1)
            .unwrap_or_else(|| panic!("{word}: {}", self.0));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits
            .parse()
            .unwrap_or_else(|_| panic!("{word}: {}", self.0))
    }

    fn has(&self, word: &str) -> bool {
        self.0.split_whitespace().any(|one| one == word)
    }

    /// As it was before there was any `path`.
    fn is_usual(&self, scale: u32) {
        let scale = format!("wscale:{scale},{scale}");
        assert!(self.has("cubic") && self.has(&scale), "{}", self.0);
        for buffer in [",rb", ",tb"] {
            assert!(self.number(buffer) <= LARGEST, "{}", self.0);
        }
    }
}

/// What arrived of a stream, in Mb/s.
fn rate(mut client: Process) -> f64 {
    let (status, said) = client.ended();
    assert!(status.success(), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .unwrap()
        / 1e6
}

#[test]
fn a_long_path_has_large_windows_where_privileges_allow_them() {
    let Some(tools) = needs(&["ss"]) else { return };
    let world = World::new();
    let sites = Sites::start(&tools, &world, "--rtt 31ms --rate 4G", &[]);
    let client = sites.stream(PLAIN);
    for (node, side, host, filter) in [
        (&sites.sending, "forward", 0, "dport = :9443"),
        (&sites.receiving, "listen", 1, "sport = :9443"),
    ] {
        let found = sites.found(node, side);
        let round_trip = found["round_trip_seconds"].as_f64().unwrap();
        assert!((0.031..0.5).contains(&round_trip), "{found:#}");
        for buffer in ["receive_buffer", "send_buffer"] {
            assert_eq!(found[buffer], 64 << 20, "{found:#}");
        }
        let socket = sites.socket(host, filter);
        // 64 MiB told in units of 1 KiB; the kernel counts twice what it was asked for.
        assert!(socket.has("wscale:10,10"), "{}", socket.0);
        for buffer in [",rb", ",tb"] {
            assert_eq!(socket.number(buffer), 128 << 20, "{}", socket.0);
        }
        let known = sites.path.run(
            host,
            &["sysctl", "net.ipv4.tcp_available_congestion_control"],
        );
        if known.contains("bbr") {
            assert!(socket.has("bbr"), "{}", socket.0);
            assert_eq!(found["congestion"], "bbr");
        }
    }
    // The sides on the hosts themselves are as they were.
    assert_eq!(sites.found(&sites.sending, "listen"), Value::Null);
    assert_eq!(sites.found(&sites.receiving, "forward"), Value::Null);
    let scale = sites.scale();
    sites.socket(0, "sport = :5200").is_usual(scale);
    sites.socket(1, "dport = :5201").is_usual(scale);
    // More than any window of the usual units.
    until("a large window", || {
        let offered = sites.socket(0, "dport = :9443").number("snd_wnd:");
        (offered > 16 << 20).then_some(())
    });
    let through = rate(client);
    let direct = rate(sites.stream(DIRECT));
    println!("31 ms, with privileges: {through:.0} Mb/s, direct {direct:.0} Mb/s");
}

#[test]
fn a_long_path_works_without_privileges() {
    let Some(tools) = needs(&["ss", "setpriv"]) else {
        return;
    };
    let world = World::new();
    let without = [&["setpriv"][..], &WITHOUT].concat();
    let sites = Sites::start(&tools, &world, "--rtt 31ms --rate 4G", &without);
    let client = sites.stream(PLAIN);
    for (node, side, host, filter) in [
        (&sites.sending, "forward", 0, "dport = :9443"),
        (&sites.receiving, "listen", 1, "sport = :9443"),
    ] {
        let found = sites.found(node, side);
        assert!(
            found["round_trip_seconds"].as_f64() >= Some(0.031),
            "{found:#}"
        );
        let socket = sites.socket(host, filter);
        let scale = sites.scale();
        assert!(
            socket.has(&format!("wscale:{scale},{scale}")),
            "{}",
            socket.0
        );
        // Where asking does not give much more.
        if sites.asked() < LARGEST {
            for buffer in ["receive_buffer", "send_buffer"] {
                assert_eq!(found[buffer], Value::Null, "{found:#}");
            }
            assert!(socket.number(",rb") <= LARGEST, "{}", socket.0);
        }
    }
    let through = rate(client);
    println!("31 ms, without privileges: {through:.0} Mb/s");
}

#[test]
fn a_short_path_keeps_the_kernels_tuning() {
    let Some(tools) = needs(&["ss"]) else { return };
    let world = World::new();
    let sites = Sites::start(&tools, &world, "--rtt 200us", &[]);
    let client = sites.stream(PLAIN);
    for (node, side, host, filter) in [
        (&sites.sending, "forward", 0, "dport = :9443"),
        (&sites.receiving, "listen", 1, "sport = :9443"),
    ] {
        let found = sites.found(node, side);
        for buffer in ["receive_buffer", "send_buffer"] {
            assert_eq!(found[buffer], Value::Null, "{found:#}");
        }
        assert_eq!(found["congestion"], "cubic", "{found:#}");
        let socket = sites.socket(host, filter);
        assert!(socket.has("cubic"), "{}", socket.0);
        assert!(socket.number(",rb") <= LARGEST, "{}", socket.0);
    }
    let through = rate(client);
    println!("0.2 ms: {through:.0} Mb/s");
}

#[test]
fn check_tells_what_the_system_refuses_and_what_lifts_it() {
    let Some(tools) = needs(&["setpriv"]) else {
        return;
    };
    let world = World::new();
    let [gate, service] = [GATE, SERVICE].map(|text| text.parse::<SocketAddr>().unwrap());
    let endpoint = pair::receiving(&world, gate, service);
    for (path, told) in [
        (
            "{congestion: nonesuch}",
            "`path.listen.congestion` has no effect",
        ),
        (
            "{forward: {buffers: 512MiB}}",
            "net.core.rmem_max has to be 536870912, or the process needs CAP_NET_ADMIN",
        ),
    ] {
        let file = format!("site: b.example\nendpoints:\n{endpoint}    path: {path}\n");
        world.write("b.yaml", &file);
        let mut command = tools.command("setpriv");
        command.args(WITHOUT).args([SEKISHO, "check", "-c"]);
        let (_, said) = Process::start(command.arg(world.file("b.yaml"))).ended();
        assert!(said.contains(told), "{said}");
    }
}
