//! Gb/s over the distance, as lines, in SVG written by hand.

use std::fmt::Write as _;

use super::{
    cells::{Group, PAPER},
    report::{Measured, Report},
};
use crate::plot::chart::{nice, scale, text};

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 370.0;
/// How many lines a scale has, about.
const TICKS: f64 = 6.0;
/// Without sekisho grey, with it in colours; the dashes tell them apart without colour.
const STYLES: [(&str, &str); 7] = [
    ("#616e7c", ""),
    ("#9aa5b1", "6 4"),
    ("#c1121f", ""),
    ("#c1121f", "6 4"),
    ("#5b8db8", ""),
    ("#5b8db8", "6 4"),
    ("#e0a458", "2 3"),
];

/// The plot, if a distance was measured.
pub(super) fn plot(report: &Report) -> Option<String> {
    let is_paper = |cell: &&Measured| cell.cell.group == Group::Paper;
    let cells: Vec<_> = report.cells.iter().filter(is_paper).collect();
    let first = cells.first()?;
    let names = first.rows.iter().map(|row| row.contender.name.as_str());
    let lines: Vec<_> = names
        .map(|name| (name, points(&cells, name)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    let measured = lines.iter().flat_map(|(_, points)| points);
    let paper = PAPER.map(|(far, rate, _)| (far, rate));
    let all: Vec<_> = measured.chain(&paper).copied().collect();
    let most = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(0.0, f64::max);
    let axes = Axes::new(most(|point| point.0), most(|point| point.1));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let title = "font-size=\"18\" font-weight=\"600\"";
    text(
        &mut out,
        (24.0, 34.0),
        title,
        "One stream over a long path, Gb/s",
    );
    axes.draw(&mut out);
    for (index, (name, points)) in lines.iter().enumerate() {
        let (colour, dash) = STYLES
            .get(index % STYLES.len())
            .copied()
            .unwrap_or_default();
        let y = TOP + 14.0 + 22.0 * index as f64;
        let style = format!(
            "fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\""
        );
        let places: Vec<_> = points.iter().map(|point| axes.place(*point)).collect();
        let path: Vec<_> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            out,
            "<polyline class=\"line\" points=\"{}\" {style}/>\n<path d=\"M{} {}h26\" {style}/>",
            path.join(" "),
            RIGHT + 20.0,
            y - 4.5,
        );
        for (x, y) in places {
            let _ = writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        text(
            &mut out,
            (RIGHT + 52.0, y),
            "font-size=\"11\" fill=\"#323f4b\"",
            name,
        );
    }
    let y = TOP + 14.0 + 22.0 * lines.len() as f64;
    let mut crosses: Vec<_> = paper.iter().map(|point| axes.place(*point)).collect();
    crosses.push((RIGHT + 33.0, y - 4.5));
    for (x, y) in crosses {
        let _ = writeln!(
            out,
            "<path class=\"paper\" d=\"M{:.1} {:.1}l8 8m0 -8l-8 8\" stroke=\"#1f2933\" \
             stroke-width=\"2\"/>",
            x - 4.0,
            y - 4.0
        );
    }
    let how = "font-size=\"11\" fill=\"#323f4b\"";
    text(
        &mut out,
        (RIGHT + 52.0, y),
        how,
        "the four-site paper, direct",
    );
    let note = format!(
        "{}; {}; {}; {} s each",
        report.machine.cpu, report.machine.kernel, report.date, report.seconds
    );
    let how = "fill=\"#616e7c\" font-size=\"11\"";
    text(&mut out, (24.0, HEIGHT - 12.0), how, &note);
    out.push_str("</svg>\n");
    Some(out)
}

/// Milliseconds and Gb/s of one contender, by distance.
fn points(cells: &[&Measured], name: &str) -> Vec<(f64, f64)> {
    let point = |cell: &&Measured| Some((cell.cell.line.round_trip, cell.steady(name)?));
    let mut all: Vec<_> = cells.iter().filter_map(point).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    all
}

/// Both from 0.
struct Axes {
    x: f64,
    x_tick: f64,
    y: f64,
    y_tick: f64,
}

impl Axes {
    fn new(x: f64, y: f64) -> Self {
        let (x_tick, y_tick) = (nice(x / TICKS), nice(y / TICKS));
        let end = |most: f64, tick: f64| (most / tick).ceil().max(1.0) * tick;
        Self {
            x: end(x, x_tick),
            x_tick,
            y: end(y, y_tick),
            y_tick,
        }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (
            LEFT + (RIGHT - LEFT) * x / self.x,
            BOTTOM - (BOTTOM - TOP) * y / self.y,
        )
    }

    fn draw(&self, out: &mut String) {
        let line = |out: &mut String, from: (f64, f64), to: (f64, f64)| {
            let _ = writeln!(
                out,
                "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#e4e7eb\"/>",
                from.0, from.1, to.0, to.1
            );
        };
        let how =
            |anchor: &str| format!("fill=\"#616e7c\" text-anchor=\"{anchor}\" font-size=\"11\"");
        for step in 0..=20 {
            let value = f64::from(step) * self.y_tick;
            if value <= self.y * 1.001 {
                let (_, y) = self.place((0.0, value));
                line(out, (LEFT, y), (RIGHT, y));
                let words = scale(value, self.y_tick);
                text(out, (LEFT - 8.0, y + 4.0), &how("end"), &words);
            }
            let value = f64::from(step) * self.x_tick;
            if value <= self.x * 1.001 {
                let (x, _) = self.place((value, 0.0));
                line(out, (x, TOP), (x, BOTTOM));
                let words = scale(value, self.x_tick);
                text(out, (x, BOTTOM + 16.0), &how("middle"), &words);
            }
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        text(
            out,
            (middle, BOTTOM + 34.0),
            &how("middle"),
            "round trip, ms",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wan::report::sample;

    #[test]
    fn each_that_was_measured_is_a_line_and_the_paper_a_cross() {
        let svg = plot(&sample::report()).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert_eq!(svg.matches("<polyline class=\"line\"").count(), 4);
        assert_eq!(svg.matches("<circle").count(), 8);
        // Three, and the one of the legend.
        assert_eq!(svg.matches("class=\"paper\"").count(), 4);
        assert!(svg.contains("A &amp; B") && !svg.contains("A & B"));
    }

    #[test]
    fn without_a_distance_there_is_no_plot() {
        let mut report = sample::report();
        report.cells.retain(|cell| cell.cell.group != Group::Paper);
        assert_eq!(plot(&report), None);
    }

    #[test]
    fn places_are_within_the_axes() {
        let axes = Axes::new(31.2, 5.9);
        assert_eq!(axes.place((0.0, 0.0)), (LEFT, BOTTOM));
        let (x, y) = axes.place((31.2, 5.9));
        assert!(x > LEFT && x <= RIGHT && (TOP..BOTTOM).contains(&y));
        assert_eq!(axes.place((axes.x, axes.y)), (RIGHT, TOP));
    }
}
