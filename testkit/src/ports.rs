//! Addresses to listen on.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports from which Linux takes those of connections (32768 and above): one of these could come
/// between the question whether a port is free and its use.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A loopback address that was free a moment ago, and that no other call in this process has had. Where the
/// server can listen on port 0 itself, let it: nobody can take its port in between then.
///
/// # Panics
/// When the host has no free port.
#[must_use]
pub fn free() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes at the same time begin far from each other: a large step that has no factor in common with
    // the count.
    let begin = std::process::id().wrapping_mul(7919) % COUNT;
    let mut tries = (0..COUNT).map(|_| {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST + begin.wrapping_add(turn) % COUNT
    });
    tries
        .find_map(|port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?));
            TcpListener::bind(address).ok()?.local_addr().ok()
        })
        .expect("a free port")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::free;

    #[test]
    fn none_comes_twice() {
        let all: HashSet<_> = (0..500).map(|_| free()).collect();
        assert_eq!(all.len(), 500);
    }
}
