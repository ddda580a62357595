//! Load generators in the manner of iperf3: one stream, as fast as it goes, counted where it
//! arrives.
//!
//! Plain threads and blocking sockets: the load must not share a runtime with what it measures.

pub mod service;
pub mod stream;

use std::{net::TcpStream, os::fd::AsFd};

use nix::sys::socket::{setsockopt, sockopt};

/// Asks for cubic, and returns what the socket has then: bbr, the default of some hosts, paces
/// loopback and halves it (reference/performance.md §1), so a figure must say which it had.
#[must_use]
pub fn choose_congestion(stream: &TcpStream) -> String {
    // Refused where the administrator does not allow it; the figure says so.
    let _ = setsockopt(&stream.as_fd(), sockopt::TcpCongestion, &"cubic".into());
    nix::sys::socket::getsockopt(&stream.as_fd(), sockopt::TcpCongestion)
        .map(|name| name.to_string_lossy().trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}
