//! Delay that wanders.
//!
//! The extra delay goes in straight lines between values that are drawn uniformly from nothing to
//! the whole jitter, one each four jitters of time (at least each millisecond). It changes by at
//! most a quarter of the time that passes, so packets keep their order by themselves. A value drawn
//! for each packet would not do: with order kept, dense traffic would always see the largest.

use rand::{RngExt as _, SeedableRng as _};

use crate::{Nanos, chance::Generator};

const MILLISECOND: Nanos = 1_000_000;

/// The extra delay of one direction, over time.
#[derive(Debug)]
pub(crate) struct Jitter {
    span: Nanos,
    step: Nanos,
    seed: u64,
    /// The stretch of time that was asked for last, and the values at its ends.
    last: (u64, [Nanos; 2]),
}

impl Jitter {
    pub(crate) fn new(span: Nanos, seed: u64) -> Self {
        let mut jitter = Self {
            span,
            step: span.saturating_mul(4).max(MILLISECOND),
            seed,
            last: (0, [0; 2]),
        };
        jitter.last = (0, [jitter.drawn(0), jitter.drawn(1)]);
        jitter
    }

    /// The extra delay of what comes at `time`: from 0 to the whole jitter.
    pub(crate) fn at(&mut self, time: Nanos) -> Nanos {
        if self.span == 0 {
            return 0;
        }
        let stretch = time / self.step;
        if stretch != self.last.0 {
            let ends = [self.drawn(stretch), self.drawn(stretch.saturating_add(1))];
            self.last = (stretch, ends);
        }
        let [from, to] = self.last.1.map(i128::from);
        let part = i128::from(time % self.step);
        let extra = from + ((to - from) * part).div_euclid(i128::from(self.step));
        Nanos::try_from(extra).unwrap_or_default()
    }

    /// The same whatever was asked before: a pause between packets skips stretches.
    fn drawn(&self, stretch: u64) -> Nanos {
        let seed = self.seed ^ stretch.wrapping_mul(0xd134_2543_de82_ef95);
        Generator::seed_from_u64(seed).random_range(0..=self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_bounds_and_keeps_order() {
        let mut jitter = Jitter::new(2 * MILLISECOND, 9);
        let mut last = 0;
        for time in (0..10_000_000_000).step_by(777) {
            let extra = jitter.at(time);
            assert!(extra <= 2 * MILLISECOND);
            assert!(time + extra >= last, "order at {time}");
            last = time + extra;
        }
    }

    #[test]
    fn its_mean_is_half_of_it() {
        let mut jitter = Jitter::new(MILLISECOND, 9);
        let count = 100_000_u64;
        let sum: u64 = (0..count).map(|one| jitter.at(one * 3_333_333)).sum();
        let mean = sum as f64 / count as f64;
        assert!((mean - 500_000.0).abs() < 10_000.0, "{mean}");
    }

    #[test]
    fn a_pause_changes_nothing_and_a_seed_does() {
        let late = 123_456_789_012;
        let mut one = Jitter::new(MILLISECOND, 1);
        let mut other = Jitter::new(MILLISECOND, 1);
        (0..late).step_by(1_000_000).for_each(|time| {
            one.at(time);
        });
        assert_eq!(one.at(late), other.at(late));
        let different = (0..100).any(|time| {
            let time = late + time * MILLISECOND;
            Jitter::new(MILLISECOND, 2).at(time) != one.at(time)
        });
        assert!(different);
    }

    #[test]
    fn none_is_none() {
        assert_eq!(Jitter::new(0, 3).at(u64::MAX), 0);
    }
}
