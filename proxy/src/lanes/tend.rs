//! What time asks for: how many lanes there are, who is late, how long none was left.

use std::{
    future::Future as _,
    task::Context,
    time::{Duration, Instant},
};

use sekisho_lanes::{Advice, Frame};

use super::{ALONE, Lanes, LanesError, Role, drive::SOON};

/// A piece that is not confirmed after so many of the usual times holds the others up.
const LATE: u32 = 4;
/// But not before this: the kernel repairs a single loss by itself.
const EARLIEST: Duration = Duration::from_millis(300);
/// That time doubles with each rescue in a row, so often at most.
const MOST_DOUBLED: u32 = 6;
/// A side that dials nothing tells the other that its lanes hold it up this often.
const TELL: Duration = Duration::from_millis(200);
/// A lane on which nothing comes for so long keeps no memory for what may, nor does a stream.
pub(super) const STILL: Duration = Duration::from_secs(1);
/// A stream at rest looks this often whether it has too many lanes.
const REST: Duration = Duration::from_secs(31);

/// Lanes that may be dialled beside the last one: at once as many as a stream may have, and half as many for
/// those that are lost; and one more each second. What lets a lane in and ends it at once, be it a policy or
/// a box on the way, does not cost a handshake each round trip.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    const MOST: u32 = sekisho_lanes::MOST_LANES as u32 / 2 * 3;
    const EACH: Duration = Duration::from_secs(1);

    pub(super) const fn new(now: Instant) -> Self {
        Self {
            left: Self::MOST,
            since: now,
        }
    }

    /// Takes one; `Err`: when there is one again.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        while self.left < Self::MOST && now >= self.since + Self::EACH {
            self.left += 1;
            self.since += Self::EACH;
        }
        if self.left >= Self::MOST {
            self.since = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.since + Self::EACH),
        }
    }
}

impl Lanes {
    /// Looks at what time asks for: how many lanes there are, who is late, how long none was left.
    pub(super) fn tend(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, LanesError> {
        let mut timer = self.confirm_at;
        let mut at = |when: Instant| timer = Some(timer.map_or(when, |known| known.min(when)));
        let over = self.is_complete();
        if let Some((since, why)) = &self.alone
            && !over
        {
            if now.saturating_duration_since(*since) >= ALONE {
                return Err(LanesError::Alone(why.clone()));
            }
            if !self.is_begun() {
                return Err(LanesError::Alone(why.clone()));
            }
            at(*since + ALONE);
        }
        // As in RFC 6298 §5.5: whoever had to repeat waits longer, until a time was measured again.
        if self.out.samples() != self.samples {
            self.samples = self.out.samples();
            self.rescues = 0;
        }
        let late = EARLIEST.max(self.out.round().unwrap_or_default() * LATE);
        let late = late * (1 << self.rescues.min(MOST_DOUBLED));
        let mut any = false;
        if self.list.len() > 1 {
            if self.out.rescue(late, now).is_some() {
                self.rescues += 1;
                self.rescued = true;
                any = true;
            }
            if let Some(when) = self.out.rescue_at(late) {
                // A lane that is to be helped, and of which nobody has room: looked at again soon.
                at(when.max(now + SOON));
            }
        }
        let moved = self.out.confirmed() + self.inc.received();
        let busy = self.out.held() > 0 || moved != self.seen;
        match &self.role {
            Role::Client { not_before, .. } => {
                let not_before = *not_before;
                if !over {
                    any |= self.adjust(moved, now);
                    if self.alone.is_some() {
                        // What is being dialled wakes by itself.
                        if not_before > now {
                            at(not_before);
                        }
                    } else if busy {
                        at(self.count.next());
                    } else if self.count.wanted() > 1 {
                        at(now + REST);
                    }
                }
            }
            Role::Server { .. } => {
                if self.starved && now >= self.tell_at {
                    self.tell_at = now + TELL;
                    if let Some(lane) = self.quiet() {
                        self.starved = false;
                        let word = self.confirmation();
                        self.say(lane, &word);
                        any = true;
                    }
                }
                if self.starved {
                    at(self.tell_at);
                }
            }
        }
        self.seen = moved;
        if let Some(when) = self.rest_at {
            if now >= when {
                let mut rest = std::mem::replace(&mut self.moved, moved) == moved;
                if rest {
                    self.out.rest();
                    self.inc.rest();
                }
                for lane in &mut self.list {
                    rest &= !lane.rest();
                }
                // What a lane has now is looked at when something comes again.
                self.rest_at = (!rest).then_some(now + STILL);
            }
            if let Some(when) = self.rest_at {
                timer = Some(timer.map_or(when, |known| known.min(when)));
            }
        }
        if let Some(when) = timer {
            self.timer.as_mut().reset(when.into());
            any |= self.timer.as_mut().poll(cx).is_ready();
        }
        Ok(any)
    }

    /// Opens lanes, or leaves them. Returns whether there is something to be said.
    fn adjust(&mut self, moved: u64, now: Instant) -> bool {
        let staying = self.list.iter().filter(|lane| !lane.left).count();
        let open = u8::try_from(staying).unwrap_or(u8::MAX);
        let wanted = match self.count.look(moved, open, now) {
            Advice::Fewer(wanted) => {
                self.leave(staying - usize::from(wanted));
                return true;
            }
            Advice::More(wanted) => wanted,
            // One that was lost is replaced without waiting for the next look.
            Advice::Stay => self.count.wanted(),
        };
        // Where none is left, one is tried: whether the stream is still there.
        let wanted = if open == 0 { 1 } else { wanted };
        let Role::Client {
            dialler,
            sender,
            dialling,
            not_before,
            begun,
            allowance,
            ..
        } = &mut self.role
        else {
            return false;
        };
        // Before ACCEPT there is nothing to join.
        if now < *not_before || !*begun {
            return false;
        }
        for _ in open.saturating_add(*dialling)..wanted {
            // The only one is another matter: without it there is no stream.
            if let Err(when) = allowance.take(now)
                && open > 0
            {
                *not_before = when;
                break;
            }
            *dialling += 1;
            let (dialler, sender) = (dialler.clone(), sender.clone());
            tokio::spawn(async move {
                let dialled = dialler.dial().await;
                // A stream that is over wants none.
                let _ = sender.send(dialled).await;
            });
        }
        false
    }

    fn leave(&mut self, count: usize) {
        let mut word = Vec::new();
        Frame::Leave.encode(&mut word);
        // Those that stand still first, then the youngest.
        let mut staying: Vec<_> = self.list.iter_mut().filter(|lane| !lane.left).collect();
        staying.sort_by_cached_key(|lane| {
            let stands = lane.momentary().is_some_and(|seen| seen.stands_still);
            (std::cmp::Reverse(stands), std::cmp::Reverse(lane.key))
        });
        for lane in staying.into_iter().take(count) {
            lane.left = true;
            lane.say(&word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_dialled_at_once_and_then_one_a_second() {
        let mut now = Instant::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..48 {
            allowance.take(now).unwrap();
        }
        let again = allowance.take(now).unwrap_err();
        assert_eq!(again, now + Duration::from_secs(1));
        now = again;
        allowance.take(now).unwrap();
        assert!(allowance.take(now).is_err());
        // What is not used is not kept without end.
        now += Duration::from_secs(1000);
        let taken = (0..100).take_while(|_| allowance.take(now).is_ok());
        assert_eq!(taken.count(), 48);
    }
}
