//! A measurement over time: as series, and as a picture in SVG written by hand.

use std::fmt::Write as _;

use super::{sample::Sample, verdict::Side};

const WIDTH: f64 = 880.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 70.0;
const PANEL: f64 = 130.0;
const GAP: f64 = 46.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; 4] = ["#0b69a3", "#b44d12", "#3f7d20", "#7b4fa3"];

/// A figure over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: &'static str,
    /// In what.
    pub unit: &'static str,
    /// Seconds since the beginning, and the figure.
    pub points: Vec<(f64, f64)>,
}

/// Rate, round trip and windows of one end, which sends if it is the sender's.
#[must_use]
pub fn series(samples: &[Sample], end: Side, sender: Side) -> Vec<Series> {
    let moved = |sample: &Sample| {
        let bytes = if end == sender {
            sample.tcp.acked
        } else {
            sample.tcp.received
        };
        bytes.unwrap_or_default() as f64
    };
    let seconds = |sample: &Sample| sample.at as f64 / 1e6;
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let rate = pairs.filter_map(|(one, next)| {
        let span = seconds(next) - seconds(one);
        let bits = (moved(next) - moved(one)).max(0.0) * 8.0;
        (span > 0.0).then(|| (seconds(next), bits / span / 1e6))
    });
    let each = |one: &dyn Fn(&Sample) -> Option<f64>| {
        let points = samples.iter();
        points
            .filter_map(|sample| Some((seconds(sample), one(sample)?)))
            .collect()
    };
    let mut all = vec![
        Series {
            name: "rate",
            unit: "Mb/s",
            points: rate.collect(),
        },
        Series {
            name: "round trip",
            unit: "ms",
            points: each(&|one| Some(f64::from(one.tcp.rtt) / 1e3)),
        },
    ];
    if end == sender {
        let cwnd = |one: &Sample| f64::from(one.tcp.cwnd) * f64::from(one.tcp.mss) / 1024.0;
        all.push(Series {
            name: "congestion window",
            unit: "KiB",
            points: each(&|one| Some(cwnd(one))),
        });
        all.push(Series {
            name: "window offered by the receiver",
            unit: "KiB",
            points: each(&|one| Some(f64::from(one.tcp.send_window?) / 1024.0)),
        });
    } else {
        all.push(Series {
            name: "not read yet",
            unit: "KiB",
            points: each(&|one| Some(f64::from(one.receive_queue) / 1024.0)),
        });
    }
    all.retain(|series| !series.points.is_empty());
    all
}

/// The picture: a panel for each series.
#[must_use]
pub fn svg(title: &str, note: &str, all: &[Series]) -> String {
    let height = TOP + (PANEL + GAP) * all.len() as f64 + BOTTOM;
    let last = all.iter().flat_map(|one| &one.points).map(|(at, _)| *at);
    let end = last.fold(0.0, f64::max).max(1e-3);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut out,
        (24.0, 32.0),
        "font-size=\"18\" font-weight=\"600\"",
        title,
    );
    text(&mut out, (24.0, 52.0), "fill=\"#616e7c\"", note);
    for (number, (one, colour)) in all.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let top = TOP + (PANEL + GAP) * number as f64 + 18.0;
        panel(&mut out, one, colour, top, end);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, one: &Series, colour: &str, top: f64, end: f64) {
    let most = one
        .points
        .iter()
        .map(|(_, value)| *value)
        .fold(0.0, f64::max);
    let scale = nice(most);
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * (at / end).clamp(0.0, 1.0);
    let y = |value: f64| top + PANEL * (1.0 - (value / scale).clamp(0.0, 1.0));
    let head = format!("{}, {}", one.name, one.unit);
    text(out, (LEFT, top - 6.0), "font-weight=\"600\"", &head);
    for part in 0..=2 {
        let value = scale * f64::from(part) / 2.0;
        let at = y(value);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#e4e7eb\"/>",
            WIDTH - RIGHT
        );
        let how = "fill=\"#616e7c\" text-anchor=\"end\" font-size=\"11\"";
        text(out, (LEFT - 8.0, at + 4.0), how, &label(value));
    }
    for part in 0..=4 {
        let at = end * f64::from(part) / 4.0;
        let how = "fill=\"#616e7c\" text-anchor=\"middle\" font-size=\"11\"";
        text(out, (x(at), top + PANEL + 16.0), how, &format!("{at:.1} s"));
    }
    let mut points = String::new();
    for (at, value) in &one.points {
        let _ = write!(points, "{:.1},{:.1} ", x(*at), y(*value));
    }
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
        points.trim_end()
    );
}

fn text(out: &mut String, (x, y): (f64, f64), how: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{words}</text>");
}

fn label(value: f64) -> String {
    if value >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn nice(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps.iter().find(|step| **step * power >= least * 0.999);
    step.copied().unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_line_for_each_series() {
        let at = |tenth: u32| {
            let mut sample = Sample {
                at: u64::from(tenth) * 100_000,
                ..Sample::default()
            };
            sample.tcp.acked = Some(u64::from(tenth) * 1_250_000);
            sample.tcp.rtt = 20_000;
            sample.tcp.send_window = Some(65_536);
            sample
        };
        let samples: Vec<_> = (0..10).map(at).collect();
        let all = series(&samples, Side::Here, Side::Here);
        assert_eq!(all.len(), 4);
        assert!(
            all[0]
                .points
                .iter()
                .all(|(_, rate)| (rate - 100.0).abs() < 1e-6)
        );
        let picture = svg("a < b & c", "note", &all);
        assert_eq!(picture.matches("<polyline").count(), 4);
        assert!(picture.contains("a &lt; b &amp; c") && picture.ends_with("</svg>\n"));
        assert_eq!(series(&samples, Side::There, Side::Here).len(), 3);
        // Nothing seen, and figures that are none.
        assert!(series(&[], Side::Here, Side::Here).is_empty());
        assert!(!svg("", "", &[]).contains("NaN"));
    }
}
