//! How seldom a direction wakes up under load, as network cards raise interrupts (`ethtool -C … rx-usecs`).
//!
//! Packets that come alone, or in pairs, are taken when they come, and leave when they should. Where a thread
//! would wake more often than [`LONGEST`] apart, it pauses: what comes in the pause is taken so much late, and
//! what is due in it leaves so much late, half of it each on average; nothing leaves early. The programs that
//! are measured share the cores with this thread, and each of its wake-ups interrupts one of them.

use crate::Nanos;

/// Wakes are at most so far apart because of a pause: 100 µs.
const LONGEST: Nanos = 100_000;
/// And no further than this part of the delay.
const OF_DELAY: Nanos = 50;
/// And of the time in which a full queue empties: what comes in a pause meets it at once.
const OF_QUEUE: Nanos = 4;
/// What is shorter is not worth a sleep.
const SHORTEST: Nanos = 20_000;

/// When to pause.
#[derive(Debug)]
pub(crate) struct Moderation {
    /// Between two times of waking under load; 0: it wakes for each packet.
    apart: Nanos,
    woke: Nanos,
    is_loaded: bool,
}

impl Moderation {
    /// For packets that are under way for so long, behind a queue that empties in such a time.
    pub(crate) fn new(delay: Nanos, queue: Option<Nanos>) -> Self {
        let queue = queue.map_or(LONGEST, |queue| queue / OF_QUEUE);
        let apart = LONGEST.min(delay / OF_DELAY).min(queue);
        Self {
            apart: if apart < SHORTEST { 0 } else { apart },
            woke: 0,
            is_loaded: false,
        }
    }

    /// How long to pause before waiting for the next packet.
    pub(crate) fn pause(&self, now: Nanos) -> Option<Nanos> {
        let end = self.woke.saturating_add(self.apart);
        let pause = end.checked_sub(now).filter(|pause| *pause > 0);
        pause.filter(|_| self.is_loaded)
    }

    /// There is something to do.
    pub(crate) fn woke(&mut self, now: Nanos) {
        self.is_loaded = now.saturating_sub(self.woke) <= 2 * self.apart;
        self.woke = now;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MILLISECOND: Nanos = 1_000_000;
    const MICROSECOND: Nanos = 1000;

    /// A thread as that of `carry`, for which a packet costs so much time to take, and as much to let go;
    /// packets come at `arrivals`, in order. Returns how often it woke, and by how much each was late.
    fn carried(delay: Nanos, cost: Nanos, arrivals: &[Nanos]) -> (u64, Vec<i64>) {
        let mut moderation = Moderation::new(delay, None);
        let mut arrivals = arrivals.iter().copied().peekable();
        let mut under_way: VecDeque<(Nanos, Nanos)> = VecDeque::new();
        let (mut now, mut wakes, mut late) = (MILLISECOND, 0, Vec::new());
        moderation.woke(now);
        while arrivals.peek().is_some() || !under_way.is_empty() {
            wakes += 1;
            loop {
                while under_way.front().is_some_and(|(_, due)| *due <= now) {
                    let (came, _) = under_way.pop_front().unwrap();
                    late.push(i64::try_from(now - came).unwrap() - i64::try_from(delay).unwrap());
                    now += cost;
                }
                let Some(came) = arrivals.next_if(|came| *came <= now) else {
                    break;
                };
                under_way.push_back((came, now + delay));
                now += cost;
            }
            let pause = moderation.pause(now).unwrap_or_default();
            now += pause;
            let next = arrivals.peek().copied().unwrap_or(Nanos::MAX);
            let due = under_way.front().map_or(Nanos::MAX, |(_, due)| *due);
            now = now.max(next.min(due).min(now + 100 * MILLISECOND));
            moderation.woke(now);
        }
        (wakes, late)
    }

    #[test]
    fn packets_alone_and_in_pairs_are_on_time() {
        let delay = 8 * MILLISECOND;
        let pairs = |gap: Nanos| {
            (1..50).flat_map(move |at| {
                let first = at * 3 * MILLISECOND + at * at * 7 * MICROSECOND;
                [first, first + gap]
            })
        };
        for gap in [0, 5, 60, 1000] {
            let arrivals: Vec<_> = pairs(gap * MICROSECOND).collect();
            let (_, late) = carried(delay, 0, &arrivals);
            assert_eq!(late, vec![0; arrivals.len()], "{gap} µs");
        }
    }

    #[test]
    fn under_load_it_wakes_at_most_so_often_and_little_is_late() {
        let delay = 8 * MILLISECOND;
        for (cost, gap) in [(0, 7), (1, 9), (0, 30), (1, 30), (2, 30), (9, 60)] {
            let gap = gap * MICROSECOND;
            // Never in step with the wakes.
            let arrivals: Vec<_> = (0..50_000)
                .map(|at| 2 * MILLISECOND + at * gap + at * at % 997)
                .collect();
            let (wakes, late) = carried(delay, cost * MICROSECOND, &arrivals);
            let time = 50_000 * gap;
            assert!(
                wakes <= time / LONGEST * 11 / 10 + 100,
                "{wakes} wakes in {time} ns"
            );
            // Half a pause when it came, and half of one when it left.
            let mean = late.iter().sum::<i64>() / 50_000;
            assert!(mean < 130_000, "{mean} ns late, {cost} µs each");
            assert!(late.iter().all(|late| *late >= 0), "nothing is early");
            let most = late.iter().map(|late| late.abs()).max();
            assert!(most < Some(220_000), "{most:?}");
        }
    }

    #[test]
    fn short_ways_and_short_queues_are_not_made_coarse() {
        let apart = |delay, queue| Moderation::new(delay, queue).apart;
        assert_eq!(apart(0, None), 0);
        assert_eq!(apart(MILLISECOND / 2, None), 0);
        assert_eq!(apart(2 * MILLISECOND, None), 40 * MICROSECOND);
        assert_eq!(apart(100 * MILLISECOND, None), LONGEST);
        assert_eq!(
            apart(100 * MILLISECOND, Some(200 * MICROSECOND)),
            50 * MICROSECOND
        );
        assert_eq!(apart(100 * MILLISECOND, Some(60 * MICROSECOND)), 0);
        let mut short = Moderation::new(MILLISECOND / 2, None);
        short.woke(3);
        short.woke(4);
        assert_eq!(short.pause(4), None);
    }
}
