//! What moved in each interval.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::stream::Stream;

/// A stretch of time and what moved in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// Bytes that this end sent.
    pub sent: u64,
    /// Bytes that arrived at this end.
    pub received: u64,
}

/// One interval of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// Since the run began.
    pub start: Duration,
    /// Since the run began.
    pub end: Duration,
    /// Each stream, in order.
    pub streams: Vec<Span>,
}

impl Interval {
    /// All streams together.
    #[must_use]
    pub fn sum(&self) -> Span {
        self.streams.iter().fold(Span::default(), |sum, span| Span {
            sent: sum.sent + span.sent,
            received: sum.received + span.received,
        })
    }

    /// Its length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.end.saturating_sub(self.start).as_secs_f64()
    }
}

/// Reads the counters of the streams from time to time.
pub(super) struct Sampler<'a> {
    streams: &'a [Arc<Stream>],
    started: Instant,
    every: Duration,
    before: Vec<(u64, u64)>,
    intervals: Vec<Interval>,
    empty: Interval,
}

/// The shortest interval: the reports must not become the load.
const SHORTEST: Duration = Duration::from_millis(10);

impl<'a> Sampler<'a> {
    pub(super) fn new(streams: &'a [Arc<Stream>], started: Instant, every: Duration) -> Self {
        Self {
            streams,
            started,
            every: every.max(SHORTEST),
            before: vec![(0, 0); streams.len()],
            intervals: Vec::new(),
            empty: Interval::default(),
        }
    }

    fn last_end(&self) -> Duration {
        self.intervals
            .last()
            .map_or(Duration::ZERO, |interval| interval.end)
    }

    pub(super) fn until_next(&self) -> Duration {
        // By the number of intervals, so that one late report does not delay all others.
        let count = u32::try_from(self.intervals.len() + 1).unwrap_or(u32::MAX);
        self.every
            .saturating_mul(count)
            .saturating_sub(self.started.elapsed())
    }

    /// Ends an interval.
    pub(super) fn take(&mut self) -> &Interval {
        let now: Vec<_> = self.streams.iter().map(|stream| stream.moved()).collect();
        let pairs = now.iter().zip(&self.before);
        let streams = pairs
            .map(|((sent, received), (sent_before, received_before))| Span {
                sent: sent - sent_before,
                received: received - received_before,
            })
            .collect();
        self.intervals.push(Interval {
            start: self.last_end(),
            end: self.started.elapsed(),
            streams,
        });
        self.before = now;
        self.intervals.last().unwrap_or(&self.empty)
    }

    /// Ends the last one, if anything has moved in it.
    pub(super) fn finish(&mut self) -> Option<&Interval> {
        let now: Vec<_> = self.streams.iter().map(|stream| stream.moved()).collect();
        (now != self.before || self.intervals.is_empty()).then(|| self.take())
    }

    pub(super) fn intervals(self) -> Vec<Interval> {
        self.intervals
    }
}
