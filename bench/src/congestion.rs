//! Congestion control of a socket.
//!
//! bbr, the default of some hosts, paces loopback too and halves it, so a figure must say which
//! algorithm it had.

use std::{io, net::TcpStream, os::fd::AsFd as _};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// Asks for `name`, or leaves what the host chose.
///
/// # Errors
/// When the host does not allow it: the message names the setting that does.
pub fn choose(stream: &TcpStream, name: Option<&str>) -> io::Result<()> {
    let Some(name) = name else { return Ok(()) };
    let wanted = std::ffi::OsString::from(name);
    setsockopt(&stream.as_fd(), sockopt::TcpCongestion, &wanted).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(
            error.kind(),
            format!(
                "congestion control {name}: {error}; the host allows what \
                 net.ipv4.tcp_allowed_congestion_control names"
            ),
        )
    })
}

/// What a socket has now, such as `cubic`; empty where the kernel does not say.
#[must_use]
pub fn of(stream: &TcpStream) -> String {
    getsockopt(&stream.as_fd(), sockopt::TcpCongestion)
        .map(|name| name.to_string_lossy().trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}
