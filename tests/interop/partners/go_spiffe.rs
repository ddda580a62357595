//! The program in `tests/interop/go-spiffe`.

use std::process::Command;

use super::{Gate, Habit, Role, Side};
use crate::support::{Process, ports, program};

/// Starts it, and waits until it listens.
pub(super) fn start(role: &Role<'_>) -> Option<Gate> {
    let program = program::find("go-spiffe")?;
    let address = ports::free();
    let domain = role.peer.0.domain().to_string();
    let mut command = Command::new(program);
    command.arg(match role.side {
        Side::Dial => "dial",
        Side::Serve => "serve",
    });
    command.args(["-listen", &address.to_string()]);
    command.args(["-forward", &role.forward.to_string()]);
    command.args(["-cert", &role.world.name(&format!("{}.pem", role.own))]);
    command.args(["-key", &role.world.name(&format!("{}.key", role.own))]);
    command.args(["-domain", &domain]);
    command.args(["-bundle", &role.world.name(&format!("{domain}.pem"))]);
    command.args(["-peer", &role.peer_id()]);
    command.arg(format!("-pieces={}", role.habit == Habit::Pieces));
    let process = Process::start(&mut command);
    process.wait_for("listening");
    Some(Gate {
        address,
        _process: process,
    })
}
