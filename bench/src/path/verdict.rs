//! Which limit holds, by what was seen and by nothing else.
//!
//! In this order, by the sender's end where it is known: the load itself asked for no more; the sender's
//! thread wants a CPU all the time; the kernel counts time stopped by the receive window (then the reader
//! decides whether that is a window or a slow reader) or by the send buffer; the application had nothing to
//! send; and what remains is the congestion window, which follows losses or a line.

mod words;

use serde::{Deserialize, Serialize};

use self::words::{gigabits, in_flight, kibibytes, percent, queue, tightness};
use super::{
    remedy,
    sample::Sample,
    summary::{Spread, Summary},
    sysctl::Sysctls,
};

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// That of this host.
    Here,
    /// The other one.
    There,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Here => Self::There,
            Self::There => Self::Here,
        }
    }

    /// As in a sentence.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::There => "there",
        }
    }
}

/// What limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The buffer of this host's end: the send buffer where it sends, the receive window where it
    /// receives.
    WindowHere,
    /// That of the other end.
    WindowThere,
    /// Packets that get lost, after which congestion control sends less.
    Loss,
    /// A line, or a queue before one, that carries no more.
    Rate,
    /// CPU of this host's end.
    CpuHere,
    /// CPU of the other end.
    CpuThere,
    /// The application that receives does not read as fast as bytes come.
    SlowReader,
    /// The application that sends has no more to send.
    SlowSender,
    /// What was seen does not say.
    Undecided,
}

impl Limit {
    const fn window(side: Side) -> Self {
        match side {
            Side::Here => Self::WindowHere,
            Side::There => Self::WindowThere,
        }
    }

    const fn cpu(side: Side) -> Self {
        match side {
            Side::Here => Self::CpuHere,
            Side::There => Self::CpuThere,
        }
    }
}

/// What was seen of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Which end sends.
    pub sender_is: Side,
    /// The sender's end; empty: not seen.
    pub sender: &'a [Sample],
    /// The receiver's end; empty: not seen.
    pub receiver: &'a [Sample],
    /// The last reader, where that is not the receiver but behind a proxy; else empty.
    pub reader: &'a [Sample],
    /// CPU of the receiver's process, 1 for a core, where only that is told.
    pub receiver_process: Option<f64>,
    /// Of the sender's host.
    pub sender_sysctls: Option<&'a Sysctls>,
    /// Of the receiver's host.
    pub receiver_sysctls: Option<&'a Sysctls>,
    /// Congestion control of the sender; empty: not known.
    pub congestion: &'a str,
    /// Bits per second that the load asked for at most.
    pub asked: Option<u64>,
    /// The sender's program always has more to send.
    pub is_eager: bool,
    /// Seen from the connection's beginning on.
    pub is_whole: bool,
    /// This host has opened the connection.
    pub opened_here: bool,
    /// A program has set the sender's buffers: the kernel does not tune them.
    pub is_fixed: bool,
}

/// The limit, why it is that, and what lifts it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The limit.
    pub limit: Limit,
    /// Which end it is at, where it is at one.
    pub side: Option<Side>,
    /// Others that would look the same from here.
    pub or: Vec<Limit>,
    /// What says so.
    pub evidence: Vec<String>,
    /// What lifts it, the nearest first.
    pub remedies: Vec<String>,
    /// The buffer that it takes, in bytes, where it takes one.
    pub needed_bytes: Option<u64>,
}

/// A thread that wants a CPU in such a share of the time has none to spare.
const CPU: f64 = 0.88;
/// Stopped for such a share of the time.
const STOPPED: f64 = 0.4;
/// Of the window so much is used in a round trip: a receiver that reads at once offers twice that, until its
/// buffer is at its bound. bbr paces itself below such a window, and is not stopped by it.
const TIGHT: f64 = 0.7;
/// A window that is so far below what it was is not empty when it is offered.
const BELOW: f64 = 0.15;
/// One that is not even so far below has a reader that takes all at once.
const STEADY: f64 = 0.04;
/// A receive buffer that is so full is not being read.
const FULL: f64 = 0.5;
/// A send buffer into which a program may write again once a third is free.
const FILLED: f64 = 0.6;
/// A round trip of so many times the shortest, and a millisecond more: a queue stands in the way, and a
/// full buffer is only its consequence.
const QUEUE: f64 = 2.0;
/// The same as a share of the shortest, where nothing else stops the sender.
const STANDING: f64 = 0.25;
/// A queue that is so deep, to the shortest round trip, is no busy host's doing.
const DEEP: f64 = 1.6;
/// A round trip that goes with the window is a queue's.
const FOLLOWS: f64 = 0.6;
/// Where so much of what was lost was lost at the longest round trips, a full queue dropped it.
const FULL_QUEUE: f64 = 0.9;
/// And the queue was there for such a share of the time: one that is there for a moment is a busy host's.
const LONGER: f64 = 0.2;
/// What bbr bears.
const BBR_LOSS: f64 = 0.05;

/// Names the limit.
#[must_use]
pub fn judge(observed: &Observed<'_>) -> Verdict {
    let receiver = Summary::of(observed.receiver);
    let Some(sender) = Summary::of(observed.sender) else {
        return match &receiver {
            Some(receiver) => by_receiver(observed, receiver),
            None => undecided("too little was seen: measure longer".into()),
        };
    };
    let found = by_sender(observed, &sender, receiver.as_ref());
    remedy::add(observed, &sender, found)
}

fn by_sender(observed: &Observed<'_>, sender: &Summary, receiver: Option<&Summary>) -> Verdict {
    let here = observed.sender_is;
    if let Some(asked) = observed.asked
        && sender.sent_bits_per_second >= asked as f64 * 0.9
    {
        let said = format!(
            "the load was told to send no more than {}",
            gigabits(asked as f64)
        );
        return found(Limit::SlowSender, Some(here), said);
    }
    if let Some(verdict) = cpu(sender, Limit::cpu(here), here) {
        return verdict;
    }
    let window = sender.window_limited.unwrap_or_default();
    let buffer = sender.buffer_limited.unwrap_or_default();
    // Both may take turns: the one that does more is the next to lift.
    let is_stopped = window + buffer >= STOPPED;
    let tight = tightness(sender);
    if (is_stopped && window >= buffer) || sender.probing >= 0.5 {
        let said = format!(
            "stopped by the receive window {} of the time",
            percent(window)
        );
        return by_window(observed, sender, receiver, said);
    }
    if !is_stopped && tight >= TIGHT {
        let offered = sender.send_window.map_or(0.0, |spread| spread.middle);
        let said = format!(
            "a round trip carries {} of the {} that the receiver offers",
            percent(tight),
            kibibytes(offered)
        );
        return by_window(observed, sender, receiver, said);
    }
    if let Some(said) = full_buffer(observed, sender, is_stopped.then_some(buffer)) {
        return match queue(sender) {
            Some(queue) => found(Limit::Rate, None, queue).and(said),
            None => found(Limit::window(here), Some(here), said).and(in_flight(sender)),
        };
    }
    let busy = sender.busy;
    if sender.app_limited >= 0.5 || busy.is_some_and(|busy| busy < 0.5) {
        let said = format!(
            "in {} of the samples the application had nothing more to send",
            percent(sender.app_limited)
        );
        if observed.is_eager {
            // It has more, and its buffer is empty: it gets no time to fill it.
            let mut verdict = found(Limit::cpu(here), Some(here), said);
            verdict.remedies = remedy::cpu(sender);
            return verdict;
        }
        let verdict = found(Limit::SlowSender, Some(here), said);
        return match busy {
            Some(busy) => verdict.and(format!("something under way {} of the time", percent(busy))),
            None => verdict,
        };
    }
    by_congestion(observed, sender)
}

/// The send buffer stops the sender. The kernel counts that only where a program waited before the last of
/// it was sent, which with a small buffer is never; then it shows by a buffer that is always full of what is
/// under way.
fn full_buffer(observed: &Observed<'_>, sender: &Summary, stopped: Option<f64>) -> Option<String> {
    if let Some(share) = stopped {
        return Some(format!(
            "stopped by the send buffer {} of the time",
            percent(share)
        ));
    }
    let fill = sender.send_fill?;
    let is_full = fill.middle >= FILLED || (observed.is_eager && fill.middle >= FILLED / 2.0);
    (sender.app_limited >= 0.5 && is_full).then(|| {
        format!(
            "its send buffer of {} is {} full, and all of that is under way",
            kibibytes(sender.send_buffer.unwrap_or_default()),
            percent(fill.middle)
        )
    })
}

/// The receiver's window stops the sender: it is too small, or nobody reads.
fn by_window(
    observed: &Observed<'_>,
    sender: &Summary,
    receiver: Option<&Summary>,
    stopped: String,
) -> Verdict {
    let there = observed.sender_is.other();
    let reader = Summary::of(observed.reader);
    let fill = |end: Option<&Summary>| end.and_then(|end| end.receive_fill);
    let fills = [fill(receiver), fill(reader.as_ref())];
    let full = fills.into_iter().flatten().find(|fill| fill.middle >= FULL);
    let ends = [receiver, reader.as_ref()];
    let mut ends = ends.into_iter().flatten();
    if let Some(verdict) = ends.find_map(|end| cpu(end, Limit::cpu(there), there)) {
        return verdict.and(stopped);
    }
    if let Some(process) = observed.receiver_process.filter(|share| *share >= CPU) {
        let said = format!("its process took {} of a core", percent(process));
        return found(Limit::cpu(there), Some(there), said).and(stopped);
    }
    if let Some(full) = full {
        let said = format!("its receive buffer is {} full", percent(full.middle));
        return found(Limit::SlowReader, Some(there), said).and(stopped);
    }
    if sender.probing >= 0.5 {
        let said = "it offers no window at all".into();
        return found(Limit::SlowReader, Some(there), said)
            .and(stopped)
            .unless_seen(receiver.is_some(), &[Limit::cpu(there)]);
    }
    // Only from here: a reader that is slow lets the window move, and keeps it below what it was. It delays
    // acknowledgements too, which is no queue.
    let is_seen = receiver.is_some() && observed.reader.is_empty();
    let below = sender.send_window_below.filter(|_| !is_seen);
    if let Some(below) = below.filter(|below| *below >= BELOW) {
        let said = format!(
            "the window that it offers stays {} below what it was, on average",
            percent(below)
        );
        return found(Limit::SlowReader, Some(there), said)
            .and(stopped)
            .unless_seen(false, &[Limit::cpu(there)]);
    }
    if let Some(queue) = queue(sender) {
        return found(Limit::Rate, None, queue).and(stopped);
    }
    if is_seen {
        return found(Limit::window(there), Some(there), stopped).and(in_flight(sender));
    }
    let is_steady = below.is_some_and(|below| below < STEADY);
    let is_known = observed.is_whole && is_steady;
    found(Limit::window(there), Some(there), stopped)
        .and(in_flight(sender))
        .unless_seen(is_known, &[Limit::SlowReader])
}

/// Neither windows nor applications nor CPU stop it: the congestion window does.
fn by_congestion(observed: &Observed<'_>, sender: &Summary) -> Verdict {
    let is_bbr = observed.congestion.starts_with("bbr");
    let lost = format!(
        "{:.3} % of the bytes were sent again ({} segments in all)",
        sender.loss * 100.0,
        sender.retransmissions
    );
    let queue = sender.min_rtt.zip(sender.rtt);
    let queue = queue.map(|(least, rtt)| (least, rtt.middle - least));
    let trip = queue.map_or_else(String::new, |(least, queue)| {
        format!(
            "the round trip is {:.1} ms above the shortest of {:.1} ms",
            queue.max(0.0) * 1e3,
            least * 1e3
        )
    });
    // A queue stands even when the window is small, or moves with it; a round trip that is long now and then
    // is a busy host's.
    let is_long = |trip: f64, least: f64| trip - least > least * STANDING + 0.0005;
    let is_queueing = sender.min_rtt.is_some_and(|least| {
        let stands = sender.low_rtt.is_some_and(|low| is_long(low, least));
        let middle = sender.rtt.is_some_and(|rtt| is_long(rtt.middle, least));
        stands || (middle && sender.rtt_follows >= FOLLOWS)
    });
    let is_deep = sender.min_rtt.zip(sender.low_rtt);
    let is_deep = is_deep.is_some_and(|(least, low)| low > least * DEEP);
    let is_full = sender
        .lost_at_longest
        .is_some_and(|share| share >= FULL_QUEUE)
        && sender.longer >= LONGER
        && sender.rtt.is_some_and(|rtt| is_long(rtt.most, rtt.least));
    let is_lossy = if is_bbr {
        sender.loss >= BBR_LOSS
    } else {
        sender.loss > 0.0 && !is_full && (!is_queueing || (!is_deep && is_explained(sender)))
    };
    if is_lossy {
        return found(Limit::Loss, None, lost).and(trip);
    }
    if !is_queueing && !is_bbr && sender.growth > 1.25 {
        let said = format!(
            "the congestion window still grows (by {:.0} % in {:.1} s) and nothing was lost: measure \
             longer",
            (sender.growth - 1.0) * 100.0,
            sender.seconds
        );
        return undecided(said);
    }
    let rate = format!("it carries {}", gigabits(sender.sent_bits_per_second));
    found(Limit::Rate, None, rate).and(trip).and(lost)
}

/// Whether losses alone keep the window at what it is: 1.22 by the root of their share (Mathis and others,
/// *The macroscopic behavior of the TCP congestion avoidance algorithm*, 1997), and a half more for cubic.
fn is_explained(sender: &Summary) -> bool {
    let segment = sender.segment.max(1.0);
    let window = sender.in_flight.map_or(0.0, |spread| spread.middle) / segment;
    window <= 1.22 * 1.5 / sender.loss.max(1e-12).sqrt()
}

/// Only the receiver's end is seen.
fn by_receiver(observed: &Observed<'_>, receiver: &Summary) -> Verdict {
    let here = observed.sender_is.other();
    let fill = receiver.receive_fill.map_or(0.0, |fill| fill.middle);
    if let Some(verdict) = cpu(receiver, Limit::cpu(here), here) {
        return verdict;
    }
    if fill >= FULL {
        let said = format!("its receive buffer is {} full", percent(fill));
        let verdict = found(Limit::SlowReader, Some(here), said);
        return remedy::add(observed, receiver, verdict);
    }
    let trip = receiver.rtt.or_else(|| {
        receiver.min_rtt.map(|least| Spread {
            least,
            middle: least,
            most: least,
        })
    });
    if let Some((window, trip)) = receiver.receive_window.zip(trip) {
        let in_trip = receiver.received_bits_per_second / 8.0 * trip.middle;
        if in_trip >= window.most * 0.7 {
            let said = format!(
                "{} arrive in a round trip, and the window is {}",
                kibibytes(in_trip),
                kibibytes(window.most)
            );
            let verdict = found(Limit::window(here), Some(here), said);
            return remedy::add(observed, receiver, verdict);
        }
    }
    let mut verdict = undecided(
        "neither the receive buffer nor its reader limits; only the sender's end can say more: run it \
         there"
            .into(),
    );
    verdict.or = vec![
        Limit::window(here.other()),
        Limit::Loss,
        Limit::Rate,
        Limit::cpu(here.other()),
        Limit::SlowSender,
    ];
    verdict
}

fn cpu(end: &Summary, limit: Limit, side: Side) -> Option<Verdict> {
    let wanted = end.cpu().filter(|wanted| *wanted >= CPU)?;
    let said = format!(
        "its thread wants a CPU {} of the time: it ran {}, and waited for a core {}",
        percent(wanted),
        percent(end.cpu_run.unwrap_or_default()),
        percent(end.cpu_wait.unwrap_or_default())
    );
    let mut verdict = found(limit, Some(side), said);
    verdict.remedies = remedy::cpu(end);
    Some(verdict)
}

fn found(limit: Limit, side: Option<Side>, said: String) -> Verdict {
    Verdict {
        limit,
        side,
        or: Vec::new(),
        evidence: vec![said],
        remedies: Vec::new(),
        needed_bytes: None,
    }
}

fn undecided(said: String) -> Verdict {
    found(Limit::Undecided, None, said)
}

impl Verdict {
    fn and(mut self, said: String) -> Self {
        if !said.is_empty() {
            self.evidence.push(said);
        }
        self
    }

    fn unless_seen(mut self, is_seen: bool, others: &[Limit]) -> Self {
        if !is_seen {
            self.or = others.to_vec();
        }
        self
    }
}

#[cfg(test)]
mod tests;
