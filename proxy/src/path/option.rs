//! Socket options that no library has ready, and what is done with them.
//!
//! The `unsafe` of these macros is nix's: a getter gives the kernel room for exactly its type and is
//! told how much was written, a setter tells how much there is to read; the types are plain numbers.

use std::{os::fd::AsFd, time::Duration};

use nix::{
    getsockopt_impl, libc, setsockopt_impl, sockopt_impl,
    sys::socket::{getsockopt, setsockopt, sockopt},
};

/// The part of the kernel's `struct tcp_info` that every kernel has, and where the parts are that are
/// read (`include/uapi/linux/tcp.h`).
const INFO: usize = 104;
const RTT: std::ops::Range<usize> = 68..72;

sockopt_impl!(
    /// Which buffers keep the size that they were given (bits: 1 sending, 2 receiving). Since Linux
    /// 5.14; with 0 the kernel tunes both again.
    BufLock,
    Both,
    libc::SOL_SOCKET,
    libc::SO_BUF_LOCK,
    u32
);
sockopt_impl!(
    /// The largest window that is offered.
    WindowClamp,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_WINDOW_CLAMP,
    u32
);
sockopt_impl!(
    /// What the kernel knows of a connection.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u8; INFO]
);

/// The kernel's estimate of the round trip, where it has one. Before anything was sent that is what the
/// first packets took, and nothing of the peer's process is in it.
pub(super) fn round_trip(socket: &impl AsFd) -> Option<Duration> {
    let info = getsockopt(socket, TcpInfo).ok()?;
    let microseconds = info.get(RTT)?.try_into().ok().map(u32::from_ne_bytes)?;
    (microseconds > 0).then(|| Duration::from_micros(microseconds.into()))
}

/// A receive buffer as it was before [`make_room`], in the kernel's count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room(usize);

/// Gives a socket a large receive buffer until its connection stands. The kernel settles by it, in the
/// SYN or the answer to one, in what units windows are told, for good (RFC 7323 §2).
///
/// `None`: the kernel does not let this process do so, or (before Linux 5.14) could not take it back.
pub(crate) fn make_room(socket: &impl AsFd, size: usize) -> Option<Room> {
    let was = getsockopt(socket, sockopt::RcvBuf).ok()?;
    setsockopt(socket, BufLock, &0).ok()?;
    setsockopt(socket, sockopt::RcvBufForce, &size).ok()?;
    Some(Room(was))
}

impl Room {
    /// Gives the buffer back to the kernel to tune, as small as it was: nobody has proved yet who is at
    /// the other end.
    pub(crate) fn give_back(self, socket: &impl AsFd) {
        // The kernel doubles what it is given.
        let size = self.0 / 2;
        if setsockopt(socket, sockopt::RcvBufForce, &size).is_err() {
            let _ = setsockopt(socket, sockopt::RcvBuf, &size);
        }
        let _ = setsockopt(socket, BufLock, &0);
    }
}

/// Sets a receive buffer of `size` bytes, past `rmem_max` where this process may, and returns what it
/// became.
pub(super) fn receive_buffer(socket: &impl AsFd, size: usize) -> Option<usize> {
    if setsockopt(socket, sockopt::RcvBufForce, &size).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &size).ok()?;
    }
    let is = getsockopt(socket, sockopt::RcvBuf).ok()?;
    // The window was bounded by the buffer that there was when the connection began. It stays within
    // the new one by the kernel's own rule.
    let clamp = u32::try_from(is).unwrap_or(u32::MAX);
    let _ = setsockopt(socket, WindowClamp, &clamp);
    Some(is / 2)
}

/// The same of a send buffer.
pub(super) fn send_buffer(socket: &impl AsFd, size: usize) -> Option<usize> {
    if setsockopt(socket, sockopt::SndBufForce, &size).is_err() {
        setsockopt(socket, sockopt::SndBuf, &size).ok()?;
    }
    Some(getsockopt(socket, sockopt::SndBuf).ok()? / 2)
}
