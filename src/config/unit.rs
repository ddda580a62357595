//! Durations and sizes as written in a file.

use std::{fmt, time::Duration};

/// What a duration looks like.
pub(super) const DURATION: &str =
    "a duration with its unit (ms, s, m, h, d), as in 300ms, 30s or 1h30m";

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// What a size looks like.
pub(super) const SIZE: &str = "a size with its unit (B, KiB, MiB, GiB), as in 64KiB";

/// The units of a size, in bytes.
const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Parses `64KiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, factor) = SIZES
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    number.checked_mul(*factor)
}

/// A size as it is written in a file.
pub(super) struct WrittenSize(pub(super) u64);

impl fmt::Display for WrittenSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (unit, factor) = SIZES.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// One millisecond: the shortest duration there is beside none.
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
/// The longest that a single step, such as a handshake, may be given.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
/// The longest that ending may take.
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// The longest that a connection may be given.
pub(super) const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// Parses `30s` or `1h30m`: each unit at most once, larger ones first.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        // The iterator only moves on: a unit cannot come again, nor after a smaller one.
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        let number: u64 = number.parse().ok()?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        if behind.is_empty() {
            return Some(Duration::from_millis(total));
        }
        rest = behind;
    }
}

/// A duration as it is written in a file.
pub(super) struct Written(pub(super) Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS {
            let factor = u128::from(factor);
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_from_large_to_small() {
        for (text, milliseconds) in [
            ("300ms", 300),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("1h30m", 5_400_000),
            ("1m1ms", 60_001),
            ("0s", 0),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_have_one_unit() {
        for (text, bytes) in [
            ("0B", 0),
            ("64KiB", 65_536),
            ("3MiB", 3 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(WrittenSize(bytes).to_string(), text);
        }
        assert_eq!(WrittenSize(1536).to_string(), "1536B");
        for text in [
            "",
            "1",
            "KiB",
            "-1B",
            "+1B",
            "1.5MiB",
            "1 B",
            "1KB",
            "1kib",
            "99999999999GiB",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "30m1h",
            "1s1s",
            "1S",
            "1w",
            "1h30",
            "99999999999999999999d",
            "18446744073709551615d",
            "１s",
            "1s ",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_duration_reads_as_itself() {
        for text in ["1ms", "30s", "1h30m", "366d", "1d2h3m4s5ms"] {
            let read = duration(text).unwrap();
            assert_eq!(Written(read).to_string(), text);
        }
    }
}
