//! Socket options.

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

/// Connections not yet accepted that the kernel keeps.
const BACKLOG: i32 = 4096;

/// What every data socket gets: no delay for small messages, keepalive so that a peer that is gone
/// is noticed, and cubic where the peer is on this host (bbr paces loopback and veth:
/// reference/performance.md §1). An option that the kernel refuses leaves a working socket.
pub(crate) fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let local = stream
        .peer_addr()
        .ok()
        .zip(stream.local_addr().ok())
        .is_some_and(|(peer, own)| peer.ip().is_loopback() || peer.ip() == own.ip());
    if local {
        let _ = setsockopt(&stream.as_fd(), sockopt::TcpCongestion, &"cubic".into());
    }
}

/// Opens a listening TCP socket.
///
/// # Errors
/// What the system says, for example that the address is in use.
pub(crate) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
