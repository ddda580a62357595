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
/// A side that dials nothing tells the other that its lanes hold it up this often.
const TELL: Duration = Duration::from_millis(200);
/// A stream at rest looks this often whether it has too many lanes.
const REST: Duration = Duration::from_secs(31);

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
            at(*since + ALONE);
        }
        let late = EARLIEST.max(self.out.round().unwrap_or_default() * LATE);
        let mut any = false;
        if self.list.len() > 1 {
            any |= self.out.rescue(late, now).is_some();
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
                    self.adjust(moved, now);
                    if busy || self.alone.is_some() {
                        let alone = self.alone.is_some();
                        at(if alone {
                            not_before.max(now + SOON)
                        } else {
                            self.count.next()
                        });
                    } else if self.count.wanted() > 1 {
                        at(now + REST);
                    }
                }
            }
            Role::Server { .. } => {
                if self.starved && now >= self.tell_at {
                    self.starved = false;
                    self.tell_at = now + TELL;
                    let word = self.confirmation();
                    self.say(&word);
                    any = true;
                }
                if self.starved {
                    at(self.tell_at);
                }
            }
        }
        self.seen = moved;
        if let Some(when) = timer {
            self.timer.as_mut().reset(when.into());
            any |= self.timer.as_mut().poll(cx).is_ready();
        }
        Ok(any)
    }

    /// Opens lanes, or leaves them.
    fn adjust(&mut self, moved: u64, now: Instant) {
        let staying = self.list.iter().filter(|lane| !lane.left).count();
        let open = u8::try_from(staying).unwrap_or(u8::MAX);
        let wanted = match self.count.look(moved, open, now) {
            Advice::Fewer(wanted) => {
                self.leave(staying - usize::from(wanted));
                return;
            }
            Advice::More(wanted) => wanted,
            // One that was lost is replaced without waiting for the next look.
            Advice::Stay => self.count.wanted(),
        };
        let Role::Client {
            dialler,
            sender,
            dialling,
            not_before,
            ..
        } = &mut self.role
        else {
            return;
        };
        let greeted = self.list.iter().any(|lane| lane.greeted) || self.list.is_empty();
        // Before ACCEPT there is nothing to join.
        if now < *not_before || !greeted {
            return;
        }
        for _ in open.saturating_add(*dialling)..wanted {
            *dialling += 1;
            let (dialler, sender) = (dialler.clone(), sender.clone());
            tokio::spawn(async move {
                let dialled = dialler.dial().await;
                // A stream that is over wants none.
                let _ = sender.send(dialled).await;
            });
        }
    }

    fn leave(&mut self, count: usize) {
        let mut word = Vec::new();
        Frame::Leave.encode(&mut word);
        let staying = self.list.iter_mut().rev().filter(|lane| !lane.left);
        for lane in staying.take(count) {
            lane.left = true;
            lane.say(&word);
        }
    }
}
