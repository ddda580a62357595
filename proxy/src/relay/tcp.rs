//! The byte relay: two directions, each with its own half-close.

use std::{
    future::{Future as _, poll_fn},
    task::Poll,
    time::Duration,
};

use super::{
    Counters, RelayError, Side, copy,
    turn::{Direction, Turn},
};
use crate::{permit::Permit, stream::Stream, wire::Wire, worker::Flow};

/// Bytes that a connection moves before others get their turn: at 2 GB/s they wait a millisecond.
pub(super) const FAIR: usize = 2 * 1024 * 1024;
/// What a turn counts for at least: one of many little records, or of KeyUpdates, moves few bytes and
/// takes as long.
pub(super) const TURN: usize = 256 * 1024;

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides have ended in order.
    Closed,
    /// Nothing ended: the connection is to go on with this worker, and nothing is half done.
    Parked(usize),
}

/// Relays until both sides have ended, or one has failed. An end of one side is passed on as such
/// and the other direction goes on.
///
/// Takes a permit, so that there is none without a decision.
///
/// # Errors
/// Which side failed, and how. Nothing is closed in order then: the caller resets both.
pub async fn relay(
    _permit: &Permit,
    client: &mut Stream,
    upstream: &mut Stream,
    counters: &Counters,
    flow: &Flow,
) -> Result<Ended, RelayError> {
    let ended = match (&mut *client, &mut *upstream) {
        (Stream::Wire(client), Stream::Wire(upstream)) => {
            wires(client, upstream, counters, flow).await
        }
        // In a box: a connection that has no need of it does not make room for it either.
        (client, upstream) => Box::pin(copy::copy(client, upstream, counters))
            .await
            .map(|()| Ended::Closed),
    };
    match ended {
        Ok(ended) => Ok(ended),
        Err(error) => Err(last_words(error, client, upstream).await),
    }
}

async fn wires(
    client: &mut Wire,
    upstream: &mut Wire,
    counters: &Counters,
    flow: &Flow,
) -> Result<Ended, RelayError> {
    let mut out = Direction::new(Side::Client, Side::Upstream);
    let mut back = Direction::new(Side::Upstream, Side::Client);
    poll_fn(|cx| {
        let mut moved = 0;
        loop {
            let sent = out.turn(cx, client, upstream, counters)?;
            let received = back.turn(cx, upstream, client, counters)?;
            let bytes = match (sent, received) {
                (Turn::Done, Turn::Done) => {
                    client.discard();
                    upstream.discard();
                    return Poll::Ready(Ok(Ended::Closed));
                }
                (Turn::Moved(bytes), Turn::Moved(more)) => bytes + more,
                (Turn::Moved(bytes), _) | (_, Turn::Moved(bytes)) => bytes,
                _ => return Poll::Pending,
            };
            moved += bytes.max(TURN);
            if let Some(worker) = flow.moved(bytes)
                && (out.is_empty() && back.is_empty())
                && client.output.is_empty()
                && upstream.output.is_empty()
            {
                return Poll::Ready(Ok(Ended::Parked(worker)));
            }
            if moved >= FAIR {
                // Woken after the runtime has looked for events, unlike a plain wake.
                let mut others = std::pin::pin!(tokio::task::yield_now());
                let _ = others.as_mut().poll(cx);
                return Poll::Pending;
            }
        }
    })
    .await
}

/// A peer that refuses sends an alert and closes. Where we were about to write to it, that shows as
/// a broken pipe, while the alert waits to be read: it tells the reason.
async fn last_words(error: RelayError, client: &mut Stream, upstream: &mut Stream) -> RelayError {
    /// It has arrived before the write failed, if ever; so this is hardly used up.
    const TIME: Duration = Duration::from_millis(200);
    const BYTES: u64 = 1024 * 1024;
    let stream = match error.side {
        Side::Client => client,
        Side::Upstream => upstream,
    };
    let known = error.alert().is_some() || error.record_error().is_some();
    if known || stream.is_plain() || stream.is_driven() {
        return error;
    }
    let mut sink = tokio::io::sink();
    let mut rest = tokio::io::AsyncReadExt::take(stream, BYTES);
    let rest = tokio::io::copy(&mut rest, &mut sink);
    match tokio::time::timeout(TIME, rest).await {
        Ok(Err(last)) => {
            let last = RelayError {
                side: error.side,
                error: last,
            };
            if last.alert().is_some() { last } else { error }
        }
        Ok(Ok(_)) | Err(_) => error,
    }
}
