//! What has happened to packets, by direction.

use std::time::Duration;

use crate::Nanos;

/// The upper ends of [`Lateness::counts`], in microseconds; the last counts what was later.
pub const LATE: [u64; 11] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 100_000,
];

/// Counters of one direction since the start. Packets are those of the MTU, also where a device gives
/// many of them in one read. Each is either on its way or counted in exactly one of `delivered`,
/// `dropped`, `overflowed`, `lost`, `too_large` and `refused`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that came.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets that were given to the far end.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// Packets that found the memory of the emulator full.
    pub overflowed: u64,
    /// Packets that were lost as asked, at random or in a burst.
    pub lost: u64,
    /// Packets that were held back.
    pub reordered: u64,
    /// Packets larger than the MTU; dropped.
    pub too_large: u64,
    /// What a device gave and was no packet; dropped, and not among `packets`.
    pub malformed: u64,
    /// Packets that the far end's device did not take, since it is down.
    pub refused: u64,
    /// The most bytes that waited for the line.
    pub largest_queue: u64,
    /// The most bytes on their way, in memory, the buffers around them included.
    pub largest_memory: u64,
    /// Packets now on their way.
    pub under_way: u64,
    /// Reads of a device that gave something: with offload each may hold many packets.
    pub reads: u64,
    /// Writes to the far end.
    pub writes: u64,
    /// How late packets left: the emulator's own doing.
    pub late: Lateness,
}

/// How much later than they should packets have left, by writes to the far end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// The latest.
    pub largest: Duration,
    /// How many were at most as late as the [`LATE`] of the same place, and more than the one before;
    /// at the end those beyond all.
    pub counts: [u64; LATE.len() + 1],
}

impl Lateness {
    pub(crate) fn count(&mut self, late: Nanos) {
        let micros = late.div_ceil(1000);
        let place = LATE.partition_point(|end| *end < micros);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.largest = self.largest.max(Duration::from_nanos(late));
    }

    /// The least of [`LATE`] that `percent` of all were within; `None` where some of these were later
    /// than the last, or none were counted.
    #[must_use]
    pub fn within(&self, percent: f64) -> Option<Duration> {
        let all: u64 = self.counts.iter().sum();
        let mut sum = 0;
        for (count, end) in self.counts.iter().zip(LATE) {
            sum += count;
            if all > 0 && sum as f64 >= all as f64 * percent / 100.0 {
                return Some(Duration::from_micros(end));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_told_by_percentile() {
        let mut late = Lateness::default();
        assert_eq!(late.within(50.0), None);
        (0..99).for_each(|_| late.count(9_000));
        late.count(150_000);
        assert_eq!(late.within(50.0), Some(Duration::from_micros(10)));
        assert_eq!(late.within(99.0), Some(Duration::from_micros(10)));
        assert_eq!(late.within(99.9), Some(Duration::from_micros(200)));
        assert_eq!(late.largest, Duration::from_micros(150));
        late.count(10_000_000_000);
        assert_eq!(late.within(100.0), None);
    }
}
