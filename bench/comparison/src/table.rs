//! A report in Markdown.

use std::collections::BTreeSet;

use crate::{
    load::{Load, Metric},
    peer::ENVOY,
    report::{Cell, Report},
    statistics::{Summary, ratio},
};

/// The whole report.
pub(crate) fn markdown(report: &Report) -> String {
    let mut text = format!("Measured {}\n\n", report.date);
    for line in report.machine.lines() {
        text.push_str(&format!("- {line}\n"));
    }
    let method = &report.method;
    text.push_str(&format!(
        "- load: {}; medians of {} (min - max), {} s each, in turn; CPU is user and system time of \
         the proxies\n",
        method.load_program, method.repetitions, method.seconds
    ));
    for party in report
        .parties
        .iter()
        .filter(|party| !party.version.is_empty())
    {
        let kind = if party.mtls { "mTLS" } else { "plain" };
        text.push_str(&format!("- {} ({kind}): {}\n", party.name, party.version));
    }
    for group in groups(report) {
        text.push_str(&section(report, &group));
    }
    text.push_str(&goals(report));
    text
}

/// Cells of one load and number of workers, in the order they were measured.
fn groups(report: &Report) -> Vec<Vec<&Cell>> {
    let mut groups: Vec<Vec<&Cell>> = Vec::new();
    for cell in &report.cells {
        match groups.last_mut() {
            Some(group)
                if group
                    .iter()
                    .all(|it| (it.load, it.workers) == (cell.load, cell.workers)) =>
            {
                group.push(cell);
            }
            _ => groups.push(vec![cell]),
        }
    }
    groups
}

fn section(report: &Report, group: &[&Cell]) -> String {
    let Some(first) = group.first() else {
        return String::new();
    };
    let (load, workers) = (first.load, first.workers);
    let plural = if workers == 1 { "" } else { "s" };
    let mut text = format!(
        "\n### {}: {}, {workers} worker{plural} each\n\n",
        load.name(),
        uncapitalised(&load.title())
    );
    let metrics = load.metrics();
    let compared: Vec<_> = metrics.iter().filter(|it| it.is_compared()).collect();
    let mut head = vec!["pair".to_owned()];
    head.extend(metrics.iter().map(|metric| metric.title().to_owned()));
    head.extend(
        compared
            .iter()
            .map(|metric| format!("× Envoy: {}", short(**metric))),
    );
    if load.is_stream() {
        head.extend(
            compared
                .iter()
                .map(|metric| format!("× floor: {}", short(**metric))),
        );
    }
    let mut rows = vec![head];
    for cell in group {
        let mut row = vec![cell.peer.clone()];
        row.extend(metrics.iter().map(|metric| value(cell, *metric)));
        let times = |metric: Metric, other: Option<f64>| {
            let own = cell.summary.get(&metric).map(|summary| summary.median);
            let ratio = own.zip(other).and_then(|(own, other)| ratio(own, other));
            ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
        };
        row.extend(
            compared
                .iter()
                .map(|metric| times(**metric, report.median(load, workers, ENVOY, **metric))),
        );
        if load.is_stream() {
            row.extend(
                compared
                    .iter()
                    .map(|metric| times(**metric, report.floor(load, workers, **metric))),
            );
        }
        rows.push(row);
    }
    text.push_str(&aligned(&rows));
    text.push_str(&notes(load, group));
    text
}

fn uncapitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// The name of a metric where there is little room.
fn short(metric: Metric) -> &'static str {
    let title = metric.title();
    title.split(", ").next().unwrap_or(title)
}

fn notes(load: Load, group: &[&Cell]) -> String {
    let mut text = String::new();
    let negotiated: BTreeSet<_> = group
        .iter()
        .filter(|cell| !cell.negotiated.is_empty())
        .map(|cell| format!("{}: {}", cell.peer, cell.negotiated))
        .collect();
    if matches!(load, Load::Connect | Load::Resume | Load::Stream) && !negotiated.is_empty() {
        let all: Vec<_> = negotiated.into_iter().collect();
        text.push_str(&format!("\nNegotiated: {}.\n", all.join("; ")));
    }
    for cell in group {
        for why in &cell.failures {
            text.push_str(&format!("\n{} was not measured: {why}\n", cell.peer));
        }
    }
    text
}

fn value(cell: &Cell, metric: Metric) -> String {
    cell.summary
        .get(&metric)
        .map_or_else(|| "-".into(), |summary| written(summary, metric))
}

fn written(summary: &Summary, metric: Metric) -> String {
    let digits = metric.digits();
    let Summary {
        median, min, max, ..
    } = summary;
    if summary.count == 1 {
        format!("{median:.digits$}")
    } else {
        format!("{median:.digits$} ({min:.digits$} - {max:.digits$})")
    }
}

fn goals(report: &Report) -> String {
    let mut rows = vec![["goal", "found", "reached"].map(str::to_owned).to_vec()];
    for verdict in report.goals.iter().filter(|goal| goal.reached.is_some()) {
        rows.push(vec![
            verdict.goal.clone(),
            verdict
                .found
                .map_or_else(String::new, |found| format!("{found:.2}")),
            if verdict.reached == Some(true) {
                "yes"
            } else {
                "**no**"
            }
            .to_owned(),
        ]);
    }
    if rows.len() == 1 {
        return String::new();
    }
    format!(
        "\n### Goals of sekisho, one worker, ratios of medians of this run\n\n{}",
        aligned(&rows)
    )
}

/// A table that can also be read as text.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        })
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
        if index == 0 {
            let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&format!("| {} |\n", rule.join(" | ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_row_has_medians_ratios_and_what_was_not_measured() {
        let text = markdown(&sample::report());
        let row = text
            .lines()
            .find(|line| line.starts_with("| sekisho"))
            .unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[2], "21.00 (20.00 - 22.00)");
        assert_eq!(cells[3], "0.410 (0.400 - 0.420)");
        assert_eq!(&cells[6..10], ["2.10", "0.50", "0.70", "1.46"]);
        assert!(text.contains("envoy was not measured: it ended"));
        assert!(text.contains("| stream: Gb/s ≥ 1.8 × Envoy's"));
    }

    #[test]
    fn columns_are_aligned() {
        let text = aligned(&[
            vec!["a".into(), "é".into()],
            vec!["longer".into(), "b".into()],
        ]);
        let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [16, 16, 16]);
    }
}
