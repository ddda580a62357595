//! Which library's AEAD is the faster one here.
//!
//! aws-lc's fast path wants AVX-512, ring's is content with AVX2: a factor of two either way
//! (reference/performance.md §3). No list of CPUs is as sure as a millisecond of trying.

use std::{
    fmt,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use crate::{MAX_PLAINTEXT, Suite, TrafficKey, cipher::Cipher};

/// A library that seals and opens records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// aws-lc, by aws-lc-rs.
    AwsLc,
    /// ring.
    Ring,
}

impl Backend {
    /// Both.
    pub const ALL: [Self; 2] = [Self::AwsLc, Self::Ring];

    /// Its name in configuration, status and log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwsLc => "aws-lc",
            Self::Ring => "ring",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one core seals with AES-128-GCM in full records, by each library.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Bytes per second by aws-lc.
    pub aws_lc: f64,
    /// Bytes per second by ring.
    pub ring: f64,
}

/// Records of one trial.
const RECORDS: u32 = 16;
/// Trials; the best one counts, since whatever disturbs makes one slower.
const TRIALS: u32 = 4;

impl Measured {
    /// Measures both, in about five milliseconds, less on a fast core.
    #[must_use]
    pub fn now() -> Self {
        Self {
            aws_lc: speed(Backend::AwsLc),
            ring: speed(Backend::Ring),
        }
    }

    /// The faster one.
    #[must_use]
    pub fn fastest(&self) -> Backend {
        if self.ring > self.aws_lc {
            Backend::Ring
        } else {
            Backend::AwsLc
        }
    }

    /// Bytes per second of one.
    #[must_use]
    pub const fn of(&self, backend: Backend) -> f64 {
        match backend {
            Backend::AwsLc => self.aws_lc,
            Backend::Ring => self.ring,
        }
    }
}

fn speed(backend: Backend) -> f64 {
    let key = TrafficKey {
        suite: Suite::Aes128Gcm,
        key: Zeroizing::new(vec![7; 16]),
        iv: Zeroizing::new([9; 12]),
    };
    let Ok(mut cipher) = Cipher::new(&key, 0, backend) else {
        return 0.0;
    };
    let mut text = vec![0; MAX_PLAINTEXT];
    let mut best = Duration::MAX;
    for _ in 0..TRIALS {
        let begin = Instant::now();
        for _ in 0..RECORDS {
            if cipher.seal([0; 5], &mut text).is_err() {
                return 0.0;
            }
        }
        best = best.min(begin.elapsed());
    }
    let bytes = f64::from(RECORDS) * 16_384.0;
    bytes / best.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_one_is_chosen() {
        let measured = Measured {
            aws_lc: 2.0,
            ring: 3.0,
        };
        assert_eq!(measured.fastest(), Backend::Ring);
        assert_eq!(measured.of(Backend::Ring), 3.0);
        let equal = Measured {
            aws_lc: 1.0,
            ring: 1.0,
        };
        assert_eq!(equal.fastest(), Backend::AwsLc);
    }

    #[test]
    fn both_can_be_measured() {
        let now = Measured::now();
        assert!(Backend::ALL.iter().all(|backend| now.of(*backend) > 0.0));
    }

    #[test]
    fn a_speed_is_in_bytes_per_second() {
        // The best trial is no slower than all of them together, and these take less time than the
        // whole call: a bound that holds on a busy machine too.
        let bytes = f64::from(TRIALS * RECORDS) * 16_384.0;
        for backend in Backend::ALL {
            let begin = Instant::now();
            let speed = speed(backend);
            let at_least = bytes / begin.elapsed().as_secs_f64();
            assert!(speed > at_least, "{backend}: {speed} of {at_least}");
        }
    }

    #[test]
    fn the_names_are_those_that_a_configuration_has() {
        let shown = Backend::ALL.map(|backend| backend.to_string());
        assert_eq!(shown, ["aws-lc", "ring"]);
    }
}
