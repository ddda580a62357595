//! Between lanes and a side without TLS: bytes are read where lanes keep them, and written from there.

use std::{
    future::Future as _,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use super::{Counters, RelayError, copy::Direction, tcp::FAIR};
use crate::{lanes::Lanes, wire::Wire};

impl Direction {
    /// From a side without TLS.
    pub(super) fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        reader: &Wire,
        writer: &mut Lanes,
        counters: &Counters,
    ) -> Poll<Result<(), RelayError>> {
        let (from, to) = (self.from, self.to);
        let failed = |side| move |error| RelayError { side, error };
        while !self.ended {
            if !writer.has_room().map_err(failed(to))? {
                return Poll::Pending;
            }
            match ready!(writer.poll_fill(cx, &reader.transport)).map_err(failed(from))? {
                0 => self.ended = true,
                count => counters.add(to, count),
            }
        }
        if !self.done {
            ready!(writer.poll_finish()).map_err(failed(to))?;
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }

    /// To a side without TLS.
    pub(super) fn poll_out_of(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Lanes,
        writer: &mut Wire,
        counters: &Counters,
    ) -> Poll<Result<(), RelayError>> {
        let (from, to) = (self.from, self.to);
        let failed = |side| move |error: io::Error| RelayError { side, error };
        let mut moved = 0;
        while !self.ended {
            if moved >= FAIR {
                // All of a window may have come, and the others are to have their turn.
                let mut others = pin!(tokio::task::yield_now());
                let _ = others.as_mut().poll(cx);
                return Poll::Pending;
            }
            match reader.has_bytes().map_err(failed(from))? {
                None => self.ended = true,
                Some(false) => return Poll::Pending,
                Some(true) => {
                    ready!(writer.poll_ready(cx)).map_err(failed(to))?;
                    match reader.write_to(&writer.transport).map_err(failed(to))? {
                        0 => ready!(writer.transport.poll_write_ready(cx)).map_err(failed(to))?,
                        count => {
                            counters.add(to, count);
                            moved += count;
                        }
                    }
                }
            }
        }
        if !self.done {
            ready!(writer.poll_finish(cx)).map_err(failed(to))?;
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }
}
