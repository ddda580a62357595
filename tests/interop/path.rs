//! `sekisho bench path` over `sekisho bench wan`: each limit by itself, which must be named, and must not be
//! where something else limits.

mod apps;
mod others;
mod wrong;

use serde_json::Value;

use crate::{
    support::{Process, node::SEKISHO},
    wan::path::{Path, needs},
};

/// Linux's own.
const DEFAULTS: [&str; 2] = [
    "tcp_rmem=4096 131072 6291456",
    "tcp_wmem=4096 16384 4194304",
];
const SERVER: &str = "10.99.0.2:5201";

/// Linux's defaults at both ends: a namespace has what its maker had.
fn defaults(path: &Path<'_>) {
    for host in [0, 1] {
        for setting in DEFAULTS {
            set(path, host, setting);
        }
    }
}

fn set(path: &Path<'_>, host: usize, setting: &str) {
    path.run(host, &["sysctl", "-w", &format!("net.ipv4.{setting}")]);
}

fn server(path: &Path<'_>) -> Process {
    let server = path.start_at(1, &[SEKISHO, "bench", "server", "--listen", SERVER]);
    server.wait_for("listening at");
    server
}

/// What a run says; it must have named something.
fn found(path: &Path<'_>, host: usize, words: &[&str]) -> Value {
    let words = [&[SEKISHO, "bench", "path"], words, &["--json"]].concat();
    let said = path.run(host, &words);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn measured(path: &Path<'_>, more: &[&str]) -> Value {
    let words = [&[SERVER, "-t", "5s", "-C", "cubic"], more].concat();
    found(path, 0, &words)
}

/// Names one, without a doubt, and says why. Where other tests have the machine meanwhile, they may be what
/// limits for some seconds: where the first measurement names another, both of two more have to name it.
fn names(limit: &str, measure: impl Fn() -> Value) -> Value {
    finds(limit, &[], measure)
}

/// The same where what is seen leaves room for `others`.
fn finds(limit: &str, others: &[&str], measure: impl Fn() -> Value) -> Value {
    let may_be = |or: &Value| others.iter().any(|other| or == other);
    let is = |found: &Value| {
        found["limit"] == limit && found["or"].as_array().unwrap().iter().all(may_be)
    };
    let mut found = measure();
    if !is(&found) {
        eprintln!("{limit} was not named: {}", short(&found));
        for _ in 0..2 {
            found = measure();
            assert!(is(&found), "{limit} once more: {}", short(&found));
        }
    }
    let short = short(&found);
    assert!(!found["evidence"].as_array().unwrap().is_empty(), "{short}");
    assert!(!found["remedies"].as_array().unwrap().is_empty(), "{short}");
    found
}

/// Without the samples.
fn short(found: &Value) -> String {
    let mut found = found.clone();
    if let Some(map) = found.as_object_mut() {
        map.remove("samples");
    }
    format!("{found:#}")
}

fn says(found: &Value, text: &str) {
    let remedies = found["remedies"].as_array().unwrap();
    let is_there = |one: &Value| one.as_str().unwrap().contains(text);
    assert!(remedies.iter().any(is_there), "{text}: {}", short(found));
}

fn number(found: &Value, pointer: &str) -> f64 {
    let value = found.pointer(pointer).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{pointer}: {}", short(found)))
}

#[test]
fn a_small_window_here() {
    let Some(tools) = needs(&[]) else { return };
    let path = Path::start(&tools, "--rtt 30ms --rate 200M", &[]);
    defaults(&path);
    set(&path, 0, "tcp_wmem=4096 16384 262144");
    let _server = server(&path);
    let forward = names("window_here", || measured(&path, &[]));
    says(&forward, "here: sysctl -w net.ipv4.tcp_wmem=\"4096 16384 ");
    says(&forward, "path: {forward: {buffers: ");
    // 10 Gb/s in 30 ms are 37.5 MB.
    assert_eq!(forward["needed_bytes"], 128 << 20);
    assert!(number(&forward, "/min_rtt_seconds") >= 0.03);
    // The other way it sends acknowledgements only.
    let reverse = measured(&path, &["--reverse"]);
    assert_ne!(reverse["limit"], "window_here", "{}", short(&reverse));
}

#[test]
fn a_small_window_there() {
    let Some(tools) = needs(&[]) else { return };
    let path = Path::start(&tools, "--rtt 30ms", &[]);
    defaults(&path);
    set(&path, 1, "tcp_rmem=4096 131072 262144");
    let _server = server(&path);
    let forward = names("window_there", || measured(&path, &[]));
    says(
        &forward,
        "there: sysctl -w net.ipv4.tcp_rmem=\"4096 131072 ",
    );
    says(&forward, "path: {listen: {buffers: ");
    set(&path, 1, "tcp_rmem=4096 131072 6291456");
    // The same of what comes back, where this host's is the small one.
    set(&path, 0, "tcp_rmem=4096 131072 262144");
    let reverse = names("window_here", || measured(&path, &["--reverse"]));
    says(&reverse, "here: sysctl -w net.ipv4.tcp_rmem");
}

#[test]
fn losses() {
    let Some(tools) = needs(&[]) else { return };
    let options = "--rtt 20ms --rate 500M --loss 0.1% --one-way --seed 7";
    let path = Path::start(&tools, options, &[]);
    defaults(&path);
    let _server = server(&path);
    let forward = names("loss", || measured(&path, &[]));
    says(&forward, "path: {forward: {congestion: bbr}}");
    assert!(number(&forward, "/retransmissions") > 5.0);
    // The way back loses nothing.
    let reverse = measured(&path, &["--reverse"]);
    assert_ne!(reverse["limit"], "loss", "{}", short(&reverse));
}

#[test]
fn a_full_line() {
    let Some(tools) = needs(&[]) else { return };
    let path = Path::start(&tools, "--rtt 20ms --rate 100M --queue 512KiB", &[]);
    defaults(&path);
    let _server = server(&path);
    for more in [&[][..], &["--reverse"]] {
        let found = names("rate", || measured(&path, more));
        let rate = number(&found, "/bits_per_second");
        // It takes its time to get there, where the machine is busy; and the queue's bytes come on top.
        assert!((20e6..=105e6).contains(&rate), "{rate}");
    }
}

#[test]
fn a_cpu_that_others_have() {
    let Some(tools) = needs(&["taskset", "nice"]) else {
        return;
    };
    let path = Path::start(&tools, "--rtt 2ms", &[]);
    defaults(&path);
    let _server = server(&path);
    // A seventieth of a core, of which another wants all.
    let busy = "while :; do :; done";
    let _spinner = Process::start(tools.command("taskset").args(["-c", "0", "sh", "-c", busy]));
    let pinned = ["taskset", "-c", "0", "nice", "-n", "19"];
    let own = [
        SEKISHO, "bench", "path", SERVER, "-t", "8s", "-C", "cubic", "--json",
    ];
    let starved = names("cpu_here", || {
        let said = path.run(0, &[&pinned[..], &own].concat());
        serde_json::from_str(&said).unwrap()
    });
    says(&starved, "others have the core");
}

#[test]
fn a_load_that_asked_for_less() {
    let Some(tools) = needs(&[]) else { return };
    let path = Path::start(&tools, "--rtt 20ms --rate 200M", &[]);
    defaults(&path);
    let _server = server(&path);
    let found = names("slow_sender", || measured(&path, &["--rate", "20M"]));
    let rate = number(&found, "/bits_per_second");
    assert!((18e6..=21e6).contains(&rate), "{rate}");
}
