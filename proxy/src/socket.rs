//! Socket options.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    endpoint::spec::{Side, SocketOptions},
    path::{self, Room},
};

/// Connections not yet accepted that the kernel keeps.
const BACKLOG: i32 = 4096;

/// A socket that was dialled gets what `side` says, and where that names no congestion control,
/// cubic where the peer is on this host: bbr paces loopback and veth (reference/performance.md §1).
/// Elsewhere the path decides, once there is a permit ([`path::open`]).
///
/// An option that the kernel refuses leaves a working socket; [`refused`] has said so before.
pub(crate) fn dialled(stream: &TcpStream, peer: SocketAddr, side: &Side) {
    set_options(stream, is_six(peer), side);
    if side.congestion().is_none() {
        let local =
            peer.ip().is_loopback() || stream.local_addr().is_ok_and(|own| own.ip() == peer.ip());
        favour_local(stream, local);
    }
}

/// The same for a socket that was accepted. It has the listener's options already, which are the
/// defaults; with cubic where that listens on `loopback`. What the listener made room for is given back.
pub(crate) fn accepted(
    stream: &TcpStream,
    peer: SocketAddr,
    side: &Side,
    loopback: bool,
    room: Option<Room>,
) {
    if let Some(room) = room {
        room.give_back(stream);
    }
    if side.socket != SocketOptions::default() || side.congestion().is_some() {
        set_options(stream, is_six(peer), side);
    }
    if side.congestion().is_none() && !loopback {
        let ip = peer.ip().to_canonical();
        let own = || {
            stream
                .local_addr()
                .is_ok_and(|own| own.ip().to_canonical() == ip)
        };
        favour_local(stream, ip.is_loopback() || own());
    }
}

/// Sets all options, once it is known whose socket it is.
pub(crate) fn set_all(stream: &TcpStream, side: &Side) {
    if let Ok(peer) = stream.peer_addr() {
        dialled(stream, peer, side);
    }
}

fn set_options(stream: &TcpStream, six: bool, side: &Side) {
    for (_, result) in set(&SockRef::from(stream), stream.as_fd(), &side.socket, six) {
        drop(result);
    }
    if let Some(name) = side.path.congestion.name() {
        let _ = setsockopt(stream, sockopt::TcpCongestion, &name.into());
    }
}

/// Packets to a mapped IPv4 address are IPv4's.
fn is_six(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_ipv6()
}

fn favour_local(socket: &impl AsFd, local: bool) {
    if local {
        let _ = setsockopt(&socket.as_fd(), sockopt::TcpCongestion, &"cubic".into());
    }
}

/// The options that this system refuses, by name, tried on a socket of their own.
#[must_use]
pub fn refused(options: &SocketOptions) -> Vec<(&'static str, io::Error)> {
    let socket = match Socket::new(Domain::IPV4, Type::STREAM, None) {
        Ok(socket) => socket,
        Err(error) => return vec![("socket", error)],
    };
    set(&SockRef::from(&socket), socket.as_fd(), options, false)
        .into_iter()
        .filter_map(|(name, result)| Some((name, result.err()?)))
        .collect()
}

fn set(
    socket: &SockRef<'_>,
    fd: BorrowedFd<'_>,
    options: &SocketOptions,
    six: bool,
) -> Vec<(&'static str, io::Result<()>)> {
    let mut done = vec![("nodelay", socket.set_tcp_nodelay(options.nodelay))];
    let keepalive = match options.keepalive {
        Some(keepalive) => {
            let keepalive = TcpKeepalive::new()
                .with_time(keepalive.time)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.retries);
            socket.set_tcp_keepalive(&keepalive)
        }
        // It may have been handed down.
        None => socket.set_keepalive(false),
    };
    done.push(("keepalive", keepalive));
    if let Some(name) = &options.congestion {
        let set = setsockopt(&fd, sockopt::TcpCongestion, &name.into());
        done.push(("congestion", set.map_err(Into::into)));
    }
    if let Some(size) = options.send_buffer {
        done.push(("send_buffer", socket.set_send_buffer_size(size)));
    }
    if let Some(size) = options.receive_buffer {
        done.push(("receive_buffer", socket.set_recv_buffer_size(size)));
    }
    if let Some(time) = options.user_timeout {
        done.push(("user_timeout", socket.set_tcp_user_timeout(Some(time))));
    }
    if let Some(dscp) = options.dscp {
        // The two bits below it are for congestion notification.
        let field = u32::from(dscp) << 2;
        let set = if six {
            socket.set_tclass_v6(field)
        } else {
            socket.set_tos_v4(field)
        };
        done.push(("dscp", set));
    }
    done
}

/// Opens a listening TCP socket, whose options the sockets that it accepts begin with: the defaults,
/// and cubic on loopback. Elsewhere it makes room for windows of at least `window` bytes, where this
/// process may.
///
/// # Errors
/// What the system says, for example that the address is in use.
pub(crate) fn listen(
    address: SocketAddr,
    window: usize,
) -> io::Result<(std::net::TcpListener, Option<Room>)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    for (_, result) in set(
        &SockRef::from(&socket),
        socket.as_fd(),
        &SocketOptions::default(),
        address.is_ipv6(),
    ) {
        drop(result);
    }
    let loopback = address.ip().is_loopback();
    favour_local(&socket, loopback);
    let may = !loopback && path::System::now().makes_room();
    let room = may.then(|| path::make_room(&socket, window));
    socket.listen(BACKLOG)?;
    Ok((socket.into(), room.flatten()))
}

/// Dials. The socket has made room for windows of at least `window` bytes where the peer is elsewhere
/// and this process may, and given it back when this returns.
///
/// # Errors
/// What the system says.
pub(crate) async fn dial(address: SocketAddr, window: usize) -> io::Result<TcpStream> {
    if address.ip().to_canonical().is_loopback() || !path::System::now().makes_room() {
        return TcpStream::connect(address).await;
    }
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    let room = path::make_room(&socket, window);
    let stream = socket.connect(address).await?;
    if let Some(room) = room {
        room.give_back(&stream);
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::endpoint::spec::Keepalive;

    #[tokio::test]
    async fn what_an_endpoint_says_of_its_sockets_is_what_the_kernel_has() {
        let (listener, room) = listen("127.0.0.1:0".parse().unwrap(), path::MOST).unwrap();
        assert!(room.is_none());
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let options = SocketOptions {
            congestion: Some("reno".into()),
            send_buffer: Some(64 * 1024),
            receive_buffer: Some(32 * 1024),
            nodelay: false,
            keepalive: Some(Keepalive {
                time: Duration::from_secs(7),
                interval: Duration::from_secs(3),
                retries: 2,
            }),
            user_timeout: Some(Duration::from_millis(1500)),
            dscp: Some(10),
        };
        assert!(refused(&options).is_empty());
        let side = Side {
            socket: options,
            ..Side::default()
        };
        dialled(&stream, address, &side);
        let socket = SockRef::from(&stream);
        // The kernel doubles them, for its own bookkeeping (socket(7)).
        assert_eq!(socket.send_buffer_size().unwrap(), 128 * 1024);
        assert_eq!(socket.recv_buffer_size().unwrap(), 64 * 1024);
        assert!(!socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(3)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(socket.tos_v4().unwrap(), 40);
        assert_eq!(congestion(&stream), "reno");
    }

    fn congestion(stream: &TcpStream) -> String {
        let name = nix::sys::socket::getsockopt(&stream.as_fd(), sockopt::TcpCongestion).unwrap();
        name.to_string_lossy().trim_end_matches('\0').to_owned()
    }

    #[tokio::test]
    async fn a_peer_on_this_host_gets_cubic_and_what_the_kernel_lacks_is_told() {
        let (listener, room) = listen("127.0.0.1:0".parse().unwrap(), path::MOST).unwrap();
        assert!(room.is_none());
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        dialled(&stream, address, &Side::default());
        assert_eq!(congestion(&stream), "cubic");
        listener.set_nonblocking(false).unwrap();
        let (other, peer) = listener.accept().unwrap();
        other.set_nonblocking(true).unwrap();
        let other = TcpStream::from_std(other).unwrap();
        accepted(&other, peer, &Side::default(), true, None);
        assert_eq!(congestion(&other), "cubic");
        let socket = SockRef::from(&other);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(60)
        );
        let unknown = SocketOptions {
            congestion: Some("nonesuch".into()),
            ..SocketOptions::default()
        };
        let refused: Vec<_> = refused(&unknown)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(refused, ["congestion"]);
    }
}
