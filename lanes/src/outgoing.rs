//! What is sent: kept until the peer has it, given to whichever lane has room, and once more where a
//! lane is lost or holds the others up.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut, buf::Limit};

use crate::{FIRST_WINDOW, LARGEST_WINDOW, backlog::Backlog, incoming::MOST_SMALL};

/// Bytes taken from the application before a lane has room for them.
const BACKLOG: usize = 512 * 1024;
/// No more are taken while so many wait: each time costs the application a wake-up, so it is to be worth it.
const WAITING: usize = BACKLOG / 4;
/// A piece shorter than this is a small one.
const SMALL: usize = 1024;
/// Most small pieces under way: half of what a receiver bears out of order.
const MOST_SMALL_SENT: usize = MOST_SMALL / 2;

/// What a peer must not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutgoingError {
    /// It confirms what was not sent.
    #[error("{0} bytes are confirmed, which were not sent")]
    NotSent(u64),
}

/// A piece to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Where in the stream it begins.
    pub offset: u64,
    /// Its bytes: at most [`MOST_TEXT`](crate::frame::MOST_TEXT).
    pub text: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    lane: u64,
    at: Instant,
    times: u32,
}

#[derive(Debug)]
struct Kept {
    offset: u64,
    text: Bytes,
    sent: Sent,
}

impl Kept {
    fn end(&self) -> u64 {
        self.offset + self.text.len() as u64
    }
}

/// How far our end is.
#[derive(Clone, Copy, Debug)]
enum End {
    Open,
    /// The application has ended; a FIN is to be sent.
    Due,
    Sent(Sent),
    Confirmed,
}

/// One direction of a stream, as it goes.
#[derive(Debug)]
pub struct Outgoing {
    /// What was sent, from the first byte that is not confirmed, one behind the other.
    kept: VecDeque<Kept>,
    /// And behind it what was not.
    backlog: Backlog,
    /// Offsets of those to be sent once more.
    again: BTreeSet<u64>,
    confirmed: u64,
    /// Bytes that the application has given.
    given: u64,
    limit: u64,
    end: End,
    /// A FIN was sent, whether or not it is to be sent again.
    ended: bool,
    small: usize,
    told_blocked: Option<u64>,
    /// Time from a piece to its confirmation, smoothed as in RFC 6298 §2.
    round: Option<Duration>,
    /// How often that was measured.
    samples: u64,
    repeated: u64,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            kept: VecDeque::new(),
            backlog: Backlog::default(),
            again: BTreeSet::new(),
            confirmed: 0,
            given: 0,
            limit: FIRST_WINDOW,
            end: End::Open,
            ended: false,
            small: 0,
            told_blocked: None,
            round: None,
            samples: 0,
            repeated: 0,
        }
    }
}

impl Outgoing {
    /// Where the first byte is that was never sent.
    const fn unsent(&self) -> u64 {
        self.given - self.backlog.len() as u64
    }

    /// Bytes that [`Outgoing::push`] would take now.
    #[must_use]
    pub fn room(&self) -> usize {
        if !matches!(self.end, End::Open) || self.backlog.len() > WAITING {
            return 0;
        }
        let kept = self.given - self.confirmed;
        let most = usize::try_from(LARGEST_WINDOW.saturating_sub(kept)).unwrap_or_default();
        BACKLOG.saturating_sub(self.backlog.len()).min(most)
    }

    /// Takes a copy of bytes of the application; returns of how many.
    pub fn push(&mut self, text: &[u8]) -> usize {
        let count = text.len().min(self.room());
        self.backlog.push(text.get(..count).unwrap_or_default());
        self.given += count as u64;
        count
    }

    /// Lets `read` append bytes of the application where they are kept, as many as there is room for in
    /// what it is given. Returns how many it has: none where [`Outgoing::room`] is 0, or it had none.
    ///
    /// # Errors
    /// That of `read`; nothing is taken then.
    pub fn fill<E>(
        &mut self,
        read: impl FnOnce(&mut Limit<&mut BytesMut>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let room = self.room();
        if room == 0 {
            return Ok(0);
        }
        let count = self.backlog.fill(room, read)?;
        self.given += count as u64;
        Ok(count)
    }

    /// The application has ended.
    pub const fn finish(&mut self) {
        if matches!(self.end, End::Open) {
            self.end = End::Due;
        }
    }

    /// Whether there is a piece that the window lets go, whatever the lanes do.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let first = !self.backlog.is_empty()
            && self.unsent() < self.limit
            && (self.backlog.first() >= SMALL || self.small < MOST_SMALL_SENT);
        first || !self.again.is_empty()
    }

    /// The next piece for `lane`, which is taken to be sent by that. What went by this same lane
    /// before is left to others, unless it is the `only` one.
    pub fn next(&mut self, lane: u64, only: bool, now: Instant) -> Option<Piece<'_>> {
        let other = |kept: &Kept| only || kept.sent.lane != lane;
        let again = self.again.iter().copied().find_map(|offset| {
            let index = self.index(offset)?;
            self.kept
                .get(index)
                .filter(|kept| other(kept))
                .map(|_| (offset, index))
        });
        let kept = match again {
            Some((offset, index)) => {
                self.again.remove(&offset);
                let kept = self.kept.get_mut(index)?;
                self.repeated += kept.text.len() as u64;
                kept.sent = Sent {
                    lane,
                    at: now,
                    times: kept.sent.times + 1,
                };
                kept
            }
            None => self.first_time(lane, now)?,
        };
        Some(Piece {
            offset: kept.offset,
            text: &kept.text,
        })
    }

    fn index(&self, offset: u64) -> Option<usize> {
        let index = self.kept.partition_point(|kept| kept.offset < offset);
        let found = self.kept.get(index)?;
        (found.offset == offset).then_some(index)
    }

    /// The first piece that was never sent, cut where the limit is.
    fn first_time(&mut self, lane: u64, now: Instant) -> Option<&mut Kept> {
        let offset = self.unsent();
        let room = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        if room == 0 || self.backlog.is_empty() || !self.is_ready() {
            return None;
        }
        let text = self.backlog.cut(room);
        self.small += usize::from(text.len() < SMALL);
        let sent = Sent {
            lane,
            at: now,
            times: 1,
        };
        self.kept.push_back(Kept { offset, text, sent });
        self.kept.back_mut()
    }

    /// The length to be sent in a FIN by `lane`, once all before it was.
    pub fn fin(&mut self, lane: u64, now: Instant) -> Option<u64> {
        if !self.may_end() {
            return None;
        }
        self.end = End::Sent(Sent {
            lane,
            at: now,
            times: 1,
        });
        self.ended = true;
        Some(self.given)
    }

    /// Whether the limit holds bytes up.
    const fn is_held(&self) -> bool {
        !self.backlog.is_empty() && self.unsent() >= self.limit
    }

    /// Whether [`Outgoing::blocked`] has something to tell.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.is_held() && self.told_blocked != Some(self.limit)
    }

    /// The limit to be told in a BLOCKED, once for each limit that holds bytes up.
    pub fn blocked(&mut self) -> Option<u64> {
        let news = self.is_blocked();
        if news {
            self.told_blocked = Some(self.limit);
        }
        news.then_some(self.limit)
    }

    /// The peer has confirmed. An older word than one before says nothing.
    ///
    /// # Errors
    /// When it confirms what was not sent.
    pub fn confirm(
        &mut self,
        received: u64,
        limit: u64,
        now: Instant,
    ) -> Result<(), OutgoingError> {
        let most = self.unsent() + u64::from(self.ended);
        if received > most {
            return Err(OutgoingError::NotSent(received));
        }
        let mut sample = None;
        while let Some(first) = self.kept.front()
            && first.end() <= received
        {
            if first.sent.times == 1 {
                sample = Some(now.saturating_duration_since(first.sent.at));
            }
            self.small -= usize::from(first.text.len() < SMALL);
            self.again.remove(&first.offset);
            self.confirmed = first.end();
            self.kept.pop_front();
        }
        self.backlog.settle(self.kept.is_empty());
        if let Some(sample) = sample {
            self.samples += 1;
            self.round = Some(self.round.map_or(sample, |known| (known * 7 + sample) / 8));
        }
        if received == self.given + 1 {
            self.end = End::Confirmed;
        }
        self.limit = self.limit.max(limit);
        Ok(())
    }

    /// What went by `lane` and is not confirmed is sent again: the lane is lost.
    pub fn lost(&mut self, lane: u64) {
        self.repeat(|sent| sent.lane == lane);
        // The limit's word may have gone with it.
        self.told_blocked = None;
    }

    fn repeat(&mut self, which: impl Fn(&Sent) -> bool) {
        let lost = self.kept.iter().filter(|kept| which(&kept.sent));
        self.again.extend(lost.map(|kept| kept.offset));
        if let End::Sent(sent) = &self.end
            && which(sent)
        {
            self.end = End::Due;
        }
    }

    /// What is longest under way, and for longer than `after`, holds all the rest up: what went by its
    /// lane before that time is sent once more, by others. Returns the lane.
    pub fn rescue(&mut self, after: Duration, now: Instant) -> Option<u64> {
        let slow = |sent: &Sent| now.saturating_duration_since(sent.at) >= after;
        let first = match (self.kept.front(), &self.end) {
            (Some(first), _) => Some(first.sent),
            (None, End::Sent(sent)) => Some(*sent),
            (None, _) => None,
        };
        let lane = first.filter(slow)?.lane;
        let known = self
            .kept
            .front()
            .is_some_and(|first| self.again.contains(&first.offset));
        if known {
            return None;
        }
        self.repeat(|sent| sent.lane == lane && slow(sent));
        Some(lane)
    }

    /// When [`Outgoing::rescue`] is to be asked next, where anything is under way.
    #[must_use]
    pub fn rescue_at(&self, after: Duration) -> Option<Instant> {
        let sent = match (self.kept.front(), &self.end) {
            (Some(first), _) => Some(first.sent),
            (None, End::Sent(sent)) => Some(*sent),
            (None, _) => None,
        };
        sent.map(|sent| sent.at + after)
    }

    /// Time from a piece to its confirmation, smoothed; `None` before the first.
    #[must_use]
    pub const fn round(&self) -> Option<Duration> {
        self.round
    }

    /// How often [`Outgoing::round`] was measured.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Bytes kept.
    #[must_use]
    pub fn held(&self) -> usize {
        usize::try_from(self.given - self.confirmed).unwrap_or(usize::MAX)
    }

    /// Bytes of memory for what is kept, and for what comes next.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.backlog.memory()
    }

    /// Nothing has moved for a while: gives back all memory but that of what is kept.
    pub fn rest(&mut self) {
        self.backlog.rest(self.kept.is_empty());
        self.kept.shrink_to_fit();
    }

    /// Bytes that were sent more than once.
    #[must_use]
    pub const fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Bytes that the peer has confirmed.
    #[must_use]
    pub const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Whether the peer has all of it, and knows that it is all.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.end, End::Confirmed)
    }

    /// Whether the confirmation of our end is all that is missing.
    #[must_use]
    pub fn waits_for_end(&self) -> bool {
        self.ended && !self.is_over() && self.kept.is_empty()
    }

    /// Whether a FIN is all that is left to be sent.
    #[must_use]
    pub fn may_end(&self) -> bool {
        matches!(self.end, End::Due) && self.backlog.is_empty() && self.again.is_empty()
    }

    /// The peer has closed in order all that there was, which it does when it has everything.
    pub fn closed(&mut self) {
        if self.waits_for_end() {
            self.end = End::Confirmed;
        }
    }
}

#[cfg(test)]
mod tests;
