//! How seldom a direction wakes up under load, as network cards raise interrupts (`ethtool -C … rx-usecs`).
//!
//! A packet that comes alone is taken when it comes, and leaves when it should. Where a thread would wake
//! more often than [`LONGEST`] apart, it pauses: packets are taken up to so much late, and leave up to so
//! much early, half of it each on average, so that the delay is the one that was asked for, to one percent.
//! The programs that are measured share the cores with this thread, and each of its wake-ups interrupts one
//! of them.

use crate::Nanos;

/// The longest pause: 100 µs.
const LONGEST: Nanos = 100_000;
/// A pause is no longer than this part of the delay.
const PART: Nanos = 50;
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
    /// For packets that are under way for so long.
    pub(crate) const fn new(delay: Nanos) -> Self {
        let part = delay / PART;
        let apart = if part > LONGEST { LONGEST } else { part };
        Self {
            apart: if apart < SHORTEST { 0 } else { apart },
            woke: 0,
            is_loaded: false,
        }
    }

    /// How long to pause before waiting for the next packet.
    pub(crate) const fn pause(&self, now: Nanos) -> Option<Nanos> {
        match self.woke.saturating_add(self.apart).checked_sub(now) {
            None | Some(0) => None,
            pause => pause,
        }
    }

    /// There is something to do, now.
    pub(crate) const fn woke(&mut self, now: Nanos) {
        self.is_loaded = now.saturating_sub(self.woke) <= 2 * self.apart;
        self.woke = now;
    }

    /// How much too early packets may leave: on average they were taken half of that too late.
    pub(crate) const fn ahead(&self) -> Nanos {
        if self.is_loaded { self.apart } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Nanos = 1_000_000;

    #[test]
    fn one_packet_alone_is_neither_late_nor_early() {
        let mut moderation = Moderation::new(8 * MILLISECOND);
        moderation.woke(5 * MILLISECOND);
        assert_eq!(moderation.ahead(), 0);
        // It leaves, when it should.
        moderation.woke(13 * MILLISECOND);
        assert_eq!(moderation.ahead(), 0);
    }

    #[test]
    fn under_load_it_wakes_at_most_so_often_and_the_delay_stays() {
        let delay = 8 * MILLISECOND;
        let mut moderation = Moderation::new(delay);
        // A packet each 7 µs; turns take between no time and 118 µs.
        let (mut now, mut next) = (0, 0);
        let mut under_way = std::collections::VecDeque::new();
        let (mut sum, mut count, mut wakes) = (0_i128, 0_i128, 0);
        while now < 500 * MILLISECOND {
            moderation.woke(now);
            wakes += 1;
            while under_way
                .front()
                .is_some_and(|(_, at)| *at <= now + moderation.ahead())
            {
                let (came, _) = under_way.pop_front().unwrap();
                sum += i128::from(now) - i128::from(came);
                count += 1;
            }
            while next <= now {
                under_way.push_back((next, now + delay));
                next += 7_000;
            }
            now += wakes * 31 % 60 * 2000;
            now += moderation.pause(now).unwrap_or_default();
            let due = under_way.front().map_or(next, |(_, at)| *at);
            now = now.max(next.min(due));
        }
        assert!(wakes <= 5001, "{wakes}");
        let mean = sum / count;
        assert!((mean - i128::from(delay)).abs() < 20_000, "{mean}");
    }

    #[test]
    fn short_ways_are_not_made_coarse() {
        assert_eq!(Moderation::new(0).pause(0), None);
        let mut short = Moderation::new(MILLISECOND / 2);
        short.woke(3);
        short.woke(4);
        assert_eq!((short.pause(4), short.ahead()), (None, 0));
        let mut longer = Moderation::new(2 * MILLISECOND);
        longer.woke(MILLISECOND);
        assert_eq!(longer.pause(MILLISECOND), Some(40_000));
        assert_eq!(longer.pause(MILLISECOND + 40_000), None);
    }
}
