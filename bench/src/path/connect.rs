//! A connection with the options that were asked for.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::error::Error;
use crate::congestion;

/// How long a host may take to answer at all.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the other end may be silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Connects. Buffers are set before: the scale of windows is agreed on at the handshake.
pub(super) fn connect(
    address: SocketAddr,
    buffer: Option<u64>,
    congestion: Option<&str>,
) -> Result<TcpStream, Error> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if let Some(size) = buffer {
        buffers(&socket, size).map_err(Error::Option)?;
    }
    let stream = TcpStream::from(socket);
    congestion::choose(&stream, congestion).map_err(Error::Option)?;
    let unreachable = |error| Error::Unreachable { address, error };
    SockRef::from(&stream)
        .connect_timeout(&address.into(), CONNECT)
        .map_err(unreachable)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sets both buffers of a socket, beyond the host's bound where privileges allow it.
pub(super) fn buffers(socket: &impl AsFd, size: u64) -> io::Result<()> {
    let size = usize::try_from(size.min(1 << 30)).unwrap_or(1 << 30);
    let fd = socket.as_fd();
    if setsockopt(&fd, sockopt::SndBufForce, &size).is_err() {
        setsockopt(&fd, sockopt::SndBuf, &size)?;
    }
    if setsockopt(&fd, sockopt::RcvBufForce, &size).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &size)?;
    }
    Ok(())
}
