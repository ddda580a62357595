//! An outcome as JSON, by the names that iperf3 gives its fields, so that what reads iperf3 reads
//! this.
//!
//! What iperf3 knows and this does not is left out (`retransmits`, `rtt`); what this knows and
//! iperf3 does not stands below `sekisho`. With both directions, a stream is one connection, not
//! two: its reverse half is counted in `sum_bidir_reverse`, as iperf3 has it.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::throughput::{Direction, Interval, Outcome, Throughput, Way};

/// What a run is told of itself.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// As given, for people: host and port.
    pub host: &'a str,
    /// The program, such as `sekisho 0.1.0`.
    pub version: &'a str,
    /// The machine, as `uname -a` has it.
    pub system: &'a str,
    /// When it began, in seconds since 1970.
    pub timestamp: u64,
}

/// The whole document.
#[must_use]
pub fn document(plan: &Throughput, outcome: &Outcome, start: &Start<'_>) -> Value {
    let reverse = plan.direction == Direction::Reverse;
    let congestion = outcome.streams.first().map(|stream| &stream.congestion);
    json!({
        "start": {
            "connected": outcome.streams.iter().enumerate().map(|(number, stream)| json!({
                "socket": number,
                "local_host": stream.local.ip(),
                "local_port": stream.local.port(),
                "remote_host": stream.remote.ip(),
                "remote_port": stream.remote.port(),
            })).collect::<Vec<_>>(),
            "version": start.version,
            "system_info": start.system,
            "timestamp": {"timesecs": start.timestamp},
            "connecting_to": {"host": start.host, "port": port(plan.address)},
            "test_start": {
                "protocol": "TCP",
                "num_streams": outcome.streams.len(),
                "blksize": plan.block,
                "omit": 0,
                "duration": if plan.bytes.is_some() { 0 } else { plan.time.as_secs() },
                "bytes": plan.bytes.unwrap_or_default(),
                "blocks": 0,
                "reverse": i32::from(reverse),
                "bidir": i32::from(plan.direction == Direction::Both),
                "target_bitrate": plan.rate.unwrap_or_default(),
            },
        },
        "intervals": outcome.intervals.iter().map(|it| interval(plan, it)).collect::<Vec<_>>(),
        "end": end(plan, outcome, congestion.map_or("", String::as_str)),
        "sekisho": {"verified": plan.verify},
    })
}

const fn port(address: SocketAddr) -> u16 {
    address.port()
}

fn part(start: Duration, end: Duration, bytes: u64, sender: bool) -> Value {
    let seconds = end.saturating_sub(start).as_secs_f64();
    json!({
        "start": start.as_secs_f64(),
        "end": end.as_secs_f64(),
        "seconds": seconds,
        "bytes": bytes,
        "bits_per_second": bytes as f64 * 8.0 / seconds.max(1e-9),
        "omitted": false,
        "sender": sender,
    })
}

fn interval(plan: &Throughput, interval: &Interval) -> Value {
    let reverse = plan.direction == Direction::Reverse;
    let of = |bytes, sender| part(interval.start, interval.end, bytes, sender);
    let streams = interval.streams.iter().enumerate().map(|(number, span)| {
        let bytes = if reverse { span.received } else { span.sent };
        let mut value = of(bytes, !reverse);
        if let Some(map) = value.as_object_mut() {
            map.insert("socket".into(), number.into());
        }
        value
    });
    let sum = interval.sum();
    let mut value = json!({
        "streams": streams.collect::<Vec<_>>(),
        "sum": if reverse { of(sum.received, false) } else { of(sum.sent, true) },
    });
    if let (Direction::Both, Some(map)) = (plan.direction, value.as_object_mut()) {
        map.insert("sum_bidir_reverse".into(), of(sum.received, false));
    }
    value
}

fn end(plan: &Throughput, outcome: &Outcome, congestion: &str) -> Value {
    let of = |way: Way, sender| part(Duration::ZERO, way.time, way.bytes, sender);
    let streams = outcome.streams.iter().enumerate().map(|(number, stream)| {
        let way = stream.forward.or(stream.reverse).unwrap_or_default();
        // Sender and receiver agree, or there would be no outcome.
        let mut sender = of(way, true);
        let mut receiver = of(way, true);
        for value in [&mut sender, &mut receiver] {
            if let Some(map) = value.as_object_mut() {
                map.insert("socket".into(), number.into());
            }
        }
        json!({"sender": sender, "receiver": receiver})
    });
    let mut value = json!({
        "streams": streams.collect::<Vec<_>>(),
        "sender_tcp_congestion": congestion,
    });
    let Some(map) = value.as_object_mut() else {
        return value;
    };
    let main = outcome.forward().or_else(|| outcome.reverse());
    if let Some(way) = main {
        map.insert("sum_sent".into(), of(way, true));
        map.insert("sum_received".into(), of(way, true));
    }
    if let (Direction::Both, Some(way)) = (plan.direction, outcome.reverse()) {
        map.insert("sum_sent_bidir_reverse".into(), of(way, false));
        map.insert("sum_received_bidir_reverse".into(), of(way, false));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throughput::{Carried, Span};

    fn sample(direction: Direction) -> Value {
        let address = SocketAddr::from(([127, 0, 0, 1], 5201));
        let plan = Throughput {
            direction,
            ..Throughput::new(address)
        };
        let way = Some(Way {
            bytes: 1_000_000,
            time: Duration::from_secs(2),
        });
        let outcome = Outcome {
            streams: vec![Carried {
                local: address,
                remote: address,
                forward: way.filter(|_| direction != Direction::Reverse),
                reverse: way.filter(|_| direction != Direction::Forward),
                congestion: "cubic".into(),
            }],
            intervals: vec![Interval {
                start: Duration::ZERO,
                end: Duration::from_secs(1),
                streams: vec![Span {
                    sent: 1000,
                    received: 500,
                }],
            }],
        };
        let start = Start {
            host: "localhost",
            version: "sekisho",
            system: "Linux",
            timestamp: 1,
        };
        document(&plan, &outcome, &start)
    }

    #[test]
    fn fields_are_named_as_iperf3_names_them() {
        let forward = sample(Direction::Forward);
        let number = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_f64).unwrap();
        assert_eq!(number(&forward, "/end/sum_received/bits_per_second"), 4e6);
        assert_eq!(number(&forward, "/end/sum_sent/bytes"), 1e6);
        assert_eq!(number(&forward, "/intervals/0/sum/bits_per_second"), 8e3);
        assert_eq!(number(&forward, "/start/test_start/num_streams"), 1.0);
        let reverse = sample(Direction::Reverse);
        assert_eq!(number(&reverse, "/intervals/0/sum/bits_per_second"), 4e3);
        assert_eq!(number(&reverse, "/start/test_start/reverse"), 1.0);
        let both = sample(Direction::Both);
        assert_eq!(number(&both, "/end/sum_received_bidir_reverse/bytes"), 1e6);
        assert_eq!(number(&both, "/intervals/0/sum_bidir_reverse/bytes"), 500.0);
    }
}
