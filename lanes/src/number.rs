//! How many lanes a stream should have: one more step where the last one helped, back where it did
//! not.

use std::time::{Duration, Instant};

/// A step must bring so much, in per cent of what was before it: each doubles the lanes.
const WORTH: u64 = 110;
/// After a step in vain, nothing is tried for so long; twice as long after the next one in a row.
const PAUSE: Duration = Duration::from_secs(10);
/// So often at most.
const MOST_DOUBLED: u32 = 3;
/// What was carried may be so much less than at the look before, in per cent, and count as steady: a
/// stream begins faster than a lossy path lets it go on.
const STEADY: u64 = 80;
/// Lanes that losses asked for are tried without half of them after a pause; where that costs nothing, losses
/// ask in vain for so long.
const DEAF: Duration = Duration::from_secs(600);
/// A stream that no lane has held up for so long gives half of them back.
const IDLE: Duration = Duration::from_secs(30);
/// A look takes at least so long, and so many round trips.
const SHORTEST: Duration = Duration::from_millis(400);
const ROUNDS: u32 = 12;
/// Looks that a measurement takes: losses come in no order.
const LOOKS: u32 = 2;

/// What holds up bytes that a window lets go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limited {
    /// Nothing: there are none.
    #[default]
    No,
    /// The lanes take no more.
    Held,
    /// The same, and what makes them slow are packets that get lost on a path that is not full. Each lane
    /// brings as much as the ones before it then; what one carries says little, since it falls for many
    /// seconds after its beginning.
    Losses,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    Stay,
    /// Have so many lanes, which is more than now.
    More(u8),
    /// Have so many lanes, which is fewer than now.
    Fewer(u8),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The step is new: what is seen now is not measured.
    Settling,
    /// Measuring, since then, with so much moved before. `before`: bytes a second before the last
    /// step, and how many lanes there were.
    Measuring {
        since: Instant,
        moved: u64,
        looks: u32,
        before: Option<(u64, u8)>,
    },
}

/// How many lanes a stream should have.
#[derive(Clone, Debug)]
pub struct Count {
    most: u8,
    wanted: u8,
    fixed: bool,
    round: Duration,
    state: State,
    next: Instant,
    before: Option<(u64, u8)>,
    /// Bytes a second at the last measurement with these lanes.
    last: Option<u64>,
    not_until: Option<Instant>,
    in_vain: u32,
    /// Losses have asked for lanes that were never measured.
    unmeasured: bool,
    /// Losses are not heard until then.
    deaf_until: Option<Instant>,
    limited_at: Instant,
    limited: Limited,
}

impl Count {
    /// Begins with one lane on a path of this round trip, and goes up to `most` as it is worth it.
    #[must_use]
    pub fn new(most: u8, round: Duration, now: Instant) -> Self {
        let mut count = Self {
            most: most.max(1),
            wanted: 1,
            fixed: false,
            round,
            state: State::Settling,
            next: now,
            before: None,
            last: None,
            not_until: None,
            in_vain: 0,
            unmeasured: false,
            deaf_until: None,
            limited_at: now,
            limited: Limited::No,
        };
        count.next = now + count.interval();
        count
    }

    /// Exactly `lanes`, whatever they bring.
    #[must_use]
    pub fn fixed(lanes: u8, now: Instant) -> Self {
        Self {
            wanted: lanes.max(1),
            fixed: true,
            ..Self::new(lanes, Duration::ZERO, now)
        }
    }

    fn interval(&self) -> Duration {
        SHORTEST.max(self.round * ROUNDS)
    }

    /// How many there should be.
    #[must_use]
    pub const fn wanted(&self) -> u8 {
        self.wanted
    }

    /// No more than so many: the peer says so.
    pub fn at_most(&mut self, most: u8) {
        self.most = self.most.min(most.max(1));
        self.wanted = self.wanted.min(self.most);
    }

    /// When [`Count::look`] is to be asked next.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Bytes wait at one of the two sides, though its window lets them go: the lanes hold them up.
    pub fn limited(&mut self, by: Limited) {
        self.limited = self.limited.max(by);
    }

    /// Looks at what has `moved` in both directions since the stream began, with `open` lanes.
    pub fn look(&mut self, moved: u64, open: u8, now: Instant) -> Advice {
        if now < self.next {
            return Advice::Stay;
        }
        self.next = now + self.interval();
        let by = std::mem::take(&mut self.limited);
        let limited = by != Limited::No;
        if limited {
            self.limited_at = now;
        }
        if self.fixed {
            return self.advise(open);
        }
        match self.state {
            // Neither a step in vain before, nor what follows at once, says anything.
            _ if by == Limited::Losses && self.hears(now) && open >= self.wanted => {
                self.step();
                self.settle(None);
                self.unmeasured = true;
                self.not_until = Some(now + PAUSE);
            }
            State::Settling => {
                // What is asked for and is not there yet, or not any more, is waited for.
                if open >= self.wanted || limited {
                    self.measure(moved, now);
                }
            }
            State::Measuring {
                since,
                moved: first,
                looks,
                before,
            } if looks + 1 >= LOOKS => {
                let time = now.saturating_duration_since(since);
                let rate = rate(moved.saturating_sub(first), time);
                self.judge(rate, before, limited, open, now);
                if matches!(self.state, State::Measuring { .. }) {
                    self.measure(moved, now);
                }
            }
            State::Measuring { ref mut looks, .. } => *looks += 1,
        }
        if self.wanted > 1 && now.saturating_duration_since(self.limited_at) >= IDLE {
            self.wanted /= 2;
            self.limited_at = now;
            self.settle(None);
        }
        self.advise(open)
    }

    fn advise(&self, open: u8) -> Advice {
        match self.wanted.cmp(&open) {
            std::cmp::Ordering::Equal => Advice::Stay,
            std::cmp::Ordering::Greater => Advice::More(self.wanted),
            std::cmp::Ordering::Less => Advice::Fewer(self.wanted),
        }
    }

    const fn measure(&mut self, moved: u64, now: Instant) {
        self.state = State::Measuring {
            since: now,
            moved,
            looks: 0,
            before: self.before,
        };
    }

    /// Whether losses may ask for more.
    fn hears(&self, now: Instant) -> bool {
        let trying = self.before.is_some_and(|(_, lanes)| lanes > self.wanted);
        let deaf = self.deaf_until.is_some_and(|until| now < until);
        self.wanted < self.most && !trying && !deaf
    }

    fn step(&mut self) {
        self.wanted = self.wanted.saturating_mul(2).min(self.most);
    }

    const fn settle(&mut self, before: Option<(u64, u8)>) {
        self.before = before;
        self.last = None;
        self.state = State::Settling;
    }

    fn judge(
        &mut self,
        rate: u64,
        before: Option<(u64, u8)>,
        limited: bool,
        open: u8,
        now: Instant,
    ) {
        let last = self.last.replace(rate);
        if let Some((known, lanes)) = before.filter(|(_, lanes)| *lanes > self.wanted) {
            // Half of them, for a try.
            self.before = None;
            self.not_until = Some(now + PAUSE * (1 << self.in_vain));
            if limited && rate < known / WORTH * 100 {
                self.wanted = lanes.min(self.most);
                self.in_vain = (self.in_vain + 1).min(MOST_DOUBLED);
            } else {
                self.deaf_until = Some(now + DEAF);
            }
            return self.settle(None);
        }
        if let Some((known, lanes)) = before {
            self.before = None;
            if limited && rate < known / 100 * WORTH {
                // In vain: the path gives no more, or something else holds it up.
                self.wanted = lanes;
                self.not_until = Some(now + PAUSE * (1 << self.in_vain));
                self.in_vain = (self.in_vain + 1).min(MOST_DOUBLED);
                return self.settle(None);
            }
            self.in_vain = 0;
        }
        let steady = last.is_none_or(|last| rate >= last / 100 * STEADY);
        let may = self.not_until.is_none_or(|until| now >= until);
        if limited && may && self.unmeasured {
            let lanes = self.wanted;
            self.wanted = (lanes / 2).max(1);
            self.unmeasured = self.wanted > 1;
            return self.settle(Some((rate, lanes)));
        }
        if limited && steady && may && self.wanted < self.most && open >= self.wanted {
            let lanes = self.wanted;
            self.step();
            self.settle(Some((rate, lanes)));
        }
    }
}

fn rate(bytes: u64, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns the clock for so many seconds; `rate` is what so many lanes carry in a second. Returns
    /// the most lanes there were.
    fn run(
        count: &mut Count,
        now: &mut Instant,
        moved: &mut u64,
        seconds: u32,
        rate: impl Fn(u8) -> Option<u64>,
    ) -> u8 {
        let step = Duration::from_millis(100);
        let mut most = 0;
        for _ in 0..seconds * 10 {
            let open = count.wanted();
            most = most.max(open);
            *now += step;
            match rate(open) {
                Some(rate) => {
                    *moved += rate / 10;
                    count.limited(Limited::Held);
                }
                None => *moved += 1,
            }
            count.look(*moved, open, *now);
        }
        most
    }

    fn begin() -> (Count, Instant, u64) {
        let now = Instant::now();
        (Count::new(16, Duration::from_millis(20), now), now, 0)
    }

    #[test]
    fn lanes_are_added_as_long_as_each_step_helps() {
        let (mut count, mut now, mut moved) = begin();
        let linear = |lanes: u8| Some(u64::from(lanes) * 10_000_000);
        run(&mut count, &mut now, &mut moved, 10, linear);
        assert_eq!(count.wanted(), 16);
        assert_eq!(
            count.look(moved, 3, count.next()),
            Advice::More(16),
            "one was lost"
        );
    }

    #[test]
    fn a_step_in_vain_is_taken_back_and_tried_again_much_later() {
        let (mut count, mut now, mut moved) = begin();
        // A line that four fill.
        let full = |lanes: u8| Some(u64::from(lanes.min(4)) * 10_000_000);
        let mut tried = Vec::new();
        for second in 0..300 {
            if run(&mut count, &mut now, &mut moved, 1, full) == 8 {
                tried.push(second);
            }
        }
        assert_eq!(count.wanted(), 4);
        // A step takes two or three seconds; the pauses between are 10, 20, 40 and then 80 s.
        let starts = tried.iter().enumerate();
        let starts = starts.filter(|(index, at)| *index == 0 || tried[index - 1] + 1 < **at);
        let starts: Vec<i32> = starts.map(|(_, at)| *at).collect();
        let pauses: Vec<i32> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let expected = [10, 20, 40, 80, 80];
        assert_eq!(pauses.len(), expected.len(), "{starts:?}");
        for (pause, expected) in pauses.iter().zip(expected) {
            assert!((expected..expected + 6).contains(pause), "{pauses:?}");
        }
    }

    #[test]
    fn a_stream_that_begins_faster_than_it_can_go_on_is_not_the_measure() {
        let (mut count, mut now, mut moved) = begin();
        // Until its first loss one lane fills the line.
        run(&mut count, &mut now, &mut moved, 1, |_| Some(200_000_000));
        let lossy = |lanes: u8| Some(u64::from(lanes) * 10_000_000);
        run(&mut count, &mut now, &mut moved, 25, lossy);
        assert_eq!(count.wanted(), 16);
    }

    #[test]
    fn losses_on_a_path_that_is_not_full_ask_for_more_whatever_was_measured() {
        let (mut count, mut now, mut moved) = begin();
        // What one lane carries falls for long, so that the first step is in vain.
        let mut rate = 100_000_000;
        for _ in 0..100 {
            rate = rate * 85 / 100;
            run(&mut count, &mut now, &mut moved, 1, |_| Some(rate));
        }
        assert_eq!(count.wanted(), 1);
        for wanted in [2, 4, 8, 16, 16] {
            count.limited(Limited::Losses);
            count.limited(Limited::Held);
            let open = count.wanted();
            now = count.next();
            count.look(moved, open, now);
            assert_eq!(count.wanted(), wanted);
        }
        // Those that are asked for and are not there yet are waited for.
        let (mut count, _, _) = begin();
        for _ in 0..5 {
            count.limited(Limited::Losses);
            assert_eq!(count.look(0, 1, count.next()), Advice::More(2));
        }
    }

    /// Seconds in which there were so many lanes, of `seconds` with losses all the time.
    fn lossy(seconds: u32, rate: impl Fn(u8) -> u64) -> Vec<u8> {
        let (mut count, mut now, mut moved) = begin();
        let look = |_| {
            for _ in 0..10 {
                let open = count.wanted();
                now += Duration::from_millis(100);
                moved += rate(open) / 10;
                count.limited(Limited::Losses);
                count.look(moved, open, now);
            }
            count.wanted()
        };
        (0..seconds).map(look).collect()
    }

    #[test]
    fn lanes_that_losses_asked_for_stay_where_half_of_them_carry_less() {
        let lanes = lossy(300, |lanes| u64::from(lanes) * 10_000_000);
        let fewer = lanes.iter().skip(5).filter(|lanes| **lanes < 16).count();
        // Tried after 10, 20, 40, 80 and 80 s, two or three seconds each.
        assert!((4..=15).contains(&fewer), "{lanes:?}");
        assert!(lanes.iter().skip(5).all(|lanes| *lanes >= 8), "{lanes:?}");
    }

    #[test]
    fn lanes_that_losses_asked_for_go_where_half_of_them_carry_as_much() {
        // A short queue at a full line: it drops, and is not seen.
        let lanes = lossy(120, |_| 100_000_000);
        assert!(lanes[..8].contains(&16), "{lanes:?}");
        assert_eq!(lanes[100..], [1; 20], "{lanes:?}");
    }

    #[test]
    fn a_stream_that_nothing_holds_up_has_one_lane_and_gives_the_others_back() {
        let (mut count, mut now, mut moved) = begin();
        assert_eq!(run(&mut count, &mut now, &mut moved, 60, |_| None), 1);
        let linear = |lanes: u8| Some(u64::from(lanes) * 10_000_000);
        run(&mut count, &mut now, &mut moved, 10, linear);
        assert_eq!(count.wanted(), 16);
        run(&mut count, &mut now, &mut moved, 35, |_| None);
        assert_eq!(count.wanted(), 8);
        run(&mut count, &mut now, &mut moved, 120, |_| None);
        assert_eq!(count.wanted(), 1);
    }

    #[test]
    fn no_more_than_the_peer_lets_and_no_other_than_asked_for() {
        let (mut count, mut now, mut moved) = begin();
        count.at_most(3);
        let linear = |lanes: u8| Some(u64::from(lanes) * 10_000_000);
        assert_eq!(run(&mut count, &mut now, &mut moved, 20, linear), 3);
        let mut count = Count::fixed(4, now);
        assert_eq!(count.wanted(), 4);
        assert_eq!(run(&mut count, &mut now, &mut moved, 200, |_| None), 4);
        assert_eq!(count.look(moved, 5, count.next()), Advice::Fewer(4));
    }
}
