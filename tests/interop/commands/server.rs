//! Health, logger, information, nodes and the audit log.

use std::{fs, process::Command};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{CREATE, admin::Admin};
use crate::support::{World, node::SEKISHO, ports, whole::Whole};

#[test]
fn an_authority_tells_how_it_is() {
    let mut admin = Admin::start();
    assert_eq!(admin.json("healthcheck")["status"], "SERVING");
    assert_eq!(
        admin.text("healthcheck"),
        "serving\n",
        "no colours where no terminal is"
    );
    admin.json(CREATE);
    let info = admin.json("info");
    assert_eq!((&info["entries"], &info["agents"]), (&1.into(), &0.into()));
    assert_eq!(
        info["svid_chain"][0]["id"],
        "spiffe://a.example/spire/server"
    );
    assert!(admin.text("info").contains("1 entries"));
    assert_eq!(
        admin.json("logger get"),
        json!({"current": "info", "at_start": "info"})
    );
    assert_eq!(
        admin.json("logger set --level debug"),
        json!({"current": "debug", "at_start": "info"})
    );
    assert_eq!(admin.text("logger reset"), "info (at the start: info)\n");
    admin.authority.signal(Signal::SIGTERM);
    assert!(admin.authority.ended().0.success());
    let gone = admin.refused("healthcheck", 1);
    assert!(gone.contains("is it running?"), "{gone}");
}

#[test]
fn nodes_are_counted_and_old_ones_forgotten() {
    let admin = Admin::start();
    assert_eq!(admin.json("node count --banned false")["count"], 0);
    assert_eq!(admin.json("node purge --dry-run"), json!([]));
    assert_eq!(admin.json("node purge --expired-for 1h"), json!([]));
    let unknown = admin.refused("node ban /spire/agent/x509pop/none", 1);
    assert!(
        unknown.contains("not banned") && unknown.contains("sekisho node list"),
        "{unknown}"
    );
}

#[test]
fn a_node_is_shown_banned_and_evicted() {
    let world = World::new();
    let service = ports::free();
    let selectors = format!("[\"unix:uid:{}\"]", nix::unistd::getuid());
    let whole = Whole::start(&world, service, &selectors);
    let ask = |words: &[&str]| -> Value {
        let mut command = Command::new(SEKISHO);
        command.arg("node").args(words).arg("--json");
        let output = command.arg("--socket").arg(&whole.authority).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let all = ask(&["list", "--attestation", "join_token"]);
    let id = all[0]["id"].as_str().unwrap();
    assert_eq!(ask(&["show", id]), all);
    assert_eq!(ask(&["list", "--attestation", "x509pop"]), json!([]));
    // It has not expired.
    assert_eq!(ask(&["purge", "--expired-for", "0s"]), json!([]));
    assert_eq!(ask(&["count"])["count"], 1);
    // An agent's socket is none of an authority.
    let mut command = Command::new(SEKISHO);
    let other = command.args(["node", "list", "--socket"]).arg(&whole.agent);
    let other = other.output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    let other = String::from_utf8(other.stderr).unwrap();
    assert!(other.contains("socket of an authority?"), "{other}");
    let told = |done: &str| json!([{"id": id, "done": done, "status": "Ok", "message": null}]);
    assert_eq!(ask(&["ban", id]), told("banned"));
    assert_eq!(ask(&["count", "--banned", "true"])["count"], 1);
    assert_eq!(ask(&["count", "--banned", "false"])["count"], 0);
    assert_eq!(ask(&["purge", "--expired-for", "0s"]), json!([]));
    assert_eq!(ask(&["evict", id]), told("evicted"));
}

#[test]
fn an_altered_audit_log_is_found() {
    let mut admin = Admin::start();
    admin.json(CREATE);
    let file = admin.world.file("authority.yaml");
    let verify = |words: &[&str]| {
        let mut command = Command::new(SEKISHO);
        command.args(words).arg("-c").arg(&file);
        command.output().unwrap()
    };
    let fine = verify(&["audit", "verify", "--json"]);
    assert!(fine.status.success(), "{fine:?}");
    let fine: Value = serde_json::from_slice(&fine.stdout).unwrap();
    assert!(fine["lines"].as_i64().unwrap() > 0);
    let old = Command::new(SEKISHO)
        .args(["authority", "-c"])
        .arg(&file)
        .args(["verify-audit", "--json"])
        .output()
        .unwrap();
    let old: Value = serde_json::from_slice(&old.stdout).unwrap();
    assert_eq!(old, fine, "the former name");
    admin.authority.signal(Signal::SIGTERM);
    assert!(admin.authority.ended().0.success());
    let database = admin.world.file("data/authority.db");
    let mut bytes = fs::read(&database).unwrap();
    let (from, to) = (b"entry.create", b"entry.delete");
    let at = bytes.windows(from.len()).position(|window| window == from);
    let at = at.expect("a line of the audit log");
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(&database, bytes).unwrap();
    let altered = verify(&["audit", "verify"]);
    assert_eq!(altered.status.code(), Some(1), "{altered:?}");
    assert!(!altered.stderr.is_empty());
    let missing = Command::new(SEKISHO)
        .args(["audit", "verify", "-c", "/nowhere.yaml"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
}
