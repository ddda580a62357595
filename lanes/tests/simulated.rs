//! Both ends of one direction over lanes that deliver late, in bursts, and die with what is on them.

#![cfg(test)]

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::BufMut as _;
use proptest::prelude::*;
use sekisho_lanes::{Frame, Incoming, Limited, Outgoing, frame::decode, incoming::Due};

const RESCUE: Duration = Duration::from_millis(300);

/// A generator of numbers that is the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }
}

/// Bytes under way on one lane, there and back, and whether it stands still.
#[derive(Default)]
struct Lane {
    there: VecDeque<Vec<u8>>,
    back: VecDeque<Vec<u8>>,
    stalled_until: Option<Instant>,
}

fn encoded(frame: Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

fn byte(at: u64) -> u8 {
    let [.., low] = ((at.wrapping_mul(31) >> 3) ^ at).to_be_bytes();
    low
}

struct World {
    chance: Chance,
    now: Instant,
    lanes: BTreeMap<u64, Lane>,
    last: u64,
    out: Outgoing,
    inc: Incoming,
    given: u64,
    taken: u64,
    length: u64,
    deaths: u64,
}

impl World {
    fn new(seed: u64, lanes: u64, length: u64) -> Self {
        let mut world = Self {
            chance: Chance(seed),
            now: Instant::now(),
            lanes: BTreeMap::new(),
            last: 0,
            out: Outgoing::default(),
            inc: Incoming::default(),
            given: 0,
            taken: 0,
            length,
            deaths: 0,
        };
        for _ in 0..lanes {
            world.open();
        }
        world
    }

    fn open(&mut self) {
        self.last += 1;
        self.lanes.insert(self.last, Lane::default());
    }

    fn some_lane(&mut self) -> u64 {
        let index = usize::try_from(self.chance.below(self.lanes.len() as u64)).unwrap();
        *self.lanes.keys().nth(index).unwrap()
    }

    fn give(&mut self) {
        let most = self.chance.below(200_000).min(self.length - self.given);
        let text: Vec<u8> = (self.given..self.given + most).map(byte).collect();
        let taken = if self.chance.below(2) == 0 {
            self.out.push(&text)
        } else {
            let filled = self.out.fill(|buffer| {
                let count = text.len().min(buffer.remaining_mut());
                buffer.put_slice(&text[..count]);
                Ok::<_, ()>(())
            });
            filled.unwrap()
        };
        self.given += taken as u64;
        if self.given == self.length {
            self.out.finish();
        }
    }

    fn send(&mut self) {
        let lane = self.some_lane();
        let only = self.lanes.len() == 1;
        let queue = &mut self.lanes.get_mut(&lane).unwrap().there;
        if queue.len() < 8 {
            if let Some(piece) = self.out.next(lane, only, self.now) {
                let frame = Frame::Data {
                    offset: piece.offset,
                    text: piece.text,
                };
                queue.push_back(encoded(frame));
            } else if let Some(length) = self.out.fin(lane, self.now) {
                queue.push_back(encoded(Frame::Fin { length }));
            }
        }
        if let Some(limit) = self.out.blocked() {
            queue.push_back(encoded(Frame::Blocked { limit }));
        }
    }

    fn deliver(&mut self) {
        let lane = self.some_lane();
        let now = self.now;
        let state = self.lanes.get_mut(&lane).unwrap();
        if state.stalled_until.is_some_and(|until| now < until) {
            return;
        }
        if let Some(bytes) = state.there.pop_front() {
            match decode(&bytes).unwrap().unwrap().0.unwrap() {
                Frame::Data { offset, text } => self.inc.receive(offset, text).unwrap(),
                Frame::Fin { length } => self.inc.finish(length).unwrap(),
                Frame::Blocked { limit } => self.inc.blocked(limit, true),
                other => panic!("{other:?}"),
            }
        }
        if let Some(bytes) = state.back.pop_front() {
            match decode(&bytes).unwrap().unwrap().0.unwrap() {
                Frame::Ack {
                    received, limit, ..
                } => {
                    self.out.confirm(received, limit, now).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn take(&mut self) {
        let count = self
            .inc
            .next()
            .len()
            .min(1 + usize::try_from(self.chance.below(40_000)).unwrap());
        for (index, found) in self.inc.next().iter().take(count).enumerate() {
            assert_eq!(*found, byte(self.taken + index as u64), "at {}", self.taken);
        }
        self.inc.take(count);
        self.taken += count as u64;
        if self.inc.due() != Due::Nothing {
            let lane = self.some_lane();
            let (received, limit) = self.inc.state();
            let frame = Frame::Ack {
                received,
                limit,
                limited: Limited::No,
            };
            self.lanes
                .get_mut(&lane)
                .unwrap()
                .back
                .push_back(encoded(frame));
            self.inc.told();
        }
    }

    /// One lane dies with all that is on it, and another comes.
    fn kill(&mut self) {
        let lane = self.some_lane();
        self.lanes.remove(&lane);
        self.out.lost(lane);
        self.inc.tell_again();
        self.deaths += 1;
        self.open();
    }

    fn stall(&mut self) {
        let lane = self.some_lane();
        let until = self.now + Duration::from_millis(self.chance.below(3000));
        self.lanes.get_mut(&lane).unwrap().stalled_until = Some(until);
    }

    fn step(&mut self) {
        self.now += Duration::from_micros(100);
        match self.chance.below(1000) {
            0 => self.kill(),
            1..3 => self.stall(),
            3..200 => self.give(),
            200..500 => self.send(),
            500..800 => self.deliver(),
            _ => self.take(),
        }
        let _ = self.out.rescue(RESCUE, self.now);
        assert!(self.inc.held() as u64 <= sekisho_lanes::LARGEST_WINDOW);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn every_byte_arrives_once_and_in_its_place(
        seed in any::<u64>(),
        lanes in 1_u64..6,
        length in 0_u64..3_000_000,
    ) {
        let mut world = World::new(seed, lanes, length);
        let mut steps = 0_u64;
        while !(world.out.is_over() && world.inc.is_over()) {
            world.step();
            steps += 1;
            prop_assert!(steps < 4_000_000, "it stands still: {} of {length}", world.taken);
        }
        prop_assert_eq!(world.taken, length);
        prop_assert_eq!(world.inc.held(), 0);
        prop_assert_eq!(world.out.held(), 0);
    }
}

#[test]
fn lanes_do_die_in_it() {
    let mut world = World::new(7, 4, 12_000_000);
    while !(world.out.is_over() && world.inc.is_over()) {
        world.step();
    }
    assert!(world.deaths > 3, "{}", world.deaths);
    assert!(world.out.repeated() > 0 && world.inc.repeated() > 0);
}
