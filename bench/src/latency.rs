//! Latencies, in an HdrHistogram: three digits from a microsecond to a minute, no sample lost.

use std::time::Duration;

use hdrhistogram::Histogram;

const LONGEST: u64 = 60_000_000_000;

/// How long things took.
#[derive(Clone, Debug)]
pub struct Latency {
    // Nanoseconds. `None` only if the bounds above were wrong.
    histogram: Option<Histogram<u64>>,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1_000, LONGEST, 3).ok(),
        }
    }
}

impl Latency {
    /// Counts one. More than a minute counts as a minute.
    pub fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(LONGEST);
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(nanoseconds);
        }
    }

    /// Counts all of another.
    pub fn add(&mut self, other: &Self) {
        if let (Some(own), Some(other)) = (&mut self.histogram, &other.histogram) {
            // They have the same bounds.
            let _ = own.add(other);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The time within which `percent` of them were done, such as 99.9. Zero if there were none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let value = |histogram: &Histogram<u64>| histogram.value_at_percentile(percent);
        Duration::from_nanos(self.histogram.as_ref().map_or(0, value))
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let mean = self.histogram.as_ref().map_or(0.0, Histogram::mean);
        Duration::from_secs_f64((mean / 1e9).max(0.0))
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.histogram.as_ref().map_or(0, Histogram::max))
    }

    /// The shortest; zero if there were none.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        match &self.histogram {
            Some(histogram) if !histogram.is_empty() => Duration::from_nanos(histogram.min()),
            _ => Duration::ZERO,
        }
    }

    /// Lower bound and count of each bucket that holds any, of which each is twice as wide as the
    /// one before.
    #[must_use]
    pub fn buckets(&self) -> Vec<(Duration, u64)> {
        let Some(histogram) = &self.histogram else {
            return Vec::new();
        };
        let mut lower = 0;
        histogram
            .iter_log(1_000, 2.0)
            .filter_map(|step| {
                let from = Duration::from_nanos(lower);
                lower = step.value_iterated_to() + 1;
                let count = step.count_since_last_iteration();
                (count > 0).then_some((from, count))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut latency = Latency::default();
        for microseconds in 1..=1000 {
            latency.record(Duration::from_micros(microseconds));
        }
        assert_eq!(latency.count(), 1000);
        for (percent, expected) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0)] {
            let found = latency.percentile(percent).as_secs_f64() * 1e6;
            assert!((found - expected).abs() <= expected / 500.0, "{found}");
        }
        let counted: u64 = latency.buckets().iter().map(|(_, count)| count).sum();
        assert_eq!(counted, 1000);
    }

    #[test]
    fn none_is_zero_and_too_long_is_a_minute() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile(99.0), Duration::ZERO);
        assert_eq!(latency.shortest(), Duration::ZERO);
        latency.record(Duration::from_secs(600));
        assert!(latency.longest() >= Duration::from_secs(59));
    }
}
