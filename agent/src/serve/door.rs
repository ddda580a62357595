//! Connections, each with the process at its other end.

use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use sekisho_certs::socket;
use sekisho_spire_api::lenient::Lenient;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::idle::{Calls, Idle};
use crate::workload::{Accepted, Peer, PeerError};

/// For everybody on this host: who asks is found out, not admitted.
pub(super) const EVERYBODY: u32 = 0o777;
/// For the owner alone.
pub(super) const OWNER: u32 = 0o700;
/// Connections at one door.
const MOST: usize = 4096;
/// Connections of one user among them.
const MOST_OF_ONE: usize = 1024;
/// Connections that wait to be served.
const READY: usize = 16;
/// Wait after the system has refused a connection: it would do so again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What comes in at a door.
pub(super) type Connections = ReceiverStream<io::Result<Known>>;

/// A connection with the process at its other end, or why that is not known.
pub(super) type Who = Arc<Result<Peer, PeerError>>;

/// What calls are told of the connection by which they come.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) who: Who,
    pub(super) calls: Arc<Calls>,
}

/// Either kind of connection.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection, what is known of it, and its place among those of its user.
pub(super) struct Known {
    stream: Lenient<Stream>,
    about: Connection,
    idle: Idle,
    _place: Place,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}

/// How many connections whom has.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<u32, usize>>);

struct Place {
    places: Arc<Places>,
    user: u32,
}

impl Places {
    fn take(self: &Arc<Self>, user: u32) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let own = counts.entry(user).or_default();
        if all >= MOST || *own >= MOST_OF_ONE {
            return None;
        }
        *own += 1;
        Some(Place {
            places: Arc::clone(self),
            user,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = counts.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

/// Listens at `path`. A socket that nobody listens at any more is put away.
pub(super) fn unix(path: &Path, mode: u32) -> io::Result<Connections> {
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
    {
        // Whoever may enter is told by the socket's own mode.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
    }
    let listener = UnixListener::from_std(socket::listen(path, mode)?)?;
    let (ready, connections) = mpsc::channel(READY);
    tokio::spawn(async move {
        let places = Arc::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let at = Accepted::now();
            match accepted {
                Ok((stream, _)) => {
                    let who = Peer::of_socket(&stream, at);
                    hand_over(Stream::Unix(stream), who, &places, &ready).await;
                }
                Err(error) => pause(&error).await,
            }
        }
    });
    Ok(ReceiverStream::new(connections))
}

/// Listens on loopback.
pub(super) async fn tcp(address: SocketAddr) -> io::Result<(Connections, SocketAddr)> {
    if !address.ip().is_loopback() {
        let text = "the Workload API is served on loopback only: who asks cannot be told elsewhere";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    let (ready, connections) = mpsc::channel(READY);
    tokio::spawn(async move {
        let places = Arc::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let (places, ready) = (Arc::clone(&places), ready.clone());
                    tokio::spawn(async move {
                        // It reads a good part of /proc.
                        let found =
                            tokio::task::spawn_blocking(move || Peer::of_tcp(local, remote));
                        let who = found.await.unwrap_or(Err(PeerError::NotFound));
                        hand_over(Stream::Tcp(stream), who, &places, &ready).await;
                    });
                }
                Err(error) => pause(&error).await,
            }
        }
    });
    Ok((ReceiverStream::new(connections), local))
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "connection not accepted");
    tokio::time::sleep(PAUSE).await;
}

async fn hand_over(
    stream: Stream,
    who: Result<Peer, PeerError>,
    places: &Arc<Places>,
    ready: &mpsc::Sender<io::Result<Known>>,
) {
    // Those who are not known share one place in the count.
    let user = who.as_ref().map_or(u32::MAX, Peer::uid);
    let Some(place) = places.take(user) else {
        tracing::warn!(user, "too many connections of one user, or of all");
        return;
    };
    let calls = Calls::new();
    let known = Known {
        stream: Lenient::new(stream),
        idle: Idle::of(Arc::clone(&calls)),
        about: Connection {
            who: Arc::new(who),
            calls,
        },
        _place: place,
    };
    // Where nobody takes it, the door is closing.
    let _ = ready.send(Ok(known)).await;
}

impl Connected for Known {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.about.clone()
    }
}

impl AsyncRead for Known {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            return ready;
        }
        // As if the other end had closed.
        self.idle.poll(cx).map(Ok)
    }
}

impl AsyncWrite for Known {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
