//! The path and its counters, as text and as JSON.

use std::time::Duration;

use sekisho_wan::{Counters, Emulator, LATE, Plan, Queue, Settings, ceiling::Ceiling};
use serde_json::{Value, json};

use crate::output;

/// The words for the two directions.
const WAYS: [&str; 2] = ["forward", "back"];

/// What 99 of 100 packets must not be later than.
const TOO_LATE: Duration = Duration::from_millis(1);

/// What is told of a running path.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) counters: [Counters; 2],
    pub(super) unread: [Option<u64>; 2],
    pub(super) is_real_time: bool,
    pub(super) time: Duration,
    pub(super) is_end: bool,
}

fn settings(settings: &Settings) -> String {
    let mut text = format!("{:?} one way", settings.delay);
    if !settings.jitter.is_zero() {
        text.push_str(&format!(" and up to {:?} more", settings.jitter));
    }
    if let Some(rate) = settings.rate {
        let queue = match settings.queue {
            Queue::Bytes(bytes) => format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20)),
            Queue::Packets(packets) => format!("{packets} packets"),
        };
        text.push_str(&format!(", {} Gb/s, queue {queue}", rate as f64 / 1e9));
    }
    if settings.loss > 0.0 {
        text.push_str(&format!(", loss {} %", settings.loss * 100.0));
    }
    if let Some(burst) = settings.burst {
        text.push_str(&format!(
            ", bursts begin at {} %, last {} packets, lose {} %",
            burst.begins * 100.0,
            burst.length,
            burst.lost * 100.0
        ));
    }
    if let Some(reorder) = settings.reorder {
        let share = reorder.share * 100.0;
        text.push_str(&format!(", {share} % held back {:?}", reorder.hold));
    }
    text.push_str(&format!(", MTU {}", settings.mtu));
    text
}

/// What was made.
pub(super) fn start(plan: &Plan, emulator: &Emulator) -> String {
    let mut lines = Vec::new();
    for (end, device) in plan.ends.iter().zip(emulator.devices()) {
        let addresses: Vec<_> = end.addresses.iter().map(ToString::to_string).collect();
        let place = end.namespace.as_ref();
        let place = place.map_or_else(
            || "this namespace".to_owned(),
            |name| format!("namespace {name}"),
        );
        lines.push(format!("{place}: {} at {device}", addresses.join(", ")));
    }
    for (way, one) in WAYS.iter().zip(&plan.settings) {
        lines.push(format!("{way}: {}", settings(one)));
    }
    lines.push(format!("seed {}; carrying", plan.seed));
    lines.join("\n")
}

pub(super) fn start_json(plan: &Plan, emulator: &Emulator) -> Value {
    let ends = plan.ends.iter().zip(emulator.devices());
    let ends = ends.map(|(end, device)| {
        json!({"namespace": end.namespace, "addresses": end.addresses, "device": device})
    });
    json!({
        "event": "start",
        "seed": plan.seed,
        "ends": ends.collect::<Vec<_>>(),
        "forward": settings_json(&plan.settings[0]),
        "back": settings_json(&plan.settings[1]),
    })
}

fn settings_json(settings: &Settings) -> Value {
    let (queue_bytes, queue_packets) = match settings.queue {
        Queue::Bytes(bytes) => (Some(bytes), None),
        Queue::Packets(packets) => (None, Some(packets)),
    };
    json!({
        "delay_seconds": settings.delay.as_secs_f64(),
        "jitter_seconds": settings.jitter.as_secs_f64(),
        "bits_per_second": settings.rate,
        "queue_bytes": queue_bytes,
        "queue_packets": queue_packets,
        "loss": settings.loss,
        "burst": settings.burst.map(|burst| json!({
            "begins": burst.begins, "length": burst.length, "lost": burst.lost,
        })),
        "reorder": settings.reorder.map(|reorder| json!({
            "share": reorder.share, "hold_seconds": reorder.hold.as_secs_f64(),
        })),
        "mtu": settings.mtu,
    })
}

impl Told {
    pub(super) fn text(&self) -> String {
        let [forward, back] = &self.counters;
        let seconds = self.time.as_secs_f64();
        let head = format!("{seconds:.1} s");
        let mut rows = vec![vec![head, WAYS[0].to_owned(), WAYS[1].to_owned()]];
        let mut row = |name: &str, of: &dyn Fn(&Counters) -> String| {
            rows.push(vec![name.to_owned(), of(forward), of(back)]);
        };
        let mib = |bytes: u64| format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20));
        row("packets", &|one| one.packets.to_string());
        row("bytes", &|one| one.bytes.to_string());
        row("delivered", &|one| one.delivered.to_string());
        row("Gb/s on average", &|one| {
            let bits = one.delivered_bytes as f64 * 8.0;
            format!("{:.3}", bits / seconds.max(1e-9) / 1e9)
        });
        row("queue full", &|one| one.dropped.to_string());
        row("largest queue", &|one| mib(one.largest_queue));
        row("lost", &|one| one.lost.to_string());
        row("held back", &|one| one.reordered.to_string());
        row("too large", &|one| one.too_large.to_string());
        row("no packet", &|one| one.malformed.to_string());
        row("device down", &|one| one.refused.to_string());
        row("memory full", &|one| one.overflowed.to_string());
        row("largest memory", &|one| mib(one.largest_memory));
        row("late, 99 %", &|one| late(one, 99.0));
        row("latest", &|one| format!("{:?}", one.late.largest));
        let unread = self
            .unread
            .map(|unread| unread.map_or_else(|| "device gone".into(), |unread| unread.to_string()));
        let [one, other] = unread;
        rows.push(vec!["not read in time".into(), one, other]);
        let mut text = format!("\n{}", output::table(&rows));
        if self.is_limit() {
            text.push_str(
                "The emulator was the limit: it did not read, or keep, all that came. Fewer bits per \
                 second, or a larger --memory, are what it can do here; see --ceiling.\n",
            );
        }
        if self.is_late() {
            text.push_str(
                "The emulator was late: one of a hundred packets left more than a millisecond after it \
                 should. The machine has too much else to do, or this is too much for it.\n",
            );
        }
        if !self.is_real_time {
            text.push_str(
                "Without real-time priority (chrt, of the package util-linux, was refused or is not \
                 there) packets are late where other programs want all cores.\n",
            );
        }
        text.trim_end().to_owned()
    }

    /// Whether something was dropped that no line would have dropped.
    fn is_limit(&self) -> bool {
        self.unread.iter().flatten().any(|unread| *unread > 0)
            || self.counters.iter().any(|one| one.overflowed > 0)
    }

    /// Whether delays were not what was asked for.
    fn is_late(&self) -> bool {
        let is_late = |one: &Counters| {
            let within = one.late.within(99.0);
            one.writes > 0 && within.is_none_or(|within| within > TOO_LATE)
        };
        self.counters.iter().any(is_late)
    }

    pub(super) fn json(&self) -> Value {
        let [forward, back] = &self.counters;
        let [from_first, from_second] = self.unread;
        json!({
            "event": if self.is_end { "end" } else { "counters" },
            "seconds": self.time.as_secs_f64(),
            "emulator_is_limit": self.is_limit(),
            "emulator_is_late": self.is_late(),
            "real_time": self.is_real_time,
            "forward": counters_json(forward, from_first),
            "back": counters_json(back, from_second),
        })
    }
}

fn late(counters: &Counters, percent: f64) -> String {
    let within = counters.late.within(percent);
    within.map_or_else(|| "-".into(), |within| format!("{within:?}"))
}

fn counters_json(counters: &Counters, unread: Option<u64>) -> Value {
    let late = counters
        .late
        .counts
        .iter()
        .zip(LATE.into_iter().map(Some).chain([None]));
    let late = late.map(|(count, micros)| json!({"up_to_microseconds": micros, "count": count}));
    json!({
        "packets": counters.packets,
        "bytes": counters.bytes,
        "delivered_packets": counters.delivered,
        "delivered_bytes": counters.delivered_bytes,
        "queue_full": counters.dropped,
        "memory_full": counters.overflowed,
        "lost": counters.lost,
        "held_back": counters.reordered,
        "too_large": counters.too_large,
        "malformed": counters.malformed,
        "refused": counters.refused,
        "under_way": counters.under_way,
        "not_read_in_time": unread,
        "largest_queue_bytes": counters.largest_queue,
        "largest_memory_bytes": counters.largest_memory,
        "reads": counters.reads,
        "writes": counters.writes,
        "latest_seconds": counters.late.largest.as_secs_f64(),
        "late": late.collect::<Vec<_>>(),
    })
}

pub(super) fn ceiling(found: &Ceiling, mtu: u16) -> String {
    format!(
        "without delay and rate, MTU {mtu}, load and emulator on this machine:\n\
         one TCP stream ({}): {:.2} Gb/s\n\
         packets of the MTU, one by one: {:.0} a second, {:.2} Gb/s",
        found.congestion,
        found.stream / 1e9,
        found.packets,
        found.packets * f64::from(mtu) * 8.0 / 1e9,
    )
}

pub(super) fn ceiling_json(found: &Ceiling, mtu: u16) -> Value {
    json!({
        "event": "ceiling",
        "mtu": mtu,
        "stream_bits_per_second": found.stream,
        "congestion": found.congestion,
        "packets_per_second": found.packets,
    })
}
