//! Which process of this host holds a TCP connection.

use std::{
    ffi::OsStr,
    fs, io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use super::{PeerError, process};

/// Processes looked at in one search.
const MAX_PROCESSES: usize = 65_536;
/// Descriptors looked at in one search.
const MAX_DESCRIPTORS: usize = 1_000_000;
/// `TCP_TIME_WAIT` of the kernel's `net/tcp_states.h`.
const TIME_WAIT: u8 = 6;

/// The inode of the socket bound to `source` and connected to `destination`, by the kernel's
/// socket table (netlink sock_diag).
pub(super) fn inode(source: SocketAddr, destination: SocketAddr) -> Result<u32, PeerError> {
    // A dual-stack listener sees IPv4 clients as mapped addresses; the client's own socket is
    // IPv4, or IPv6 with the mapped address.
    let mapped = |address: SocketAddr| match address.ip().to_canonical() {
        IpAddr::V4(ip) => Some(SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())),
        IpAddr::V6(_) => None,
    };
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let found = query(plain(source), plain(destination)).or_else(|error| {
        match (mapped(source), mapped(destination)) {
            (Some(source), Some(destination)) => query(source, destination),
            _ => Err(error),
        }
    });
    found.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PeerError::NotFound,
        _ => PeerError::Kernel {
            what: "sock_diag",
            source: error,
        },
    })
}

fn query(source: SocketAddr, destination: SocketAddr) -> io::Result<u32> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut packet = NetlinkMessage::new(
        header,
        NetlinkPayload::from(SockDiagMessage::InetRequest(InetRequest {
            family: if source.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: source.port(),
                destination_port: destination.port(),
                source_address: source.ip(),
                destination_address: destination.ip(),
                interface_id: 0,
                cookie: [0xff; 8],
            },
        })),
    );
    packet.finalize();
    let mut request = vec![0; packet.buffer_len()];
    packet.serialize(&mut request);
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    socket.send(&request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer)
        .map_err(|error| io::Error::other(error.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
            let header = &response.header;
            let id = &header.socket_id;
            let same = id.source_port == source.port()
                && id.destination_port == destination.port()
                && id.source_address == source.ip()
                && id.destination_address == destination.ip();
            // The kernel falls back to a listening socket of that port, which is somebody else's;
            // a socket that its process has closed belongs to nobody and has no inode.
            if same && header.inode != 0 && header.state != TIME_WAIT {
                Ok(header.inode)
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        }
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The one process that has this socket open.
pub(super) fn holder(inode: u32) -> Result<i32, PeerError> {
    let kernel = |source| PeerError::Kernel {
        what: "/proc",
        source,
    };
    let mut found = None;
    let mut budget = MAX_DESCRIPTORS;
    let mut processes = 0;
    for entry in fs::read_dir("/proc").map_err(kernel)? {
        let name = entry.map_err(kernel)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        processes += 1;
        if processes > MAX_PROCESSES {
            return Err(PeerError::TooMany);
        }
        // Who has ended meanwhile does not hold it. Whom we may not look at may: but then the
        // agent is not root, and finds what it may see or nothing.
        if !search(pid, inode, &mut budget).unwrap_or(false) {
            if budget == 0 {
                return Err(PeerError::TooMany);
            }
            continue;
        }
        if found.replace(pid).is_some() {
            return Err(PeerError::Ambiguous);
        }
    }
    found.ok_or(PeerError::NotFound)
}

/// Whether the process has this socket open.
pub(super) fn holds(pid: i32, inode: u32) -> Result<bool, PeerError> {
    search(pid, inode, &mut MAX_DESCRIPTORS.clone()).map_err(|source| PeerError::Kernel {
        what: "/proc/PID/fd",
        source,
    })
}

fn search(pid: i32, inode: u32, budget: &mut usize) -> io::Result<bool> {
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir(process::path(pid, "fd"))? {
        if *budget == 0 {
            return Ok(false);
        }
        *budget -= 1;
        // A descriptor closed meanwhile is no error.
        let target = entry.and_then(|entry| fs::read_link(entry.path()));
        if target.is_ok_and(|target| target.as_os_str() == OsStr::new(&wanted)) {
            return Ok(true);
        }
    }
    Ok(false)
}
