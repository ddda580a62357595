//! One lane: frames in and out of one mTLS connection.

use std::{
    io,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sekisho_lanes::{
    Frame, FrameError, Outgoing,
    frame::{HEADER as FRAME, MOST_TEXT, OFFSET, data_header, decode},
};
use sekisho_record::{Alert, Counts, HEADER, MAX_PLAINTEXT, MAX_RECORD, SLOT, Session};
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;

use super::{
    losses::LaneLosses,
    reading::{Chunks, Reading},
    streams::Place,
};
use crate::{
    endpoint,
    path::{self, Momentary, PathDetails},
    scratch,
    transport::Transport,
    wire::{Wire, tls_error, truncated},
};

/// Full records that one read has room for, at most.
const MOST: usize = 32;
/// And at least.
const LEAST: usize = 2;
/// Pieces sealed for one write: what a lane takes that it may not get rid of.
const PIECES: usize = 24;
/// Bytes not yet sent that the kernel keeps for a lane: enough to fill what an acknowledgement opens,
/// little for others to wait for.
const NOT_SENT: u32 = 768 * 1024;

/// A lane on which nothing is acknowledged for so long is dead.
const SILENT: Duration = Duration::from_secs(15);

/// Why a lane is of no more use.
#[derive(Debug)]
pub(super) enum Gone {
    /// It failed.
    Lost(io::Error),
    /// The other side has closed it in order.
    Closed,
    /// What came on it ends the stream.
    Broken(FrameError),
}

impl From<io::Error> for Gone {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// One lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: u64,
    wire: Wire,
    reading: Reading,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    /// Frames to go before the next data.
    words: Vec<u8>,
    slots: usize,
    /// Something has come since it was last asked to rest.
    came: bool,
    /// We have said LEAVE, the other side has.
    pub(super) left: bool,
    pub(super) peer_left: bool,
    /// Our direction of it is closed.
    closed: bool,
    /// It was opened by the other side: the frame for that must not come again.
    pub(super) greeted: bool,
    /// It was decided: before that nothing is read from it, and nothing written.
    pub(super) is_allowed: bool,
    pub(super) losses: LaneLosses,
    _held: Held,
}

/// What a lane has as long as it is there: its place among the others and among its endpoint's connections,
/// and larger buffers.
pub(super) type Held = (
    Option<Place>,
    Option<endpoint::Place>,
    Option<Box<PathDetails>>,
);

impl Lane {
    pub(super) fn new(
        key: u64,
        mut wire: Wire,
        rest: Vec<u8>,
        chunks: &Chunks,
        held: Held,
    ) -> Self {
        if let Transport::Tcp(stream) = &wire.transport {
            let socket = SockRef::from(stream);
            // Without it, more waits in the kernel, and nothing else is wrong.
            let _ = socket.set_tcp_notsent_lowat(NOT_SENT);
        }
        let come = wire.input.take();
        Self {
            key,
            reading: Reading::new(wire.input.memory(), chunks, &come),
            wire,
            partial: rest,
            words: Vec::new(),
            slots: LEAST,
            came: false,
            left: false,
            peer_left: false,
            closed: false,
            greeted: false,
            is_allowed: true,
            losses: LaneLosses::default(),
            _held: held,
        }
    }

    pub(super) fn key_updates(&self) -> Counts {
        let tls = self.wire.tls.as_ref();
        tls.map(|tls| tls.session.counts()).unwrap_or_default()
    }

    /// Ends it when nothing is acknowledged for a while, or not any more; where the file says for how
    /// long, that stays.
    pub(super) fn watch(&self, end: bool) {
        let Transport::Tcp(stream) = &self.wire.transport else {
            return;
        };
        let socket = SockRef::from(stream);
        let found = socket.tcp_user_timeout().ok().flatten();
        let found = found.filter(|time| !time.is_zero());
        let wanted = end.then_some(SILENT);
        if found != wanted && found.is_none_or(|time| time == SILENT) {
            // Without it, a dead lane stays longer, and others do its work.
            let _ = socket.set_tcp_user_timeout(Some(wanted.unwrap_or_default()));
        }
    }

    /// What the kernel says of it now.
    pub(super) fn momentary(&self) -> Option<Momentary> {
        match &self.wire.transport {
            Transport::Tcp(stream) => Some(path::momentary(stream)),
            Transport::Unix(_) => None,
        }
    }

    pub(super) const fn transport(&self) -> &Transport {
        &self.wire.transport
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_quiet(&self) -> bool {
        self.words.is_empty() && self.wire.output.is_empty()
    }

    /// Frames to go before the next data.
    pub(super) fn say(&mut self, frames: &[u8]) {
        self.words.extend(frames);
    }

    /// A while has passed: if nothing came in it, no memory is kept for what may come, and if little did, not
    /// that of times when much came. Returns whether there is some.
    pub(super) fn rest(&mut self) -> bool {
        let came = std::mem::take(&mut self.came);
        self.reading.rest(came.then_some(self.slots * MAX_RECORD));
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        self.reading.has_room()
    }

    pub(super) fn abort_on_close(&self) {
        self.wire.transport.abort_on_close();
    }

    /// Reads once and hands each frame to `on`, with what it lies in where it does so in one piece. Returns
    /// whether anything came; where it did not, the task is woken when something does.
    ///
    /// # Errors
    /// When the lane is of no more use. What came before was handed on.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        on: &mut dyn FnMut(Frame<'_>, Option<&Bytes>),
    ) -> Result<bool, Gone> {
        if !self.partial.is_empty() {
            // What came with the frame that opened it.
            let partial = std::mem::take(&mut self.partial);
            self.partial = frames(partial, on)?;
        }
        let Some(tls) = &mut self.wire.tls else {
            return Err(io::Error::from(io::ErrorKind::Unsupported).into());
        };
        let session = &mut tls.session;
        if session.is_closed() {
            return Err(Gone::Closed);
        }
        if session.failure().is_none() && !Session::is_ready(self.reading.bytes()) {
            if self.reading.is_short() {
                self.slots = LEAST;
            }
            let wanted = self.slots * MAX_RECORD;
            let read = loop {
                if self.wire.transport.poll_read_ready(cx)?.is_pending() {
                    return Ok(false);
                }
                match self.reading.read(&self.wire.transport, wanted) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => break read?,
                }
            };
            if read == 0 {
                return Err(truncated().into());
            }
            if read >= wanted {
                self.slots = (self.slots * 2).min(MOST);
            } else if read < wanted / 4 {
                self.slots = (self.slots / 2).max(LEAST);
            }
            self.came = true;
        }
        let (opened, found) = self.reading.open(session).map_err(tls_error)?;
        for range in found {
            let text = opened.get(range).unwrap_or_default();
            if self.partial.is_empty() {
                let done = each(text, Some(&opened), on)?;
                self.partial.extend(text.get(done..).unwrap_or_default());
            } else {
                self.partial.extend(text);
                self.partial = frames(std::mem::take(&mut self.partial), on)?;
            }
        }
        Ok(true)
    }

    /// Writes what is to be said, and as many pieces as there is room for. Returns whether anything
    /// was written, and whether the lane would take more.
    ///
    /// # Errors
    /// When the socket or its TLS fails.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Outgoing,
        only: bool,
        now: Instant,
    ) -> io::Result<Wrote> {
        let mut wrote = Wrote::default();
        if self.wire.poll_ready(cx)?.is_pending() {
            return Ok(wrote);
        }
        if !self.words.is_empty() {
            let words = std::mem::take(&mut self.words);
            self.seal(&words)?;
            wrote.any = true;
            if self.wire.poll_output(cx)?.is_pending() {
                return Ok(wrote);
            }
        }
        if self.left {
            // Both have said so: the other side has all that was sent here.
            if self.peer_left && !self.closed {
                self.closed = self.wire.poll_finish(cx)?.is_ready();
            }
            return Ok(wrote);
        }
        if !(out.is_ready() || out.may_end()) {
            wrote.room = true;
            return Ok(wrote);
        }
        if self.wire.transport.poll_write_ready(cx)?.is_pending() {
            return Ok(wrote);
        }
        wrote.any |= self.send(out, only, now)?;
        wrote.room = self.wire.output.is_empty();
        Ok(wrote)
    }

    /// Seals the next pieces, each in a record of its own, and writes them at once.
    fn send(&mut self, out: &mut Outgoing, only: bool, now: Instant) -> io::Result<bool> {
        let (key, wire) = (self.key, &mut self.wire);
        let Some(tls) = &mut wire.tls else {
            return Ok(false);
        };
        let session = &mut tls.session;
        let (output, transport) = (&mut wire.output, &wire.transport);
        let sent = scratch::lend(wire.compartment, PIECES * SLOT, |lent, _| {
            let mut sealed = 0;
            for _ in 0..PIECES {
                let Some(piece) = out.next(key, only, now) else {
                    break;
                };
                let record = lent.room().get_mut(sealed..).unwrap_or_default();
                let header = data_header(piece.offset, piece.text.len());
                let text = piece.text.len().min(MOST_TEXT);
                let length = header.len() + text;
                let places = record
                    .get_mut(HEADER..HEADER + length)
                    .and_then(|place| place.split_at_mut_checked(FRAME + OFFSET));
                if let Some((front, place)) = places {
                    front.copy_from_slice(&header);
                    place.copy_from_slice(piece.text.get(..text).unwrap_or_default());
                }
                sealed += session.seal(record, length).map_err(tls_error)?;
            }
            lent.fill(sealed);
            if sealed > 0 {
                let bytes = lent.written();
                let written = transport.write_now(bytes)?;
                output.extend(bytes.get(written..).unwrap_or_default());
            }
            Ok::<_, io::Error>(sealed > 0)
        })?;
        if let Some(length) = out.fin(key, now) {
            Frame::Fin { length }.encode(&mut self.words);
            let words = std::mem::take(&mut self.words);
            self.seal(&words)?;
            return Ok(true);
        }
        Ok(sent)
    }

    /// Seals `bytes` behind what is to be written.
    fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.queue(bytes)
    }

    /// The last frame, behind what was sealed before; then an end in order.
    pub(super) async fn last_word(mut self, word: &[u8]) {
        // ACCEPT, it may be, without which no other word is understood.
        let words = std::mem::take(&mut self.words);
        let told = self.seal(&words).is_ok();
        let told = told && self.seal(word).is_ok() && self.wire.queue_alert(Alert::CLOSE_NOTIFY);
        let flushed = std::future::poll_fn(|cx| self.wire.poll_output(cx)).await;
        if told && flushed.is_ok() {
            // What is still on its way here may be a window. Closed before it has come, the kernel would
            // send a reset, and that in place of the word. Whoever waits for this sets the time.
            let mut transport = self.wire.transport;
            if transport.shutdown().await.is_ok() {
                let _ = tokio::io::copy(&mut transport, &mut tokio::io::sink()).await;
            }
        } else {
            self.wire.transport.abort_on_close();
        }
    }

    /// Ends it in order, and waits until the other side has done so.
    pub(super) async fn goodbye(&mut self) {
        let words = std::mem::take(&mut self.words);
        if self.seal(&words).is_err() {
            return;
        }
        if std::future::poll_fn(|cx| self.wire.poll_finish(cx))
            .await
            .is_err()
        {
            return;
        }
        // Unread, what comes late would make the kernel turn our end into a reset.
        let gone = std::future::poll_fn(|cx| {
            loop {
                match self.poll_read(cx, &mut |_, _| {}) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Pending,
                    Err(gone) => return Poll::Ready(gone),
                }
            }
        });
        drop(gone.await);
    }
}

/// What a turn of writing did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wrote {
    /// Anything.
    pub(super) any: bool,
    /// The lane would take more.
    pub(super) room: bool,
}

/// Hands on each frame that `bytes` begin with; returns how many bytes they have.
fn each(
    bytes: &[u8],
    whole: Option<&Bytes>,
    on: &mut dyn FnMut(Frame<'_>, Option<&Bytes>),
) -> Result<usize, Gone> {
    let mut done = 0;
    while let Some((frame, length)) =
        decode(bytes.get(done..).unwrap_or_default()).map_err(Gone::Broken)?
    {
        if let Some(frame) = frame {
            on(frame, whole);
        }
        done += length;
    }
    Ok(done)
}

/// The same, of bytes that are not kept; returns what is left.
fn frames(
    mut bytes: Vec<u8>,
    on: &mut dyn FnMut(Frame<'_>, Option<&Bytes>),
) -> Result<Vec<u8>, Gone> {
    let done = each(&bytes, None, on)?;
    bytes.drain(..done);
    Ok(bytes)
}

const _: () = assert!(FRAME + OFFSET + MOST_TEXT == MAX_PLAINTEXT);
