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

/// A thread that carries packets, and its clock.
pub(crate) trait Sleeper {
    /// Why it cannot go on.
    type Error;

    fn now(&self) -> Nanos;

    /// When the next packet is due.
    fn next(&self) -> Option<Nanos>;

    /// Sleeps so long, or without end; at most until there is something to read, where it is to be `read`.
    /// Whether the thread is to stop.
    ///
    /// # Errors
    /// When it cannot wait.
    fn sleep(&mut self, time: Option<Nanos>, read: bool) -> Result<bool, Self::Error>;
}

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

    /// Waits for something to do, behind a turn that left nothing to read where the thread `is_idle`.
    /// Whether it is to stop.
    ///
    /// # Errors
    /// That of [`Sleeper::sleep`].
    pub(crate) fn wait<S: Sleeper>(
        &mut self,
        thread: &mut S,
        is_idle: bool,
    ) -> Result<bool, S::Error> {
        if let Some(pause) = self.pause(thread.now()).filter(|_| is_idle)
            && thread.sleep(Some(pause), false)?
        {
            return Ok(true);
        }
        let time = match thread.next() {
            _ if !is_idle => Some(0),
            Some(next) => Some(next.saturating_sub(thread.now())),
            None => None,
        };
        if thread.sleep(time, true)? {
            return Ok(true);
        }
        self.woke(thread.now());
        Ok(false)
    }

    /// How long to pause before waiting for the next packet.
    fn pause(&self, now: Nanos) -> Option<Nanos> {
        let end = self.woke.saturating_add(self.apart);
        let pause = end.checked_sub(now).filter(|pause| *pause > 0);
        pause.filter(|_| self.is_loaded)
    }

    /// There is something to do.
    fn woke(&mut self, now: Nanos) {
        self.is_loaded = now.saturating_sub(self.woke) <= 2 * self.apart;
        self.woke = now;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use super::*;

    const MILLISECOND: Nanos = 1_000_000;
    const MICROSECOND: Nanos = 1000;
    /// Packets taken in a turn.
    const TURN: usize = 64;

    /// A thread without a device, and packets that come at `arrivals`, in order.
    struct Thread<'a> {
        now: Nanos,
        arrivals: &'a [Nanos],
        /// When each came, and when it is due.
        under_way: VecDeque<(Nanos, Nanos)>,
    }

    impl Sleeper for Thread<'_> {
        type Error = Infallible;

        fn now(&self) -> Nanos {
            self.now
        }

        fn next(&self) -> Option<Nanos> {
            self.under_way.front().map(|(_, due)| *due)
        }

        fn sleep(&mut self, time: Option<Nanos>, read: bool) -> Result<bool, Infallible> {
            let end = time.map(|time| self.now + time);
            let came = self.arrivals.first().copied().filter(|_| read);
            let end = end.into_iter().chain(came).min();
            self.now = self.now.max(end.expect("it sleeps without end"));
            Ok(false)
        }
    }

    /// Such a thread, for which a packet costs so much time to take, and as much to let go. Returns how often
    /// it woke, and by how much each was late.
    fn carried(delay: Nanos, cost: Nanos, arrivals: &[Nanos]) -> (u64, Vec<i64>) {
        let mut moderation = Moderation::new(delay, None);
        let mut thread = Thread {
            now: MILLISECOND,
            arrivals,
            under_way: VecDeque::new(),
        };
        let (mut wakes, mut late) = (0, Vec::new());
        moderation.woke(thread.now);
        while !(thread.arrivals.is_empty() && thread.under_way.is_empty()) {
            let mut is_idle = false;
            for _ in 0..TURN {
                while let Some((came, due)) = thread.under_way.front().copied()
                    && due <= thread.now
                {
                    thread.under_way.pop_front();
                    let after = i64::try_from(thread.now - came).unwrap();
                    late.push(after - i64::try_from(delay).unwrap());
                    thread.now += cost;
                }
                let first = thread.arrivals.split_first();
                let Some((came, rest)) = first.filter(|(came, _)| **came <= thread.now) else {
                    is_idle = true;
                    break;
                };
                thread.arrivals = rest;
                thread.under_way.push_back((*came, thread.now + delay));
                thread.now += cost;
            }
            wakes += u64::from(is_idle);
            if thread.arrivals.is_empty() && thread.under_way.is_empty() {
                break;
            }
            let Ok(stop) = moderation.wait(&mut thread, is_idle);
            assert!(!stop);
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
    fn a_burst_is_taken_without_pauses() {
        let arrivals = [3 * MILLISECOND; 1000];
        let (wakes, late) = carried(8 * MILLISECOND, MICROSECOND, &arrivals);
        // Each of them costs a microsecond, and there may be a pause when the last leaves.
        let most = late.iter().max().unwrap();
        assert!(*most < 1_200_000, "{most} ns late");
        assert!(wakes < 30, "{wakes}");
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
    fn a_thread_that_is_never_idle_lets_nothing_go_early() {
        let arrivals: Vec<_> = (200..20_000).map(|at| at * 6 * MICROSECOND).collect();
        let (_, late) = carried(5 * MILLISECOND, 3 * MICROSECOND, &arrivals);
        assert_eq!(late.len(), arrivals.len());
        assert!(late.iter().all(|late| *late >= 0));
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
