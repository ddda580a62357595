//! The bytes of a stream, known at both ends.
//!
//! They repeat, so that sending costs nothing and comparing is a `memcmp`. The period is odd: bytes
//! that a proxy moves, drops or repeats in whole TLS records (16 KiB) do not fall on equal ones
//! within 2 GB. It is short, so that it stays in the cache. Each stream and direction has a seed, so
//! that a mix-up shows.

/// Bytes after which it repeats.
pub const PERIOD: usize = (128 << 10) + 29;
/// Bytes that stand behind the first repetition, so that a block across it is one piece.
const BEHIND: usize = 256 << 10;

/// The bytes of one direction of one stream, from where it stands.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// A period, and what comes behind it.
    bytes: Vec<u8>,
    period: usize,
    at: usize,
}

impl Pattern {
    /// The pattern of `seed`, at its beginning.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut pattern = Self::of(seed, PERIOD);
        let behind: Vec<u8> = pattern.bytes.iter().copied().cycle().take(BEHIND).collect();
        pattern.bytes.extend(behind);
        pattern
    }

    /// One that repeats after `period` bytes, at least one: for streams that nobody compares, whose
    /// bytes should stay in the cache.
    #[must_use]
    pub fn of(seed: u64, period: usize) -> Self {
        let period = period.max(1);
        let mut state = seed;
        let mut bytes = Vec::with_capacity(period + 8);
        while bytes.len() < period {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        bytes.truncate(period);
        Self {
            bytes,
            period,
            at: 0,
        }
    }

    /// Up to `most` bytes that come next, at least one if `most` is not zero.
    #[must_use]
    pub fn next(&self, most: usize) -> &[u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        rest.get(..most).unwrap_or(rest)
    }

    /// Goes on by `count` bytes.
    pub fn advance(&mut self, count: usize) {
        self.at = (self.at + count) % self.period.max(1);
    }

    /// Compares `data` with what comes next and goes on behind it; returns where they differ first.
    pub fn compare(&mut self, mut data: &[u8]) -> Option<usize> {
        let mut before = 0;
        while !data.is_empty() {
            let expected = self.next(data.len());
            let count = expected.len();
            let (piece, rest) = data.split_at(count);
            if piece != expected {
                let mut pairs = piece.iter().zip(expected);
                let at = pairs.position(|(one, other)| one != other);
                return at.map(|at| before + at);
            }
            self.advance(count);
            before += count;
            data = rest;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_itself_across_its_end() {
        let mut sending = Pattern::new(7);
        let mut receiving = Pattern::new(7);
        let mut sent = 0;
        while sent < 3 * PERIOD {
            let piece = sending.next(100_000).to_vec();
            assert_eq!(receiving.compare(&piece), None);
            sending.advance(piece.len());
            sent += piece.len();
        }
    }

    #[test]
    fn it_finds_the_first_byte_that_differs() {
        let mut data = Pattern::new(1).next(1000).to_vec();
        data[500] ^= 1;
        data[900] ^= 1;
        assert_eq!(Pattern::new(1).compare(&data), Some(500));
    }

    #[test]
    fn it_finds_bytes_that_moved_dropped_or_belong_to_another_stream() {
        let stream: Vec<u8> = {
            let mut pattern = Pattern::new(3);
            let mut bytes = Vec::new();
            while bytes.len() < 100 * 16 * 1024 {
                let piece = pattern.next(10_000).to_vec();
                pattern.advance(piece.len());
                bytes.extend(piece);
            }
            bytes
        };
        let record = 16 * 1024;
        let dropped = [&stream[..record], &stream[2 * record..]].concat();
        assert!(Pattern::new(3).compare(&dropped).is_some());
        let mut swapped = stream.clone();
        swapped[..record].copy_from_slice(&stream[64 * record..65 * record]);
        assert!(Pattern::new(3).compare(&swapped).is_some());
        assert!(Pattern::new(4).compare(&stream).is_some());
    }
}
