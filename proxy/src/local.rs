//! Who on this host is at the other end of a plain side, by the kernel's word.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use nix::{
    sys::socket::SockaddrStorage,
    unistd::{Gid, Group, Uid, User},
};
use tokio::{net::UnixStream, time::Instant};

use crate::endpoint::spec::{LocalClient, LocalClients};

/// Accounts change seldom, and asking for them may go to an LDAP server.
const REMEMBER: Duration = Duration::from_secs(60);
/// `TCP_TIME_WAIT` of the kernel's `net/tcp_states.h`.
const TIME_WAIT: u8 = 6;
/// Accounts remembered at most.
const MAX_ACCOUNTS: usize = 4096;

/// A process's user, as the kernel and the account database tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalUser {
    /// The user's number.
    pub uid: u32,
    /// The process, where the socket tells it (Unix sockets do).
    pub pid: Option<i32>,
    /// Names and groups.
    pub account: Arc<Account>,
}

/// A line of the account database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The user's name; `None` for a number without one.
    pub user: Option<String>,
    /// Primary and supplementary groups: number and, where it has one, name.
    pub groups: Vec<(u32, Option<String>)>,
}

impl LocalUser {
    /// Whether one of the lines names this user or a group of it.
    #[must_use]
    pub fn is_among(&self, clients: &LocalClients) -> bool {
        let LocalClients::Only(lines) = clients else {
            return true;
        };
        lines.iter().any(|line| match line {
            LocalClient::User(name) => {
                self.account.user.as_ref() == Some(name) || name.parse() == Ok(self.uid)
            }
            LocalClient::Group(name) => self
                .account
                .groups
                .iter()
                .any(|(gid, group)| group.as_ref() == Some(name) || name.parse() == Ok(*gid)),
        })
    }

    /// Its name, or else its number.
    #[must_use]
    pub fn name(&self) -> String {
        self.account
            .user
            .clone()
            .unwrap_or_else(|| self.uid.to_string())
    }
}

/// Asks kernel and account database, and remembers accounts for a minute.
#[derive(Debug, Default)]
pub struct LocalUsers {
    accounts: Mutex<HashMap<u32, (Instant, Arc<Account>)>>,
}

impl LocalUsers {
    /// The process that connected to a Unix socket, by SO_PEERCRED.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn of_unix(&self, stream: &UnixStream) -> io::Result<LocalUser> {
        let credentials = stream.peer_cred()?;
        Ok(LocalUser {
            uid: credentials.uid(),
            pid: credentials.pid(),
            account: self.account(credentials.uid()).await,
        })
    }

    /// The process of this host that connected from `client` to `own`, by the kernel's socket
    /// table (netlink sock_diag).
    ///
    /// # Errors
    /// `NotFound` when no process of this host holds such a socket (any more), else what the
    /// system says.
    pub async fn of_tcp(&self, client: SocketAddr, own: SocketAddr) -> io::Result<LocalUser> {
        let uid = socket_owner(client, own)?;
        Ok(LocalUser {
            uid,
            pid: None,
            account: self.account(uid).await,
        })
    }

    /// Whether `ip` is an address of this host. What cannot be told is: nobody becomes a remote
    /// client by a failure of ours.
    #[must_use]
    pub fn is_own_address(ip: IpAddr) -> bool {
        if ip.is_loopback() {
            return true;
        }
        let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
            return true;
        };
        interfaces
            .filter_map(|interface| interface.address)
            .any(|address| {
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
                v4.or(v6).is_some_and(|own| own.to_canonical() == ip)
            })
    }

    /// Whether `peer` is in a network that an interface of this host is in.
    pub(crate) fn is_on_link(peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        let Ok(mut interfaces) = nix::ifaddrs::getifaddrs() else {
            return false;
        };
        interfaces.any(|interface| {
            let ip = |address: Option<SockaddrStorage>| {
                let address = address?;
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
                v4.or(v6)
            };
            let net = ip(interface.address).zip(ip(interface.netmask));
            net.and_then(|(own, mask)| IpNet::with_netmask(own, mask).ok())
                .is_some_and(|net| net.contains(&peer))
        })
    }

    async fn account(&self, uid: u32) -> Arc<Account> {
        let known = || self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, account)) = known().get(&uid)
            && since.elapsed() < REMEMBER
        {
            return Arc::clone(account);
        }
        // The database may be a file or a server: not on a worker's thread.
        let account = tokio::task::spawn_blocking(move || look_up(uid)).await;
        let Ok(Some(account)) = account else {
            // A database that does not answer says nothing of tomorrow.
            return Arc::default();
        };
        let account = Arc::new(account);
        let mut known = known();
        if known.len() >= MAX_ACCOUNTS {
            known.clear();
        }
        known.insert(uid, (Instant::now(), Arc::clone(&account)));
        account
    }
}

/// `None` when the database cannot be asked. What it does not know is left out: such a user is in
/// no list but by number.
fn look_up(uid: u32) -> Option<Account> {
    let Some(user) = User::from_uid(Uid::from_raw(uid)).ok()? else {
        return Some(Account::default());
    };
    let gids = std::ffi::CString::new(user.name.as_str())
        .ok()
        .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
        .unwrap_or_else(|| vec![user.gid]);
    let name = |gid: Gid| Group::from_gid(gid).ok().flatten().map(|group| group.name);
    Some(Account {
        groups: gids
            .into_iter()
            .map(|gid| (gid.as_raw(), name(gid)))
            .collect(),
        user: Some(user.name),
    })
}

/// The user that owns the TCP socket bound to `source` and connected to `destination`.
fn socket_owner(source: SocketAddr, destination: SocketAddr) -> io::Result<u32> {
    // A dual-stack listener sees IPv4 clients as mapped addresses; the client's own socket is
    // IPv4, or IPv6 with the mapped address.
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let first = query(plain(source), plain(destination));
    match (&first, source.ip().to_canonical()) {
        (Err(_), IpAddr::V4(ip)) => {
            let IpAddr::V4(other) = destination.ip().to_canonical() else {
                return first;
            };
            let source = SocketAddr::new(ip.to_ipv6_mapped().into(), source.port());
            let destination = SocketAddr::new(other.to_ipv6_mapped().into(), destination.port());
            query(source, destination)
        }
        _ => first,
    }
}

thread_local! {
    // Opening one costs more than the question.
    static ASKING: RefCell<Option<Socket>> = const { RefCell::new(None) };
}

/// Asks the kernel by this thread's socket, which is closed if the answer did not come: nothing of
/// one question may be the answer to another.
fn ask(request: &[u8]) -> io::Result<Vec<u8>> {
    let socket = match ASKING.take() {
        Some(socket) => socket,
        None => {
            let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
            socket.bind_auto()?;
            socket.connect(&NetlinkAddr::new(0, 0))?;
            socket
        }
    };
    socket.send(request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    ASKING.set(Some(socket));
    Ok(answer)
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
    let answer = ask(&request)?;
    let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer)
        .map_err(|error| io::Error::other(error.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
            let id = &response.header.socket_id;
            let same = id.source_port == source.port()
                && id.destination_port == destination.port()
                && id.source_address == source.ip()
                && id.destination_address == destination.ip();
            // The kernel falls back to a listening socket of that port, which is somebody else's;
            // and a socket that its process has closed belongs to nobody, which it shows as root
            // without an inode.
            let held = response.header.inode != 0 && response.header.state != TIME_WAIT;
            if same && held {
                Ok(response.header.uid)
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        }
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_of_this_host_and_a_documentation_address_is_not() {
        assert!(LocalUsers::is_own_address("127.0.0.9".parse().unwrap()));
        assert!(LocalUsers::is_own_address("::1".parse().unwrap()));
        // RFC 5737, which nobody has.
        assert!(!LocalUsers::is_own_address("192.0.2.250".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_socket_that_its_process_has_closed_is_nobodys() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(own).unwrap();
        let client = stream.local_addr().unwrap();
        let users = LocalUsers::default();
        let uid = nix::unistd::getuid().as_raw();
        assert_eq!(users.of_tcp(client, own).await.unwrap().uid, uid);
        drop(stream);
        // The kernel still knows the connection, which nobody has accepted.
        let error = users.of_tcp(client, own).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
