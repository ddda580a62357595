//! The kernel's socket table, asked by netlink (sock_diag(7)). Nobody needs privileges for it, and what is
//! seen is the network namespace of the thread that opened it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

use super::answer::{self, Connection};

/// Connections of an answer that are kept, at most.
pub const MOST: usize = 65_536;

/// A way to ask.
#[derive(Debug)]
pub struct Kernel(Socket);

/// Which connections are wanted, by their ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Of this end; 0: any.
    pub local: u16,
    /// Of the other end; 0: any.
    pub remote: u16,
}

impl Kernel {
    /// Opens one.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn open() -> io::Result<Self> {
        let asked = |error: io::Error| {
            io::Error::new(error.kind(), format!("the kernel's socket table: {error}"))
        };
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(asked)?;
        socket.bind_auto().map_err(asked)?;
        socket.connect(&NetlinkAddr::new(0, 0)).map_err(asked)?;
        Ok(Self(socket))
    }

    /// The connection from `local`, an address of this host, to `remote`; `None` where there is none.
    ///
    /// # Errors
    /// When the system does not answer.
    pub fn one(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Connection>> {
        let ids = |local: IpAddr, remote: IpAddr, ports: (u16, u16)| SocketId {
            source_port: ports.0,
            destination_port: ports.1,
            source_address: local,
            destination_address: remote,
            interface_id: 0,
            cookie: [0xff; 8],
        };
        let (here, there) = (local.ip().to_canonical(), remote.ip().to_canonical());
        let id = ids(here, there, (local.port(), remote.port()));
        self.send(id, NLM_F_REQUEST, StateFlags::all())?;
        let (datagram, _) = self.0.recv_from_full()?;
        let answer = answer::parse(&datagram);
        if let Some(number) = answer.error {
            let error = io::Error::from_raw_os_error(number);
            return match error.kind() {
                io::ErrorKind::NotFound => Ok(None),
                _ => Err(error),
            };
        }
        // The kernel falls back to a listening socket of that port.
        let same = |one: &Connection| {
            one.local == SocketAddr::new(here, local.port())
                && one.remote == SocketAddr::new(there, remote.port())
        };
        Ok(answer.connections.into_iter().find(same))
    }

    /// Connections that may carry something, at most [`MOST`].
    ///
    /// # Errors
    /// When the system does not answer.
    pub fn all(&self, ports: Ports) -> io::Result<Vec<Connection>> {
        let mut found = Vec::new();
        let states = StateFlags::ESTABLISHED
            | StateFlags::CLOSE_WAIT
            | StateFlags::FIN_WAIT1
            | StateFlags::FIN_WAIT2;
        for mut id in [SocketId::new_v4(), SocketId::new_v6()] {
            id.source_port = ports.local;
            id.destination_port = ports.remote;
            self.send(id, NLM_F_REQUEST | NLM_F_DUMP, states.clone())?;
            loop {
                // Read to the end even where no more is kept, or the next answer would be this one.
                let (datagram, _) = self.0.recv_from_full()?;
                let answer = answer::parse(&datagram);
                if let Some(number) = answer.error {
                    return Err(io::Error::from_raw_os_error(number));
                }
                let room = MOST.saturating_sub(found.len());
                found.extend(answer.connections.into_iter().take(room));
                if answer.is_last || datagram.is_empty() {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn send(&self, socket_id: SocketId, flags: u16, states: StateFlags) -> io::Result<()> {
        let family = if socket_id.source_address.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        };
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut packet = NetlinkMessage::new(
            header,
            NetlinkPayload::from(SockDiagMessage::InetRequest(InetRequest {
                family,
                protocol: IPPROTO_TCP,
                extensions: ExtensionFlags::INFO | ExtensionFlags::CONG | ExtensionFlags::SKMEMINFO,
                states,
                socket_id,
            })),
        );
        packet.finalize();
        let mut request = vec![0; packet.buffer_len()];
        packet.serialize(&mut request);
        self.0.send(&request, 0).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn both_ends(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let own = listener.local_addr().unwrap();
        let mut stream = TcpStream::connect(own).unwrap();
        let local = stream.local_addr().unwrap();
        let (accepted, _) = listener.accept().unwrap();
        stream.write_all(&[7; 1000]).unwrap();
        let kernel = Kernel::open().unwrap();
        let sender = kernel.one(local, own).unwrap().unwrap();
        assert_eq!((sender.local, sender.remote), (local, own));
        assert!(sender.inode != 0 && !sender.congestion.is_empty());
        let receiver = kernel.one(own, local).unwrap().unwrap();
        assert_eq!(receiver.sample.receive_queue, 1000);
        assert!(receiver.sample.memory.unwrap().receive >= 1000);
        // The same by the list.
        let ports = Ports {
            remote: own.port(),
            ..Ports::default()
        };
        let all = kernel.all(ports).unwrap();
        assert!(all.iter().any(|one| one.local == local), "{all:?}");
        drop(accepted);
    }

    #[test]
    fn a_connection_of_this_host_is_found_at_both_ends() {
        both_ends("127.0.0.1:0");
        both_ends("[::1]:0");
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let kernel = Kernel::open().unwrap();
        let here = "127.0.0.1:1".parse().unwrap();
        let there = "192.0.2.1:1".parse().unwrap();
        assert_eq!(kernel.one(here, there).unwrap(), None);
        // And the next question has its own answer.
        both_ends("127.0.0.1:0");
    }
}
