//! `openssl s_client`.

use std::{net::SocketAddr, path::Path, process::Command};

use super::{Process, World};

/// A client for `address` that presents `<name>.pem`, or nothing, and believes any server. Its
/// standard input stays open, so that it goes on until the server ends it.
pub(crate) fn client(
    openssl: &Path,
    world: &World,
    address: SocketAddr,
    name: Option<&str>,
    more: &[&str],
) -> Process {
    let mut command = Command::new(openssl);
    command.arg("s_client").arg("-connect");
    command.arg(address.to_string());
    if let Some(name) = name {
        command.arg("-cert").arg(world.file(&format!("{name}.pem")));
        command.arg("-key").arg(world.file(&format!("{name}.key")));
    }
    Process::start_with_input(command.args(more))
}
