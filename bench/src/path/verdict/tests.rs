use super::*;
use crate::path::{Memory, TcpInfo, cpu::CpuTime};

mod recorded;

/// What grows in each tenth of a second, and what stays.
struct Shape {
    bytes: u64,
    again: u64,
    busy: u64,
    window_limited: u64,
    buffer_limited: u64,
    run: u64,
    wait: u64,
    rtt: u32,
    app_limited: bool,
    fill: u32,
    window: fn(u32) -> u32,
    growth: u32,
}

/// A line that nothing stops: 80 Mb/s in 20 ms.
fn shape() -> Shape {
    Shape {
        bytes: 1_000_000,
        again: 0,
        busy: 100_000,
        window_limited: 0,
        buffer_limited: 0,
        run: 5000,
        wait: 1000,
        rtt: 20_100,
        app_limited: false,
        fill: 0,
        window: |_| 3_000_000,
        growth: 0,
    }
}

impl Shape {
    fn samples(&self) -> Vec<Sample> {
        (0..50_u32).map(|number| self.at(number)).collect()
    }

    fn at(&self, number: u32) -> Sample {
        let grown = |one: u64| u64::from(number) * one;
        Sample {
            at: grown(100_000),
            tcp: TcpInfo {
                app_limited: self.app_limited,
                mss: 1448,
                unacked: 140,
                rtt: self.rtt,
                cwnd: 200 + number * self.growth,
                retransmissions: u32::try_from(grown(self.again) / 1448).unwrap(),
                acked: Some(grown(self.bytes)),
                received: Some(grown(self.bytes)),
                not_sent: Some(if self.app_limited { 0 } else { 900_000 }),
                min_rtt: Some(20_000),
                busy: Some(grown(self.busy)),
                window_limited: Some(grown(self.window_limited)),
                buffer_limited: Some(grown(self.buffer_limited)),
                sent: Some(grown(self.bytes + self.again)),
                sent_again: Some(grown(self.again)),
                send_window: Some((self.window)(number)),
                receive_window: Some((self.window)(number)),
                ..TcpInfo::default()
            },
            memory: Some(Memory {
                receive: self.fill,
                receive_buffer: 1_000_000,
                send: 0,
                send_buffer: 1_000_000,
            }),
            cpu: Some(CpuTime {
                run: grown(self.run),
                wait: grown(self.wait),
            }),
            ..Sample::default()
        }
    }
}

fn observed<'a>(sender: &'a [Sample], receiver: &'a [Sample]) -> Observed<'a> {
    Observed {
        sender_is: Side::Here,
        sender,
        receiver,
        reader: &[],
        receiver_process: None,
        sender_sysctls: None,
        receiver_sysctls: None,
        congestion: "cubic",
        asked: None,
        is_eager: false,
        is_whole: true,
        opened_here: true,
        is_fixed: false,
    }
}

fn of(sender: &Shape, receiver: &Shape) -> (Limit, Vec<Limit>) {
    let (sender, receiver) = (sender.samples(), receiver.samples());
    let found = judge(&observed(&sender, &receiver));
    assert!(!found.evidence.is_empty());
    (found.limit, found.or)
}

fn from_here(sender: &Shape) -> (Limit, Vec<Limit>) {
    let sender = sender.samples();
    let found = judge(&observed(&sender, &[]));
    (found.limit, found.or)
}

#[test]
fn windows() {
    let mut stopped = shape();
    stopped.window_limited = 90_000;
    assert_eq!(of(&stopped, &shape()), (Limit::WindowThere, vec![]));
    // The same from here: it never was larger.
    assert_eq!(from_here(&stopped), (Limit::WindowThere, vec![]));
    // Watched from some time on, a steady slow reader looks the same.
    let samples = stopped.samples();
    let found = judge(&Observed {
        is_whole: false,
        ..observed(&samples, &[])
    });
    assert_eq!(found.limit, Limit::WindowThere);
    assert_eq!(found.or, [Limit::SlowReader]);
    let mut stopped = shape();
    stopped.buffer_limited = 60_000;
    assert_eq!(of(&stopped, &shape()), (Limit::WindowHere, vec![]));
    // From the other side the sender is there.
    let samples = stopped.samples();
    let found = judge(&Observed {
        sender_is: Side::There,
        ..observed(&samples, &[])
    });
    assert_eq!(found.limit, Limit::WindowThere);
    assert_eq!(found.side, Some(Side::There));
}

#[test]
fn a_window_that_is_all_used_stops_bbr_without_being_counted() {
    let mut tight = shape();
    // 201 kB in a round trip.
    tight.window = |_| 250_000;
    assert_eq!(of(&tight, &shape()), (Limit::WindowThere, vec![]));
    assert_eq!(from_here(&tight), (Limit::WindowThere, vec![]));
    tight.window = |number| if number % 2 == 0 { 150_000 } else { 250_000 };
    assert_eq!(from_here(&tight).0, Limit::SlowReader);
    tight.window = |_| 500_000;
    assert_eq!(of(&tight, &shape()), (Limit::Rate, vec![]));
    // A window that has grown meanwhile has a reader.
    tight.window_limited = 90_000;
    tight.window = |number| 100_000 * (number + 1);
    assert_eq!(from_here(&tight), (Limit::WindowThere, vec![]));
}

#[test]
fn a_paced_sender_holds_some_of_what_it_has() {
    let mut samples = shape().samples();
    for sample in &mut samples {
        sample.tcp.app_limited = true;
        sample.tcp.not_sent = Some(30_000);
    }
    assert_eq!(judge(&observed(&samples, &[])).limit, Limit::SlowSender);
    for sample in &mut samples {
        sample.tcp.not_sent = Some(900_000);
    }
    assert_eq!(judge(&observed(&samples, &[])).limit, Limit::Rate);
}

#[test]
fn a_small_send_buffer_that_the_kernel_does_not_count() {
    let mut samples = shape().samples();
    for sample in &mut samples {
        sample.tcp.app_limited = true;
        sample.tcp.not_sent = Some(0);
        sample.memory.as_mut().unwrap().send = 800_000;
    }
    let found = judge(&observed(&samples, &[]));
    assert_eq!((found.limit, found.or), (Limit::WindowHere, vec![]));
    for sample in &mut samples {
        sample.memory.as_mut().unwrap().send = 200_000;
    }
    // A program that does not fill it has no more, unless it is known to have.
    let slow = observed(&samples, &[]);
    assert_eq!(judge(&slow).limit, Limit::SlowSender);
    let eager = Observed {
        is_eager: true,
        ..slow
    };
    assert_eq!(judge(&eager).limit, Limit::CpuHere);
}

#[test]
fn full_buffers_behind_a_queue_are_its_consequence() {
    for window in [true, false] {
        let mut stopped = shape();
        if window {
            stopped.window_limited = 90_000;
        } else {
            stopped.buffer_limited = 90_000;
        }
        stopped.rtt = 160_000;
        assert_eq!(of(&stopped, &shape()).0, Limit::Rate, "{window}");
    }
}

#[test]
fn applications() {
    let mut stopped = shape();
    stopped.window_limited = 95_000;
    let mut reader = shape();
    reader.fill = 900_000;
    assert_eq!(of(&stopped, &reader), (Limit::SlowReader, vec![]));
    // From here by the window that moves, or was larger.
    stopped.window = |number| if number % 2 == 0 { 100_000 } else { 900_000 };
    let found = from_here(&stopped);
    assert_eq!(found, (Limit::SlowReader, vec![Limit::CpuThere]));
    stopped.window = |number| if number < 3 { 900_000 } else { 100_000 };
    assert_eq!(from_here(&stopped).0, Limit::SlowReader);
    // A reader without time to read is no slow program.
    reader.wait = 95_000;
    assert_eq!(of(&stopped, &reader), (Limit::CpuThere, vec![]));
    let mut slow = shape();
    slow.app_limited = true;
    assert_eq!(of(&slow, &shape()), (Limit::SlowSender, vec![]));
    let mut idle = shape();
    idle.busy = 10_000;
    assert_eq!(of(&idle, &shape()), (Limit::SlowSender, vec![]));
    let samples = shape().samples();
    let found = judge(&Observed {
        asked: Some(80_000_000),
        ..observed(&samples, &[])
    });
    assert_eq!(found.limit, Limit::SlowSender);
}

#[test]
fn a_window_that_is_closed_has_no_reader() {
    let mut samples = shape().samples();
    for sample in &mut samples {
        sample.is_probing = true;
        sample.tcp.send_window = Some(0);
    }
    let found = judge(&observed(&samples, &[]));
    assert_eq!(found.limit, Limit::SlowReader);
}

#[test]
fn cpu() {
    let mut full = shape();
    full.run = 97_000;
    full.app_limited = true;
    assert_eq!(of(&full, &shape()), (Limit::CpuHere, vec![]));
    let mut starved = shape();
    (starved.run, starved.wait) = (2000, 97_000);
    assert_eq!(of(&starved, &shape()), (Limit::CpuHere, vec![]));
    // Of iperf3 only its process is known.
    let mut stopped = shape();
    stopped.window_limited = 90_000;
    let samples = stopped.samples();
    let found = judge(&Observed {
        receiver_process: Some(0.99),
        ..observed(&samples, &[])
    });
    assert_eq!(found.limit, Limit::CpuThere);
    // A busy receiver that nobody waits for limits nothing.
    let mut busy = shape();
    busy.run = 97_000;
    assert_eq!(of(&shape(), &busy).0, Limit::Rate);
}

#[test]
fn losses_and_lines() {
    let mut lossy = shape();
    lossy.again = 3000;
    assert_eq!(of(&lossy, &shape()), (Limit::Loss, vec![]));
    // Lost by a queue that is full: the line.
    lossy.rtt = 40_000;
    assert_eq!(of(&lossy, &shape()), (Limit::Rate, vec![]));
    // A host that is busy now and then makes round trips long, but not all, and not with the window.
    let mut samples = lossy.samples();
    for (number, sample) in samples.iter_mut().enumerate() {
        sample.tcp.rtt = [21_000, 36_000, 50_000][number % 3];
        sample.tcp.cwnd = [200, 220, 210, 190][number % 4];
    }
    assert_eq!(judge(&observed(&samples, &[])).limit, Limit::Loss);
    for sample in &mut samples {
        sample.tcp.cwnd = sample.tcp.rtt / 100;
    }
    assert_eq!(judge(&observed(&samples, &[])).limit, Limit::Rate);
    // Longer all the time, but not by much, and the losses say enough: 0.3 % leave 33 segments.
    lossy.rtt = 27_000;
    let mut samples = lossy.samples();
    for sample in &mut samples {
        sample.tcp.unacked = 30;
        sample.tcp.cwnd = 30;
    }
    assert_eq!(judge(&observed(&samples, &[])).limit, Limit::Loss);
    assert_eq!(of(&lossy, &shape()), (Limit::Rate, vec![]));
    // bbr does not mind a little.
    lossy.rtt = 20_100;
    let samples = lossy.samples();
    let found = judge(&Observed {
        congestion: "bbr",
        ..observed(&samples, &[])
    });
    assert_eq!(found.limit, Limit::Rate);
    lossy.again = 100_000;
    let samples = lossy.samples();
    let found = judge(&Observed {
        congestion: "bbr",
        ..observed(&samples, &[])
    });
    assert_eq!(found.limit, Limit::Loss);
    assert!(!found.remedies.iter().any(|one| one.contains("bbr")));
    assert_eq!(of(&shape(), &shape()), (Limit::Rate, vec![]));
    // Nothing holds it back yet.
    let mut growing = shape();
    growing.growth = 5;
    assert_eq!(of(&growing, &shape()).0, Limit::Undecided);
}

#[test]
fn a_queue_that_is_full_now_and_then() {
    let mut samples = shape().samples();
    let mut again = 0;
    for (number, sample) in samples.iter_mut().enumerate() {
        let step = u32::try_from(number % 16).unwrap();
        // It is empty half of the time, fills, and drops.
        sample.tcp.rtt = 20_100 + 2000 * step.saturating_sub(8);
        again += if step == 15 { 1448 } else { 0 };
        sample.tcp.sent_again = Some(again);
    }
    assert_eq!(judge(&observed(&samples, &[])).limit, Limit::Rate);
    // A moment in which all was late, and a loss in it.
    let mut late = shape().samples();
    for (number, sample) in late.iter_mut().enumerate() {
        let is_late = (30..32).contains(&number);
        sample.tcp.rtt = if is_late { 60_000 } else { 20_100 };
        sample.tcp.sent_again = Some(if number >= 31 { 1448 } else { 0 });
    }
    assert_eq!(judge(&observed(&late, &[])).limit, Limit::Loss);
    // As many losses while it is empty.
    for (number, sample) in samples.iter_mut().enumerate() {
        sample.tcp.sent_again = Some((number as u64 + 8) / 16 * 1448);
    }
    assert_eq!(judge(&observed(&samples, &[])).limit, Limit::Loss);
}

#[test]
fn the_receiver_alone() {
    let by = |receiver: &Shape| {
        let samples = receiver.samples();
        let found = judge(&Observed {
            sender_is: Side::There,
            ..observed(&[], &samples)
        });
        (found.limit, found.side)
    };
    let mut reader = shape();
    reader.fill = 900_000;
    assert_eq!(by(&reader), (Limit::SlowReader, Some(Side::Here)));
    // 1 MB in a tenth of a second are 200 kB in a round trip.
    let mut small = shape();
    small.window = |_| 210_000;
    assert_eq!(by(&small), (Limit::WindowHere, Some(Side::Here)));
    assert_eq!(by(&shape()).0, Limit::Undecided);
    let mut full = shape();
    full.run = 99_000;
    assert_eq!(by(&full).0, Limit::CpuHere);
}

#[test]
fn too_little_says_nothing() {
    assert_eq!(judge(&observed(&[], &[])).limit, Limit::Undecided);
    let samples = shape().samples();
    let found = judge(&observed(&samples[..2], &[]));
    assert_eq!(found.limit, Limit::Undecided);
}

#[test]
fn a_size_and_the_setting_are_named() {
    let mut stopped = shape();
    stopped.window_limited = 90_000;
    let (sender, receiver) = (stopped.samples(), shape().samples());
    let sysctls = Sysctls {
        tcp_rmem: Some([4096, 131_072, 6_291_456]),
        ..Sysctls::default()
    };
    let found = judge(&Observed {
        receiver_sysctls: Some(&sysctls),
        ..observed(&sender, &receiver)
    });
    // 10 Gb/s in 20 ms are 25 MB, twice.
    assert_eq!(found.needed_bytes, Some(64 << 20));
    let text = found.remedies.join("\n");
    assert!(
        text.contains("there: sysctl -w net.ipv4.tcp_rmem=\"4096 131072 67108864\""),
        "{text}"
    );
    assert!(text.contains("now 6291456"), "{text}");
    assert!(text.contains("path: {listen: {buffers: 64MiB}}"), "{text}");
}
