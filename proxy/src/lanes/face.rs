//! Lanes as AsyncRead and AsyncWrite, for the relay, which drives them before it calls these: they
//! move bytes between the caller and what is kept, and wake nobody.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use sekisho_lanes::FIRST_WINDOW;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Lanes;

impl Lanes {
    fn check(&self) -> io::Result<()> {
        match &self.failed {
            Some(failed) => Err(failed.clone().into_io()),
            None => Ok(()),
        }
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
        this.check()?;
        // Past the bound of the process each stream keeps what any may have under way, and no more.
        if this.keeping.memory().is_full() && this.out.held() as u64 >= FIRST_WINDOW {
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

    /// Ready when the other side has confirmed all, and that it is all.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        this.out.finish();
        if this.out.is_over() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}
