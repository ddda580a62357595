//! What the application has given and no lane has had room for yet, and the memory of what was sent.
//!
//! It lies in chunks of several pieces, filled one behind the other. A piece is cut out of its chunk where it
//! lies when a lane takes it. A chunk whose pieces are all confirmed is filled again: memory that is asked
//! for anew is cold, and the kernel clears each page of it.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut, buf::Limit};

use crate::frame::MOST_TEXT;

/// Most pieces of one chunk: what is taken at a time, so that nothing of it is left over (384 KiB).
const MOST_PIECES: usize = 24;
/// Chunks that are kept to be filled again, while the application fills large ones.
const SPARE: usize = 2;
/// They are large with so many pieces (128 KiB).
const LARGE: usize = 8;

#[derive(Debug, Default)]
struct Chunk {
    /// What is left in it, and the room behind that.
    bytes: BytesMut,
    /// Its capacity, pieces that were cut out of it and all.
    size: usize,
}

impl Chunk {
    fn new(size: usize) -> Self {
        let bytes = BytesMut::with_capacity(size);
        let size = bytes.capacity();
        Self { bytes, size }
    }

    fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }
}

/// Bytes in order, not sent yet.
#[derive(Debug)]
pub(crate) struct Backlog {
    full: VecDeque<Chunk>,
    /// The last one, and room behind what it holds.
    filling: Chunk,
    /// Those of which all was cut out, the oldest first.
    spent: VecDeque<Chunk>,
    bytes: usize,
    /// Of all chunks.
    memory: usize,
    /// Pieces that a new chunk has room for: more while they are filled at once.
    pieces: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            full: VecDeque::new(),
            filling: Chunk::default(),
            spent: VecDeque::new(),
            bytes: 0,
            memory: 0,
            pieces: 1,
        }
    }
}

impl Backlog {
    /// Bytes in it.
    pub(crate) const fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes of memory of its chunks, in which pieces lie that were cut out of it, too.
    pub(crate) const fn memory(&self) -> usize {
        self.memory
    }

    /// Lets `read` append up to `most` bytes, where they stay. Returns how many.
    ///
    /// # Errors
    /// That of `read`; nothing is appended then.
    pub(crate) fn fill<E>(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut Limit<&mut BytesMut>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let room = self.room().min(most);
        let bytes = &mut self.filling.bytes;
        let before = bytes.len();
        let outcome = read(&mut (&mut *bytes).limit(room));
        if outcome.is_err() {
            bytes.truncate(before);
        }
        let count = bytes.len() - before;
        self.bytes += count;
        outcome?;
        self.fit(count);
        if count < self.pieces * MOST_TEXT / 4 {
            self.pieces = (self.pieces / 2).max(1);
        }
        Ok(count)
    }

    /// A chunk that is filled at once is followed by larger ones.
    fn fit(&mut self, count: usize) {
        if count >= self.pieces * MOST_TEXT {
            self.pieces = (self.pieces * 2).min(MOST_PIECES);
        }
    }

    /// Bytes for which there is room in the last chunk: in another one, where little is left.
    fn room(&mut self) -> usize {
        let wanted = self.pieces * MOST_TEXT;
        if self.filling.room() < wanted / 4 {
            let next = self.spare(wanted).unwrap_or_else(|| {
                let next = Chunk::new(wanted);
                self.memory += next.size;
                next
            });
            let last = std::mem::replace(&mut self.filling, next);
            if !last.bytes.is_empty() {
                self.full.push_back(last);
            } else if last.size > 0 {
                self.spent.push_back(last);
            }
        }
        self.filling.room()
    }

    /// A chunk of which nothing is kept any more; gives back those that are too small.
    fn spare(&mut self, wanted: usize) -> Option<Chunk> {
        while let Some(chunk) = self.free() {
            if chunk.size >= wanted {
                return Some(chunk);
            }
            self.memory -= chunk.size;
        }
        None
    }

    /// The oldest of those that are spent, where nothing of it is kept any more.
    fn free(&mut self) -> Option<Chunk> {
        let first = self.spent.front_mut()?;
        // All of it has room again only where no piece of it is left.
        let is_free = first.bytes.try_reclaim(first.size);
        is_free.then(|| self.spent.pop_front()).flatten()
    }

    /// Pieces are not kept any more, `all` or some of them: gives back chunks that are not needed.
    pub(crate) fn settle(&mut self, all: bool) {
        let is_fast = self.pieces >= LARGE;
        while self.spent.len() > if is_fast { SPARE } else { 0 }
            && let Some(chunk) = self.free()
        {
            self.memory -= chunk.size;
        }
        // An application that has become slow.
        if all && self.is_empty() && self.filling.size > self.pieces * MOST_TEXT {
            self.memory -= self.filling.size;
            self.filling = Chunk::default();
        }
    }

    /// Appends a copy.
    pub(crate) fn push(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            let (now, rest) = text.split_at(text.len().min(self.room()));
            self.filling.bytes.extend_from_slice(now);
            self.bytes += now.len();
            self.fit(now.len());
            text = rest;
        }
    }

    /// How many bytes lie together at its beginning, at most a piece.
    pub(crate) fn first(&self) -> usize {
        let first = self.full.front().unwrap_or(&self.filling);
        first.bytes.len().min(MOST_TEXT)
    }

    /// Takes the first piece out, of `most` bytes at most.
    pub(crate) fn cut(&mut self, most: usize) -> Bytes {
        let count = self.first().min(most);
        self.bytes -= count;
        let Some(first) = self.full.front_mut() else {
            return self.filling.bytes.split_to(count).freeze();
        };
        let piece = first.bytes.split_to(count).freeze();
        if first.bytes.is_empty() {
            self.spent.extend(self.full.pop_front());
        }
        piece
    }

    /// Gives back what is not needed for pieces that are kept, `all` where none is.
    pub(crate) fn rest(&mut self, all: bool) {
        self.pieces = 1;
        self.settle(all);
        if all && self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(backlog: &mut Backlog) -> (Vec<u8>, usize) {
        let (mut all, mut pieces) = (Vec::new(), 0);
        while !backlog.is_empty() {
            all.extend(backlog.cut(usize::MAX));
            pieces += 1;
        }
        (all, pieces)
    }

    #[test]
    fn what_is_given_comes_out_in_order_whatever_it_was_cut_into() {
        let text: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let mut backlog = Backlog::default();
        let (mut given, mut cut) = (0, Vec::new());
        for step in 0_usize.. {
            let rest = &text[given..];
            if rest.is_empty() {
                break;
            }
            if step % 3 == 0 {
                let some = &rest[..rest.len().min(step * 977 % 40_000)];
                backlog.push(some);
                given += some.len();
            } else {
                let filled = backlog.fill(200_000, |buffer| {
                    let count = buffer.remaining_mut().min(rest.len());
                    buffer.put_slice(&rest[..count]);
                    Ok::<_, ()>(())
                });
                given += filled.unwrap();
            }
            if step % 2 == 0 {
                cut.extend(backlog.cut(step * 613 % MOST_TEXT));
            }
            assert_eq!(backlog.len(), given - cut.len());
        }
        cut.extend(all(&mut backlog).0);
        assert!(cut == text);
    }

    #[test]
    fn a_fast_application_fills_pieces_and_a_slow_one_keeps_little() {
        let mut backlog = Backlog::default();
        let fill = |backlog: &mut Backlog, most: usize| {
            backlog.fill(1 << 20, |buffer| {
                let count = buffer.remaining_mut().min(most);
                buffer.put_bytes(7, count);
                Ok::<_, ()>(())
            })
        };
        let filled: Vec<_> = (0..8)
            .map(|_| fill(&mut backlog, usize::MAX).unwrap())
            .collect();
        let pieces: Vec<_> = filled.iter().map(|count| count / MOST_TEXT).collect();
        assert_eq!(pieces, [1, 2, 4, 8, 16, 24, 24, 24]);
        assert_eq!(all(&mut backlog).1, pieces.iter().sum());
        for _ in 0..100 {
            assert_eq!(fill(&mut backlog, 10), Ok(10));
        }
        assert_eq!(all(&mut backlog).1, 1, "small reads lie together");
        backlog.rest(true);
        assert_eq!(backlog.memory(), 0);
    }

    #[test]
    fn a_chunk_is_filled_again_once_nothing_of_it_is_kept() {
        let mut backlog = Backlog::default();
        let mut kept = VecDeque::new();
        let mut addresses = std::collections::BTreeSet::new();
        for round in 0..100_u8 {
            backlog.push(&vec![round; 24 * MOST_TEXT]);
            while !backlog.is_empty() {
                let piece = backlog.cut(usize::MAX);
                assert!(piece.iter().all(|byte| *byte == round));
                kept.push_back((round, piece));
            }
            if round >= 50 {
                addresses.insert(kept.back().unwrap().1.as_ptr());
            }
            // As much as is under way.
            while kept.len() > 10 * 24 {
                let (of, piece) = kept.pop_front().unwrap();
                assert!(
                    piece.iter().all(|byte| *byte == of),
                    "nothing was written over it"
                );
            }
        }
        assert!(addresses.len() < 14, "{} chunks", addresses.len());
        let busy = backlog.memory();
        assert!((240 * MOST_TEXT..360 * MOST_TEXT).contains(&busy), "{busy}");
        // It is all confirmed, and the application goes on, slowly.
        kept.clear();
        backlog.settle(true);
        assert!(backlog.memory() <= (SPARE + 1) * 24 * MOST_TEXT);
        for _ in 0..6 {
            let filled = backlog.fill(1000, |buffer| {
                buffer.put_bytes(7, 100);
                Ok::<_, ()>(())
            });
            assert_eq!(filled, Ok(100));
            let last = backlog.cut(usize::MAX);
            backlog.settle(false);
            assert_eq!(last.len(), 100);
            drop(last);
            backlog.settle(true);
        }
        assert!(backlog.memory() <= MOST_TEXT, "{}", backlog.memory());
    }

    #[test]
    fn spare_chunks_are_kept_for_an_application_that_fills_large_ones() {
        let mut backlog = Backlog::default();
        let mut fill = |most: usize| {
            backlog.fill(1 << 20, |buffer| {
                let count = buffer.remaining_mut().min(most);
                buffer.put_bytes(7, count);
                Ok::<_, ()>(())
            })?;
            all(&mut backlog);
            backlog.settle(true);
            Ok::<_, ()>((backlog.pieces, backlog.spent.len()))
        };
        // Chunks that are free are filled again, so there is one beside that which is being filled.
        let steps = [usize::MAX; 7].map(|most| fill(most).unwrap());
        assert_eq!(steps.map(|(pieces, _)| pieces), [2, 4, 8, 16, 24, 24, 24]);
        assert_eq!(steps[6].1, 1);
        assert_eq!(fill(10), Ok((12, 1)));
        assert_eq!(fill(10), Ok((LARGE - 2, 0)));
    }

    #[test]
    fn one_piece_that_is_kept_keeps_its_chunk_alone() {
        let mut backlog = Backlog::default();
        backlog.push(&vec![7; 100 * MOST_TEXT]);
        let mut pieces = Vec::new();
        while !backlog.is_empty() {
            pieces.push(backlog.cut(usize::MAX));
        }
        let last = pieces.pop().unwrap();
        drop(pieces);
        backlog.rest(false);
        assert!(backlog.memory() <= 24 * MOST_TEXT, "{}", backlog.memory());
        assert!(last.iter().all(|byte| *byte == 7));
        drop(last);
        backlog.rest(true);
        assert_eq!(backlog.memory(), 0);
    }

    #[test]
    fn of_a_read_that_fails_nothing_stays() {
        let mut backlog = Backlog::default();
        backlog.push(b"abc");
        let failed = backlog.fill(100, |buffer| {
            buffer.put_slice(b"xyz");
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!(all(&mut backlog).0, b"abc");
    }
}
