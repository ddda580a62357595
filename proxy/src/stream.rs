//! One side of a connection, ready to relay.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use sekisho_record::Counts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

use crate::{
    held::Memory,
    lanes::{Lanes, Roster},
    transport::Transport,
    wire::Wire,
};

/// One side of a connection, ready to relay.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is nearly all there are, and a box for it costs as much again"
)]
#[derive(Debug)]
pub enum Stream {
    /// Without TLS, or with our own record layer.
    Wire(Wire),
    /// We are the TLS server, and rustls protects the records.
    Server(Box<server::TlsStream<Transport>>),
    /// We are the TLS client, and rustls protects the records.
    Client(Box<client::TlsStream<Transport>>),
    /// Several connections, each with our own record layer.
    Lanes(Box<Lanes>),
}

impl Stream {
    pub(crate) fn plain(transport: Transport, memory: &Arc<Memory>) -> Self {
        Self::Wire(Wire::plain(transport, memory))
    }

    /// The socket below: of lanes, that of the first.
    pub(crate) fn transport(&self) -> Option<&Transport> {
        match self {
            Self::Wire(wire) => Some(&wire.transport),
            Self::Server(stream) => Some(stream.get_ref().0),
            Self::Client(stream) => Some(stream.get_ref().0),
            Self::Lanes(lanes) => lanes.transport(),
        }
    }

    /// Makes closing it a reset: the other side must not take a broken stream for a whole one.
    pub(crate) fn abort_on_close(&self) {
        match self {
            Self::Wire(wire) => wire.transport.abort_on_close(),
            Self::Server(stream) => stream.get_ref().0.abort_on_close(),
            Self::Client(stream) => stream.get_ref().0.abort_on_close(),
            Self::Lanes(lanes) => lanes.abort_on_close(),
        }
    }

    /// Moves what lies between the sockets and what is read and written here, where that is not
    /// done by reading and writing: of lanes. Returns whether anything moved.
    ///
    /// # Errors
    /// When the side has failed.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        match self {
            Self::Lanes(lanes) => lanes.drive(cx),
            Self::Wire(_) | Self::Server(_) | Self::Client(_) => Ok(false),
        }
    }

    /// Whether [`Stream::drive`] has more to do than to read and write.
    pub(crate) const fn is_driven(&self) -> bool {
        matches!(self, Self::Lanes(_))
    }

    /// Who is at the other end of each lane.
    pub(crate) fn roster(&self) -> Option<Arc<Roster>> {
        match self {
            Self::Lanes(lanes) => Some(Arc::clone(lanes.roster())),
            Self::Wire(_) | Self::Server(_) | Self::Client(_) => None,
        }
    }

    /// Whether it has no TLS.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self, Self::Wire(Wire { tls: None, .. }))
    }

    /// KeyUpdates so far, where our own layer counts them.
    pub(crate) fn key_updates(&self) -> Counts {
        match self {
            Self::Wire(Wire { tls: Some(tls), .. }) => tls.session.counts(),
            Self::Lanes(lanes) => lanes.key_updates(),
            _ => Counts::default(),
        }
    }

    /// Protocol version, cipher suite and key exchange group, where there is TLS.
    #[must_use]
    pub fn tls(&self) -> Option<TlsDetails> {
        match self {
            Self::Wire(wire) => wire.tls.as_ref().map(|tls| tls.details.clone()),
            Self::Server(stream) => Some(TlsDetails::of(stream.get_ref().1)),
            Self::Client(stream) => Some(TlsDetails::of(stream.get_ref().1)),
            Self::Lanes(lanes) => lanes.tls(),
        }
    }
}

/// What was negotiated.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TlsDetails {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite's IANA name, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The key exchange group.
    pub group: &'static str,
    /// Whether the session was resumed: then neither side has signed, and the peer's chain is that
    /// of the handshake before.
    pub resumed: bool,
    /// Whether the bytes go by `sekisho/1` (docs/protocol.md).
    pub lanes: bool,
}

impl TlsDetails {
    pub(crate) fn of(state: &rustls::CommonState) -> Self {
        let suite = state.negotiated_cipher_suite().map(|suite| suite.suite());
        let group = state.negotiated_key_exchange_group();
        Self {
            version: match state.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: match suite {
                // rustls marks those of TLS 1.3, IANA does not.
                Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
                Some(rustls::CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
                Some(rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => {
                    "TLS_CHACHA20_POLY1305_SHA256"
                }
                Some(other) => other.as_str().unwrap_or("unknown"),
                None => "unknown",
            },
            group: group
                .and_then(|group| group.name().as_str())
                .unwrap_or("unknown"),
            resumed: state.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            lanes: state.alpn_protocol() == Some(sekisho_lanes::ALPN),
        }
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Wire($stream) => $call,
            Stream::Server($stream) => $call,
            Stream::Client($stream) => $call,
            Stream::Lanes($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
