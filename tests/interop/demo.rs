//! `sekisho demo`, the main job.

use std::{fs, process::Command};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::support::{Process, node::SEKISHO, wait::until};

#[test]
fn the_demo_holds_every_expectation_and_says_so_in_one_document() {
    let output = Command::new(SEKISHO)
        .args(["demo", "--json", "--duration", "300ms"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["ok"], true, "{said}");
    let flows = document["flows"].as_array().unwrap();
    let expected = |what: &str| {
        flows
            .iter()
            .filter(|flow| flow["expected"] == what)
            .collect::<Vec<_>>()
    };
    let (allowed, refused) = (expected("allowed"), expected("refused"));
    assert!(allowed.len() >= 3 && refused.len() >= 8);
    for flow in allowed {
        assert_eq!(flow["outcome"], "allowed", "{flow:#}");
        assert!(flow["bits_per_second"].as_f64() > Some(0.0), "{flow:#}");
        assert!(
            flow["direct_bits_per_second"].as_f64() > Some(0.0),
            "{flow:#}"
        );
        assert!(
            flow["peer"].as_str().unwrap().starts_with("spiffe://"),
            "{flow:#}"
        );
    }
    for flow in refused {
        assert_eq!(flow["outcome"], "refused", "{flow:#}");
        assert!(flow["reason"].is_string(), "{flow:#}");
        assert_eq!(flow["upstream_connections"], 0, "{flow:#}");
        assert_eq!(flow["without_defect"], "allowed", "{flow:#}");
    }
    let rotation = &document["rotation"];
    assert_eq!(rotation["broken"], 0, "{rotation:#}");
    assert_eq!(rotation["connections"], 100, "{rotation:#}");
    assert_eq!(rotation["cut_by_policy"], 33, "{rotation:#}");
    // Six endpoints, three times each; four sites; three senders, in several rounds.
    assert!(rotation["rotations"].as_u64() >= Some(18), "{rotation:#}");
    assert!(rotation["reloads"].as_u64() >= Some(4), "{rotation:#}");
    assert!(
        rotation["new_connections"].as_u64() >= Some(9),
        "{rotation:#}"
    );
    let lines = document["configuration_lines"].as_object().unwrap();
    assert_eq!(lines.len(), 4);
    assert!(lines.values().filter_map(Value::as_u64).sum::<u64>() <= 100);
}

/// The processes that this one started, by the kernel.
fn children(process: &Process) -> Vec<Pid> {
    let id = process.id();
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
    // A thread may have ended meanwhile.
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let texts: Vec<_> = texts.collect();
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words
        .map(|word| Pid::from_raw(word.parse().unwrap()))
        .collect()
}

/// A demo in a folder of its own, with its four sites running, ended by `signal`.
fn ends_without_a_trace(arguments: &[&str], begun: &str, signal: Signal, code: i32) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(SEKISHO);
    command.args(arguments).env("TMPDIR", folder.path());
    let mut demo = Process::start(&mut command);
    demo.wait_for(begun);
    let sites = until("four sites", || {
        let sites = children(&demo);
        (sites.len() >= 4).then_some(sites)
    });
    assert!(fs::read_dir(folder.path()).unwrap().count() > 0);
    demo.signal(signal);
    let (status, said) = demo.ended();
    assert_eq!(status.code(), Some(code), "{said}");
    for site in sites {
        assert_eq!(kill(site, None), Err(Errno::ESRCH));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_demo_that_is_ended_leaves_neither_sites_nor_files() {
    let long = ["demo", "--duration", "1h"];
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        ends_without_a_trace(&long, "What is allowed", signal, code);
    }
}

#[test]
fn a_demo_that_is_kept_ends_in_order() {
    let kept = ["demo", "--keep", "--duration", "100ms"];
    ends_without_a_trace(&kept, "go on until Ctrl-C", Signal::SIGINT, 0);
}

#[test]
fn a_demo_that_is_killed_takes_its_sites_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(SEKISHO);
    command
        .args(["demo", "--duration", "1h"])
        .env("TMPDIR", folder.path());
    let mut demo = Process::start(&mut command);
    demo.wait_for("What is allowed");
    let sites = until("four sites", || {
        let sites = children(&demo);
        (sites.len() >= 4).then_some(sites)
    });
    demo.signal(Signal::SIGKILL);
    demo.ended();
    let gone = |site: &Pid| match fs::read_to_string(format!("/proc/{site}/stat")) {
        // Whoever adopts it may take a while to bury it.
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    until("the sites' end", || sites.iter().all(gone).then_some(()));
}
