//! Frames in at stated times, and when and how they come out.

use std::time::Duration;

use super::*;
use crate::{
    device::{GSO_TCP4, HEADER, Header, NEEDS_CHECKSUM},
    settings::{Burst, Reorder},
};

const MILLISECOND: Nanos = 1_000_000;
const IP_AND_TCP: u16 = 40;

/// A packet of so many bytes that carries a number.
fn packet(number: u32, bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER + bytes];
    frame[HEADER] = 0x45;
    frame[HEADER + 20..HEADER + 24].copy_from_slice(&number.to_be_bytes());
    frame
}

/// Packets of 1500 bytes in one read.
fn many(count: usize) -> Vec<u8> {
    let segment = 1500 - IP_AND_TCP;
    let length = usize::from(IP_AND_TCP) + count * usize::from(segment);
    let mut frame = vec![0; HEADER + length];
    let header = Header {
        flags: NEEDS_CHECKSUM,
        gso_type: GSO_TCP4,
        hdr_len: IP_AND_TCP,
        gso_size: segment,
        csum_start: 20,
        csum_offset: 16,
    };
    header.encode(&mut frame).unwrap();
    frame[HEADER] = 0x45;
    frame[HEADER + 32] = 0x50;
    frame
}

fn number(leaving: &Leaving) -> u32 {
    let bytes = leaving.frame()[HEADER + 20..HEADER + 24]
        .try_into()
        .unwrap();
    u32::from_be_bytes(bytes)
}

struct Bench {
    path: Path,
    buffer: Vec<u8>,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        settings.check().unwrap();
        let mut path = Path::new(&settings, 42);
        let buffer = path.for_reading();
        Self { path, buffer }
    }

    fn give(&mut self, now: Nanos, frame: &[u8]) {
        self.buffer[..frame.len()].copy_from_slice(frame);
        self.path.take(now, &mut self.buffer, frame.len());
        assert!(self.buffer.len() >= LARGEST, "room for the next read");
        self.is_sound();
    }

    /// All that leaves until `end`, with its time, number and packets; each on time.
    fn out(&mut self, end: Nanos) -> Vec<(Nanos, u32, u32)> {
        let mut out = Vec::new();
        while let Some(next) = self.path.next().filter(|next| *next <= end) {
            let before = next.checked_sub(1).and_then(|early| self.path.due(early));
            assert!(before.is_none(), "none before its time");
            let leaving = self.path.due(next).unwrap();
            out.push((next, number(&leaving), leaving.packets));
            self.path.left(leaving, next, true);
            self.is_sound();
        }
        out
    }

    /// Each packet is somewhere, once.
    fn is_sound(&self) {
        let one = self.path.counters();
        let ends =
            one.delivered + one.dropped + one.overflowed + one.lost + one.too_large + one.refused;
        assert_eq!(one.packets, ends + one.under_way, "{one:?}");
        assert_eq!(one.under_way == 0, self.path.in_memory == 0);
    }
}

fn rated(rate: u64, queue: Queue) -> Settings {
    Settings {
        rate: Some(rate),
        queue,
        ..Settings::default()
    }
}

#[test]
fn delay_alone_moves_packets_in_time() {
    let delay = Duration::from_micros(11_250);
    let mut bench = Bench::new(Settings {
        delay,
        ..Settings::default()
    });
    for number in 0..100 {
        bench.give(u64::from(number) * 1000, &packet(number, 100));
    }
    let out = bench.out(Nanos::MAX);
    let wanted: Vec<_> = (0..100)
        .map(|one| (u64::from(one) * 1000 + 11_250_000, one, 1))
        .collect();
    assert_eq!(out, wanted);
}

#[test]
fn a_line_sends_one_packet_after_the_other() {
    // 1500 bytes at 12 Mb/s are a millisecond.
    let mut bench = Bench::new(rated(12_000_000, Queue::Bytes(1 << 20)));
    (0..10).for_each(|number| bench.give(0, &packet(number, 1500)));
    let times: Vec<_> = bench
        .out(Nanos::MAX)
        .into_iter()
        .map(|(time, ..)| time)
        .collect();
    let wanted: Vec<_> = (1..=10).map(|one| one * MILLISECOND).collect();
    assert_eq!(times, wanted);
    assert_eq!(bench.path.counters().largest_queue, 15_000);
}

#[test]
fn the_tail_is_dropped_by_bytes() {
    let mut bench = Bench::new(rated(12_000_000, Queue::Bytes(4500)));
    (0..10).for_each(|number| bench.give(0, &packet(number, 1500)));
    assert_eq!(bench.path.counters().dropped, 7);
    // Half a packet has left: no room for a whole one.
    bench.give(MILLISECOND / 2, &packet(10, 1500));
    assert_eq!(bench.path.counters().dropped, 8);
    bench.give(MILLISECOND, &packet(11, 1500));
    let numbers: Vec<_> = bench
        .out(Nanos::MAX)
        .into_iter()
        .map(|(_, number, _)| number)
        .collect();
    assert_eq!(numbers, [0, 1, 2, 11]);
    assert_eq!(bench.path.counters().largest_queue, 4500);
}

#[test]
fn the_tail_is_dropped_by_packets() {
    let mut bench = Bench::new(rated(12_000_000, Queue::Packets(3)));
    bench.give(0, &many(5));
    assert_eq!(bench.path.counters().dropped, 2);
    bench.give(0, &packet(9, 40));
    assert_eq!(bench.path.counters().dropped, 3);
    // One has left.
    bench.give(MILLISECOND, &packet(10, 40));
    assert_eq!(bench.path.counters().dropped, 3);
    bench.give(MILLISECOND, &packet(11, 40));
    assert_eq!(bench.path.counters().dropped, 4);
    assert_eq!(
        bench.out(Nanos::MAX).iter().map(|one| one.2).sum::<u32>(),
        4
    );
    assert!(bench.path.waiting.len() <= 4, "bounded by the queue");
}

#[test]
fn of_many_in_one_read_the_tail_alone_is_dropped() {
    let mut bench = Bench::new(rated(1_000_000_000, Queue::Bytes(15_000)));
    bench.give(0, &many(40));
    assert_eq!(bench.path.counters().dropped, 30);
    assert_eq!(
        bench.out(Nanos::MAX).iter().map(|one| one.2).sum::<u32>(),
        10
    );
}

#[test]
fn what_is_whole_stays_together_where_the_line_is_fast() {
    let mut bench = Bench::new(Settings::default());
    bench.give(5, &many(44));
    assert_eq!(bench.out(5), [(5, 0, 44)]);
    // 44 packets take 528 µs at 1 Gb/s: in parts of at most 100.
    let mut bench = Bench::new(rated(1_000_000_000, Queue::Bytes(1 << 20)));
    bench.give(0, &many(44));
    let out = bench.out(Nanos::MAX);
    let ends: Vec<_> = out.iter().map(|(time, ..)| *time).collect();
    assert_eq!(ends.last(), Some(&528_000));
    assert!(ends.windows(2).all(|pair| pair[1] - pair[0] <= TOGETHER));
    assert_eq!(out.iter().map(|one| one.2).sum::<u32>(), 44);
}

#[test]
fn losses_cut_what_came_together() {
    let loss = 0.05;
    let mut bench = Bench::new(Settings {
        loss,
        ..Settings::default()
    });
    for time in 0..2_000 {
        bench.give(time, &many(44));
        for (_, _, packets) in bench.out(time) {
            assert!(packets <= 44);
        }
    }
    let one = *bench.path.counters();
    assert_eq!(one.packets, 88_000);
    let share = one.lost as f64 / one.packets as f64;
    assert!((share - loss).abs() < 0.004, "{share}");
    assert_eq!(one.delivered + one.lost, one.packets);
    assert_eq!(one.delivered_bytes, one.delivered * 1500);
}

#[test]
fn a_lost_packet_has_taken_its_time_on_the_line() {
    let burst = Burst {
        begins: 1.0,
        length: 1.0,
        lost: 0.5,
    };
    let mut bench = Bench::new(Settings {
        burst: Some(burst),
        ..rated(12_000_000, Queue::Bytes(1 << 20))
    });
    (0..100).for_each(|number| bench.give(0, &packet(number, 1500)));
    let out = bench.out(Nanos::MAX);
    assert!((20..80).contains(&out.len()), "{}", out.len());
    for (time, number, _) in out {
        assert_eq!(time, u64::from(number + 1) * MILLISECOND);
    }
}

#[test]
fn held_packets_are_overtaken_and_come_within_the_bound() {
    let hold = Duration::from_millis(2);
    let mut bench = Bench::new(Settings {
        delay: Duration::from_millis(10),
        reorder: Some(Reorder { share: 0.05, hold }),
        ..Settings::default()
    });
    let gap = MILLISECOND / 10;
    let count: u32 = 20_000;
    let mut out = Vec::new();
    for number in 0..count {
        bench.give(u64::from(number) * gap, &packet(number, 1000));
        out.extend(bench.out(u64::from(number) * gap));
    }
    out.extend(bench.out(Nanos::MAX));
    assert_eq!(out.len(), count as usize);
    let mut held = 0;
    let mut overtaken = 0;
    let mut highest = 0;
    for (time, number, _) in out {
        let late = time - u64::from(number) * gap - 10 * MILLISECOND;
        assert!(late == 0 || late == 2 * MILLISECOND, "{late}");
        held += u64::from(late > 0);
        overtaken += u64::from(number < highest);
        highest = highest.max(number);
    }
    let counters = bench.path.counters();
    assert_eq!((counters.reordered, counters.lost), (held, 0));
    // Those held were overtaken, but for the last.
    assert!(held.abs_diff(overtaken) <= 1);
    let share = held as f64 / f64::from(count);
    assert!((share - 0.05).abs() < 0.007, "{share}");
}

#[test]
fn jitter_keeps_order() {
    let mut bench = Bench::new(Settings {
        jitter: Duration::from_millis(3),
        ..Settings::default()
    });
    for number in 0..5000 {
        bench.give(u64::from(number) * 100_000, &packet(number, 100));
    }
    let out = bench.out(Nanos::MAX);
    assert!(
        out.windows(2)
            .all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 < pair[1].1)
    );
    let late = |(time, number, _): &(Nanos, u32, u32)| time - u64::from(*number) * 100_000;
    let most = out.iter().map(late).max().unwrap();
    let least = out.iter().map(late).min().unwrap();
    assert!(
        most <= 3 * MILLISECOND && most - least > MILLISECOND,
        "{least} {most}"
    );
}

#[test]
fn what_is_too_large_or_no_packet_is_dropped() {
    let mut bench = Bench::new(Settings {
        mtu: 1400,
        ..Settings::default()
    });
    bench.give(0, &packet(0, 1401));
    bench.give(0, &many(3));
    bench.give(0, &[]);
    bench.give(0, &[0; HEADER + 100]);
    bench.give(0, &packet(1, 1400));
    let one = bench.path.counters();
    assert_eq!((one.too_large, one.malformed), (4, 2));
    assert_eq!(bench.out(0), [(0, 1, 1)]);
}

#[test]
fn memory_is_bounded() {
    let memory = 1 << 20;
    let mut bench = Bench::new(Settings {
        delay: Duration::from_secs(10),
        memory,
        ..Settings::default()
    });
    for time in 0..10_000 {
        bench.give(time, &many(44));
        bench.give(time, &packet(7, 40));
        assert!(bench.path.in_memory <= memory);
    }
    let one = *bench.path.counters();
    assert!(one.overflowed > 9_000 && one.under_way > 0);
    assert!(one.largest_memory <= memory as u64);
    bench.out(Nanos::MAX);
    assert_eq!(bench.path.in_memory, 0);
}

#[test]
fn what_the_far_end_does_not_take_is_counted() {
    let mut bench = Bench::new(Settings::default());
    bench.give(0, &packet(0, 100));
    let leaving = bench.path.due(0).unwrap();
    bench.path.left(leaving, 0, false);
    bench.is_sound();
    assert_eq!(bench.path.counters().refused, 1);
}

#[test]
fn lateness_is_that_of_the_emulator() {
    let mut bench = Bench::new(Settings {
        delay: Duration::from_millis(1),
        ..Settings::default()
    });
    bench.give(0, &packet(0, 100));
    let leaving = bench.path.due(3 * MILLISECOND).unwrap();
    bench.path.left(leaving, 3 * MILLISECOND, true);
    assert_eq!(bench.path.counters().late.largest, Duration::from_millis(2));
}

#[test]
fn the_same_packets_meet_the_same_fate() {
    let settings = Settings {
        loss: 0.01,
        reorder: Some(Reorder {
            share: 0.01,
            hold: Duration::from_millis(1),
        }),
        jitter: Duration::from_millis(1),
        ..Settings::default()
    };
    let run = || {
        let mut bench = Bench::new(settings);
        (0..5000).for_each(|number| bench.give(u64::from(number) * 1000, &packet(number, 500)));
        bench.out(Nanos::MAX)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_clock_that_jumps_doubles_nothing_and_loses_only_what_is_counted() {
    for rate in [None, Some(100_000_000)] {
        let mut bench = Bench::new(Settings {
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(1),
            rate,
            ..Settings::default()
        });
        // Forward, as after the process was stopped; back, as no monotonic clock goes; to its end.
        let times = [10, 20, 3_600_000_000_000, 5, 30, Nanos::MAX, 0];
        for (number, now) in times.into_iter().enumerate() {
            bench.give(now, &packet(u32::try_from(number).unwrap(), 1000));
        }
        let mut numbers = Vec::new();
        while let Some(leaving) = bench.path.due(Nanos::MAX) {
            numbers.push(number(&leaving));
            bench.path.left(leaving, 0, true);
            bench.is_sound();
        }
        // A line is busy until the time that it was told of: its queue is full.
        let wanted: &[u32] = if rate.is_some() {
            &[0, 1, 2, 5]
        } else {
            &[0, 1, 2, 3, 4, 5, 6]
        };
        assert_eq!(numbers, wanted);
    }
}
