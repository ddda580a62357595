//! Buffers for packets on their way, used again.

use crate::device::LARGEST;

/// The sizes of buffers. A packet of a few bytes must not hold one of 64 KiB, since there are many of
/// these on a long path; one of more than the middle size keeps the buffer it was read into.
const SMALL: usize = 2 << 10;
const MIDDLE: usize = 16 << 10;
/// The most bytes that each size keeps for later.
const KEPT: usize = 64 << 20;

/// Buffers that are not in use.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    small: Vec<Vec<u8>>,
    middle: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Pool {
    /// An empty buffer that takes so many bytes without growing.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<u8> {
        let (size, shelf) = self.shelf(bytes);
        let mut buffer = shelf.pop().unwrap_or_else(|| Vec::with_capacity(size));
        buffer.clear();
        buffer
    }

    /// A buffer to read into, of the largest size. What it holds does not matter.
    pub(crate) fn for_reading(&mut self) -> Vec<u8> {
        let mut buffer = self.large.pop().unwrap_or_default();
        // Those that were read into before are so long already: nothing is written here.
        buffer.resize(LARGEST, 0);
        buffer
    }

    /// Whether a frame of so many bytes should keep the buffer that it was read into.
    pub(crate) const fn keeps(bytes: usize) -> bool {
        bytes > MIDDLE
    }

    pub(crate) fn give_back(&mut self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let (_, shelf) = self.shelf(capacity);
        if shelf.len() * capacity < KEPT {
            shelf.push(buffer);
        }
    }

    fn shelf(&mut self, bytes: usize) -> (usize, &mut Vec<Vec<u8>>) {
        if bytes <= SMALL {
            (SMALL, &mut self.small)
        } else if bytes <= MIDDLE {
            (MIDDLE, &mut self.middle)
        } else {
            (LARGEST, &mut self.large)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_as_large_as_it_was() {
        let mut pool = Pool::default();
        for (bytes, capacity) in [(60, SMALL), (SMALL + 1, MIDDLE), (MIDDLE + 1, LARGEST)] {
            let mut buffer = pool.take(bytes);
            assert_eq!(buffer.capacity(), capacity);
            buffer.extend_from_slice(&vec![1; bytes]);
            let place = buffer.as_ptr();
            pool.give_back(buffer);
            let again = pool.take(bytes);
            assert!(again.is_empty() && again.as_ptr() == place);
        }
        assert_eq!(pool.for_reading().len(), LARGEST);
    }

    #[test]
    fn it_keeps_a_bounded_amount() {
        let mut pool = Pool::default();
        let many: Vec<_> = (0..2000).map(|_| pool.take(LARGEST)).collect();
        many.into_iter().for_each(|one| pool.give_back(one));
        assert!(pool.large.len() <= KEPT / LARGEST + 1);
    }
}
