//! What the emulator says of itself, and what it must not do to bytes.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{self, Command},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::path::{Path, needs, said};
use crate::support::{Process, node::SEKISHO};

#[test]
fn every_byte_arrives_whatever_is_lost_and_overtaken() {
    let Some(tools) = needs(&[]) else { return };
    let v6 = "10.99.0.1/30,10.99.0.2/30,fd00:99::1/64,fd00:99::2/64";
    let options = "--rtt 2ms --rate 1G --loss 0.2% --reorder 0.2%,1ms --mtu 1400 --addresses";
    let path = Path::start(&tools, options, &[v6]);
    for address in ["10.99.0.2:5201", "[fd00:99::2]:5201"] {
        let server = path.start_at(1, &[SEKISHO, "bench", "server", "--listen", address]);
        server.wait_for("listening at");
        let words = [
            SEKISHO, "bench", "client", address, "-n", "24MiB", "--bidir",
        ];
        path.run(0, &[&words[..], &["--verify", "-P", "2"]].concat());
    }
    let end = path.end();
    for way in ["forward", "back"] {
        for counter in ["lost", "held_back"] {
            assert!(end[way][counter].as_u64() > Some(20), "{end:#}");
        }
        for counter in ["malformed", "refused", "too_large"] {
            assert_eq!(end[way][counter], 0, "{end:#}");
        }
        // Many packets in a read, or this has not tried what it should.
        let number = |name: &str| end[way][name].as_u64().unwrap();
        assert!(number("packets") > 2 * number("reads"), "{end:#}");
    }
}

#[test]
fn what_it_could_not_read_is_not_taken_for_the_path() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    let path = Path::start(&tools, "--rtt 1ms", &[]);
    assert_eq!(path.counters()["emulator_is_limit"], false);
    // As if the machine gave it no time. The kernel keeps 5000 for it.
    path.process.signal(Signal::SIGSTOP);
    let flood = [
        "ping",
        "-q",
        "-c",
        "8000",
        "-l",
        "8000",
        "-w",
        "1",
        "10.99.0.2",
    ];
    path.try_run(0, &flood);
    path.process.signal(Signal::SIGCONT);
    let counters = path.counters();
    assert!(
        counters["forward"]["not_read_in_time"].as_u64() > Some(0),
        "{counters:#}"
    );
    assert_eq!(counters["emulator_is_limit"], true);
    path.end();
}

#[test]
fn a_path_may_begin_in_this_namespace() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    let name = format!("sekishowan{}h", process::id());
    let addresses = "10.99.77.1/30,10.99.77.2/30";
    let mut command = Command::new(SEKISHO);
    command.args([
        "bench",
        "wan",
        "--json",
        "--between",
        &name,
        "--addresses",
        addresses,
    ]);
    let mut path = Process::start(&mut command);
    path.wait_for("\"event\":\"start\"");
    let (status, said) =
        Process::start(tools.command("ping").args(["-c", "1", "10.99.77.2"])).ended();
    assert!(status.success(), "{said}");
    path.signal(Signal::SIGTERM);
    let (status, said) = path.ended();
    assert!(status.success(), "{said}");
}

#[test]
fn it_tells_what_it_carries_here() {
    let Some(tools) = needs(&[]) else { return };
    let (code, said) = said("--ceiling --time 300ms --json");
    assert_eq!(code, Some(0), "{said}");
    let found: Value = serde_json::from_str(&said).unwrap();
    for figure in ["stream_bits_per_second", "packets_per_second"] {
        assert!(found[figure].as_f64() > Some(0.0), "{found:#}");
    }
    assert!(!tools.ip(&["netns", "list"]).contains("ceiling"));
}

#[test]
fn whoever_is_not_root_is_told_so() {
    let Some(_) = needs(&[]) else { return };
    // Its folder may be closed to others.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("sekisho");
    fs::hard_link(SEKISHO, &program)
        .or_else(|_| fs::copy(SEKISHO, &program).map(drop))
        .unwrap();
    let mut command = Command::new(program);
    command
        .args(["bench", "wan", "--between", "a,b"])
        .uid(65_534)
        .gid(65_534);
    let (status, said) = Process::start(&mut command).ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("not root") && said.contains("sudo"), "{said}");
}
