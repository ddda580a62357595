//! Ports that the tests may listen on.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

// Below what the kernel gives to outgoing connections: a port from there may be taken again by any
// connection of another test before its server listens.
const FIRST: u32 = 10_240;
const COUNT: u32 = 20_480;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A loopback address where nobody listens, given to one caller of this process only.
pub(crate) fn free() -> SocketAddr {
    // Another run of the tests, in another process, begins elsewhere.
    let offset = process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + offset.wrapping_add(next) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port");
}
