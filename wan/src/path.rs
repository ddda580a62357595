//! One direction of a path, without devices and without a clock of its own: frames go in at a time,
//! and come out when they should.
//!
//! What waits stands in two queues, the packets held back apart from the others. The time at which
//! packets leave never goes back within either (a line sends in order, jitter keeps order, and all are
//! held equally long), so the first of each is the next: no heap, no wheel of timers.

use std::{collections::VecDeque, ops::Range};

use crate::{
    Nanos,
    chance::{Events, generator},
    counters::Counters,
    device::LARGEST,
    frame::Shape,
    jitter::Jitter,
    line::Line,
    loss::Losses,
    pool::Pool,
    settings::{Queue, Settings, nanos},
};

/// The longest that packets together take on the line: many of one read leave at once, when the last
/// of them should, so the first is so much late. 100 µs.
const TOGETHER: Nanos = 100_000;

/// One direction.
#[derive(Debug)]
pub(crate) struct Path {
    delay: Nanos,
    mtu: usize,
    memory: usize,
    queue: Queue,
    line: Option<Line>,
    /// When packets that wait for the line have left it; kept where packets are counted.
    waiting: VecDeque<Nanos>,
    losses: Losses,
    jitter: Jitter,
    reorder: Option<(Events, Nanos)>,
    straight: VecDeque<Leaving>,
    held: VecDeque<Leaving>,
    in_memory: usize,
    pool: Pool,
    /// Of the packets of one frame.
    fates: Vec<Fate>,
    counters: Counters,
}

/// Packets that leave together.
#[derive(Debug)]
pub(crate) struct Leaving {
    at: Nanos,
    buffer: Vec<u8>,
    length: usize,
    packets: u32,
    bytes: u64,
}

impl Leaving {
    /// What to write to the far end.
    pub(crate) fn frame(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

/// What becomes of a packet that has left the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Straight,
    Held,
    Lost,
}

impl Path {
    pub(crate) fn new(settings: &Settings, seed: u64) -> Self {
        let reorder = settings.reorder.map(|reorder| {
            let events = Events::new(reorder.share, generator(seed, 4));
            (events, nanos(reorder.hold))
        });
        Self {
            delay: nanos(settings.delay),
            mtu: usize::from(settings.mtu),
            memory: settings.memory,
            queue: settings.queue,
            line: settings.rate.map(Line::new),
            waiting: VecDeque::new(),
            losses: Losses::new(settings, seed),
            jitter: Jitter::new(nanos(settings.jitter), seed.rotate_left(32)),
            reorder,
            straight: VecDeque::new(),
            held: VecDeque::new(),
            in_memory: 0,
            pool: Pool::default(),
            fates: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// How long a packet is under way, at least.
    pub(crate) const fn delay(&self) -> Nanos {
        self.delay
    }

    /// In what time a full queue empties, where there is a line.
    pub(crate) fn queue_time(&self) -> Option<Nanos> {
        let bytes = match self.queue {
            Queue::Bytes(limit) => limit,
            Queue::Packets(limit) => u64::from(limit).saturating_mul(self.mtu as u64),
        };
        Some(self.line.as_ref()?.time(bytes))
    }

    /// A buffer to read the next frame into.
    pub(crate) fn for_reading(&mut self) -> Vec<u8> {
        self.pool.for_reading()
    }

    /// Takes the frame at the beginning of `buffer`, which came at `now`. Leaves a buffer to read the
    /// next one into.
    pub(crate) fn take(&mut self, now: Nanos, buffer: &mut Vec<u8>, length: usize) {
        self.counters.reads += 1;
        let frame = buffer.get(..length).unwrap_or_default();
        let Some(shape) = Shape::of(frame) else {
            self.counters.malformed += 1;
            return;
        };
        let count = u64::from(shape.count);
        self.counters.packets += count;
        self.counters.bytes += shape.wire(0..shape.count);
        if shape.largest() > self.mtu {
            self.counters.too_large += count;
            return;
        }
        if self.in_memory + LARGEST > self.memory {
            self.counters.overflowed += count;
            return;
        }
        let room = self.room(now, &shape);
        self.counters.dropped += u64::from(shape.count - room);
        if room == 0 {
            return;
        }
        let together = self.together(&shape, room);
        self.draw(room);
        let is_whole = self.fates.is_empty() && room == shape.count && together >= room;
        if is_whole && Pool::keeps(length) {
            let at = self.leaves(now, &shape, 0..room);
            let next = self.pool.for_reading();
            let whole = std::mem::replace(buffer, next);
            self.wait(at, (whole, length), &shape, 0..room, Fate::Straight);
            return;
        }
        let mut first = 0;
        while first < room {
            let (end, fate) = self.run(first, first.saturating_add(together).min(room));
            let packets = first..end;
            first = end;
            let at = self.leaves(now, &shape, packets.clone());
            if fate == Fate::Lost {
                self.counters.lost += u64::from(packets.end - packets.start);
                continue;
            }
            let frame = buffer.get(..length).unwrap_or_default();
            let mut part = self.pool.take(shape.length(&packets));
            if packets == (0..shape.count) {
                part.extend_from_slice(frame);
            } else if shape.cut(frame, packets.clone(), &mut part).is_none() {
                // A shape that was understood can be cut: not reached.
                self.counters.refused += u64::from(packets.end - packets.start);
                self.pool.give_back(part);
                continue;
            }
            let length = part.len();
            self.wait(at, (part, length), &shape, packets, fate);
        }
    }

    /// When the first that waits should leave.
    pub(crate) fn next(&self) -> Option<Nanos> {
        let straight = self.straight.front().map(|one| one.at);
        let held = self.held.front().map(|one| one.at);
        match (straight, held) {
            (Some(straight), Some(held)) => Some(straight.min(held)),
            (one, other) => one.or(other),
        }
    }

    /// What should have left by now, one at a time; to be given to [`Self::left`] after that.
    pub(crate) fn due(&mut self, now: Nanos) -> Option<Leaving> {
        let next = self.next().filter(|next| *next <= now)?;
        let is_held = self.held.front().is_some_and(|one| one.at == next);
        let queue = if is_held {
            &mut self.held
        } else {
            &mut self.straight
        };
        queue.pop_front()
    }

    /// Counts what has left at `now`, or what the far end did not take.
    pub(crate) fn left(&mut self, leaving: Leaving, now: Nanos, was_taken: bool) {
        let packets = u64::from(leaving.packets);
        let counters = &mut self.counters;
        counters.under_way -= packets;
        if was_taken {
            counters.writes += 1;
            counters.delivered += packets;
            counters.delivered_bytes += leaving.bytes;
            counters.late.count(now.saturating_sub(leaving.at));
        } else {
            counters.refused += packets;
        }
        self.in_memory -= leaving.buffer.capacity();
        self.pool.give_back(leaving.buffer);
    }

    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many of these packets the queue takes: the rest is its tail.
    fn room(&mut self, now: Nanos, shape: &Shape) -> u32 {
        let Some(line) = &self.line else {
            return shape.count;
        };
        match self.queue {
            Queue::Bytes(limit) => {
                let free = limit.saturating_sub(line.backlog(now));
                if shape.wire(0..shape.count) <= free {
                    return shape.count;
                }
                let each = shape.largest().max(1) as u64;
                u32::try_from(free / each).map_or(shape.count, |room| room.min(shape.count))
            }
            Queue::Packets(limit) => {
                while self.waiting.front().is_some_and(|left| *left <= now) {
                    self.waiting.pop_front();
                }
                let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
                limit.saturating_sub(waiting).min(shape.count)
            }
        }
    }

    /// How many packets may leave at once.
    fn together(&self, shape: &Shape, room: u32) -> u32 {
        let Some(line) = &self.line else { return room };
        let each = shape.largest().max(1) as u64;
        let most = (line.within(TOGETHER) / each).clamp(1, u64::from(u32::MAX));
        // In equal parts, rather than a small one at the end.
        let parts = u64::from(room).div_ceil(most);
        u32::try_from(u64::from(room).div_ceil(parts)).unwrap_or(room)
    }

    /// Draws what becomes of the next packets; leaves nothing where nothing happens to any.
    fn draw(&mut self, count: u32) {
        self.fates.clear();
        if self.reorder.is_none() && self.losses.spare(u64::from(count)) {
            return;
        }
        for _ in 0..count {
            let fate = if self.losses.hit() {
                Fate::Lost
            } else if self.reorder.as_mut().is_some_and(|(held, _)| held.hit()) {
                Fate::Held
            } else {
                Fate::Straight
            };
            self.fates.push(fate);
        }
    }

    /// Where the packets end that share the fate of the first, at most `end`.
    fn run(&self, first: u32, end: u32) -> (u32, Fate) {
        let fates = self.fates.get(first as usize..end as usize);
        let Some((&fate, rest)) = fates.and_then(<[_]>::split_first) else {
            return (end, Fate::Straight);
        };
        let same = rest.iter().take_while(|other| **other == fate).count();
        let same = u32::try_from(same).unwrap_or_default();
        (first + 1 + same, fate)
    }

    /// Sends packets on the line; when they are at the far end.
    fn leaves(&mut self, now: Nanos, shape: &Shape, packets: Range<u32>) -> Nanos {
        let mut sent = now;
        if let Some(line) = &mut self.line {
            if matches!(self.queue, Queue::Packets(_)) {
                for packet in packets {
                    sent = line.send(now, shape.wire(packet..packet + 1));
                    self.waiting.push_back(sent);
                }
            } else {
                sent = line.send(now, shape.wire(packets));
            }
            let largest = &mut self.counters.largest_queue;
            *largest = line.backlog(now).max(*largest);
        }
        let extra = self.jitter.at(sent);
        sent.saturating_add(self.delay).saturating_add(extra)
    }

    fn wait(
        &mut self,
        at: Nanos,
        (buffer, length): (Vec<u8>, usize),
        shape: &Shape,
        packets: Range<u32>,
        fate: Fate,
    ) {
        let count = packets.end - packets.start;
        self.counters.under_way += u64::from(count);
        self.in_memory += buffer.capacity();
        let largest = &mut self.counters.largest_memory;
        *largest = (self.in_memory as u64).max(*largest);
        let mut leaving = Leaving {
            at,
            buffer,
            length,
            packets: count,
            bytes: shape.wire(packets),
        };
        match &self.reorder {
            Some((_, hold)) if fate == Fate::Held => {
                self.counters.reordered += u64::from(count);
                leaving.at = at.saturating_add(*hold);
                self.held.push_back(leaving);
            }
            _ => self.straight.push_back(leaving),
        }
    }
}

#[cfg(test)]
mod tests;
