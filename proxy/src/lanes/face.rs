//! Lanes as the relay sees them, which drives them before it calls these: bytes move between what is kept and
//! the caller, or a socket without TLS. Only that socket wakes anybody from here.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use sekisho_lanes::FIRST_WINDOW;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Lanes;
use crate::transport::Transport;

/// Most pieces that one write takes from: a megabyte of full ones.
const PIECES: usize = 64;

impl Lanes {
    fn check(&self) -> io::Result<()> {
        match &self.failed {
            Some(failed) => Err(failed.clone().into_io()),
            None => Ok(()),
        }
    }

    /// Whether bytes of the application are taken now.
    ///
    /// # Errors
    /// When the stream has failed.
    pub(crate) fn has_room(&self) -> io::Result<bool> {
        self.check()?;
        // Past the bound of the process each stream keeps what any may have under way, and no more.
        let is_full = self.keeping.memory().is_full() && self.out.held() as u64 >= FIRST_WINDOW;
        Ok(!is_full && self.out.room() > 0)
    }

    /// Reads bytes of the application from `transport` to where they are kept; 0 at its end. To be called
    /// where there [is room](Lanes::has_room).
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        transport: &Transport,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(transport.poll_read_ready(cx))?;
            let filled = self
                .out
                .fill(|buffer| transport.read_buf_now(buffer).map(drop));
            match filled {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => return Poll::Ready(filled),
            }
        }
    }

    /// Ends the application's direction. Ready when the other side has confirmed all, and that it is all.
    pub(crate) fn poll_finish(&mut self) -> Poll<io::Result<()>> {
        self.check()?;
        self.out.finish();
        if self.out.is_over() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Whether there are bytes for the application; `None` after the last.
    ///
    /// # Errors
    /// When the stream has failed.
    pub(crate) fn has_bytes(&self) -> io::Result<Option<bool>> {
        self.check()?;
        let has = !self.inc.next().is_empty();
        Ok((has || !self.inc.is_over()).then_some(has))
    }

    /// Writes bytes for the application from where they are kept; returns how many, 0 where the socket
    /// takes none.
    ///
    /// # Errors
    /// What the system says of `transport`.
    pub(crate) fn write_to(&mut self, transport: &Transport) -> io::Result<usize> {
        let pieces = self.inc.pieces().take(PIECES).map(IoSlice::new);
        let pieces: Vec<_> = pieces.collect();
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let written = transport.write_vectored_now(&pieces, length)?;
        self.inc.take(written);
        Ok(written)
    }
}

impl AsyncRead for Lanes {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        let before = buf.filled().len();
        while buf.remaining() > 0 && !this.inc.next().is_empty() {
            let next = this.inc.next();
            let count = next.len().min(buf.remaining());
            buf.put_slice(next.get(..count).unwrap_or_default());
            this.inc.take(count);
        }
        if buf.filled().len() > before || this.inc.is_over() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

impl AsyncWrite for Lanes {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.has_room()? {
            return Poll::Pending;
        }
        match this.out.push(buf) {
            0 if !buf.is_empty() => Poll::Pending,
            count => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_finish()
    }
}
