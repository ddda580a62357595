//! One side of a connection whose records are protected by our own layer, or that has none.
//!
//! Two faces: turns of the relay, which move whole batches between two wires
//! (`proxy/src/relay/turn.rs`), and AsyncRead and AsyncWrite (`proxy/src/wire/face.rs`).

mod face;

use std::{
    io::{self, IoSlice},
    ops::Range,
    sync::Arc,
    task::{Context, Poll, ready},
};

use sekisho_record::{Alert, HEADER, MAX_PLAINTEXT, RecordError, Session, TRAILER};
use tokio::io::AsyncWrite as _;

use crate::{
    held::{Held, Memory},
    scratch::{self, Compartment},
    stream::TlsDetails,
    transport::{Detached, Transport},
};

/// How far our own direction is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Not there yet.
    Open,
    /// `close_notify` is among what is to be written.
    Closing,
    /// Shut down.
    Shut,
}

/// TLS of a wire.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) session: Session,
    pub(crate) details: TlsDetails,
}

/// A socket, its TLS where it has one, and what is under way. While nothing is, it owns no buffer.
#[derive(Debug)]
pub struct Wire {
    pub(crate) transport: Transport,
    pub(crate) tls: Option<Box<Tls>>,
    /// Received, and not opened yet.
    pub(crate) input: Held,
    /// Opened, and not read yet: by [`face`] only.
    pub(crate) opened: Held,
    /// To be written, in this order; records are whole here, however short a write was.
    pub(crate) output: Held,
    pub(crate) compartment: Compartment,
    end: End,
}

/// A wire on its way to another worker.
#[derive(Debug)]
pub(crate) struct DetachedWire {
    socket: Detached,
    tls: Option<Box<Tls>>,
    input: Held,
    opened: Held,
    output: Held,
    compartment: Compartment,
    end: End,
}

impl DetachedWire {
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub(crate) fn attach(self) -> io::Result<Wire> {
        Ok(Wire {
            transport: self.socket.attach()?,
            tls: self.tls,
            input: self.input,
            opened: self.opened,
            output: self.output,
            compartment: self.compartment,
            end: self.end,
        })
    }
}

/// Our own error in one of the system's.
pub(crate) fn tls_error(error: RecordError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The end of a stream without `close_notify`.
pub(crate) fn truncated() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the connection ended without close_notify",
    )
}

impl Wire {
    pub(crate) fn plain(transport: Transport, memory: &Arc<Memory>) -> Self {
        let held = || Held::new(Arc::clone(memory));
        Self {
            transport,
            tls: None,
            input: held(),
            opened: held(),
            output: held(),
            compartment: Compartment::default(),
            end: End::Open,
        }
    }

    /// `early` is what the handshake read beyond its end.
    pub(crate) fn tls(transport: Transport, tls: Tls, early: &[u8], memory: &Arc<Memory>) -> Self {
        let mut wire = Self::plain(transport, memory);
        wire.tls = Some(Box::new(tls));
        wire.input.extend(early);
        wire
    }

    pub(crate) fn detach(self) -> io::Result<DetachedWire> {
        Ok(DetachedWire {
            socket: self.transport.detach()?,
            tls: self.tls,
            input: self.input,
            opened: self.opened,
            output: self.output,
            compartment: self.compartment,
            end: self.end,
        })
    }

    /// Whether what has been received holds a whole record, so that nothing need be read.
    pub(crate) fn has_record(&self) -> bool {
        self.tls.is_some() && Session::is_ready(self.input.bytes())
    }

    /// Writes what is left of earlier writes.
    pub(crate) fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = self.transport.write_now(self.output.bytes())?;
            if written == 0 {
                ready!(self.transport.poll_write_ready(cx))?;
            } else {
                self.output.advance(written);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is to be written, and the KeyUpdates that are due behind it. Ready when the kernel
    /// has all of it.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waited = !self.output.is_empty();
        if waited {
            ready!(self.poll_output(cx))?;
        }
        let due = self.tls.as_mut().filter(|tls| tls.session.wants_control());
        if let Some(tls) = due {
            let session = &mut tls.session;
            let control = self.output.with(|out| session.control(out, waited));
            control.map_err(tls_error)?;
            ready!(self.poll_output(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends our direction: what is to be written, `close_notify`, and the socket's end.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.end == End::Open {
            ready!(self.poll_ready(cx))?;
            if let Some(tls) = &mut self.tls {
                let session = &mut tls.session;
                self.output
                    .with(|out| session.close_notify(out))
                    .map_err(tls_error)?;
            }
            self.end = End::Closing;
        }
        ready!(self.poll_output(cx))?;
        if self.end == End::Closing {
            ready!(std::pin::Pin::new(&mut self.transport).poll_shutdown(cx))?;
            self.end = End::Shut;
        }
        Poll::Ready(Ok(()))
    }

    /// Puts an alert behind what is to be written, so that a record that is half written is
    /// finished before it. False where there is no TLS to tell it by, or its last word is said.
    pub(crate) fn queue_alert(&mut self, alert: Alert) -> bool {
        let Some(tls) = &mut self.tls else {
            return false;
        };
        let session = &mut tls.session;
        let before = self.output.bytes().len();
        let queued = self.output.with(|out| session.alert(alert, out));
        queued.is_ok() && self.output.bytes().len() > before
    }

    /// Whether both sides have agreed to speak `sekisho/1`.
    pub(crate) fn speaks_lanes(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.details.lanes)
    }

    /// Seals `text` behind what is to be written.
    ///
    /// # Errors
    /// When the key may not be used any more, or there is none.
    pub(crate) fn queue(&mut self, text: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let session = &mut tls.session;
        for text in text.chunks(MAX_PLAINTEXT) {
            self.output.with(|out| {
                let begin = out.len();
                out.resize(begin + HEADER + text.len() + TRAILER, 0);
                let record = out.get_mut(begin..).unwrap_or_default();
                if let Some(place) = record.get_mut(HEADER..HEADER + text.len()) {
                    place.copy_from_slice(text);
                }
                let sealed = session.seal(record, text.len()).map_err(tls_error)?;
                out.truncate(begin + sealed);
                Ok::<_, io::Error>(())
            })?;
        }
        Ok(())
    }

    /// Seals and writes `text`.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub(crate) async fn send(&mut self, text: &[u8]) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        self.queue(text)?;
        std::future::poll_fn(|cx| self.poll_output(cx)).await
    }

    /// Reads away what a peer has sent after its `close_notify`: unread, it would make the kernel
    /// turn the orderly end of our direction into a reset.
    pub(crate) fn discard(&self) {
        const BYTES: usize = 16 * 1024;
        const TIMES: usize = 16;
        if self.tls.is_some() {
            scratch::lend(self.compartment, BYTES, |lent, _| {
                for _ in 0..TIMES {
                    if !matches!(self.transport.read_now(lent.room()), Ok(1..)) {
                        break;
                    }
                }
            });
        }
    }

    /// Writes what the kernel takes of `bytes`, and keeps the rest.
    pub(crate) fn write_or_hold(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.transport.write_now(bytes)?;
        self.output.extend(bytes.get(written..).unwrap_or_default());
        Ok(())
    }

    /// The same of several pieces of one buffer.
    pub(crate) fn write_or_hold_pieces(
        &mut self,
        buffer: &[u8],
        pieces: &[Range<usize>],
    ) -> io::Result<()> {
        let piece = |range: &Range<usize>| buffer.get(range.clone()).unwrap_or_default();
        if let [one] = pieces {
            return self.write_or_hold(piece(one));
        }
        // IOV_MAX is 1,024; a turn has at most 256 records.
        let slices: Vec<_> = pieces
            .iter()
            .map(|range| IoSlice::new(piece(range)))
            .collect();
        let length = pieces.iter().map(Range::len).sum();
        let mut skip = self.transport.write_vectored_now(&slices, length)?;
        for range in pieces {
            let left = piece(range).get(skip..);
            skip = skip.saturating_sub(range.len());
            self.output.extend(left.unwrap_or_default());
        }
        Ok(())
    }
}
