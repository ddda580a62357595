//! Addresses to listen on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A loopback address that was free a moment ago. Where the server can listen on port 0 itself,
/// let it: nobody can take its port in between then.
///
/// # Panics
/// When the host has no free port.
#[must_use]
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("the address of a listener")
}
