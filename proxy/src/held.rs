//! Bytes that a connection keeps between turns, and how many all of them keep together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What all connections of a process keep for slow receivers, and how much they may.
#[derive(Debug)]
pub struct Memory {
    held: AtomicUsize,
    most: usize,
}

impl Memory {
    /// With a bound in bytes.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            most,
        })
    }

    /// Bytes kept now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The bound, in bytes.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    /// Whether the bound is reached: new connections are refused, and those that run read as little
    /// as they can at a time.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.held() >= self.most
    }
}

/// Bytes on their way. Owns no memory while there are none.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    done: usize,
    counted: usize,
    memory: Arc<Memory>,
}

impl Held {
    pub(crate) const fn new(memory: Arc<Memory>) -> Self {
        Self {
            bytes: Vec::new(),
            done: 0,
            counted: 0,
            memory,
        }
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.done >= self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }

    /// So many bytes from the beginning are done with.
    pub(crate) fn advance(&mut self, count: usize) {
        self.done += count;
        if self.is_empty() {
            self.bytes = Vec::new();
            self.done = 0;
            self.count();
        }
    }

    /// Appends.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.with(|all| all.extend_from_slice(bytes));
        }
    }

    /// Lets `append` append.
    pub(crate) fn with<R>(&mut self, append: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.done > 0 {
            self.bytes.drain(..self.done.min(self.bytes.len()));
            self.done = 0;
        }
        let result = append(&mut self.bytes);
        self.count();
        result
    }

    /// Takes all of it out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..self.done.min(bytes.len()));
        self.done = 0;
        self.count();
        bytes
    }

    fn count(&mut self) {
        let now = self.bytes.capacity();
        if now > self.counted {
            self.memory
                .held
                .fetch_add(now - self.counted, Ordering::Relaxed);
        } else {
            self.memory
                .held
                .fetch_sub(self.counted - now, Ordering::Relaxed);
        }
        self.counted = now;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_until_it_is_gone() {
        let memory = Memory::new(100);
        let mut held = Held::new(Arc::clone(&memory));
        assert!(held.is_empty());
        held.extend(&[1; 60]);
        held.extend(&[2; 60]);
        assert!(memory.held() >= 120 && memory.is_full());
        held.advance(60);
        assert_eq!(held.bytes(), [2; 60]);
        held.extend(&[3; 4]);
        assert_eq!(held.bytes()[..60], [2; 60]);
        assert_eq!(held.bytes()[60..], [3; 4]);
        held.advance(64);
        assert!(held.is_empty());
        assert_eq!((memory.held(), held.bytes.capacity()), (0, 0));
        held.extend(&[4; 8]);
        held.advance(1);
        assert_eq!(held.take(), [4; 7]);
        assert_eq!(memory.held(), 0);
        held.extend(&[5; 8]);
        drop(held);
        assert_eq!(memory.held(), 0);
    }
}
