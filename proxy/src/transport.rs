//! The socket below a side of a connection.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BytesMut, buf::Limit};
use nix::fcntl::{SpliceFFlags, splice};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

use crate::path::{self, PathDetails};

/// A socket.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

/// A socket on its way from one worker to another.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Makes it a socket of the runtime that this is called on.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub(crate) fn attach(self) -> io::Result<Transport> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Transport::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Transport::Unix),
        }
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Transport::Tcp($stream) => $call,
            Transport::Unix($stream) => $call,
        }
    };
}

/// What a call on a socket that is not ready gives.
fn not_ready<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl Transport {
    /// Makes closing it a reset: the other side must not take a broken stream for a whole one.
    pub(crate) fn abort_on_close(&self) {
        if let Self::Tcp(stream) = self {
            // A socket that refuses is closed in order, which only delays.
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Where the peer is, of TCP.
    pub(crate) fn peer_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// What is seen of the path to the peer, where that is not on this host.
    pub(crate) fn look_at_path(&self) -> Option<Box<PathDetails>> {
        match self {
            Self::Tcp(stream) => path::look(stream, stream.peer_addr().ok()?),
            Self::Unix(_) => None,
        }
    }

    /// Closes the writing side and reads what is under way, up to a bound, so that the kernel does
    /// not turn our last words (an alert) into a reset.
    pub(crate) async fn close_gently(mut self) {
        const BYTES: u64 = 256 * 1024;
        const TIME: Duration = Duration::from_secs(2);
        if self.shutdown().await.is_err() {
            return;
        }
        let mut rest = self.take(BYTES);
        let mut sink = tokio::io::sink();
        // Whether it ends by EOF, bound or error makes no difference.
        let _ = tokio::time::timeout(TIME, tokio::io::copy(&mut rest, &mut sink)).await;
    }

    /// Looks at what has come and leaves it where it is; 0 at the end of the stream. Of TCP only.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(buffer).await,
            Self::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Reads exactly as much as `buffer` holds.
    pub(crate) async fn read_exactly(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact(buffer).await.map(drop)
    }

    /// Takes it from the runtime that watches it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Self::Unix(stream) => stream.into_std().map(Detached::Unix),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_write_ready(cx))
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read_ready(cx))
    }

    /// Reads what has come, into `buffer`.
    ///
    /// A read that leaves room has emptied the socket: readiness is taken back, and the next call
    /// waits for an event instead of asking the kernel in vain. What comes in between raises a new
    /// event, for readiness is edge-triggered and events are taken on this same thread; an end of
    /// the stream cannot be taken back.
    pub(crate) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let room = buffer.len();
        loop {
            ready!(self.poll_read_ready(cx))?;
            match each!(self, stream => stream.try_read(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => {
                    self.emptied(count, room);
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads what has come behind what a buffer holds, which has room for as much as it may take. Readiness
    /// is as with [`Transport::poll_fill`].
    ///
    /// # Errors
    /// What the system says; `WouldBlock` where nothing has come.
    pub(crate) fn read_buf_now(&self, buffer: &mut Limit<&mut BytesMut>) -> io::Result<usize> {
        let room = buffer.limit();
        let count = each!(self, stream => stream.try_read_buf(buffer))?;
        self.emptied(count, room);
        Ok(count)
    }

    /// Reads what has come, if anything has.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` where nothing has come.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_read(buffer))
    }

    /// The same as [`Transport::poll_fill`] into several buffers, which hold `room` bytes together.
    pub(crate) fn poll_fill_vectored(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        room: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match each!(self, stream => stream.try_read_vectored(buffers)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(count) => {
                    self.emptied(count, room);
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn emptied(&self, count: usize, room: usize) {
        if 0 < count && count < room {
            let _ = each!(self, stream => stream.try_io(Interest::READABLE, not_ready::<()>));
        }
    }

    /// Writes as much as the kernel takes now; 0 where it takes nothing.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = each!(self, stream => stream.try_write(bytes));
        self.wrote(written, bytes.len())
    }

    /// The same of several pieces, `length` bytes together.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write_vectored_now(
        &self,
        pieces: &[IoSlice<'_>],
        length: usize,
    ) -> io::Result<usize> {
        let written = each!(self, stream => stream.try_write_vectored(pieces));
        self.wrote(written, length)
    }

    /// A write that was cut short has filled the socket: see [`Transport::poll_fill`].
    fn wrote(&self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match written {
            Ok(count) => {
                if count < length {
                    let _ =
                        each!(self, stream => stream.try_io(Interest::WRITABLE, not_ready::<()>));
                }
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// splice(2) between a socket and a pipe of the kernel: bytes that never come to this process.
impl Transport {
    /// Moves up to `room` bytes that have come into `pipe`, which is empty; 0 where splice(2) moves
    /// none, which says neither that there are none nor that the stream has ended: it stops before
    /// urgent data, for ever. Whoever gets 0 has to read.
    pub(crate) fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_read_ready(cx))?;
        let moved = each!(self, stream => stream.try_io(Interest::READABLE, || {
            match move_bytes(stream, pipe, room) {
                // An error of this kind would take the readiness back.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                moved => moved,
            }
        }));
        Poll::Ready(moved)
    }

    /// Moves what the kernel takes now of the `length` bytes in `pipe`; 0 where it takes nothing.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn splice_now(&self, pipe: BorrowedFd<'_>, length: usize) -> io::Result<usize> {
        let moved = each!(self, stream => stream.try_io(Interest::WRITABLE, || {
            move_bytes(pipe, stream, length)
        }));
        match moved {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }
}

fn move_bytes(from: impl AsFd, to: impl AsFd, length: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(splice(from, None, to, None, length, flags)?)
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    // Without this, a TLS layer that writes once before it gives up (an alert after other records)
    // would write the first of its records only.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
