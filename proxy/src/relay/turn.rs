//! One direction between two wires: in each turn one read, records opened or sealed where they lie,
//! one write.

use std::{
    io::{self, IoSliceMut},
    ops::Range,
    task::{Context, Poll},
};

use sekisho_record::{HEADER, Layout, MAX_PLAINTEXT, MAX_RECORD, SLOT, Session, TRAILER};

use super::{Counters, RelayError, Side, splice::Splice};
use crate::{
    scratch::{self, Lent},
    wire::{Wire, tls_error, truncated},
};

/// Full records of the largest turn: about 1 MiB.
const MOST: usize = 64;
/// Records opened in one turn: of tiny ones, too many would keep the worker from the others.
const RECORDS: usize = 256;

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Moved so many bytes of the application; there may be more.
    Moved(usize),
    /// Nothing, until the reader or the writer is ready: the task is woken then.
    Blocked,
    /// It has ended, and the end was passed on.
    Done,
}

/// From so many slots on, bytes between two plain sides stay in the kernel: with fewer at a time, a
/// copy is cheaper than a pipe.
const SPLICED: usize = 8;

/// One direction. It owns no buffer: see [`scratch`].
pub(super) struct Direction {
    from: Side,
    to: Side,
    /// Records of the next turn: grows while turns are full.
    slots: usize,
    splice: Splice,
    ended: bool,
    done: bool,
}

impl Direction {
    pub(super) fn new(from: Side, to: Side) -> Self {
        Self {
            from,
            to,
            slots: 1,
            splice: Splice::default(),
            ended: false,
            done: false,
        }
    }

    /// Whether nothing lies between its reader and its writer.
    pub(super) const fn is_empty(&self) -> bool {
        self.splice.is_empty()
    }

    /// Moves one batch, if both sides are ready.
    pub(super) fn turn(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Wire,
        writer: &mut Wire,
        counters: &Counters,
    ) -> Result<Turn, RelayError> {
        if self.done {
            return Ok(Turn::Done);
        }
        let to = self.to;
        let failed = |side| move |error| RelayError { side, error };
        // Nothing is read while earlier bytes wait: that is the backpressure.
        let flushed = self.splice.poll_flush(cx, writer).map_err(failed(to))?;
        if flushed.is_pending() || writer.poll_ready(cx).map_err(failed(to))?.is_pending() {
            return Ok(Turn::Blocked);
        }
        if self.ended {
            if writer.poll_finish(cx).map_err(failed(to))?.is_pending() {
                return Ok(Turn::Blocked);
            }
            self.done = true;
            return Ok(Turn::Done);
        }
        if reader.input.memory().is_full() {
            self.slots = 1;
        }
        let turn = match (reader.tls.is_some(), writer.tls.is_some()) {
            (true, _) => self.open(cx, reader, writer),
            (false, true) => self.seal(cx, reader, writer),
            (false, false) => self.pass(cx, reader, writer, counters),
        };
        match turn? {
            Poll::Pending => Ok(Turn::Blocked),
            Poll::Ready(bytes) => {
                if bytes > 0 {
                    counters.add(to, bytes);
                }
                self.fit(writer.output.bytes().len() + self.splice.waiting());
                Ok(Turn::Moved(bytes))
            }
        }
    }

    /// A writer that took little of this turn is behind a slow path, and what it left is kept until
    /// it takes more: the next turns are as small as what it takes.
    fn fit(&mut self, left: usize) {
        if left > self.slots * SLOT / 2 {
            self.slots = (self.slots / 4).max(1);
        }
    }

    /// How much the next turn may read, by what this one did with its room.
    fn adapt(&mut self, read: usize, room: usize) {
        if read >= room {
            self.slots = (self.slots * 2).min(MOST);
        } else if read < room / 4 {
            self.slots = (self.slots / 2).max(1);
        }
    }

    /// Plain to TLS: into record slots, sealed there, out in one write.
    fn seal(
        &mut self,
        cx: &mut Context<'_>,
        reader: &Wire,
        writer: &mut Wire,
    ) -> Result<Poll<usize>, RelayError> {
        let (from, to) = (self.from, self.to);
        let (slots, room) = (self.slots, self.slots * MAX_PLAINTEXT);
        let turn = scratch::lend(writer.compartment, slots * SLOT, |lent, _| {
            let read = match fill_slots(cx, reader, lent, slots, room) {
                Ok(Poll::Ready(read)) => read,
                Ok(Poll::Pending) => return Ok(None),
                Err(error) => return Err(RelayError { side: from, error }),
            };
            let failed = |error| RelayError { side: to, error };
            if let Some(tls) = &mut writer.tls {
                let sealed = seal_slots(&mut tls.session, lent, read).map_err(failed)?;
                lent.fill(sealed);
            }
            writer.write_or_hold(lent.written()).map_err(failed)?;
            Ok(Some(read))
        })?;
        Ok(self.read(turn, room))
    }

    /// Notes what a plain side gave: nothing yet, bytes, or its end.
    fn read(&mut self, turn: Option<usize>, room: usize) -> Poll<usize> {
        match turn {
            None => Poll::Pending,
            Some(0) => {
                self.ended = true;
                Poll::Ready(0)
            }
            Some(read) => {
                self.adapt(read, room);
                Poll::Ready(read)
            }
        }
    }

    /// Plain to plain.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        reader: &Wire,
        writer: &mut Wire,
        counters: &Counters,
    ) -> Result<Poll<usize>, RelayError> {
        let (from, to) = (self.from, self.to);
        let room = self.slots * MAX_PLAINTEXT;
        if self.slots >= SPLICED && self.splice.is_possible() {
            let (from, to) = ((from, reader), (to, &mut *writer));
            match self.splice.poll_pass(cx, from, to, room)? {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Some(bytes)) => {
                    counters.add_spliced(bytes);
                    return Ok(self.read(Some(bytes), room));
                }
                Poll::Ready(None) => {}
            }
        }
        let turn = scratch::lend(writer.compartment, room, |lent, _| {
            let read = match reader.transport.poll_fill(cx, lent.room()) {
                Poll::Pending => return Ok(None),
                Poll::Ready(read) => read.map_err(|error| RelayError { side: from, error })?,
            };
            lent.fill(read);
            let written = writer.write_or_hold(lent.written());
            written.map_err(|error| RelayError { side: to, error })?;
            Ok(Some(read))
        })?;
        Ok(self.read(turn, room))
    }

    /// From TLS: one read, records opened where they lie, and written from there; to another TLS
    /// side sealed there again.
    fn open(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Wire,
        writer: &mut Wire,
    ) -> Result<Poll<usize>, RelayError> {
        let (from, to) = (self.from, self.to);
        let failed = |side| move |error| RelayError { side, error };
        // A read may end inside a record: its rest needs room whatever it is.
        let room = (self.slots * SLOT).max(MAX_RECORD);
        let have = reader.input.bytes().len();
        let (waits, over) = match &reader.tls {
            // Its last plaintexts were handed out before.
            Some(tls) => (
                tls.session.failure().is_some() || reader.has_record(),
                tls.session.is_closed(),
            ),
            None => (false, false),
        };
        if over {
            // RFC 8446 §6.1: what follows is ignored.
            reader.input.take();
            self.ended = true;
            return Ok(Poll::Ready(0));
        }
        // What waits is a whole record at least. Of tiny ones there may be very many; those that this
        // turn does not come to are not copied.
        let have = if waits { have.min(room) } else { have };
        let size = if waits { have } else { have + room };
        let layout = if writer.tls.is_some() {
            Layout::Keep
        } else {
            Layout::Merge
        };
        let turn = scratch::lend(reader.compartment, size, |lent, found| {
            if let Some(begin) = lent.room().get_mut(..have) {
                begin.copy_from_slice(reader.input.bytes().get(..have).unwrap_or_default());
            }
            let mut read = 0;
            if !waits {
                let rest = lent.room().get_mut(have..).unwrap_or_default();
                read = match reader.transport.poll_fill(cx, rest) {
                    Poll::Pending => return Ok(None),
                    Poll::Ready(read) => read.map_err(failed(from))?,
                };
                if read == 0 {
                    return Err(truncated()).map_err(failed(from));
                }
            }
            lent.fill(have + read);
            let buffer = lent.written();
            let Some(tls) = &mut reader.tls else {
                return Ok(None);
            };
            let done = tls.session.open(buffer, layout, RECORDS, found);
            let done = done.map_err(tls_error).map_err(failed(from))?;
            keep_rest(reader, buffer, have, done);
            let bytes = found.iter().map(Range::len).sum::<usize>();
            if bytes > 0 {
                forward(writer, buffer, found).map_err(failed(to))?;
            }
            Ok(Some((read, bytes)))
        })?;
        let Some((read, bytes)) = turn else {
            return Ok(Poll::Pending);
        };
        if !waits {
            self.adapt(read, room);
        }
        // What a peer cuts into little records must not be read by the megabyte: see RECORDS.
        if reader.input.bytes().len() > MAX_RECORD {
            self.slots = 1;
        }
        Ok(Poll::Ready(bytes))
    }
}

/// Keeps what was not opened, of which `have` bytes were kept before.
fn keep_rest(reader: &mut Wire, buffer: &[u8], have: usize, done: usize) {
    if buffer.len() == have {
        // Nothing was read: there it still is.
        return reader.input.advance(done);
    }
    reader.input.advance(have);
    reader.input.extend(buffer.get(done..).unwrap_or_default());
}

/// Writes opened plaintexts, sealed again where the writer has TLS.
fn forward(writer: &mut Wire, buffer: &mut [u8], found: &mut Vec<Range<usize>>) -> io::Result<()> {
    let Some(tls) = &mut writer.tls else {
        return writer.write_or_hold_pieces(buffer, found);
    };
    // A record of ours is as long as the peer's without its padding, so each fits where it was, and
    // the run of them has no gaps once it is moved together.
    let mut run: Option<Range<usize>> = None;
    for text in found.drain(..) {
        let first = text.start.saturating_sub(HEADER);
        let record = buffer.get_mut(first..text.end + TRAILER);
        let sealed = tls.session.seal(record.unwrap_or_default(), text.len());
        let sealed = sealed.map_err(tls_error)?;
        match &mut run {
            None => run = Some(first..first + sealed),
            Some(run) => {
                if run.end != first {
                    buffer.copy_within(first..first + sealed, run.end);
                }
                run.end += sealed;
            }
        }
    }
    writer.write_or_hold(buffer.get(run.unwrap_or_default()).unwrap_or_default())
}

/// Reads into the text of record slots, which stand one behind the other.
fn fill_slots(
    cx: &mut Context<'_>,
    reader: &Wire,
    lent: &mut Lent<'_>,
    slots: usize,
    room: usize,
) -> io::Result<Poll<usize>> {
    let text = |slot: &mut [u8]| HEADER..slot.len().saturating_sub(TRAILER);
    let polled = if slots == 1 {
        let slot = lent.room();
        let text = text(slot);
        let buffer = slot.get_mut(text).unwrap_or_default();
        reader.transport.poll_fill(cx, buffer)
    } else {
        let slots = lent.room().chunks_exact_mut(SLOT);
        let mut buffers: Vec<_> = slots
            .map(|slot| {
                let text = text(slot);
                IoSliceMut::new(slot.get_mut(text).unwrap_or_default())
            })
            .collect();
        reader.transport.poll_fill_vectored(cx, &mut buffers, room)
    };
    match polled {
        Poll::Ready(read) => Ok(Poll::Ready(read?)),
        Poll::Pending => Ok(Poll::Pending),
    }
}

/// Seals what [`fill_slots`] has read. All but the last slot are full, so the records stand one
/// behind the other; returns where they end.
fn seal_slots(session: &mut Session, lent: &mut Lent<'_>, read: usize) -> io::Result<usize> {
    let mut left = read;
    let mut end = 0;
    for slot in lent.room().chunks_exact_mut(SLOT) {
        if left == 0 {
            break;
        }
        let length = left.min(MAX_PLAINTEXT);
        end += session.seal(slot, length).map_err(tls_error)?;
        left -= length;
    }
    Ok(end)
}
