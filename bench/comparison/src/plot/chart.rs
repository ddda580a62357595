//! Horizontal bars in groups.

use std::fmt::Write as _;

use crate::statistics::Summary;

const WIDTH: f64 = 880.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 64.0;
const BAR: f64 = 17.0;
const STEP: f64 = 23.0;
const HEAD: f64 = 30.0;
const BOTTOM: f64 = 56.0;
/// How many lines the scale has, about.
const TICKS: f64 = 6.0;

pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) summary: Summary,
}

pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) digits: usize,
    pub(crate) bars: Vec<Bar>,
}

pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// Below the bars.
    pub(crate) note: String,
    pub(crate) groups: Vec<Group>,
}

impl Chart<'_> {
    pub(crate) fn svg(&self) -> String {
        let rows = |group: &Group| HEAD + STEP * group.bars.len() as f64;
        let body: f64 = self.groups.iter().map(rows).sum();
        let height = TOP + body + BOTTOM;
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let most = bars.map(|bar| bar.summary.max).fold(0.0, f64::max);
        let tick = nice(most / TICKS);
        let end = (most / tick).ceil().max(1.0) * tick;
        let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value.max(0.0) / end;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        text(
            &mut out,
            (24.0, 34.0),
            "font-size=\"18\" font-weight=\"600\"",
            self.title,
        );
        let mut value = 0.0;
        while value <= end + tick / 2.0 {
            let at = x(value);
            let _ = writeln!(
                out,
                "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#e4e7eb\"/>",
                TOP + body + 6.0
            );
            let how = "fill=\"#616e7c\" text-anchor=\"middle\" font-size=\"11\"";
            text(&mut out, (at, TOP + body + 22.0), how, &scale(value, tick));
            value += tick;
        }
        let mut y = TOP;
        for group in &self.groups {
            text(
                &mut out,
                (24.0, y + 20.0),
                "font-weight=\"600\"",
                &group.name,
            );
            y += HEAD;
            for bar in &group.bars {
                draw(&mut out, bar, group.digits, y, x);
                y += STEP;
            }
        }
        let how = "fill=\"#616e7c\" font-size=\"11\"";
        text(&mut out, (24.0, height - 12.0), how, &self.note);
        out.push_str("</svg>\n");
        out
    }
}

fn draw(out: &mut String, bar: &Bar, digits: usize, y: f64, x: impl Fn(f64) -> f64) {
    let Summary {
        median, min, max, ..
    } = bar.summary;
    let middle = y + BAR / 2.0;
    text(
        out,
        (LEFT - 10.0, middle + 4.5),
        "text-anchor=\"end\" fill=\"#323f4b\"",
        &bar.name,
    );
    let _ = writeln!(
        out,
        "<rect class=\"bar\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" \
         fill=\"{}\"/>",
        (x(median) - LEFT).max(1.0),
        bar.colour
    );
    if bar.summary.count > 1 {
        let (from, to) = (x(min), x(max));
        let _ = writeln!(
            out,
            "<path d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {:.1}v8M{to:.1} {:.1}v8\" \
             stroke=\"#1f2933\" fill=\"none\"/>",
            middle - 4.0,
            middle - 4.0
        );
    }
    let at = (x(max.max(median)) + 8.0, middle + 4.5);
    text(out, at, "fill=\"#323f4b\"", &format!("{median:.digits$}"));
}

/// A text at a place, escaped; `how` are further attributes.
pub(crate) fn text(out: &mut String, (x, y): (f64, f64), how: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{words}</text>");
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
pub(crate) fn nice(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps.iter().find(|step| **step * power >= least * 0.999);
    step.copied().unwrap_or(10.0) * power
}

/// A number of a scale with such steps.
pub(crate) fn scale(value: f64, tick: f64) -> String {
    let digits = [1.0, 0.1, 0.01];
    let count = digits
        .iter()
        .position(|digit| (tick / digit).fract().abs() < 1e-6);
    let digits = count.unwrap_or(3);
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_has_round_steps() {
        for (least, expected) in [
            (0.9, 1.0),
            (1.1, 2.0),
            (2.2, 2.5),
            (260.0, 500.0),
            (0.03, 0.05),
        ] {
            assert!((nice(least) - expected).abs() < 1e-9, "{least}");
        }
        assert!((nice(0.0) - 1.0).abs() < 1e-9);
        assert_eq!(scale(0.5, 0.25), "0.50");
        assert_eq!(scale(500.0, 100.0), "500");
    }
}
