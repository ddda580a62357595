//! Memory that a worker lends to the connection it serves at this moment.
//!
//! A worker serves one event at a time, so its connections share one buffer, and a connection that
//! waits owns none. What must outlive a turn is copied out ([`crate::held::Held`]). Nothing of one
//! turn is seen by the next: [`Lent::written`] ends where this turn's bytes end. Compartments share
//! nothing at all.

use std::{cell::RefCell, ops::Range};

/// Whose memory it is. Endpoints of one compartment trust each other with what a defect could
/// show: those of a site, or those of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compartment(pub(crate) usize);

thread_local! {
    static SCRATCH: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

/// A buffer for one turn.
pub(crate) struct Lent<'a> {
    bytes: &'a mut [u8],
    filled: usize,
}

impl Lent<'_> {
    /// All of it, to be filled from its beginning.
    pub(crate) const fn room(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// So many bytes from the beginning have been filled.
    pub(crate) fn fill(&mut self, count: usize) {
        self.filled = count.min(self.bytes.len());
    }

    /// What has been filled in this turn, and no byte more.
    pub(crate) fn written(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.filled).unwrap_or_default()
    }
}

/// Lends `size` bytes, and an empty list of ranges. Not to be nested.
pub(crate) fn lend<R>(
    compartment: Compartment,
    size: usize,
    work: impl FnOnce(&mut Lent<'_>, &mut Vec<Range<usize>>) -> R,
) -> R {
    SCRATCH.with_borrow_mut(|all| {
        if all.len() <= compartment.0 {
            all.resize_with(compartment.0 + 1, Scratch::default);
        }
        let mut none = Scratch::default();
        // There, by the line above.
        let scratch = all.get_mut(compartment.0).unwrap_or(&mut none);
        if scratch.bytes.len() < size {
            scratch.bytes.resize(size, 0);
        }
        scratch.ranges.clear();
        let Scratch { bytes, ranges } = scratch;
        let bytes = bytes.get_mut(..size).unwrap_or_default();
        work(&mut Lent { bytes, filled: 0 }, ranges)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_in_this_turn_is_seen() {
        let site = Compartment::default();
        lend(site, 64, |lent, _| {
            lent.room().fill(0xCA);
            lent.fill(64);
            assert_eq!(lent.written().len(), 64);
        });
        lend(site, 64, |lent, ranges| {
            assert!(lent.written().is_empty());
            lent.room()[0] = 1;
            lent.fill(1);
            assert_eq!(lent.written(), [1]);
            lent.fill(1000);
            assert_eq!(lent.written().len(), 64, "never more than was lent");
            ranges.push(0..1);
        });
        lend(site, 8, |lent, ranges| {
            assert_eq!(lent.room().len(), 8);
            assert!(ranges.is_empty());
        });
    }

    #[test]
    fn compartments_share_no_memory() {
        lend(Compartment(3), 64, |lent, _| lent.room().fill(0xCA));
        lend(Compartment(4), 64, |lent, _| {
            assert_eq!(lent.room(), [0; 64])
        });
        lend(Compartment(3), 64, |lent, _| {
            assert_eq!(lent.room(), [0xCA; 64])
        });
    }
}
