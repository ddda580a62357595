//! Sizes, rates, shares and short times as written on the command line.

use std::time::Duration;

/// `128KiB`, `1MiB`, `64GiB`, or iperf3's `128K`, `1M`, `64G`; without a unit, bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("", 1),
    ];
    scaled(text, &units).ok_or_else(|| "expected a size such as 4096, 128KiB or 1MiB".into())
}

/// As [`size`], of a block or a message: 1 byte to 16 MiB.
pub(super) fn message(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (1..=sekisho_bench::header::LARGEST).contains(bytes))
        .ok_or_else(|| "expected 1 byte to 16MiB".into())
}

/// As [`size`], of what an idle connection has carried: up to 1 GiB.
pub(super) fn carried(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes <= 1 << 30)
        .ok_or_else(|| "expected at most 1GiB".into())
}

/// `500M`, `10G`, `4g`: bits per second, decimal, as iperf3 has it.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let units = [
        ("k", 1_000),
        ("m", 1_000_000),
        ("g", 1_000_000_000),
        ("K", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("", 1),
    ];
    scaled(text, &units)
        .filter(|rate| *rate > 0)
        .ok_or_else(|| "expected bits per second such as 500M or 10G".into())
}

/// `0.01%`: a share, from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(decimal);
    percent
        .filter(|percent| *percent <= 100.0)
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected a share from 0% to 100%, such as 0.01%".into())
}

/// `15.7ms`, `300us`, `1s`: a short time, to the microsecond, with decimals as round trips have them.
pub(super) fn fraction(text: &str) -> Result<Duration, String> {
    // Seconds last: the other units end in theirs.
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let unit = units
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    unit.and_then(|(number, seconds)| Some(decimal(number)? * seconds))
        .filter(|seconds| *seconds < 1e6)
        .and_then(|seconds| Duration::try_from_secs_f64((seconds * 1e6).round() / 1e6).ok())
        .ok_or_else(|| "expected a time with a unit, such as 15.7ms or 300us".into())
}

/// Digits, with a point among them at most.
fn decimal(text: &str) -> Option<f64> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_plain)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| plain)?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_rates_decimal() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("128KiB"), Ok(131_072));
        assert_eq!(size("64G"), Ok(64 << 30));
        assert_eq!(rate("10G"), Ok(10_000_000_000));
        assert_eq!(rate("4g"), Ok(4_000_000_000));
        assert_eq!(message("16MiB"), Ok(16 << 20));
        assert_eq!(carried("0"), Ok(0));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["", "K", "-1", "+1", "1.5M", "1 M", "1T", "99999999999G"] {
            assert!(size(text).is_err() && rate(text).is_err(), "{text}");
        }
        assert!(message("0").is_err() && message("17MiB").is_err());
        assert!(rate("0").is_err());
    }
    #[test]
    fn shares_and_short_times_have_decimals() {
        assert_eq!(share("0%"), Ok(0.0));
        assert_eq!(share("100%"), Ok(1.0));
        assert!((share("0.01%").unwrap() - 1e-4).abs() < 1e-12);
        assert_eq!(fraction("15.7ms"), Ok(Duration::from_micros(15_700)));
        assert_eq!(fraction("300us"), Ok(Duration::from_micros(300)));
        assert_eq!(fraction("1s"), Ok(Duration::from_secs(1)));
        for text in ["", "%", "1", "100.1%", "-1%", "+1%", "1e1%", "NaN%", "inf%"] {
            assert!(share(text).is_err(), "{text}");
        }
        for text in ["", "1", "ms", "-1ms", "1e3ms", "1 ms", "1m", "9999999s"] {
            assert!(fraction(text).is_err(), "{text}");
        }
    }
}
