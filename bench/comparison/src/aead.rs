//! What one core does of AES-GCM, in records of 16 KiB: a part of every figure with TLS.

use std::time::{Duration, Instant};

use serde::Serialize;

const RECORD: usize = 16 << 10;
const TIME: Duration = Duration::from_millis(300);
/// Records between two looks at the clock.
const BATCH: u32 = 64;

/// A library, an algorithm, and its speed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Speed {
    pub(crate) library: &'static str,
    pub(crate) algorithm: &'static str,
    pub(crate) gigabytes_per_second: f64,
}

macro_rules! seal {
    ($library:literal, $module:ident, $name:literal, $algorithm:ident) => {{
        use $module::aead;
        let key = [7; 32];
        let key = key.get(..aead::$algorithm.key_len()).unwrap_or_default();
        let key = aead::UnboundKey::new(&aead::$algorithm, key).ok();
        let key = key.map(aead::LessSafeKey::new);
        key.map(|key| Speed {
            library: $library,
            algorithm: $name,
            gigabytes_per_second: measure(|record| {
                // Nothing of it is sent: one nonce does.
                let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
                let _ = key.seal_in_place_separate_tag(nonce, aead::Aad::empty(), record);
            }),
        })
    }};
}

/// Measures both libraries.
pub(crate) fn speeds() -> Vec<Speed> {
    [
        seal!("aws-lc-rs", aws_lc_rs, "AES-128-GCM", AES_128_GCM),
        seal!("aws-lc-rs", aws_lc_rs, "AES-256-GCM", AES_256_GCM),
        seal!("ring", ring, "AES-128-GCM", AES_128_GCM),
        seal!("ring", ring, "AES-256-GCM", AES_256_GCM),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The fastest of AES-128-GCM, in GB/s.
pub(crate) fn best(speeds: &[Speed]) -> f64 {
    let of = speeds
        .iter()
        .filter(|speed| speed.algorithm == "AES-128-GCM");
    of.map(|speed| speed.gigabytes_per_second)
        .fold(0.0, f64::max)
}

fn measure(mut seal: impl FnMut(&mut [u8])) -> f64 {
    let mut record = vec![0; RECORD];
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < TIME {
        for _ in 0..BATCH {
            seal(&mut record);
        }
        count += BATCH;
    }
    f64::from(count) * RECORD as f64 / started.elapsed().as_secs_f64() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_of_aes_128() {
        let speed = |library, algorithm, gigabytes_per_second| Speed {
            library,
            algorithm,
            gigabytes_per_second,
        };
        let all = [
            speed("a", "AES-128-GCM", 3.0),
            speed("b", "AES-128-GCM", 5.0),
            speed("b", "AES-256-GCM", 9.0),
        ];
        assert_eq!(best(&all), 5.0);
        assert_eq!(best(&[]), 0.0);
    }
}
