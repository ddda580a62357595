//! Whether it is losses that hold a stream's lanes up, on a path that is not full: more lanes carry more
//! then. Congestion control that takes each loss for a full line is slow on such a path whatever the line
//! (docs/long-path.md).

use std::time::{Duration, Instant};

use sekisho_lanes::Limited;

use super::lane::Lane;
use crate::path::Momentary;

/// Between two looks at what the kernel counts.
const BETWEEN: Duration = Duration::from_millis(200);
/// So long a loss counts: a slow lane has few.
const LATELY: Duration = Duration::from_secs(2);
/// A round trip that is longer than the shortest by such a part of it, and this besides, has a queue in its
/// way, and losses may be that queue's.
const QUEUE: u32 = 4;
const SLACK: Duration = Duration::from_millis(1);

/// What is known of the losses of a stream's lanes.
#[derive(Debug)]
pub(super) struct Losses {
    next: Instant,
    lately: Option<Instant>,
}

/// The same of one lane.
#[derive(Debug, Default)]
pub(super) struct LaneLosses {
    again: Option<u32>,
    shortest: Option<Duration>,
}

impl LaneLosses {
    /// Whether something was lost since the last look, and no queue stands in the way.
    fn look(&mut self, seen: &Momentary) -> bool {
        let before = self.again.replace(seen.sent_again);
        let Some(trip) = seen.round_trip else {
            return false;
        };
        let shortest = self.shortest.map_or(trip, |known| known.min(trip));
        self.shortest = Some(shortest);
        let is_lossy = before.is_some_and(|before| seen.sent_again > before);
        is_lossy && !seen.bears_losses && trip <= shortest + shortest / QUEUE + SLACK
    }
}

impl Losses {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            next: now,
            lately: None,
        }
    }

    /// Looks at the lanes, where it is time to.
    pub(super) fn look(&mut self, lanes: &mut [Lane], now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + BETWEEN;
        for lane in lanes {
            let seen = lane.momentary();
            if seen.is_some_and(|seen| lane.losses.look(&seen)) {
                self.lately = Some(now);
            }
        }
    }

    /// What holds up bytes that may go.
    pub(super) fn limit(&self, now: Instant) -> Limited {
        let is_lately = |at: Instant| now.saturating_duration_since(at) < LATELY;
        if self.lately.is_some_and(is_lately) {
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
            bears_losses: false,
        }
    }

    #[test]
    fn losses_count_where_no_queue_stands() {
        let mut lane = LaneLosses::default();
        assert!(!lane.look(&seen(7, 20)), "those before are not known");
        assert!(!lane.look(&seen(7, 20)));
        assert!(lane.look(&seen(8, 25)));
        assert!(!lane.look(&seen(9, 30)), "a queue");
        assert!(!lane.look(&seen(9, 20)));
        assert!(lane.look(&seen(11, 20)));
        let bears = Momentary {
            bears_losses: true,
            ..seen(12, 20)
        };
        assert!(!lane.look(&bears), "bbr");
        let unknown = Momentary {
            round_trip: None,
            ..seen(13, 0)
        };
        assert!(!lane.look(&unknown));
    }

    #[test]
    fn a_loss_counts_for_a_while() {
        let now = Instant::now();
        let mut losses = Losses::new(now);
        assert_eq!(losses.limit(now), Limited::Held);
        losses.lately = Some(now);
        assert_eq!(losses.limit(now + LATELY / 2), Limited::Losses);
        assert_eq!(losses.limit(now + LATELY), Limited::Held);
    }
}
