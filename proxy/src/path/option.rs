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
const TIMEOUTS: usize = 2;
const SCALES: usize = 6;
const RTT: std::ops::Range<usize> = 68..72;
const SENT_AGAIN: std::ops::Range<usize> = 100..104;
/// `TCP_REPAIR_ON`, and `TCP_REPAIR_OFF_NO_WP`: without a probe of the peer's window.
const ON: i32 = 1;
const OFF: i32 = -1;

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
    /// Whether a connection's state may be written ([`ON`], [`OFF`]): made for checkpoints, and for who
    /// has CAP_NET_ADMIN.
    Repair,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR,
    i32
);
sockopt_impl!(
    /// The windows of a connection: `snd_wl1`, `snd_wnd`, `max_window`, `rcv_wnd`, `rcv_wup`.
    RepairWindow,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR_WINDOW,
    [u32; 5]
);
sockopt_impl!(
    /// What the kernel knows of a connection.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u8; INFO]
);

/// What the kernel has seen of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Its estimate of the round trip, where it has one. Before anything was sent that is what the first
    /// packets took, and nothing of the peer's process is in it.
    pub(super) round_trip: Option<Duration>,
    /// The largest window, in bytes, that the peer has units for.
    pub(super) offers: usize,
    /// Segments sent again.
    pub(super) sent_again: u32,
    /// Timeouts in a row, with nothing acknowledged since the first.
    pub(super) timeouts: u8,
}

/// Asks the kernel.
pub(super) fn seen(socket: &impl AsFd) -> Seen {
    let Ok(info) = getsockopt(socket, TcpInfo) else {
        return Seen::default();
    };
    let number = |range| {
        let bytes: Option<[u8; 4]> = info.get::<std::ops::Range<usize>>(range)?.try_into().ok();
        bytes.map(u32::from_ne_bytes)
    };
    let microseconds = number(RTT).unwrap_or_default();
    // Two of four bits each: the peer's, then ours.
    let scales = info.get(SCALES).copied().unwrap_or_default();
    let scale = if cfg!(target_endian = "little") {
        scales & 0xf
    } else {
        scales >> 4
    };
    Seen {
        round_trip: (microseconds > 0).then(|| Duration::from_micros(microseconds.into())),
        offers: 1 << (16 + scale),
        sent_again: number(SENT_AGAIN).unwrap_or_default(),
        timeouts: info.get(TIMEOUTS).copied().unwrap_or_default(),
    }
}

/// A socket as it was before [`make_room`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The receive buffer, in the kernel's count.
    buffer: usize,
    /// SO_REUSEADDR, which [`Repair`] takes away.
    reuse: bool,
}

/// Whether a kernel can do what [`Room::give_back`] asks of it, and lets this process do it.
pub(super) fn can_give_back(socket: &impl AsFd) -> bool {
    let set = setsockopt(socket, BufLock, &0).and_then(|()| setsockopt(socket, Repair, &ON));
    set.and_then(|()| setsockopt(socket, Repair, &OFF)).is_ok()
}

/// Gives a socket a large receive buffer until its connection stands. The kernel settles by it, in the
/// SYN or the answer to one, in what units windows are told, for good (RFC 7323 §2).
///
/// `None`: the kernel does not let this process do so.
pub(crate) fn make_room(socket: &impl AsFd, size: usize) -> Option<Room> {
    let room = Room {
        buffer: getsockopt(socket, sockopt::RcvBuf).ok()?,
        reuse: getsockopt(socket, sockopt::ReuseAddr).ok()?,
    };
    setsockopt(socket, sockopt::RcvBufForce, &size).ok()?;
    Some(room)
}

impl Room {
    /// Makes of a connection what it would be without: the kernel tunes its buffer again, from as small
    /// as ever, for nobody has proved yet who is at the other end.
    ///
    /// With the buffer the kernel had settled how much may come at once, all of it; neither is the peer
    /// told so before our first answer, nor does the kernel ever take a window back. So it is written
    /// over. Otherwise a peer that is faster than we are would send what there is no room for, which is
    /// dropped and sent again.
    pub(crate) fn give_back(self, socket: &impl AsFd) {
        // The kernel doubles what it is given.
        let size = self.buffer / 2;
        if setsockopt(socket, sockopt::RcvBufForce, &size).is_err() {
            let _ = setsockopt(socket, sockopt::RcvBuf, &size);
        }
        let window = u32::try_from(size).unwrap_or(u32::MAX);
        let _ = setsockopt(socket, WindowClamp, &window);
        if setsockopt(socket, Repair, &ON).is_ok() {
            if let Ok([wl1, wnd, max, receive, up]) = getsockopt(socket, RepairWindow) {
                let windows = [wl1, wnd, max, receive.min(window), up];
                let _ = setsockopt(socket, RepairWindow, &windows);
            }
            let _ = setsockopt(socket, Repair, &OFF);
            let _ = setsockopt(socket, sockopt::ReuseAddr, &self.reuse);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{MOST, System};

    #[test]
    fn what_was_made_room_for_is_given_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        setsockopt(&listener, sockopt::ReuseAddr, &true).unwrap();
        let usual = getsockopt(&listener, sockopt::RcvBuf).unwrap();
        let room = make_room(&listener, MOST);
        assert_eq!(room.is_some(), System::now().forces);
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        if let Some(room) = room {
            assert_eq!(getsockopt(&accepted, sockopt::RcvBuf).unwrap(), 2 * MOST);
            room.give_back(&accepted);
        }
        assert_eq!(getsockopt(&accepted, sockopt::RcvBuf).unwrap(), usual);
        assert_eq!(getsockopt(&accepted, BufLock).unwrap(), 0);
        assert!(getsockopt(&accepted, sockopt::ReuseAddr).unwrap());
        if room.is_some() && System::now().makes_room() {
            let clamp = getsockopt(&accepted, WindowClamp).unwrap();
            assert_eq!(usize::try_from(clamp).unwrap(), usual / 2);
            setsockopt(&accepted, Repair, &ON).unwrap();
            let [.., window, _] = getsockopt(&accepted, RepairWindow).unwrap();
            setsockopt(&accepted, Repair, &OFF).unwrap();
            assert!(usize::try_from(window).unwrap() <= usual / 2, "{window}");
        }
    }

    #[test]
    fn buffers_hold_what_they_say() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let seen = seen(&client);
        assert!(seen.round_trip.is_some());
        assert!(seen.offers >= 1 << 16, "{seen:?}");
        assert_eq!(receive_buffer(&client, 64 << 10), Some(64 << 10));
        assert_eq!(send_buffer(&client, 64 << 10), Some(64 << 10));
        let most = receive_buffer(&client, MOST).unwrap();
        assert_eq!(
            most == MOST,
            System::now().forces || System::now().receive.asked >= MOST
        );
    }
}
