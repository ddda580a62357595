//! A wire as AsyncRead and AsyncWrite: for what is no byte relay.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use sekisho_record::{HEADER, Layout, MAX_PLAINTEXT, MAX_RECORD, SLOT};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Wire, tls_error, truncated};
use crate::scratch;

/// Records opened at most for one read.
const RECORDS: usize = 64;
/// Records sealed at most by one write.
const SLOTS: usize = 4;

impl Wire {
    /// Receives and opens until there is a plaintext, or the peer's direction has ended.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.opened.is_empty() {
            let Some(tls) = &mut self.tls else {
                return Poll::Ready(Ok(()));
            };
            if tls.session.is_closed() {
                return Poll::Ready(Ok(()));
            }
            let session = &mut tls.session;
            let have = self.input.bytes().len();
            let whole = session.failure().is_some()
                || sekisho_record::Session::is_ready(self.input.bytes());
            let (input, opened, transport) = (&mut self.input, &mut self.opened, &self.transport);
            ready!(scratch::lend(
                self.compartment,
                have + MAX_RECORD,
                |lent, found| {
                    let room = lent.room();
                    if let Some(begin) = room.get_mut(..have) {
                        begin.copy_from_slice(input.bytes());
                    }
                    let read = if whole {
                        0
                    } else {
                        let rest = room.get_mut(have..).unwrap_or_default();
                        match ready!(transport.poll_fill(cx, rest))? {
                            0 => return Poll::Ready(Err(truncated())),
                            read => read,
                        }
                    };
                    lent.fill(have + read);
                    let bytes = lent.written();
                    let done = session.open(bytes, Layout::Keep, RECORDS, found);
                    let done = done.map_err(tls_error)?;
                    input.take();
                    input.extend(bytes.get(done..).unwrap_or_default());
                    for range in found.drain(..) {
                        opened.extend(bytes.get(range).unwrap_or_default());
                    }
                    Poll::Ready(Ok(()))
                }
            ))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.tls.is_none() {
            return Pin::new(&mut this.transport).poll_read(cx, buf);
        }
        ready!(this.poll_open(cx))?;
        let bytes = this.opened.bytes();
        let count = bytes.len().min(buf.remaining());
        buf.put_slice(bytes.get(..count).unwrap_or_default());
        this.opened.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ready(cx))?;
        let Some(tls) = &mut this.tls else {
            return Pin::new(&mut this.transport).poll_write(cx, buf);
        };
        let session = &mut tls.session;
        let (output, transport) = (&mut this.output, &this.transport);
        let taken = scratch::lend(this.compartment, SLOTS * SLOT, |lent, _| {
            let (mut taken, mut sealed) = (0, 0);
            for text in buf.chunks(MAX_PLAINTEXT).take(SLOTS) {
                let record = lent.room().get_mut(sealed..).unwrap_or_default();
                if let Some(place) = record.get_mut(HEADER..HEADER + text.len()) {
                    place.copy_from_slice(text);
                }
                sealed += session.seal(record, text.len()).map_err(tls_error)?;
                taken += text.len();
            }
            lent.fill(sealed);
            let bytes = lent.written();
            let written = transport.write_now(bytes)?;
            output.extend(bytes.get(written..).unwrap_or_default());
            Ok::<_, io::Error>(taken)
        });
        Poll::Ready(taken)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_ready(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_finish(cx)
    }
}
