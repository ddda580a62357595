//! The sockets a connection is made of, before and after TLS.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{client, server};

/// A socket.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

impl Transport {
    /// Makes closing it a reset: the other side must not take a broken stream for a whole one.
    pub(crate) fn abort_on_close(&self) {
        if let Self::Tcp(stream) = self {
            // A socket that refuses is closed in order, which only delays.
            let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    /// Closes the writing side and reads what is under way, up to a bound, so that the kernel does
    /// not turn our last words (an alert) into a reset.
    pub(crate) async fn close_gently(mut self) {
        const BYTES: u64 = 256 * 1024;
        const TIME: std::time::Duration = std::time::Duration::from_secs(2);
        if self.shutdown().await.is_err() {
            return;
        }
        let mut rest = self.take(BYTES);
        let mut sink = tokio::io::sink();
        // Whether it ends by EOF, bound or error makes no difference.
        let _ = tokio::time::timeout(TIME, tokio::io::copy(&mut rest, &mut sink)).await;
    }

    /// Reads exactly as much as `buffer` holds.
    pub(crate) async fn read_exactly(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact(buffer).await.map(drop)
    }
}

/// One side of a connection, ready to relay.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(Transport),
    /// We are the TLS server.
    Server(Box<server::TlsStream<Transport>>),
    /// We are the TLS client.
    Client(Box<client::TlsStream<Transport>>),
}

impl Stream {
    /// The socket below.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        match self {
            Self::Plain(transport) => transport,
            Self::Server(stream) => stream.get_ref().0,
            Self::Client(stream) => stream.get_ref().0,
        }
    }

    /// Protocol version, cipher suite and key exchange group, where there is TLS.
    #[must_use]
    pub fn tls(&self) -> Option<TlsDetails> {
        match self {
            Self::Plain(_) => None,
            Self::Server(stream) => Some(TlsDetails::of(stream.get_ref().1)),
            Self::Client(stream) => Some(TlsDetails::of(stream.get_ref().1)),
        }
    }
}

/// What was negotiated.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TlsDetails {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite's IANA name, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
    /// The key exchange group.
    pub group: String,
}

impl TlsDetails {
    fn of(state: &rustls::CommonState) -> Self {
        let text = |name: Option<String>| name.unwrap_or_else(|| "unknown".into());
        Self {
            version: match state.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: text(
                state
                    .negotiated_cipher_suite()
                    .and_then(|suite| suite.suite().as_str())
                    // rustls marks those of TLS 1.3, IANA does not.
                    .map(|name| name.replacen("TLS13_", "TLS_", 1)),
            ),
            group: text(
                state
                    .negotiated_key_exchange_group()
                    .and_then(|group| group.name().as_str().map(Into::into)),
            ),
        }
    }
}

macro_rules! each {
    ($self:ident, $enum:ident { $($variant:ident),+ }, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            $($enum::$variant($stream) => $call,)+
        }
    };
}

macro_rules! delegate {
    ($enum:ident { $($variant:ident),+ }) => {
        impl AsyncRead for $enum {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                each!(self, $enum { $($variant),+ }, stream => Pin::new(stream).poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $enum {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                each!(self, $enum { $($variant),+ }, stream => Pin::new(stream).poll_write(cx, buf))
            }

            // Without this, a TLS layer that writes once before it gives up (an alert after other
            // records) would write the first of its records only.
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                each!(self, $enum { $($variant),+ }, stream => {
                    Pin::new(stream).poll_write_vectored(cx, bufs)
                })
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $(Self::$variant(stream) => stream.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, $enum { $($variant),+ }, stream => Pin::new(stream).poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, $enum { $($variant),+ }, stream => Pin::new(stream).poll_shutdown(cx))
            }
        }
    };
}

delegate!(Transport { Tcp, Unix });
delegate!(Stream {
    Plain,
    Server,
    Client
});
