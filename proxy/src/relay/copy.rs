//! Copying between streams of any kind: where a side has lanes, or its records are protected by rustls
//! (`record: rustls`, TLS 1.2). Slower than turns (`proxy/src/relay/turn.rs`), and their oracle in
//! tests.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::{
    Counters, RelayError, Side,
    tcp::{FAIR, TURN},
};
use crate::stream::Stream;

/// Room for four full TLS records.
const BUFFER: usize = 64 * 1024;

/// Relays until both sides have ended, or one has failed: see [`super::tcp::relay`].
pub(super) async fn copy(
    client: &mut Stream,
    upstream: &mut Stream,
    counters: &Counters,
) -> Result<(), RelayError> {
    let mut out = Direction::new(Side::Client, Side::Upstream);
    let mut back = Direction::new(Side::Upstream, Side::Client);
    let driven = client.is_driven() || upstream.is_driven();
    poll_fn(|cx| {
        let begin = counters.to_upstream() + counters.to_client();
        let mut turns = 0;
        loop {
            let sent = out.poll(cx, client, upstream, counters)?;
            let received = back.poll(cx, upstream, client, counters)?;
            let mut moved = false;
            if driven {
                let failed = |side| move |error| RelayError { side, error };
                moved |= client.drive(cx).map_err(failed(Side::Client))?;
                moved |= upstream.drive(cx).map_err(failed(Side::Upstream))?;
            }
            if sent.is_ready() && received.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                return Poll::Pending;
            }
            let all = counters.to_upstream() + counters.to_client();
            // Frames that carry nothing of the application take their time, too.
            turns += TURN as u64;
            if (all - begin).max(turns) >= FAIR as u64 {
                let mut others = std::pin::pin!(tokio::task::yield_now());
                let _ = others.as_mut().poll(cx);
                return Poll::Pending;
            }
        }
    })
    .await?;
    for stream in [client, upstream] {
        if let Stream::Lanes(lanes) = stream {
            lanes.close().await;
        }
    }
    Ok(())
}

/// One direction. It owns a buffer only while bytes are under way.
pub(super) struct Direction {
    pub(super) from: Side,
    pub(super) to: Side,
    buffer: BytesMut,
    written: usize,
    unflushed: bool,
    pub(super) ended: bool,
    pub(super) done: bool,
}

impl Direction {
    fn new(from: Side, to: Side) -> Self {
        Self {
            from,
            to,
            buffer: BytesMut::new(),
            written: 0,
            unflushed: false,
            ended: false,
            done: false,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Stream,
        writer: &mut Stream,
        counters: &Counters,
    ) -> Poll<Result<(), RelayError>> {
        match (&mut *reader, &mut *writer) {
            (Stream::Wire(reader), Stream::Lanes(lanes)) if reader.tls.is_none() => {
                return self.poll_into(cx, reader, lanes, counters);
            }
            (Stream::Lanes(lanes), Stream::Wire(writer)) if writer.tls.is_none() => {
                return self.poll_out_of(cx, lanes, writer, counters);
            }
            _ => {}
        }
        let (from, to) = (self.from, self.to);
        let failed = |side| move |error| RelayError { side, error };
        while !self.done {
            if let Some(rest) = self.buffer.get(self.written..)
                && !rest.is_empty()
            {
                let count =
                    ready!(Pin::new(&mut *writer).poll_write(cx, rest)).map_err(failed(to))?;
                if count == 0 {
                    let error = std::io::ErrorKind::WriteZero.into();
                    return Poll::Ready(Err(RelayError { side: to, error }));
                }
                counters.add(to, count);
                self.written += count;
                self.unflushed = true;
            } else if self.ended {
                ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(failed(to))?;
                self.done = true;
                self.buffer = BytesMut::new();
            } else if self
                .poll_fill(cx, reader)
                .map_err(failed(from))?
                .is_pending()
            {
                if self.unflushed {
                    ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(failed(to))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the next bytes into the buffer, which is lent for this and given back while there is
    /// nothing to read.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Stream,
    ) -> Poll<std::io::Result<()>> {
        self.buffer.clear();
        self.written = 0;
        self.buffer.reserve(BUFFER);
        let polled = poll_read_buf(Pin::new(reader), cx, &mut self.buffer);
        if polled.is_pending() {
            self.buffer = BytesMut::new();
        }
        self.ended = matches!(polled, Poll::Ready(Ok(0)));
        polled.map_ok(drop)
    }
}
