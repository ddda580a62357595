//! Where a lane's records are read and opened: what is kept of them stays there until it is handed on.

use std::{collections::VecDeque, mem, ops::Range, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut, buf::Limit};
use sekisho_record::{Layout, RecordError, Session};

use crate::held::{Keeping, Memory};

/// Records opened in one turn.
const RECORDS: usize = 256;
/// Chunks that are waited for, to be read into again.
const SPENT: usize = 4;

/// What has come on a lane and was not opened yet, and room behind it.
#[derive(Debug)]
pub(super) struct Reading {
    bytes: BytesMut,
    chunk: Arc<Chunk>,
    /// Chunks behind it that are full, the oldest first: read into again when nothing of them is kept.
    spent: VecDeque<(BytesMut, Arc<Chunk>)>,
    memory: Arc<Memory>,
}

/// Counts a chunk as long as anything that was read into it is kept.
#[derive(Debug)]
struct Chunk {
    _keeping: Keeping,
    size: usize,
}

/// Opened records, in the chunk in which they were read.
struct Opened {
    bytes: BytesMut,
    _chunk: Arc<Chunk>,
}

impl AsRef<[u8]> for Opened {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Chunk {
    fn new(memory: &Arc<Memory>, size: usize) -> Arc<Self> {
        let mut keeping = Keeping::nothing(Arc::clone(memory));
        keeping.set(size);
        let _keeping = keeping;
        Arc::new(Self { _keeping, size })
    }
}

impl Reading {
    pub(super) fn new(memory: &Arc<Memory>, come: &[u8]) -> Self {
        let mut reading = Self {
            bytes: BytesMut::new(),
            chunk: Chunk::new(memory, 0),
            spent: VecDeque::new(),
            memory: Arc::clone(memory),
        };
        if !come.is_empty() {
            reading.renew(come.len());
            reading.bytes.extend_from_slice(come);
        }
        reading
    }

    /// What was not opened.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where to read up to `room` bytes more, and half of that at least.
    pub(super) fn room(&mut self, room: usize) -> Limit<&mut BytesMut> {
        let free = |bytes: &BytesMut| bytes.capacity() - bytes.len();
        if free(&self.bytes) < room / 2 {
            self.renew(room);
        }
        let room = room.min(free(&self.bytes));
        (&mut self.bytes).limit(room)
    }

    /// Another chunk, with so much room behind what was not opened.
    fn renew(&mut self, room: usize) {
        let size = self.bytes.len() + room;
        let (mut bytes, chunk) = self.spare(size).unwrap_or_else(|| {
            let bytes = BytesMut::with_capacity(size);
            let chunk = Chunk::new(&self.memory, bytes.capacity());
            (bytes, chunk)
        });
        bytes.extend_from_slice(&self.bytes);
        let mut last = mem::replace(&mut self.bytes, bytes);
        let chunk = mem::replace(&mut self.chunk, chunk);
        last.clear();
        if chunk.size > 0 {
            self.spent.push_back((last, chunk));
        }
        if self.spent.len() > SPENT {
            self.spent.pop_front();
        }
    }

    /// A chunk of which nothing is kept any more.
    fn spare(&mut self, size: usize) -> Option<(BytesMut, Arc<Chunk>)> {
        while let Some((bytes, chunk)) = self.spent.front_mut()
            // All of it has room again only where nothing else of it is left.
            && bytes.try_reclaim(chunk.size)
        {
            let found = self.spent.pop_front();
            if found.as_ref().is_some_and(|(_, chunk)| chunk.size >= size) {
                return found;
            }
        }
        None
    }

    /// Nothing has come for a while: where nothing waits either, the memory is given back.
    pub(super) fn rest(&mut self) {
        self.spent.clear();
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.chunk = Chunk::new(&self.memory, 0);
        }
    }

    /// Opens the records that are whole. Returns them, and where their texts are.
    ///
    /// # Errors
    /// See [`Session::open`].
    pub(super) fn open(
        &mut self,
        session: &mut Session,
    ) -> Result<(Bytes, Vec<Range<usize>>), RecordError> {
        let mut found = Vec::new();
        let done = session.open(&mut self.bytes, Layout::Keep, RECORDS, &mut found)?;
        let opened = Opened {
            bytes: self.bytes.split_to(done),
            _chunk: Arc::clone(&self.chunk),
        };
        Ok((Bytes::from_owner(opened), found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_counted_until_the_last_of_it_is_gone() {
        let memory = Memory::new(1 << 20);
        let mut reading = Reading::new(&memory, b"");
        assert_eq!(memory.held(), 0);
        let mut room = reading.room(40_000);
        assert_eq!(room.remaining_mut(), 40_000);
        room.put_bytes(7, 30_000);
        let counted = memory.held();
        assert!(counted >= 40_000);
        let kept = Opened {
            bytes: reading.bytes.split_to(29_000),
            _chunk: Arc::clone(&reading.chunk),
        };
        let kept = Bytes::from_owner(kept).slice(5..6);
        // Not much is left of it: what was not opened is moved.
        let room = reading.room(40_000).remaining_mut();
        assert_eq!((room, reading.bytes()), (40_000, &[7; 1000][..]));
        let both = memory.held();
        assert!(both >= 2 * counted);
        reading.rest();
        assert_eq!(reading.bytes().len(), 1000, "what waits stays");
        assert_eq!(memory.held(), both);
        reading.bytes.clear();
        reading.rest();
        assert_eq!(memory.held(), counted);
        drop(kept);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_chunk_is_read_into_again_once_nothing_of_it_is_kept() {
        let memory = Memory::new(1 << 20);
        let mut reading = Reading::new(&memory, b"");
        let mut kept = VecDeque::new();
        let mut most = 0;
        for round in 0..100 {
            reading.room(100_000).put_bytes(round, 100_000);
            // The beginning of a record stays.
            let whole = reading.bytes().len() - 10;
            let opened = Opened {
                bytes: reading.bytes.split_to(whole),
                _chunk: Arc::clone(&reading.chunk),
            };
            kept.push_back((round, Bytes::from_owner(opened)));
            if kept.len() > 2 {
                let (round, opened) = kept.pop_front().unwrap();
                assert!(opened.iter().skip(10).all(|byte| *byte == round));
            }
            most = most.max(memory.held());
        }
        assert!(most < 5 * 101_000, "{most}");
        // Chunks that others keep are not waited for without end.
        for _ in 0..20 {
            reading.room(100_000).put_bytes(0, 100_000);
            kept.push_back((0, Bytes::from_owner(reading.bytes.split().freeze())));
        }
        assert!(reading.spent.len() <= SPENT);
    }

    #[test]
    fn small_reads_fill_one_chunk() {
        let memory = Memory::new(1 << 20);
        let mut reading = Reading::new(&memory, b"abc");
        assert_eq!(reading.bytes(), b"abc");
        reading.room(40_000).put_bytes(1, 15_000);
        let counted = memory.held();
        assert_eq!(reading.room(40_000).remaining_mut(), 25_000);
        assert_eq!(memory.held(), counted);
    }
}
