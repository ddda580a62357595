//! Outcomes as text and as JSON.

use std::time::Duration;

use sekisho_bench::{
    connections, idle,
    latency::Latency,
    requests,
    throughput::{Direction, Interval, Outcome, Throughput, Way},
};
use serde_json::{Value, json};

use crate::output;

/// What percentiles are shown.
const PERCENTILES: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];

pub(super) fn interval_head() -> String {
    format!("{:<16}  {:>10}  {:>12}", "seconds", "MiB", "Gb/s")
}

/// One line for each direction.
pub(super) fn interval(plan: &Throughput, interval: &Interval) -> String {
    let sum = interval.sum();
    let line = |bytes: u64, way: &str| {
        let seconds = interval.seconds().max(1e-9);
        format!(
            "{:>6.2} - {:<7.2}  {:>10.1}  {:>12.3}{way}",
            interval.start.as_secs_f64(),
            interval.end.as_secs_f64(),
            bytes as f64 / f64::from(1 << 20),
            bytes as f64 * 8.0 / seconds / 1e9,
        )
    };
    match plan.direction {
        Direction::Forward => line(sum.sent, ""),
        Direction::Reverse => line(sum.received, ""),
        Direction::Both => [
            line(sum.sent, "  to the server"),
            line(sum.received, "  from the server"),
        ]
        .join("\n"),
    }
}

/// Each stream, and all together.
pub(super) fn streams(plan: &Throughput, outcome: &Outcome) -> String {
    let mut rows = vec![
        ["stream", "", "bytes", "seconds", "Gb/s"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut row = |name: &str, to: &str, way: Option<Way>| {
        if let Some(way) = way {
            rows.push(vec![
                name.into(),
                to.into(),
                way.bytes.to_string(),
                format!("{:.2}", way.time.as_secs_f64()),
                format!("{:.3}", way.bits_per_second() / 1e9),
            ]);
        }
    };
    for (number, stream) in outcome.streams.iter().enumerate() {
        let name = format!("{}", number + 1);
        row(&name, "to the server", stream.forward);
        row(&name, "from the server", stream.reverse);
    }
    if outcome.streams.len() > 1 {
        row("all", "to the server", outcome.forward());
        row("all", "from the server", outcome.reverse());
    }
    let congestion = outcome.streams.first().map(|stream| &stream.congestion);
    let how = if plan.verify {
        "every byte compared"
    } else {
        "counts of both ends agree"
    };
    format!(
        "\n{}{how}; congestion control {}",
        output::table(&rows),
        congestion.map_or("unknown", String::as_str)
    )
}

/// Percentiles, and what the time went to.
pub(super) fn latency(latency: &Latency) -> String {
    let milliseconds = |time: Duration| format!("{:.3}", time.as_secs_f64() * 1e3);
    let mut head = vec!["ms:".to_owned(), "mean".into()];
    let mut row = vec![String::new(), milliseconds(latency.mean())];
    for (name, percent) in PERCENTILES {
        head.push(name.into());
        row.push(milliseconds(latency.percentile(percent)));
    }
    head.push("longest".into());
    row.push(milliseconds(latency.longest()));
    let mut text = output::table(&[head, row]);
    let buckets = latency.buckets();
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or(1);
    text.push('\n');
    for (from, count) in buckets {
        let bar = usize::try_from(count * 40 / most.max(1)).unwrap_or_default();
        let from = milliseconds(from);
        text.push_str(&format!(
            "{from:>10} ms  {count:>10}  {}\n",
            "#".repeat(bar)
        ));
    }
    text.trim_end().to_owned()
}

fn latency_json(latency: &Latency) -> Value {
    let seconds = |time: Duration| time.as_secs_f64();
    let percentiles = PERCENTILES.iter().map(|(name, percent)| {
        (
            (*name).to_owned(),
            seconds(latency.percentile(*percent)).into(),
        )
    });
    json!({
        "count": latency.count(),
        "mean_seconds": seconds(latency.mean()),
        "shortest_seconds": seconds(latency.shortest()),
        "longest_seconds": seconds(latency.longest()),
        "percentiles_seconds": Value::Object(percentiles.collect()),
        "buckets": latency.buckets().iter().map(|(from, count)| json!({
            "from_seconds": seconds(*from), "count": count,
        })).collect::<Vec<_>>(),
    })
}

pub(super) fn requests_json(plan: &requests::Requests, outcome: &requests::Outcome) -> Value {
    json!({
        "mode": "requests",
        "connections": plan.connections,
        "request_bytes": plan.request,
        "response_bytes": plan.response,
        "seconds": outcome.time.as_secs_f64(),
        "requests_per_second": outcome.per_second(),
        "latency": latency_json(&outcome.latency),
    })
}

pub(super) fn connections_json(
    plan: &connections::Connections,
    outcome: &connections::Outcome,
) -> Value {
    json!({
        "mode": "connects",
        "concurrency": plan.concurrency,
        "response_bytes": plan.response,
        "seconds": outcome.time.as_secs_f64(),
        "connections_per_second": outcome.per_second(),
        "failed": outcome.failed,
        "failure": outcome.failure,
        "latency": latency_json(&outcome.latency),
    })
}

pub(super) fn idle(outcome: &idle::Outcome) -> String {
    let mut text = format!(
        "{} connections held, {} answered afterwards",
        outcome.opened, outcome.answered
    );
    for held in &outcome.processes {
        text.push_str(&format!(
            "\nprocess {}: {:.1} MiB before, {:.1} MiB held, {:.2} KiB per connection",
            held.pid,
            held.before.resident as f64 / f64::from(1 << 20),
            held.during.resident as f64 / f64::from(1 << 20),
            held.per_connection(outcome.opened) / 1024.0,
        ));
    }
    text
}

pub(super) fn idle_json(outcome: &idle::Outcome) -> Value {
    json!({
        "mode": "idle",
        "opened": outcome.opened,
        "answered": outcome.answered,
        "processes": outcome.processes.iter().map(|held| json!({
            "pid": held.pid,
            "resident_bytes_before": held.before.resident,
            "resident_bytes": held.during.resident,
            "anonymous_bytes_before": held.before.anonymous,
            "anonymous_bytes": held.during.anonymous,
            "resident_bytes_per_connection": held.per_connection(outcome.opened),
        })).collect::<Vec<_>>(),
    })
}
