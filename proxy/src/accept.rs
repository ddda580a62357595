//! Listening sockets, and which endpoint a connection is for.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
};

use crate::{
    Shared, connection,
    endpoint::{
        Endpoint,
        spec::{Bind, EndpointSpec, Listen, LocalClients, Side, Timeouts},
    },
    handshake::gate::Gate,
    path::{self, Room},
    socket,
    socket_file::{self, SocketFile},
};

/// Pause after the system refused to accept, commonly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What listens at one address.
#[derive(Debug)]
pub(crate) struct Listener {
    table: watch::Sender<Arc<Table>>,
    pub(crate) gate: Arc<Gate>,
    stop: watch::Sender<bool>,
}

/// The endpoints of one address.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_name: HashMap<String, Arc<Endpoint>>,
    /// Answers where no server name was sent: the one marked so, or the only one.
    default: Option<Arc<Endpoint>>,
    pub(crate) tls: bool,
    pub(crate) handshakes: usize,
    pub(crate) handshake_time: Duration,
    proxy_from: Vec<IpNet>,
    /// Of the endpoint that is the only one here; else the defaults.
    side: Side,
}

impl Table {
    pub(crate) fn new<'a>(
        endpoints: impl Iterator<Item = (&'a EndpointSpec, &'a Arc<Endpoint>)>,
    ) -> Self {
        let mut table = Self {
            handshake_time: Timeouts::default().handshake,
            ..Self::default()
        };
        let mut marked = None;
        let mut sides = HashMap::new();
        for (spec, endpoint) in endpoints {
            table.tls = matches!(spec.listen, Listen::Mtls { .. });
            table.handshakes = table.handshakes.max(spec.limits.handshakes);
            // Until the ClientHello is read, nobody knows whose time it is.
            table.handshake_time = if table.by_name.is_empty() {
                spec.timeouts.handshake
            } else {
                table.handshake_time.max(spec.timeouts.handshake)
            };
            table.proxy_from.extend(&spec.proxy_protocol.accept_from);
            sides.insert(spec.server_name.clone(), spec.listening());
            if spec.default {
                marked = Some(Arc::clone(endpoint));
            }
            table
                .by_name
                .insert(spec.server_name.clone(), Arc::clone(endpoint));
        }
        let only = (table.by_name.len() == 1).then(|| table.by_name.values().next().cloned());
        table.default = marked.or_else(|| only.flatten());
        if let [side] = sides.into_values().collect::<Vec<_>>().as_slice() {
            table.side = side.clone();
        }
        table
    }

    /// The endpoint that answers to `name`. A name that nobody has is refused even where there is
    /// only one endpoint: the client wants somebody else.
    pub(crate) fn choose(&self, name: Option<&str>) -> Option<&Arc<Endpoint>> {
        match name {
            Some(name) => self.by_name.get(name),
            None => self.default.as_ref(),
        }
    }

    /// Whom a connection is counted for while its endpoint is not known.
    pub(crate) const fn likely(&self) -> Option<&Arc<Endpoint>> {
        self.default.as_ref()
    }

    /// What was set on sockets when they were accepted.
    pub(crate) const fn side(&self) -> &Side {
        &self.side
    }

    /// Whether a connection from `source` begins with a PROXY header.
    pub(crate) fn expects_header(&self, source: IpAddr) -> bool {
        // A dual-stack listener sees IPv4 clients as mapped addresses.
        let source = source.to_canonical();
        self.proxy_from.iter().any(|net| net.contains(&source))
    }
}

/// A socket that is bound but does not accept yet.
#[derive(Debug)]
pub(crate) enum Bound {
    /// With what it has made room for.
    Tcp(std::net::TcpListener, Option<Room>),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl Bound {
    /// Binds.
    ///
    /// # Errors
    /// What the system says, for example that the address is in use.
    pub(crate) fn open(bind: &Bind, spec: &EndpointSpec) -> io::Result<Self> {
        match bind {
            Bind::Tcp(address) => {
                let (listener, room) = socket::listen(*address, path::window(&spec.path.listen))?;
                Ok(Self::Tcp(listener, room))
            }
            Bind::Unix(path) => {
                let (listener, file) = socket_file::listen(path, mode(&spec.listen))?;
                Ok(Self::Unix(listener, file))
            }
        }
    }
}

/// With `local` the kernel tells us who comes, and the list decides with a reason; without it the
/// file's mode is the only gate.
const fn mode(listen: &Listen) -> u32 {
    match listen {
        Listen::Unix {
            local: LocalClients::Only(_),
            ..
        } => 0o666,
        _ => 0o660,
    }
}

impl Listener {
    /// Begins to accept on a bound socket.
    pub(crate) fn start(bound: Bound, table: Table, shared: &Arc<Shared>) -> Arc<Self> {
        let listener = Arc::new(Self {
            table: watch::Sender::new(Arc::new(table)),
            gate: Arc::default(),
            stop: watch::Sender::new(false),
        });
        if let Some(runtime) = shared.workers.acceptor() {
            let (shared, this) = (Arc::downgrade(shared), Arc::clone(&listener));
            let stop = listener.stop.subscribe();
            match bound {
                Bound::Tcp(socket, room) => {
                    runtime.spawn(accept_tcp(socket, room, stop, this, shared));
                }
                Bound::Unix(socket, file) => {
                    runtime.spawn(accept_unix(socket, file, stop, this, shared));
                }
            }
        }
        listener
    }

    /// The endpoints now.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.borrow())
    }

    /// Replaces the endpoints for connections to come.
    pub(crate) fn set_table(&self, table: Table, bind: &Bind, spec: &EndpointSpec) {
        if let Bind::Unix(path) = bind
            && let Err(error) = socket_file::set_mode(path, mode(&spec.listen))
        {
            tracing::error!(socket = %path.display(), %error, "mode of the socket not changed");
        }
        self.table.send_replace(Arc::new(table));
    }

    /// Stops accepting and closes the socket. Connections go on.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

async fn accept_tcp(
    socket: std::net::TcpListener,
    room: Option<Room>,
    mut stop: watch::Receiver<bool>,
    listener: Arc<Listener>,
    shared: Weak<Shared>,
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "cannot accept"),
    };
    let own = socket.local_addr();
    let begin = Begin {
        loopback: own.is_ok_and(|own| own.ip().is_loopback()),
        room,
    };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match accepted {
            Ok((stream, source)) => begin_tcp(stream, source, begin, &listener, &shared),
            Err(error) => refused_to_accept(&error).await,
        }
    }
}

/// With what the sockets of a listener begin.
#[derive(Clone, Copy, Debug)]
struct Begin {
    loopback: bool,
    room: Option<Room>,
}

fn begin_tcp(
    stream: TcpStream,
    source: SocketAddr,
    begin: Begin,
    listener: &Arc<Listener>,
    shared: &Arc<Shared>,
) {
    let table = listener.table();
    let Some(handshaking) = (if table.tls {
        listener.gate.enter(source.ip(), table.handshakes).map(Some)
    } else {
        Some(None)
    }) else {
        return connection::turned_away(shared, &table, Some(source));
    };
    // An endpoint that is chosen later, by server name, has its own set then.
    let Begin { loopback, room } = begin;
    socket::accepted(&stream, source, &table.side, loopback, room);
    let shared_too = Arc::clone(shared);
    if shared.workers.count() == 1 {
        // It is on the right runtime already.
        shared.workers.spawn(async move {
            connection::tcp(shared_too, table, stream, source, handshaking).await;
        });
    } else if let Ok(stream) = stream.into_std() {
        shared.workers.spawn(async move {
            // Here, on the worker: the socket belongs to its runtime from now on.
            if let Ok(stream) = TcpStream::from_std(stream) {
                connection::tcp(shared_too, table, stream, source, handshaking).await;
            }
        });
    }
}

async fn accept_unix(
    socket: std::os::unix::net::UnixListener,
    file: SocketFile,
    mut stop: watch::Receiver<bool>,
    listener: Arc<Listener>,
    shared: Weak<Shared>,
) {
    let socket = match UnixListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "cannot accept"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some(shared) = shared.upgrade() else {
            break;
        };
        match accepted {
            Ok((stream, _)) => {
                let table = listener.table();
                let Ok(stream) = stream.into_std() else {
                    continue;
                };
                let shared_too = Arc::clone(&shared);
                shared.workers.spawn(async move {
                    if let Ok(stream) = UnixStream::from_std(stream) {
                        connection::unix(shared_too, table, stream).await;
                    }
                });
            }
            Err(error) => refused_to_accept(&error).await,
        }
    }
    drop(file);
}

async fn refused_to_accept(error: &io::Error) {
    // A client that left before it was accepted is no fault of ours.
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tracing::error!(%error, "the system refuses to accept a connection");
        tokio::time::sleep(PAUSE).await;
    }
}
