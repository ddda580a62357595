//! What comes: put in order, kept within the window, never handed on out of place.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf as _, Bytes, BytesMut};

use crate::{FIRST_WINDOW, LARGEST_WINDOW, frame::MOST_TEXT};

/// A piece shorter than this costs more to keep than it carries.
const SMALL: usize = 1024;
/// A piece as long as this stays where it was read; of shorter ones there would be many to little of it.
const SHARED: usize = MOST_TEXT / 2;
/// Most pieces so short that are kept out of order. A sender has at most half as many under way.
pub const MOST_SMALL: usize = 4096;
/// Bytes after which what has come is confirmed at once, rather than soon.
const CONFIRM: u64 = 256 * 1024;
/// Bytes that may come twice beyond as many as have come once: losses and rescues explain no more.
const MOST_REPEATED: u64 = LARGEST_WINDOW;

/// What a peer must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IncomingError {
    /// Bytes beyond the limit that was granted.
    #[error("bytes up to {end}, where {limit} is the limit")]
    Window {
        /// Where they end.
        end: u64,
        /// What was granted.
        limit: u64,
    },
    /// A piece that is neither new nor the same as before.
    #[error("a piece at {0} that overlaps another")]
    Overlap(u64),
    /// More of the same than losses explain.
    #[error("{0} bytes have come twice")]
    Repeated(u64),
    /// More small pieces out of order than are kept.
    #[error("more than {MOST_SMALL} small pieces out of order")]
    Pieces,
    /// An end before what has come, or another one than before.
    #[error("an end at {0} that cannot be")]
    End(u64),
}

impl IncomingError {
    /// The word that it is counted by.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Window { .. } => "window",
            Self::Overlap(_) => "overlap",
            Self::Repeated(_) => "repeated",
            Self::Pieces => "pieces",
            Self::End(_) => "end",
        }
    }
}

/// How soon the peer has to hear from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// There is nothing new.
    Nothing,
    /// Within the time that several may be told in one.
    Soon,
    /// It waits, or much has come.
    Now,
}

/// A piece that has come.
#[derive(Debug)]
struct Text {
    bytes: Bytes,
    /// It lies where it was read, among others.
    is_shared: bool,
}

impl Text {
    fn new(text: &[u8], whole: Option<&Bytes>) -> Self {
        match whole {
            Some(whole) if text.len() >= SHARED => Self {
                bytes: whole.slice_ref(text),
                is_shared: true,
            },
            _ => Self {
                bytes: Bytes::copy_from_slice(text),
                is_shared: false,
            },
        }
    }

    const fn len(&self) -> usize {
        self.bytes.len()
    }

    const fn copied(&self) -> usize {
        if self.is_shared { 0 } else { self.bytes.len() }
    }
}

/// One direction of a stream, as it comes.
#[derive(Debug)]
pub struct Incoming {
    /// All bytes before this one have come.
    received: u64,
    /// And all before this one were handed on.
    taken: u64,
    /// In order, from `taken` to `received`, the small ones at the end together.
    ready: VecDeque<Text>,
    together: BytesMut,
    /// Out of order, by offset: none touches `received`, none another.
    late: BTreeMap<u64, Text>,
    late_bytes: usize,
    /// Bytes kept that do not lie where they were read.
    copied: usize,
    small: usize,
    window: u64,
    /// The limit that the present window began with: who is held up by an older one may not be by it.
    grown: u64,
    limit: u64,
    length: Option<u64>,
    repeated: u64,
    told: (u64, u64),
    urgent: bool,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            received: 0,
            taken: 0,
            ready: VecDeque::new(),
            together: BytesMut::new(),
            late: BTreeMap::new(),
            late_bytes: 0,
            copied: 0,
            small: 0,
            window: FIRST_WINDOW,
            grown: FIRST_WINDOW,
            limit: FIRST_WINDOW,
            length: None,
            repeated: 0,
            told: (0, FIRST_WINDOW),
            urgent: false,
        }
    }
}

impl Incoming {
    /// Takes a copy of a piece that has come.
    ///
    /// # Errors
    /// When the peer must not have sent it. Nothing is kept of it then.
    pub fn receive(&mut self, offset: u64, text: &[u8]) -> Result<(), IncomingError> {
        self.receive_in(offset, text, None)
    }

    /// Takes a piece that has come in `whole`, where it stays if it is large: all of `whole` stays with
    /// it, and is for the caller to count. The others are copied: see [`Incoming::copied`].
    ///
    /// # Errors
    /// When the peer must not have sent it. Nothing is kept of it then.
    ///
    /// # Panics
    /// Where `text` is no part of `whole`.
    pub fn receive_in(
        &mut self,
        offset: u64,
        text: &[u8],
        whole: Option<&Bytes>,
    ) -> Result<(), IncomingError> {
        let length = text.len() as u64;
        let end = offset.saturating_add(length);
        if end > self.limit {
            return Err(IncomingError::Window {
                end,
                limit: self.limit,
            });
        }
        if let Some(length) = self.length.filter(|length| end > *length) {
            return Err(IncomingError::End(length));
        }
        if text.is_empty() {
            return Ok(());
        }
        if end <= self.received || self.late.get(&offset).map(Text::len) == Some(text.len()) {
            return self.again(length);
        }
        let before = self.late.range(..=offset).next_back();
        let before = before.map_or(self.received, |(at, text)| at + text.len() as u64);
        let behind = self.late.range(offset..).next();
        if offset < before || behind.is_some_and(|(at, _)| *at < end) {
            return Err(IncomingError::Overlap(offset));
        }
        if offset == self.received {
            if text.len() < SMALL {
                self.append(text);
            } else {
                self.push(Text::new(text, whole));
            }
            self.received = end;
            self.close_up();
            return Ok(());
        }
        if text.len() < SMALL {
            if self.small >= MOST_SMALL {
                return Err(IncomingError::Pieces);
            }
            self.small += 1;
        }
        let text = Text::new(text, whole);
        self.late_bytes += text.len();
        self.copied += text.copied();
        self.late.insert(offset, text);
        Ok(())
    }

    /// Keeps small bytes in order, together: each by itself would cost more than it carries.
    fn append(&mut self, text: &[u8]) {
        if self.together.len() + text.len() > MOST_TEXT {
            self.close_together();
        }
        self.copied += text.len();
        self.together.extend_from_slice(text);
    }

    fn close_together(&mut self) {
        if !self.together.is_empty() {
            let bytes = std::mem::take(&mut self.together).freeze();
            let is_shared = false;
            self.ready.push_back(Text { bytes, is_shared });
        }
    }

    /// Keeps a piece in order.
    fn push(&mut self, text: Text) {
        self.close_together();
        self.copied += text.copied();
        self.ready.push_back(text);
    }

    /// Moves what is in order now.
    fn close_up(&mut self) {
        while let Some(first) = self.late.first_entry()
            && *first.key() == self.received
        {
            let text = first.remove();
            self.small -= usize::from(text.len() < SMALL);
            self.late_bytes -= text.len();
            self.copied -= text.copied();
            self.received += text.len() as u64;
            if text.len() < SMALL {
                self.append(&text.bytes);
            } else {
                self.push(text);
            }
        }
        self.urgent |= self.length == Some(self.received);
    }

    /// Bytes that have come before: those of a lane that was given up too soon.
    fn again(&mut self, length: u64) -> Result<(), IncomingError> {
        self.repeated += length;
        // Our confirmation may have gone with a lane.
        self.urgent = true;
        if self.repeated > self.received + MOST_REPEATED {
            return Err(IncomingError::Repeated(self.repeated));
        }
        Ok(())
    }

    /// The peer's direction ends at `length`.
    ///
    /// # Errors
    /// When it cannot.
    pub fn finish(&mut self, length: u64) -> Result<(), IncomingError> {
        let last = self.late.last_key_value();
        let most = last.map_or(self.received, |(at, text)| at + text.len() as u64);
        if length < most || self.length.is_some_and(|known| known != length) {
            return Err(IncomingError::End(length));
        }
        self.urgent |= self.received == length;
        self.length = Some(length);
        Ok(())
    }

    /// The peer has bytes that `limit` does not let go. Where what was granted is used, and what has
    /// come does not lie about, more is granted, if `may_grow`.
    pub fn blocked(&mut self, limit: u64, may_grow: bool) {
        if limit < self.grown || limit > self.limit || !may_grow {
            return;
        }
        let lies = self.received - self.taken;
        // What was granted has come, but for what may be on its way on slower lanes.
        let come = self.received + self.late_bytes as u64;
        if lies <= self.window / 4 && come + self.window / 2 >= limit {
            self.window = (self.window * 2).min(LARGEST_WINDOW);
            self.grant();
            self.grown = self.limit;
            self.urgent = true;
        }
    }

    /// Memory is short: half the window, down to the first one. What was granted stays so.
    pub fn narrow(&mut self) {
        self.window = (self.window / 2).max(FIRST_WINDOW);
    }

    fn grant(&mut self) {
        self.limit = self.limit.max(self.taken.saturating_add(self.window));
    }

    /// The next bytes in order, as many as lie together; empty where there are none.
    #[must_use]
    pub fn next(&self) -> &[u8] {
        self.pieces().next().unwrap_or_default()
    }

    /// All bytes in order, one piece behind the other.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let last = Some(&*self.together).filter(|last| !last.is_empty());
        self.ready.iter().map(|text| &*text.bytes).chain(last)
    }

    /// So many of [`Incoming::pieces`] were handed on.
    pub fn take(&mut self, mut count: usize) {
        while count > 0 {
            let done = if let Some(first) = self.ready.front_mut() {
                let done = first.len().min(count);
                first.bytes.advance(done);
                self.copied -= if first.is_shared { 0 } else { done };
                if first.bytes.is_empty() {
                    self.ready.pop_front();
                }
                done
            } else {
                let done = self.together.len().min(count);
                self.together.advance(done);
                self.copied -= done;
                if self.together.is_empty() {
                    self.together = BytesMut::new();
                    count = done;
                }
                done
            };
            self.taken += done as u64;
            count -= done;
        }
        self.grant();
    }

    /// Nothing has moved for a while: gives back all memory but that of what is kept.
    pub fn rest(&mut self) {
        self.ready.shrink_to_fit();
    }

    /// Whether the peer's direction has ended, and all of it was handed on.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.length == Some(self.taken)
    }

    /// Whether all of it has come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.length == Some(self.received)
    }

    /// Bytes kept.
    #[must_use]
    pub fn held(&self) -> usize {
        let ready = usize::try_from(self.received - self.taken).unwrap_or(usize::MAX);
        ready.saturating_add(self.late_bytes)
    }

    /// Those of them that do not lie where they were read.
    #[must_use]
    pub const fn copied(&self) -> usize {
        self.copied
    }

    /// Bytes that have come twice.
    #[must_use]
    pub const fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Bytes that have come in order.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// How soon the peer has to hear from us.
    #[must_use]
    pub fn due(&self) -> Due {
        let (received, limit) = self.state();
        let (told, granted) = self.told;
        if self.urgent || received - told >= CONFIRM || limit - granted >= self.window / 4 {
            Due::Now
        } else if received > told {
            Due::Soon
        } else {
            Due::Nothing
        }
    }

    /// What to tell: `received` and `limit` of an ACK.
    #[must_use]
    pub fn state(&self) -> (u64, u64) {
        (self.received + u64::from(self.is_complete()), self.limit)
    }

    /// It was told.
    pub fn told(&mut self) {
        self.told = self.state();
        self.urgent = false;
    }

    /// What was told may be lost, with a lane.
    pub const fn tell_again(&mut self) {
        self.urgent = true;
    }
}

#[cfg(test)]
mod tests;
