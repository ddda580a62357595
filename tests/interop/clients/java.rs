//! java-spiffe, on gRPC's Java implementation with Netty.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{echo, selectors};
use crate::support::{
    Process, World,
    program::{self, program},
    whole::Whole,
};

#[test]
fn java_spiffe_takes_what_the_agent_says_and_sees_its_rotation() {
    // A runtime alone compiles nothing.
    let _compiler = program!("javac");
    let (java, Some(packages)) = (program!("java"), program::packages("java-spiffe")) else {
        return;
    };
    let world = World::new();
    let hinted = format!(
        "  - {{spiffe_id: /java, selectors: {}, hint: java}}\n",
        selectors()
    );
    let whole = Whole::start_with(&world, echo(), &selectors(), &hinted, "");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/java-spiffe/Workload.java"
    );
    let mut command = Command::new(java);
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg("--class-path").arg(packages.join("*"));
    command.arg(script).arg(&whole.agent);
    let process = Process::start(command.args(["kafka", "spiffe://a.example/java"]));
    // What libraries log goes the same way.
    let json = |line: &str| serde_json::from_str::<Value>(line).ok();
    let (said, next) = process.line("what the API has", 0, json);
    // Of several SVIDs with the same hint java-spiffe keeps the first, of several without one too.
    let ids = ["in", "java"].map(|name| format!("spiffe://a.example/{name}"));
    assert_eq!(said["ids"], json!(ids), "{said}");
    assert_eq!(said["hints"], json!(["", "java"]), "{said}");
    assert_eq!(
        (&said["authorities"], &said["keys"]),
        (&json!(1), &json!(1))
    );
    for key in ["token", "validated", "parsed"] {
        assert_eq!(said[key], "spiffe://a.example/java", "{key}");
    }
    for (key, code) in [
        ("refused", "INVALID_ARGUMENT"),
        ("foreign", "PERMISSION_DENIED"),
    ] {
        let text = said[key].as_str().unwrap();
        assert!(text.contains(code), "{key}: {text}");
    }
    let (before, next) = process.line("the first update", next, json);
    whole.process.signal(Signal::SIGUSR1);
    let (_, next) = process.line("new serial numbers", next, |line| {
        let now = json(line)?;
        let (now, before) = (now["serials"].as_array()?, before["serials"].as_array()?);
        now.iter()
            .all(|serial| !before.contains(serial))
            .then_some(())
    });
    // It may have been told before the source was: then by the next update.
    let source = before["source"].as_str().unwrap().to_owned();
    whole.process.signal(Signal::SIGUSR1);
    process.line("a source that has turned", next, |line| {
        (json(line)?["source"].as_str()? != source).then_some(())
    });
}
