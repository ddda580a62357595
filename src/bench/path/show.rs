//! What was found, for people and as JSON.

use sekisho_bench::path::{
    Measured, Plan, Sample, Summary, buffer_for,
    verdict::{Limit, Side, Verdict},
    watch::Watched,
};
use serde_json::{Value, json};

use crate::output::{self, Colour, paint};

/// The limit in words.
pub(super) fn limit(verdict: &Verdict) -> String {
    let mut words = name(verdict.limit).to_owned();
    if let (Limit::SlowReader | Limit::SlowSender, Some(side)) = (verdict.limit, verdict.side) {
        words = format!("{words}, {}", side.word());
    }
    words
}

const fn name(limit: Limit) -> &'static str {
    match limit {
        Limit::WindowHere => "window here: the buffer of this host's end",
        Limit::WindowThere => "window there: the buffer of the other end",
        Limit::Loss => "loss: packets get lost on the way",
        Limit::Rate => "rate: the line is full",
        Limit::CpuHere => "CPU here",
        Limit::CpuThere => "CPU there",
        Limit::SlowReader => "application: a slow reader",
        Limit::SlowSender => "application: a slow sender",
        Limit::Undecided => "not decided",
    }
}

fn verdict(found: &Verdict, colour: bool) -> String {
    let shade = if found.limit == Limit::Undecided {
        Colour::Yellow
    } else {
        Colour::Bold
    };
    let mut text = paint(format_args!("limit: {}", limit(found)), shade, colour);
    for said in &found.evidence {
        text.push_str(&format!("\n  because  {said}"));
    }
    if !found.or.is_empty() {
        let others: Vec<_> = found.or.iter().map(|one| name(*one)).collect();
        text.push_str(&format!(
            "\n  or       {} (from here it would look the same)",
            others.join("; ")
        ));
    }
    for remedy in &found.remedies {
        text.push_str(&format!(
            "\n  lift it  {}",
            paint(remedy, Colour::Green, colour)
        ));
    }
    text
}

/// Figures of an end: round trip, losses, bandwidth-delay product.
fn figures(samples: &[Sample], rate: f64) -> Vec<Vec<String>> {
    let Some(found) = Summary::of(samples) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    let least = found.min_rtt.or_else(|| found.rtt.map(|rtt| rtt.least));
    if let Some((least, mean)) = least.zip(found.mean_rtt) {
        rows.push(vec![
            "round trip".into(),
            format!(
                "{:.2} ms at least, {:.2} ms on average",
                least * 1e3,
                mean * 1e3
            ),
        ]);
        rows.push(vec![
            "in a round trip".into(),
            format!(
                "{:.0} KiB at this rate (bandwidth-delay product); 10 Gb/s take {:.1} MiB, in buffers of {} \
                 MiB",
                rate * least / 8.0 / 1024.0,
                10e9 * least / 8.0 / f64::from(1 << 20),
                buffer_for(10e9, least) >> 20
            ),
        ]);
    }
    rows.push(vec![
        "sent again".into(),
        format!(
            "{} segments; {:.4} % of the bytes",
            found.retransmissions,
            found.loss * 100.0
        ),
    ]);
    rows
}

pub(super) fn measured(plan: &Plan, found: &Measured, judged: &Verdict) -> String {
    let colour = output::colour_out();
    let observed = found.observed(plan);
    let (_, samples) = found.shown(&observed);
    let rate = rate(found);
    let server = if found.is_iperf3 {
        "iperf3"
    } else {
        "sekisho bench server"
    };
    let way = match found.sender_is {
        Side::Here => "to",
        Side::There => "from",
    };
    let control = match found.sender_is {
        Side::Here => &found.congestion,
        Side::There => &found.far.congestion,
    };
    let control = if control.is_empty() {
        "not known"
    } else {
        control
    };
    let mut rows = vec![
        vec![
            "path".into(),
            format!("{} {way} {}, {server}", found.local, found.remote),
        ],
        vec!["sender's congestion control".into(), control.into()],
    ];
    if let Some(peer) = found.peer {
        let what = if found.is_proxied {
            "a proxy"
        } else {
            "a translation of addresses"
        };
        rows.push(vec![
            "between".into(),
            format!("{what}: the server sees {peer}"),
        ]);
    }
    for carrier in found.carriers.iter().take(8) {
        let of = format!(
            "{} to {}, {}, {:.1} MiB",
            carrier.local,
            carrier.remote,
            carrier.congestion,
            carrier.bytes as f64 / f64::from(1 << 20)
        );
        rows.push(vec!["carried by".into(), of]);
    }
    rows.push(vec!["goodput".into(), format!("{:.4} Gb/s", rate / 1e9)]);
    rows.extend(figures(samples, rate));
    format!("\n{}\n{}", list(&rows), verdict(judged, colour))
}

pub(super) fn watched(judged: &[(&Watched, Verdict)], all: usize) -> String {
    let colour = output::colour_out();
    let mut text = String::new();
    for (one, found) in judged {
        let sent = one.sender_is == Side::Here;
        let samples = if sent || one.there.is_empty() {
            &one.here
        } else {
            &one.there
        };
        let summary = Summary::of(&one.here).unwrap_or_default();
        let rate = if sent {
            summary.sent_bits_per_second
        } else {
            summary.received_bits_per_second
        };
        let program = one.program.as_ref().map_or_else(
            || "not to be seen (root may)".into(),
            |program| format!("{} ({})", printable(&program.name), program.process),
        );
        let way = if sent { "sends to" } else { "receives from" };
        let mut rows = vec![
            vec![
                "connection".into(),
                format!("{} {way} {}", one.local, one.remote),
            ],
            vec!["program".into(), program],
            vec!["congestion control".into(), one.congestion.clone()],
            vec!["goodput".into(), format!("{:.4} Gb/s", rate / 1e9)],
        ];
        rows.extend(figures(samples, rate));
        text.push_str(&format!("\n{}\n{}\n", list(&rows), verdict(found, colour)));
    }
    if all > judged.len() {
        text.push_str(&format!(
            "\n{} more that carried less\n",
            all - judged.len()
        ));
    }
    text.trim_end().to_owned()
}

/// A process chooses its own name.
fn printable(name: &str) -> String {
    name.chars().filter(|one| !one.is_control()).collect()
}

fn list(rows: &[Vec<String>]) -> String {
    let widest = rows.iter().filter_map(|row| row.first()).map(String::len);
    let widest = widest.max().unwrap_or_default();
    rows.iter()
        .map(|row| match row.as_slice() {
            [name, value] => format!("{name:<widest$}  {value}\n"),
            _ => String::new(),
        })
        .collect()
}

fn rate(found: &Measured) -> f64 {
    found.bytes as f64 * 8.0 / found.time.as_secs_f64().max(1e-9)
}

fn json_of(judged: &Verdict) -> Value {
    serde_json::to_value(judged).unwrap_or_default()
}

/// Adds the fields of one object to another.
fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

pub(super) fn measured_json(plan: &Plan, found: &Measured, judged: &Verdict) -> Value {
    let observed = found.observed(plan);
    let (_, samples) = found.shown(&observed);
    let summary = Summary::of(samples).unwrap_or_default();
    let rate = rate(found);
    let carriers = found.carriers.iter().map(|one| {
        json!({
            "local": one.local, "remote": one.remote, "congestion": one.congestion,
            "bytes": one.bytes, "samples": one.samples,
        })
    });
    let document = json!({
        "mode": "path",
        "server": if found.is_iperf3 { "iperf3" } else { "sekisho" },
        "local": found.local,
        "remote": found.remote,
        "sender": found.sender_is,
        "between": found.peer.map(|peer| json!({"seen_as": peer, "is_proxy": found.is_proxied})),
        "carriers": carriers.collect::<Vec<_>>(),
        "bytes": found.bytes,
        "seconds": found.time.as_secs_f64(),
        "bits_per_second": rate,
        "min_rtt_seconds": summary.min_rtt,
        "mean_rtt_seconds": summary.mean_rtt,
        "retransmissions": summary.retransmissions,
        "loss": summary.loss,
        "bandwidth_delay_product_bytes": summary.min_rtt.map(|rtt| rate * rtt / 8.0),
        "congestion": {"here": found.congestion, "there": found.far.congestion},
        "sysctls": {"here": found.sysctls, "there": found.far.sysctls},
        "far_process_cpu": found.far.process,
        "summary": {
            "here": Summary::of(&found.here),
            "there": Summary::of(&found.far.samples),
        },
        "samples": {"here": found.here, "there": found.far.samples},
    });
    with(json_of(judged), document)
}

pub(super) fn watched_json(judged: &[(&Watched, Verdict)], all: usize) -> Value {
    let one = |(one, found): &(&Watched, Verdict)| {
        let program = one.program.as_ref();
        let document = json!({
            "local": one.local,
            "remote": one.remote,
            "opened_here": one.opened_here,
            "sender": one.sender_is,
            "congestion": one.congestion,
            "program": program.map(|one| json!({"pid": one.process, "name": one.name})),
            "bytes": one.bytes,
            "summary": {
                "here": Summary::of(&one.here),
                "there": Summary::of(&one.there),
            },
            "samples": {"here": one.here, "there": one.there},
        });
        with(json_of(found), document)
    };
    json!({
        "mode": "watch",
        "connections": judged.iter().map(one).collect::<Vec<_>>(),
        "found": all,
    })
}
