//! A report as bar charts, in SVG written by hand: a peer a bar, a load a group, a line from the
//! smallest to the largest of the repetitions.

pub(crate) mod chart;

use chart::{Bar, Chart, Group};

use crate::{
    load::{Load, Metric},
    report::{Cell, Report},
};

const STREAMS: &[Load] = &[Load::Stream, Load::Streams8, Load::Reverse, Load::Bidir];
const CONNECTS: &[Load] = &[Load::Connect, Load::Resume];
const REQUESTS: &[Load] = &[Load::Rr16, Load::Rr128];
const LATENCIES: &[Metric] = &[Metric::P50, Metric::P99, Metric::P999];
/// File, title, loads, and what of them.
const PLOTS: &[(&str, &str, &[Load], &[Metric])] = &[
    ("throughput", "Throughput, Gb/s", STREAMS, &[Metric::Rate]),
    (
        "cpu",
        "CPU of both proxies, seconds per GB",
        STREAMS,
        &[Metric::CpuPerGigabyte],
    ),
    (
        "connections",
        "New connections per second",
        CONNECTS,
        &[Metric::Connections],
    ),
    (
        "connection-cpu",
        "CPU of both proxies, ms per new connection",
        CONNECTS,
        &[Metric::CpuPerConnection],
    ),
    (
        "requests",
        "Requests per CPU second of both proxies",
        REQUESTS,
        &[Metric::RequestsPerCpu],
    ),
    (
        "latency-16",
        "Latency of a request on 16 connections, ms",
        &[Load::Rr16],
        LATENCIES,
    ),
    (
        "latency-128",
        "Latency of a request on 128 connections, ms",
        &[Load::Rr128],
        LATENCIES,
    ),
    (
        "idle",
        "Memory of a proxy for each idle connection, KiB",
        &[Load::Idle],
        &[Metric::IdleFront, Metric::IdleBack],
    ),
    (
        "empty",
        "Memory of a proxy before the first load, MiB",
        &[Load::Startup],
        &[Metric::EmptyFront, Metric::EmptyBack],
    ),
    (
        "startup",
        "From start to the first byte through both proxies, ms",
        &[Load::Startup],
        &[Metric::StartUp],
    ),
];

/// Names and texts of the plots that have anything to show.
pub(crate) fn plots(report: &Report) -> Vec<(&'static str, String)> {
    PLOTS
        .iter()
        .filter_map(|(name, title, loads, metrics)| {
            let chart = Chart {
                title,
                note: format!(
                    "{}; {}; {}",
                    report.machine.cpu, report.machine.kernel, report.date
                ),
                groups: groups(report, loads, metrics),
            };
            (!chart.groups.is_empty()).then(|| (*name, chart.svg()))
        })
        .collect()
}

fn groups(report: &Report, loads: &[Load], metrics: &[Metric]) -> Vec<Group> {
    let mut keys: Vec<(Load, u16)> = Vec::new();
    for cell in report
        .cells
        .iter()
        .filter(|cell| loads.contains(&cell.load))
    {
        if !keys.contains(&(cell.load, cell.workers)) {
            keys.push((cell.load, cell.workers));
        }
    }
    let mut groups = Vec::new();
    for (load, workers) in keys {
        for metric in metrics {
            let of = |cell: &&Cell| (cell.load, cell.workers) == (load, workers);
            let bars: Vec<_> = report
                .cells
                .iter()
                .filter(of)
                .filter_map(|cell| {
                    Some(Bar {
                        name: cell.peer.clone(),
                        colour: colour(report, &cell.peer),
                        summary: *cell.summary.get(metric)?,
                    })
                })
                .collect();
            let plural = if workers == 1 { "" } else { "s" };
            let which = match metrics {
                [_] => String::new(),
                _ => format!(" {}", metric.title().split(',').next().unwrap_or_default()),
            };
            if !bars.is_empty() {
                groups.push(Group {
                    name: format!("{}{which}, {workers} worker{plural}", load.name()),
                    digits: metric.digits(),
                    bars,
                });
            }
        }
    }
    groups
}

/// One for each peer, the same in all plots; sekisho's stands out.
fn colour(report: &Report, peer: &str) -> &'static str {
    const OTHERS: [&str; 8] = [
        "#9aa5b1", "#7b8794", "#616e7c", "#e0a458", "#5b8db8", "#7fb069", "#b185a7", "#c9ada7",
    ];
    if peer == crate::peer::SEKISHO {
        return "#c1121f";
    }
    let names = report.parties.iter().map(|party| party.name.as_str());
    let index = names
        .filter(|name| *name != crate::peer::SEKISHO)
        .position(|name| name == peer)
        .unwrap_or_default();
    OTHERS
        .get(index % OTHERS.len())
        .copied()
        .unwrap_or("#9aa5b1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn only_what_was_measured_is_drawn() {
        let names: Vec<_> = plots(&sample::report())
            .iter()
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(names, ["throughput", "cpu"]);
    }

    #[test]
    fn a_plot_is_whole_and_its_texts_are_escaped() {
        let all = plots(&sample::report());
        let (_, svg) = all.first().unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("A &amp; B") && !svg.contains("A & B"));
        assert_eq!(svg.matches("<rect class=\"bar\"").count(), 4);
    }
}
