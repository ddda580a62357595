//! Where a lane's records are read and opened: what is kept of them stays there until it is handed on.

use std::{
    collections::VecDeque,
    io, mem,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::{BufMut as _, Bytes, BytesMut, buf::Limit};
use sekisho_record::{Layout, RecordError, Session};

use crate::{
    held::{Keeping, Memory},
    transport::Transport,
};

/// Records opened in one turn.
const RECORDS: usize = 256;
/// Chunks that are waited for, to be read into again.
const SPENT: usize = 2;

/// What has come on a lane and was not opened yet, and room behind it.
#[derive(Debug)]
pub(super) struct Reading {
    bytes: BytesMut,
    chunk: Arc<Chunk>,
    /// Chunks behind it that are full, the oldest first: read into again when nothing of them is kept.
    spent: VecDeque<(BytesMut, Arc<Chunk>)>,
    memory: Arc<Memory>,
    chunks: Chunks,
}

/// Bytes of all chunks of a stream's lanes that are there, be it for what is kept of them.
pub(super) type Chunks = Arc<AtomicUsize>;

/// Counts a chunk as long as anything that was read into it is kept.
#[derive(Debug)]
struct Chunk {
    _keeping: Keeping,
    size: usize,
    chunks: Chunks,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.chunks.fetch_sub(self.size, Relaxed);
    }
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

impl Reading {
    pub(super) fn new(memory: &Arc<Memory>, chunks: &Chunks, come: &[u8]) -> Self {
        let mut reading = Self {
            bytes: BytesMut::new(),
            chunk: chunk(memory, chunks, 0),
            spent: VecDeque::new(),
            memory: Arc::clone(memory),
            chunks: Arc::clone(chunks),
        };
        reading.bytes.extend_from_slice(come);
        reading.tighten();
        reading
    }

    /// What was not opened.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it has memory for more than what waits.
    pub(super) fn has_room(&self) -> bool {
        !self.spent.is_empty() || self.chunk.size > 2 * self.bytes.len()
    }

    /// Whether as little as can be is to be read at a time: the bound of the process is reached.
    pub(super) fn is_short(&self) -> bool {
        self.memory.is_full()
    }

    /// Reads once, up to `most` bytes, and a quarter of that at least.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` where nothing has come.
    pub(super) fn read(&mut self, transport: &Transport, most: usize) -> io::Result<usize> {
        transport.read_buf_now(&mut self.room(most))
    }

    fn room(&mut self, most: usize) -> Limit<&mut BytesMut> {
        let free = |bytes: &BytesMut| bytes.capacity() - bytes.len();
        if free(&self.bytes) < most / 4 {
            self.renew(most);
        }
        let room = most.min(free(&self.bytes));
        (&mut self.bytes).limit(room)
    }

    /// Another chunk, with so much room behind what was not opened.
    fn renew(&mut self, room: usize) {
        let size = self.bytes.len() + room;
        if self.is_short() {
            self.spent.clear();
        }
        let (mut bytes, chunk) = self.spare(size).unwrap_or_else(|| {
            let bytes = BytesMut::with_capacity(size);
            let chunk = chunk(&self.memory, &self.chunks, bytes.capacity());
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

    /// Nothing has come for a while, or no more than reads of so many bytes at `most` take: where it has far
    /// more memory than for that, only what waits keeps some.
    pub(super) fn rest(&mut self, most: Option<usize>) {
        let spent = self.spent.iter().map(|(_, chunk)| chunk.size);
        let needed = 2 * (SPENT + 1) * most.unwrap_or_default();
        if self.chunk.size + spent.sum::<usize>() <= needed {
            return;
        }
        self.spent.clear();
        if self.has_room() {
            self.tighten();
        }
    }

    /// What waits lies in a chunk of its own size.
    fn tighten(&mut self) {
        let mut bytes = BytesMut::with_capacity(self.bytes.len());
        bytes.extend_from_slice(&self.bytes);
        self.chunk = chunk(&self.memory, &self.chunks, bytes.capacity());
        self.bytes = bytes;
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

fn chunk(memory: &Arc<Memory>, chunks: &Chunks, size: usize) -> Arc<Chunk> {
    let mut keeping = Keeping::nothing(Arc::clone(memory));
    keeping.set(size);
    chunks.fetch_add(size, Relaxed);
    Arc::new(Chunk {
        _keeping: keeping,
        size,
        chunks: Arc::clone(chunks),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_counted_until_the_last_of_it_is_gone() {
        let memory = Memory::new(1 << 20);
        let mut reading = Reading::new(&memory, &Chunks::default(), b"");
        assert_eq!(memory.held(), 0);
        let mut room = reading.room(40_000);
        assert_eq!(room.remaining_mut(), 40_000);
        room.put_bytes(7, 30_001);
        let counted = memory.held();
        assert!(counted >= 40_000);
        let kept = Opened {
            bytes: reading.bytes.split_to(29_001),
            _chunk: Arc::clone(&reading.chunk),
        };
        let kept = Bytes::from_owner(kept).slice(5..6);
        // Not much is left of it: what was not opened is moved.
        let room = reading.room(40_000).remaining_mut();
        assert_eq!((room, reading.bytes()), (40_000, &[7; 1000][..]));
        let both = memory.held();
        assert!(both >= 2 * counted);
        reading.rest(None);
        assert_eq!(reading.bytes(), [7; 1000], "what waits stays");
        assert!((counted + 1000..both).contains(&memory.held()), "alone");
        reading.bytes.clear();
        reading.rest(None);
        assert_eq!(memory.held(), counted);
        drop(kept);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_chunk_is_read_into_again_once_nothing_of_it_is_kept() {
        let memory = Memory::new(1 << 20);
        let mut reading = Reading::new(&memory, &Chunks::default(), b"");
        let mut kept = VecDeque::new();
        let mut most = 0;
        let mut places = std::collections::BTreeSet::new();
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
            if round >= 50 {
                places.insert(reading.bytes.as_ptr() as usize / 50_000);
            }
        }
        assert!(most < 5 * 101_000, "{most}");
        assert!(places.len() < 14, "{places:?}");
        assert_eq!(memory.held(), reading.chunks.load(Relaxed));
        // It is not by chance that the addresses are the same.
        kept.clear();
        assert!(reading.spare(100_000).is_some());
        reading.room(100_000).put_bytes(0, 100_000);
        let last = reading.bytes.split().freeze();
        reading.room(100_000);
        assert!(reading.spent.len() == 1 && reading.spare(100_000).is_none());
        drop(last);
        assert!(reading.spare(100_000).is_some());
        // Chunks that others keep are not waited for without end.
        for _ in 0..20 {
            reading.room(100_000).put_bytes(0, 100_000);
            kept.push_back((0, Bytes::from_owner(reading.bytes.split().freeze())));
        }
        assert!(reading.spent.len() <= SPENT);
    }

    #[test]
    fn a_lane_that_has_become_slow_does_not_keep_the_chunks_of_faster_times() {
        let memory = Memory::new(10 << 20);
        let mut reading = Reading::new(&memory, &Chunks::default(), b"");
        let mut kept = Vec::new();
        for _ in 0..2 {
            reading.room(500_000).put_bytes(7, 500_000);
            kept.push(reading.bytes.split_to(499_000));
        }
        reading.room(500_000).put_bytes(8, 1000);
        let busy = memory.held();
        assert!(busy >= 1_500_000);
        // It is as fast as before.
        reading.rest(Some(500_000));
        reading.rest(Some(260_000));
        assert_eq!(memory.held(), busy);
        reading.rest(Some(30_000));
        assert!(memory.held() <= 4000, "{}", memory.held());
        let come = [&[7; 2000][..], &[8; 1000]].concat();
        assert!(reading.bytes() == come, "what waits stays");
        // And slow reads go on in chunks of their size.
        reading.room(30_000).put_bytes(9, 10_000);
        let slow = memory.held();
        reading.rest(Some(30_000));
        assert_eq!(memory.held(), slow);
    }

    #[test]
    fn small_reads_fill_one_chunk() {
        let memory = Memory::new(1 << 20);
        let mut reading = Reading::new(&memory, &Chunks::default(), b"abc");
        assert_eq!(reading.bytes(), b"abc");
        reading.room(40_000).put_bytes(1, 15_000);
        let counted = memory.held();
        assert_eq!(reading.room(40_000).remaining_mut(), 25_000);
        assert_eq!(memory.held(), counted);
        reading.room(40_000).put_bytes(1, 16_000);
        assert_eq!(reading.room(40_000).remaining_mut(), 40_000);
    }
}
