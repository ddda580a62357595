//! Bytes that a connection keeps between turns, and how many all of them keep together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What connections keep, for slow receivers and of streams over lanes, and how much they may: of a
/// process, and of each endpoint in it.
#[derive(Debug)]
pub struct Memory {
    held: AtomicUsize,
    most: usize,
    /// Of the process, where this is an endpoint's.
    all: Option<Arc<Self>>,
    /// Endpoints that share it.
    sharers: AtomicUsize,
}

impl Memory {
    /// That of a process, with a bound in bytes.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            most,
            all: None,
            sharers: AtomicUsize::new(0),
        })
    }

    /// An endpoint's part of it.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> Arc<Self> {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            held: AtomicUsize::new(0),
            most: self.most,
            all: Some(Arc::clone(self)),
            sharers: AtomicUsize::new(0),
        })
    }

    /// Bytes kept now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The bound of the process, in bytes.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    fn process(&self) -> &Self {
        self.all.as_deref().unwrap_or(self)
    }

    /// Whether the process' bound is reached: connections that run read as little as they can at a
    /// time.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.process().held() >= self.most
    }

    /// Whether this endpoint has to refuse new connections: the process' bound is reached, and the
    /// endpoint holds at least what each would have if all had the same. So no endpoint shuts out
    /// another.
    #[must_use]
    pub fn refuses(&self) -> bool {
        let sharers = self.process().sharers.load(Ordering::Relaxed).max(1);
        self.is_full() && self.held() >= self.most / sharers
    }

    fn change(&self, from: usize, to: usize) {
        let change = |held: &AtomicUsize| {
            if to > from {
                held.fetch_add(to - from, Ordering::Relaxed);
            } else if to < from {
                held.fetch_sub(from - to, Ordering::Relaxed);
            }
        };
        change(&self.held);
        if let Some(all) = &self.all {
            change(&all.held);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(all) = &self.all {
            all.sharers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How much of the memory one keeper has; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Keeping {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Keeping {
    pub(crate) const fn nothing(memory: Arc<Memory>) -> Self {
        Self { memory, bytes: 0 }
    }

    pub(crate) const fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// It keeps so many bytes now.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.memory.change(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What is left of a large buffer is moved to a smaller one when half of it is done with.
const LARGE: usize = 64 * 1024;

/// Bytes on their way. Owns no memory while there are none.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    done: usize,
    keeping: Keeping,
}

impl Held {
    pub(crate) const fn new(memory: Arc<Memory>) -> Self {
        Self {
            bytes: Vec::new(),
            done: 0,
            keeping: Keeping::nothing(memory),
        }
    }

    pub(crate) const fn memory(&self) -> &Arc<Memory> {
        self.keeping.memory()
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
        } else if self.bytes.len() > LARGE && self.done > self.bytes.len() / 2 {
            self.bytes = self.bytes().to_vec();
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
        self.keeping.set(self.bytes.capacity());
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

    #[test]
    fn a_large_buffer_shrinks_while_it_drains() {
        let memory = Memory::new(100);
        let mut held = Held::new(Arc::clone(&memory));
        held.extend(&vec![7; 1 << 20]);
        held.advance(600_000);
        assert!(memory.held() < 500_000, "{}", memory.held());
        assert_eq!(held.bytes().len(), (1 << 20) - 600_000);
        assert!(held.bytes().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn an_endpoint_that_holds_little_is_not_refused_for_what_another_holds() {
        let process = Memory::new(100);
        let (hog, other) = (process.share(), process.share());
        let mut held = Held::new(Arc::clone(&hog));
        held.extend(&[0; 200]);
        assert!(process.is_full() && hog.is_full() && other.is_full());
        assert!(hog.refuses() && !other.refuses());
        let mut more = Held::new(Arc::clone(&other));
        more.extend(&[0; 60]);
        assert!(other.refuses(), "it has had its half");
        assert_eq!(process.held(), hog.held() + other.held());
        drop((held, more));
        assert_eq!(process.held(), 0);
        drop(other);
        assert_eq!(process.sharers.load(Ordering::Relaxed), 1);
    }
}
