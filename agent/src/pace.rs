//! How often: a steady interval, longer after failures, and never the same on two nodes.

use std::time::Duration;

use rand::RngExt as _;

/// Between two syncs: as SPIRE's agents.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait after failures.
pub const LONGEST: Duration = Duration::from_secs(240);

/// Waits between turns.
#[derive(Debug)]
pub struct Pace {
    wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { wait: INTERVAL }
    }
}

impl Pace {
    /// The wait after a turn that went well.
    pub fn well(&mut self) -> Duration {
        self.wait = INTERVAL;
        spread(INTERVAL, 0.1)
    }

    /// The wait after one that failed: half as long again each time.
    pub fn failed(&mut self) -> Duration {
        let now = self.wait;
        self.wait = now.mul_f64(1.5).min(LONGEST);
        spread(now, 0.2)
    }
}

/// By up to a share more or less, so that the nodes of a site do not come all at once.
fn spread(wait: Duration, share: f64) -> Duration {
    let factor = rand::rng().random_range(1.0 - share..=1.0 + share);
    wait.mul_f64(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_again() {
        let mut pace = Pace::default();
        let waits: Vec<Duration> = (0..20).map(|_| pace.failed()).collect();
        assert!(waits[0] >= INTERVAL.mul_f64(0.8) && waits[0] <= INTERVAL.mul_f64(1.2));
        assert!(waits[19] >= LONGEST.mul_f64(0.8) && waits[19] <= LONGEST.mul_f64(1.2));
        let well = pace.well();
        assert!(well >= INTERVAL.mul_f64(0.9) && well <= INTERVAL.mul_f64(1.1));
        assert!(pace.failed() <= INTERVAL.mul_f64(1.2));
    }
}
