//! Samples of one end as a few figures.

use serde::Serialize;

use super::sample::Sample;

/// Share of the time at the beginning that is left out: windows grow then.
const BEGINNING: f64 = 0.3;
/// And at most so many microseconds of it.
const LONGEST_BEGINNING: f64 = 5e6;
/// So many bytes, written and not sent yet, are a block that is on its way.
const LITTLE: f64 = 65_536.0;
/// Fewer samples say nothing.
const LEAST: usize = 4;

/// Least, middle and most of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// Half of the samples are below.
    pub middle: f64,
    /// The most.
    pub most: f64,
}

/// One end of a connection, after its beginning unless it is said otherwise. Shares are of the time, from 0
/// to 1; `None`: this kernel does not tell, or nothing was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Seconds that were looked at.
    pub seconds: f64,
    /// Bits per second that the other end acknowledged.
    pub sent_bits_per_second: f64,
    /// Bits per second that arrived from the other end.
    pub received_bits_per_second: f64,
    /// The shortest round trip, in seconds, the beginning included.
    pub min_rtt: Option<f64>,
    /// The round trip, in seconds.
    pub rtt: Option<Spread>,
    /// What nine of ten round trips are above, in seconds.
    pub low_rtt: Option<f64>,
    /// How the round trip goes with what is under way: 1 together, 0 by itself, -1 against it.
    pub rtt_follows: f64,
    /// The mean round trip, in seconds.
    pub mean_rtt: Option<f64>,
    /// Segments sent again, the beginning included.
    pub retransmissions: u64,
    /// Share of the bytes sent that were sent again.
    pub loss: f64,
    /// Of what was sent again, the share that was when the round trip was near its longest, as it is where a
    /// queue is full. `None`: nothing was.
    pub lost_at_longest: Option<f64>,
    /// Share of samples whose round trip was more than a quarter of the way from the shortest to the
    /// longest.
    pub longer: f64,
    /// With something to send or under way.
    pub busy: Option<f64>,
    /// Stopped by the other end's window.
    pub window_limited: Option<f64>,
    /// Stopped by the send buffer.
    pub buffer_limited: Option<f64>,
    /// Share of samples in which the application had nothing more to send, or a send buffer no room for it.
    pub app_limited: f64,
    /// Share of samples in which the other end offered no window at all.
    pub probing: f64,
    /// The window that the other end offers, in bytes.
    pub send_window: Option<Spread>,
    /// How far it is below the largest that was offered before, on average, as a share of that.
    pub send_window_below: Option<f64>,
    /// The window that this end offers, in bytes.
    pub receive_window: Option<Spread>,
    /// The congestion window, in bytes.
    pub cwnd: Option<Spread>,
    /// The congestion window at the end, to that at the beginning of what was looked at.
    pub growth: f64,
    /// Bytes of a segment.
    pub segment: f64,
    /// Bytes under way.
    pub in_flight: Option<Spread>,
    /// How full the send buffer is, from 0 to 1.
    pub send_fill: Option<Spread>,
    /// How full the receive buffer is, from 0 to 1.
    pub receive_fill: Option<Spread>,
    /// The send buffer, in bytes, as the kernel accounts it.
    pub send_buffer: Option<f64>,
    /// The receive buffer, the same way.
    pub receive_buffer: Option<f64>,
    /// The moving thread ran.
    pub cpu_run: Option<f64>,
    /// It could have run, but others had the core.
    pub cpu_wait: Option<f64>,
}

impl Summary {
    /// Of samples in order of time; `None` where they are too few, or no time passes between them.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let steady = steady(samples)?;
        let (first, last) = (steady.first()?, steady.last()?);
        let span = last.at.checked_sub(first.at).filter(|span| *span > 0)? as f64;
        let per = |share: Option<u64>| share.map(|grown| (grown as f64 / span).min(1.0));
        let between = |one: fn(&Sample) -> Option<u64>| {
            let (from, to) = (one(first)?, one(last)?);
            to.checked_sub(from)
        };
        let rate = |bytes: Option<u64>| bytes.unwrap_or_default() as f64 * 8.0 * 1e6 / span;
        let share = |is: fn(&Sample) -> bool| {
            steady.iter().filter(|one| is(one)).count() as f64 / steady.len() as f64
        };
        let acked = between(|one| one.tcp.acked);
        let again = again(first, last);
        // Those that never were sent again are all but none.
        let sent = between(|one| one.tcp.sent).or(acked).unwrap_or_default() as f64;
        let whole = samples.first().zip(samples.last());
        let rtt = spread(steady, |one| {
            Some(f64::from(one.tcp.rtt) / 1e6).filter(|rtt| *rtt > 0.0)
        });
        let known = steady.iter().filter(|one| one.cpu.is_some());
        let known: Vec<_> = known.collect();
        let cpu = |one: fn(&Sample) -> Option<u64>| {
            let (from, to) = known.first().zip(known.last())?;
            let span = to.at.checked_sub(from.at).filter(|span| *span > 0)? as f64;
            let grown = one(to)?.checked_sub(one(from)?)?;
            Some((grown as f64 / span).min(1.0))
        };
        Some(Self {
            seconds: span / 1e6,
            sent_bits_per_second: rate(acked),
            received_bits_per_second: rate(between(|one| one.tcp.received)),
            min_rtt: samples
                .iter()
                .filter_map(|one| one.tcp.min_rtt)
                .filter(|rtt| *rtt > 0)
                .min()
                .map(|rtt| f64::from(rtt) / 1e6),
            low_rtt: low(steady),
            rtt_follows: correlation(steady),
            mean_rtt: mean(steady),
            rtt,
            retransmissions: whole.map_or(0, |(from, to)| {
                let to = to.tcp.retransmissions;
                to.saturating_sub(from.tcp.retransmissions).into()
            }),
            loss: if sent > 0.0 {
                (again / sent).clamp(0.0, 1.0)
            } else {
                0.0
            },
            lost_at_longest: lost_at_longest(steady),
            longer: longer(steady),
            busy: per(between(|one| one.tcp.busy)),
            window_limited: per(between(|one| one.tcp.window_limited)),
            buffer_limited: per(between(|one| one.tcp.buffer_limited)),
            app_limited: share(has_no_more),
            probing: share(|one| one.is_probing),
            send_window: spread(steady, |one| one.tcp.send_window.map(f64::from)),
            send_window_below: below(samples, steady.len()),
            receive_window: spread(steady, |one| one.tcp.receive_window.map(f64::from)),
            cwnd: spread(steady, |one| Some(segments(one, one.tcp.cwnd))),
            growth: f64::from(last.tcp.cwnd) / f64::from(first.tcp.cwnd.max(1)),
            segment: last.tcp.mss.into(),
            in_flight: spread(steady, |one| Some(segments(one, one.tcp.unacked))),
            send_fill: spread(steady, |one| {
                let memory = one.memory.filter(|memory| memory.send_buffer > 0)?;
                Some((f64::from(memory.send) / f64::from(memory.send_buffer)).min(1.0))
            }),
            receive_fill: spread(steady, fill),
            send_buffer: spread(steady, |one| Some(one.memory?.send_buffer.into()))
                .map(|spread| spread.most),
            receive_buffer: spread(steady, |one| Some(one.memory?.receive_buffer.into()))
                .map(|spread| spread.most),
            cpu_run: cpu(|one| Some(one.cpu?.run)),
            cpu_wait: cpu(|one| Some(one.cpu?.wait)),
        })
    }

    /// Share of the time in which the moving thread wanted a CPU, whether it got it or not.
    #[must_use]
    pub fn cpu(&self) -> Option<f64> {
        Some(self.cpu_run? + self.cpu_wait.unwrap_or_default())
    }
}

/// Without the beginning.
fn steady(samples: &[Sample]) -> Option<&[Sample]> {
    let (first, last) = (samples.first()?, samples.last()?);
    let whole = last.at.checked_sub(first.at)? as f64;
    let left_out = (whole * BEGINNING).min(LONGEST_BEGINNING);
    let from = samples.partition_point(|one| (one.at.saturating_sub(first.at) as f64) < left_out);
    samples.get(from..).filter(|rest| rest.len() >= LEAST)
}

/// The application is what the sender waits for. A paced sender may hold some of what it has, but no more
/// than is under way.
fn has_no_more(sample: &Sample) -> bool {
    let waiting = f64::from(sample.tcp.not_sent.unwrap_or_default());
    let under_way = segments(sample, sample.tcp.unacked);
    // Not all kernels, and not all congestion control, say so each time: what may be sent and is not, says it
    // too.
    let has_room = under_way < segments(sample, sample.tcp.cwnd) * 0.8;
    (sample.tcp.app_limited || has_room) && waiting <= under_way.max(LITTLE)
}

/// Of the last `count` samples.
fn below(samples: &[Sample], count: usize) -> Option<f64> {
    let mut largest = 0.0_f64;
    let shares: Vec<_> = samples
        .iter()
        .map(|one| {
            let offered = f64::from(one.tcp.send_window?);
            largest = largest.max(offered);
            Some(if largest > 0.0 {
                1.0 - offered / largest
            } else {
                0.0
            })
        })
        .skip(samples.len().saturating_sub(count))
        .collect::<Option<_>>()?;
    let sum: f64 = shares.iter().sum();
    Some(sum / shares.len().max(1) as f64)
}

/// Bytes sent again.
fn again(first: &Sample, last: &Sample) -> f64 {
    if let Some((from, to)) = first.tcp.sent_again.zip(last.tcp.sent_again) {
        return to.saturating_sub(from) as f64;
    }
    let count = last
        .tcp
        .retransmissions
        .saturating_sub(first.tcp.retransmissions);
    segments(last, count)
}

/// A round trip that is such a share of the way from the shortest to the longest.
fn between(samples: &[Sample], share: f64) -> Option<f64> {
    let trips = || samples.iter().map(|one| one.tcp.rtt).filter(|rtt| *rtt > 0);
    let (least, most) = (trips().min()?, trips().max()?);
    Some(f64::from(least) + f64::from(most - least) * share)
}

fn longer(samples: &[Sample]) -> f64 {
    let Some(long) = between(samples, 0.25) else {
        return 0.0;
    };
    let count = samples
        .iter()
        .filter(|one| f64::from(one.tcp.rtt) > long)
        .count();
    count as f64 / samples.len().max(1) as f64
}

/// Share of the losses that came when the round trip was at least three quarters of the way from its shortest
/// to its longest, then or a sample before: the kernel's estimate follows, and falls once the queue drains.
fn lost_at_longest(samples: &[Sample]) -> Option<f64> {
    let long = between(samples, 0.75)?;
    let (mut all, mut at_longest) = (0.0, 0.0);
    for pair in samples.windows(2) {
        let [before, after] = pair else { continue };
        let lost = again(before, after);
        all += lost;
        if f64::from(before.tcp.rtt.max(after.tcp.rtt)) >= long {
            at_longest += lost;
        }
    }
    (all > 0.0).then(|| at_longest / all)
}

fn segments(sample: &Sample, count: u32) -> f64 {
    f64::from(count) * f64::from(sample.tcp.mss)
}

/// By the kernel's account or by the bytes, of which a buffer holds half.
fn fill(sample: &Sample) -> Option<f64> {
    let memory = sample.memory?;
    let buffer = f64::from(memory.receive_buffer);
    let held = f64::from(memory.receive).max(f64::from(sample.receive_queue) * 2.0);
    (buffer > 0.0).then(|| (held / buffer).min(1.0))
}

fn mean(samples: &[Sample]) -> Option<f64> {
    let found: Vec<_> = samples
        .iter()
        .map(|one| f64::from(one.tcp.rtt) / 1e6)
        .filter(|rtt| *rtt > 0.0)
        .collect();
    let sum: f64 = found.iter().sum();
    (!found.is_empty()).then(|| sum / found.len() as f64)
}

fn low(samples: &[Sample]) -> Option<f64> {
    let mut found: Vec<_> = samples.iter().map(|one| one.tcp.rtt).collect();
    found.retain(|rtt| *rtt > 0);
    found.sort_unstable();
    found.get(found.len() / 10).map(|rtt| f64::from(*rtt) / 1e6)
}

/// Pearson's, of the round trip and the congestion window.
fn correlation(samples: &[Sample]) -> f64 {
    let pairs = samples.iter();
    let pairs: Vec<_> = pairs
        .map(|one| (f64::from(one.tcp.cwnd), f64::from(one.tcp.rtt)))
        .collect();
    let count = pairs.len().max(1) as f64;
    let (sum_x, sum_y) = pairs
        .iter()
        .fold((0.0, 0.0), |(x, y), (one, other)| (x + one, y + other));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (mut both, mut xs, mut ys) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        both += (x - mean_x) * (y - mean_y);
        xs += (x - mean_x) * (x - mean_x);
        ys += (y - mean_y) * (y - mean_y);
    }
    let size = (xs * ys).sqrt();
    if size > 0.0 { both / size } else { 0.0 }
}

fn spread(samples: &[Sample], one: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
    let mut found: Vec<_> = samples.iter().filter_map(one).collect();
    found.sort_by(f64::total_cmp);
    Some(Spread {
        least: *found.first()?,
        middle: *found.get(found.len() / 2)?,
        most: *found.last()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::TcpInfo;

    fn at(tenth: u32) -> Sample {
        Sample {
            at: u64::from(tenth) * 100_000,
            tcp: TcpInfo {
                mss: 1000,
                rtt: 20_000 + tenth,
                min_rtt: Some(19_000),
                cwnd: 100 + tenth,
                acked: Some(u64::from(tenth) * 1_000_000),
                busy: Some(u64::from(tenth) * 50_000),
                retransmissions: tenth,
                ..TcpInfo::default()
            },
            ..Sample::default()
        }
    }

    #[test]
    fn the_beginning_is_left_out() {
        let samples: Vec<_> = (0..=100).map(at).collect();
        let found = Summary::of(&samples).unwrap();
        assert_eq!(found.seconds, 7.0);
        assert_eq!(found.sent_bits_per_second, 8e7);
        assert_eq!(found.busy, Some(0.5));
        assert_eq!(found.retransmissions, 100);
        assert!((found.loss - 0.001).abs() < 1e-9);
        assert_eq!(found.min_rtt, Some(0.019));
        assert_eq!(found.cpu(), None);
    }

    #[test]
    fn too_few_or_no_time_say_nothing() {
        assert!(Summary::of(&[]).is_none());
        assert!(Summary::of(&[at(0), at(1)]).is_none());
        assert!(Summary::of(&vec![at(1); 50]).is_none());
        // A clock that goes back, and figures that a liar sends.
        let mut samples: Vec<_> = (0..=100).map(at).collect();
        samples.reverse();
        assert!(Summary::of(&samples).is_none());
        let mut samples: Vec<_> = (0..=100).map(at).collect();
        samples[100].tcp.acked = Some(u64::MAX);
        samples[100].tcp.busy = Some(u64::MAX);
        samples[100].tcp.retransmissions = 0;
        let found = Summary::of(&samples).unwrap();
        assert_eq!(found.busy, Some(1.0));
        assert!(found.sent_bits_per_second.is_finite());
    }
}
