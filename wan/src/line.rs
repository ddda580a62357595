//! The clock of a line: when the last bit of a packet has been sent, and what is still waiting.
//!
//! A virtual clock instead of a bucket of tokens: no burst is let through at once, nothing has to be
//! filled up, and what a division leaves over is carried to the next packet, so that a line that is
//! never idle sends exactly its rate however long it runs.

use crate::Nanos;

const SECOND: u128 = 1_000_000_000;
const BITS: u128 = 8;

/// A line of a fixed rate.
#[derive(Debug)]
pub(crate) struct Line {
    /// Bits per second; not zero.
    rate: u128,
    /// When all that was given to it has been sent.
    free: Nanos,
    /// What is left over of a nanosecond, in parts of `rate`.
    rest: u128,
}

impl Line {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            rate: u128::from(rate.max(1)),
            free: 0,
            rest: 0,
        }
    }

    /// Sends so many bytes after all that waits; returns when the last bit is out.
    pub(crate) fn send(&mut self, now: Nanos, bytes: u64) -> Nanos {
        if self.free < now {
            self.free = now;
            self.rest = 0;
        }
        let work = u128::from(bytes) * BITS * SECOND + self.rest;
        self.rest = work % self.rate;
        self.free = self.free.saturating_add(saturated(work / self.rate));
        self.free
    }

    /// Bytes that wait at `now`, the one being sent among them; a part of a byte counts whole.
    pub(crate) fn backlog(&self, now: Nanos) -> u64 {
        let left = u128::from(self.free.saturating_sub(now));
        saturated((left * self.rate).div_ceil(BITS * SECOND))
    }

    /// The time that so many bytes take.
    pub(crate) fn time(&self, bytes: u64) -> Nanos {
        saturated(u128::from(bytes) * BITS * SECOND / self.rate)
    }

    /// Bytes that are sent within so many nanoseconds.
    pub(crate) fn within(&self, time: Nanos) -> u64 {
        saturated(u128::from(time) * self.rate / (BITS * SECOND))
    }
}

fn saturated(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_drift() {
        // 1500 bytes at 7 Gb/s are 1714.2857… ns: a million of them, never idle.
        let mut line = Line::new(7_000_000_000);
        let last = (0..1_000_000).map(|_| line.send(0, 1500)).last();
        assert_eq!(last, Some(1_714_285_714));
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let mut line = Line::new(8_000_000_000);
        assert_eq!(line.send(0, 1000), 1000);
        let second = 1_000_000_000;
        // A second later: not a second's worth at once.
        assert_eq!(line.send(second, 1000), second + 1000);
        assert_eq!(line.send(second, 1000), second + 2000);
    }

    #[test]
    fn what_waits_is_told_in_bytes() {
        let mut line = Line::new(8_000_000_000);
        line.send(0, 5000);
        assert_eq!(line.backlog(0), 5000);
        assert_eq!(line.backlog(2000), 3000);
        assert_eq!(line.backlog(9000), 0);
        assert_eq!((line.within(1000), line.time(1000)), (1000, 1000));
    }

    #[test]
    fn the_slowest_line_and_the_largest_numbers_do_not_overflow() {
        let mut line = Line::new(1);
        line.send(0, u64::MAX);
        assert_eq!(line.send(0, u64::MAX), u64::MAX);
        assert!(line.backlog(0) > 0);
        let mut line = Line::new(u64::MAX);
        assert_eq!(line.send(5, 1500), 5);
    }
}
