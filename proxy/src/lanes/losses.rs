//! Whether it is losses that hold a stream's lanes up, on a path that is not full: more lanes carry more
//! then. Congestion control that takes each loss for a full line is slow on such a path whatever the line
//! (docs/long-path.md).

use std::time::{Duration, Instant};

use sekisho_lanes::Limited;

use super::lane::Lane;
use crate::path::Momentary;

/// Between two looks at what the kernel counts.
const BETWEEN: Duration = Duration::from_millis(200);
/// So long a loss counts: a slow lane has few. One by itself says nothing.
const LATELY: Duration = Duration::from_secs(4);
/// A round trip that is longer than the shortest by such a part of it, and this besides, has a queue in its
/// way, and losses may be that queue's.
const QUEUE: u32 = 4;
const SLACK: Duration = Duration::from_millis(1);

/// What is known of the losses of a stream's lanes.
#[derive(Debug)]
pub(super) struct Losses {
    looked: Option<Instant>,
    /// The shortest round trip of any lane: one that came when a queue stood knows no shorter one.
    shortest: Option<Duration>,
    /// The last two looks that found losses without a queue.
    lossy: [Option<Instant>; 2],
}

/// The same of one lane.
#[derive(Debug, Default)]
pub(super) struct LaneLosses {
    /// Segments sent again, and the round trip, at the last look.
    before: Option<(u32, Duration)>,
}

impl LaneLosses {
    /// Whether something was lost since the last look while no queue stood in the way, then or now: after a
    /// loss the queue is shorter.
    fn look(&mut self, seen: &Momentary, shortest: &mut Option<Duration>) -> bool {
        let Some(trip) = seen.round_trip else {
            self.before = None;
            return false;
        };
        let least = shortest.map_or(trip, |known| known.min(trip));
        *shortest = Some(least);
        let Some((again, before)) = self.before.replace((seen.sent_again, trip)) else {
            return false;
        };
        let is_short = trip.max(before) <= least + least / QUEUE + SLACK;
        seen.sent_again > again && is_short && !seen.bears_losses
    }
}

impl Losses {
    pub(super) const fn new() -> Self {
        Self {
            looked: None,
            shortest: None,
            lossy: [None; 2],
        }
    }

    /// Looks at the lanes, where it is time to. What happened in a longer time without a look is not known
    /// to have happened without a queue.
    pub(super) fn look(&mut self, lanes: &mut [Lane], now: Instant) {
        let passed = self.looked.map(|at| now.saturating_duration_since(at));
        if passed.is_some_and(|passed| passed < BETWEEN) {
            return;
        }
        self.looked = Some(now);
        let is_late = passed.is_none_or(|passed| passed > 2 * BETWEEN);
        let mut any = false;
        for lane in lanes {
            if is_late {
                lane.losses.before = None;
            }
            if let Some(seen) = lane.momentary() {
                any |= lane.losses.look(&seen, &mut self.shortest);
            }
        }
        if any {
            self.lossy = [Some(now), self.lossy[0]];
        }
    }

    /// What holds up bytes that may go.
    pub(super) fn limit(&self, now: Instant) -> Limited {
        let is_lately = |at: Instant| now.saturating_duration_since(at) < LATELY;
        if self.lossy.iter().all(|at| at.is_some_and(is_lately)) {
            Limited::Losses
        } else {
            Limited::Held
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sent_again: u32, millis: u64) -> Momentary {
        Momentary {
            round_trip: Some(Duration::from_millis(millis)),
            sent_again,
            stands_still: false,
            bears_losses: false,
        }
    }

    #[test]
    fn losses_count_where_no_queue_stands() {
        let mut shortest = None;
        let mut lane = LaneLosses::default();
        let mut look = |seen: Momentary| lane.look(&seen, &mut shortest);
        assert!(!look(seen(7, 20)), "those before are not known");
        assert!(!look(seen(7, 20)));
        assert!(look(seen(8, 25)));
        assert!(!look(seen(9, 30)), "a queue");
        assert!(!look(seen(10, 20)), "one that has gone with the loss");
        assert!(!look(seen(10, 20)));
        assert!(look(seen(11, 20)));
        let bears = Momentary {
            bears_losses: true,
            ..seen(12, 20)
        };
        assert!(!look(bears), "bbr");
        let unknown = Momentary {
            round_trip: None,
            ..seen(13, 0)
        };
        assert!(!look(unknown));
        assert!(!look(seen(14, 20)), "what was before is not known");
        // One that came when the queue stood.
        let mut late = LaneLosses::default();
        assert!(!late.look(&seen(0, 40), &mut shortest));
        assert!(!late.look(&seen(1, 40), &mut shortest));
    }

    #[test]
    fn losses_count_for_a_while_and_one_is_none() {
        let now = Instant::now();
        let mut losses = Losses::new();
        assert_eq!(losses.limit(now), Limited::Held);
        losses.lossy = [Some(now), None];
        assert_eq!(losses.limit(now), Limited::Held);
        losses.lossy = [Some(now + LATELY / 2), Some(now)];
        assert_eq!(losses.limit(now + LATELY / 2), Limited::Losses);
        assert_eq!(losses.limit(now + LATELY), Limited::Held);
    }
}
