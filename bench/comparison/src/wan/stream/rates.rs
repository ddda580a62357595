//! What iperf3 says at its end.

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;

use crate::statistics::Summary;

/// What a stream may take to come to its speed, in seconds; a third of a short run.
const WARM_UP: f64 = 5.0;

/// What arrived, in Gb/s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::wan) struct Rates {
    /// The median of the seconds after the first five.
    pub(in crate::wan) steady: f64,
    /// Of all.
    pub(in crate::wan) mean: f64,
    /// Each second.
    pub(in crate::wan) seconds: Vec<f64>,
}

/// The document that iperf3 has printed, or what it says went wrong.
pub(super) fn told(log: &str) -> anyhow::Result<Value> {
    let text = log.find('{').and_then(|from| log.get(from..));
    let Some(text) = text else {
        bail!("iperf3 printed no JSON: {}", log.trim());
    };
    let document: Value = serde_json::from_str(text).context("what iperf3 printed")?;
    if let Some(error) = document.get("error").and_then(Value::as_str) {
        bail!("iperf3: {error}");
    }
    Ok(document)
}

/// What arrived, by the receiver's document.
pub(super) fn rates(document: &Value, seconds: u32) -> anyhow::Result<Rates> {
    let bits = |value: &Value| value.get("bits_per_second").and_then(Value::as_f64);
    let mean = document
        .pointer("/end/sum_received")
        .and_then(bits)
        .filter(|bits| *bits > 0.0)
        .context("iperf3: nothing arrived")?;
    let warm = warm_up(seconds);
    let (mut all, mut steady) = (Vec::new(), Vec::new());
    for interval in document
        .get("intervals")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let sum = interval
            .get("sum")
            .context("iperf3: an interval without a sum")?;
        let number = |name: &str| sum.get(name).and_then(Value::as_f64).unwrap_or_default();
        // What is left at the end is a few milliseconds.
        if number("seconds") < 0.5 {
            continue;
        }
        let rate = bits(sum).unwrap_or_default() / 1e9;
        all.push(rate);
        if f64::midpoint(number("start"), number("end")) > warm {
            steady.push(rate);
        }
    }
    let mean = mean / 1e9;
    Ok(Rates {
        steady: Summary::of(steady).map_or(mean, |summary| summary.median),
        mean,
        seconds: all,
    })
}

/// Seconds that do not count for [`Rates::steady`].
pub(in crate::wan) fn warm_up(seconds: u32) -> f64 {
    WARM_UP.min(f64::from(seconds) / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(rates: &[f64]) -> Value {
        let interval = |(second, rate): (usize, &f64)| {
            json!({"sum": {"start": second as f64, "end": second as f64 + 1.0, "seconds": 1.0,
                "bits_per_second": rate * 1e9}})
        };
        let mut intervals: Vec<_> = rates.iter().enumerate().map(interval).collect();
        intervals.push(json!({"sum": {"start": 9.0, "end": 9.01, "seconds": 0.01,
            "bits_per_second": 9e12}}));
        json!({"intervals": intervals, "end": {"sum_received": {"bits_per_second": 1.5e9}}})
    }

    #[test]
    fn the_first_seconds_do_not_count() {
        let found = rates(&document(&[0.1, 0.2, 0.3, 0.4, 0.5, 2.0, 3.0, 2.5]), 60).unwrap();
        assert_eq!((found.steady, found.mean), (2.5, 1.5));
        assert_eq!(found.seconds.len(), 8);
        // Of three seconds, the first.
        let short = rates(&document(&[0.1, 1.0, 2.0]), 3).unwrap();
        assert_eq!(short.steady, 1.5);
        assert_eq!(rates(&document(&[]), 3).unwrap().steady, 1.5);
    }

    #[test]
    fn nothing_is_no_figure() {
        let nothing = json!({"intervals": [], "end": {"sum_received": {"bits_per_second": 0.0}}});
        assert!(rates(&nothing, 3).is_err());
        assert!(rates(&json!({}), 3).is_err());
    }

    #[test]
    fn its_errors_are_told() {
        let error = told("{\"error\": \"unable to connect\"}").unwrap_err();
        assert_eq!(error.to_string(), "iperf3: unable to connect");
        let error = told("iperf3: command not found\n").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("no JSON: iperf3: command not found")
        );
        assert!(told("warning: x\n{\"end\": {}}\n").is_ok());
        assert!(told("{\"end\":").is_err());
    }
}
