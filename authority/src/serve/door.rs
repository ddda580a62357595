//! A connection at one of the doors, and what is known of it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use sekisho_federation::places::Place;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time,
};
use tonic::transport::server::Connected;

use crate::caller::Connection;

/// Wait after the system has refused a connection: too many files are open, and it would do so again
/// at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A stream with what every call over it is told.
#[derive(Debug)]
pub(super) struct Known<S> {
    pub(super) stream: S,
    pub(super) connection: Connection,
    /// Given back when the connection ends; the Unix socket's are not counted.
    pub(super) _place: Option<Place>,
}

/// Tells of a connection that the system has refused, and waits a little.
pub(super) async fn not_accepted(error: &io::Error) {
    tracing::warn!(%error, "connection not accepted");
    time::sleep(PAUSE).await;
}

impl<S> Connected for Known<S> {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Known<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Known<S> {
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
