//! The program in `tests/interop/java`: the Java platform's own TLS.

use std::{path::Path, process::Command};

use super::{Gate, Habit, Role, Side};
use crate::support::{Process, ports, program};

/// Compiles and starts it, and waits until it listens.
pub(super) fn start(role: &Role<'_>) -> Option<Gate> {
    // A runtime alone compiles nothing.
    program::find("javac")?;
    let program = program::find("java")?;
    let address = ports::free();
    let mut command = Command::new(program);
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/java/Peer.java"));
    command.arg(match role.side {
        Side::Dial => "dial",
        Side::Serve => "serve",
    });
    let bundle = format!("{}.pem", role.peer.0.domain());
    command.args(["--listen", &address.to_string()]);
    command.args(["--forward", &role.forward.to_string()]);
    command.args(["--cert", &role.world.name(&format!("{}.pem", role.own))]);
    command.args(["--key", &role.world.name(&format!("{}.key", role.own))]);
    command.args(["--bundle", &role.world.name(&bundle)]);
    command.args(["--peer", &role.peer_id()]);
    if role.habit == Habit::Renewal {
        command.args(["--renew", "2^20"]);
    }
    let process = Process::start(&mut command);
    process.wait_for("listening");
    Some(Gate {
        address,
        _process: process,
    })
}
