//! Frames between the sockets of all lanes and what is kept in order.

use std::{
    io,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use sekisho_lanes::{Frame, incoming::Due};
use sekisho_record::RecordError;

use super::{
    Arrival, Dialled, Lanes, LanesError, Role,
    hear::{Ears, Heard},
    lane::{Gone, Lane},
    roster::Verdict,
    tend::STILL,
};

/// What has come may be confirmed so much later, together with more.
pub(super) const SOON: Duration = Duration::from_millis(2);
/// Reads of a lane whose writing has failed: all that its socket can hold.
const LAST_READS: usize = 32;
/// Between two attempts to open a lane.
const AGAIN: Duration = Duration::from_millis(500);
/// That time doubles with each failure in a row, so often at most: half a minute.
const MOST_DOUBLED: u32 = 6;

impl Lanes {
    /// Moves what can be moved. Returns whether anything did; where nothing did, the task is woken
    /// when something can.
    ///
    /// # Errors
    /// When the stream cannot go on.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone().into_io());
        }
        self.step(cx).map_err(|error| {
            self.failed = Some(error.clone());
            error.into_io()
        })
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Result<bool, LanesError> {
        let now = Instant::now();
        self.greet();
        let mut moved = self.arrive(cx, now)?;
        for (key, verdict) in self.roster.verdicts(cx.waker()) {
            match verdict {
                Verdict::Allowed => {
                    let lane = self.list.iter_mut().find(|lane| lane.key == key);
                    lane.into_iter().for_each(|lane| lane.is_allowed = true);
                }
                Verdict::Barred(why) => self.lose(key, why, now),
            }
        }
        moved |= self.read(cx, now)?;
        self.confirm(now);
        moved |= self.write(cx, now)?;
        moved |= self.tend(cx, now)?;
        self.account();
        Ok(moved)
    }

    /// The server's ACCEPT, once the relay has begun.
    fn greet(&mut self) {
        if let Role::Server {
            registered,
            accepted: accepted @ false,
        } = &mut self.role
        {
            *accepted = true;
            let lanes = registered.most();
            let mut word = Vec::new();
            Frame::Accept { lanes }.encode(&mut word);
            if let Some(lane) = self.list.first_mut() {
                lane.say(&word);
            }
        }
    }

    fn arrive(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, LanesError> {
        let mut any = false;
        loop {
            let arrival = match &mut self.role {
                Role::Server { registered, .. } => match registered.arrivals.poll_recv(cx) {
                    Poll::Ready(Some(arrival)) => arrival,
                    _ => return Ok(any),
                },
                Role::Client {
                    arrivals,
                    dialling,
                    not_before,
                    failures,
                    ..
                } => match arrivals.poll_recv(cx) {
                    Poll::Ready(Some(dialled)) => {
                        *dialling = dialling.saturating_sub(1);
                        match dialled {
                            Dialled::Lane(arrival, most) => {
                                *failures = 0;
                                self.count.at_most(most);
                                *arrival
                            }
                            Dialled::Denied(why) if self.alone.is_some() && *failures > 0 => {
                                // Twice, and no lane is left: the stream is not there any more.
                                return Err(LanesError::Denied(why));
                            }
                            // A refusal may mean no more than that the other side has not noticed
                            // yet that a lane is gone.
                            Dialled::Failed(why) | Dialled::Denied(why) => {
                                // While there is no lane at all, somebody waits.
                                let doubled = if self.alone.is_some() { 0 } else { *failures };
                                *not_before = now + AGAIN * (1 << doubled);
                                *failures = (*failures + 1).min(MOST_DOUBLED);
                                tracing::debug!(stream = ?self.stream, why, "no further lane");
                                if let Some((_, last)) = &mut self.alone {
                                    *last = why;
                                }
                                continue;
                            }
                        }
                    }
                    _ => return Ok(any),
                },
            };
            any |= self.enter(arrival);
        }
    }

    /// A lane that was opened for this stream is one of it.
    fn enter(&mut self, arrival: Arrival) -> bool {
        let Arrival {
            wire,
            rest,
            admitted,
        } = arrival;
        let Ok(wire) = wire.attach() else {
            // It is closed by being dropped, and the other side hears of that.
            return false;
        };
        self.add(wire, rest, admitted);
        if let Some(lane) = self.list.last_mut() {
            lane.greeted = true;
        }
        true
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, LanesError> {
        let client = matches!(self.role, Role::Client { .. });
        let mut ears = Ears {
            out: &mut self.out,
            inc: &mut self.inc,
            count: &mut self.count,
            memory: self.keeping.memory(),
            chunks: &self.chunks,
            lanes: self.list.len(),
            client,
            now,
        };
        let mut any = false;
        let mut gone = Vec::new();
        for lane in self.list.iter_mut().filter(|lane| lane.is_allowed) {
            let mut heard = Heard {
                greeted: lane.greeted,
                left: lane.peer_left,
                failed: None,
            };
            let read = lane.poll_read(cx, &mut |frame, whole| {
                if heard.failed.is_none() {
                    heard.failed = ears.hear(frame, whole, &mut heard).err();
                }
            });
            if let Some(failed) = heard.failed {
                return Err(failed);
            }
            lane.greeted = heard.greeted;
            lane.peer_left = heard.left;
            match read {
                Ok(came) => any |= came,
                Err(why) => gone.push((lane.key, why)),
            }
        }
        if let Role::Client { begun, .. } = &mut self.role {
            *begun |= self.list.iter().any(|lane| lane.greeted);
        }
        if any && self.rest_at.is_none() {
            self.rest_at = Some(now + STILL);
        }
        for (key, why) in gone {
            any = true;
            self.end(key, why, now)?;
        }
        self.part();
        Ok(any)
    }

    /// A lane has ended, or is of no more use.
    fn end(&mut self, key: u64, why: Gone, now: Instant) -> Result<(), LanesError> {
        match why {
            Gone::Broken(error) => return Err(LanesError::Frame(error.to_string())),
            Gone::Lost(error) => {
                if !self.is_begun()
                    && let Some(error) = error.get_ref().and_then(|error| error.downcast_ref())
                {
                    // Such as the alert of a server that has judged us after its handshake.
                    return Err(LanesError::Tls(RecordError::clone(error)));
                }
                self.lose(key, &error.to_string(), now);
            }
            Gone::Closed => {
                let left = |lane: &Lane| lane.key == key && lane.left && lane.peer_left;
                let left = self.list.iter().any(left);
                if !left && self.inc.is_complete() && self.out.waits_for_end() {
                    self.out.closed();
                }
                if left || self.is_complete() {
                    self.remove(key);
                } else {
                    self.lose(key, "the other side closed it", now);
                }
            }
        }
        Ok(())
    }

    /// Whether the other side has accepted the stream. Before that there is nothing to join.
    pub(super) const fn is_begun(&self) -> bool {
        match &self.role {
            Role::Client { begun, .. } => *begun,
            Role::Server { .. } => true,
        }
    }

    /// Whether the other side has all of ours, and we all of its.
    pub(super) fn is_complete(&self) -> bool {
        self.out.is_over() && self.inc.is_complete()
    }

    /// Answers LEAVE. A lane that both sides have left is closed, and stays one of the stream's until the
    /// other side has closed it, too: until then it may still be lost with what is on it.
    fn part(&mut self) {
        for lane in &mut self.list {
            if lane.peer_left && !lane.left {
                lane.left = true;
                let mut word = Vec::new();
                Frame::Leave.encode(&mut word);
                lane.say(&word);
            }
        }
    }

    fn remove(&mut self, key: u64) -> Option<Lane> {
        let index = self.list.iter().position(|lane| lane.key == key)?;
        let lane = self.list.remove(index);
        let own = lane.key_updates();
        self.key_updates.sent += own.sent;
        self.key_updates.received += own.received;
        self.roster.leave(key);
        self.streams.totals().open.fetch_sub(1, Relaxed);
        if self.list.is_empty() {
            self.alone = Some((Instant::now(), "it was left".to_owned()));
        }
        let open = self.list.len();
        self.roster.count(|counts| counts.open = open);
        self.watch();
        Some(lane)
    }

    /// A lane among others is dead when it is silent; the only one is waited for, as any connection is.
    pub(super) fn watch(&self) {
        let several = self.list.len() > 1;
        for lane in &self.list {
            lane.watch(several);
        }
    }

    fn lose(&mut self, key: u64, why: &str, now: Instant) {
        let Some(lane) = self.remove(key) else {
            return;
        };
        lane.abort_on_close();
        self.streams.totals().lost.fetch_add(1, Relaxed);
        let repeated = self.out.repeated();
        self.roster.count(|counts| {
            counts.lost += 1;
            counts.repeated = repeated;
        });
        self.out.lost(key);
        self.inc.tell_again();
        tracing::debug!(stream = ?self.stream, why, left = self.list.len(), "a lane is lost");
        if self.list.is_empty() {
            self.alone = Some((now, why.to_owned()));
            if let Role::Client {
                not_before,
                failures,
                ..
            } = &mut self.role
            {
                *not_before = now;
                *failures = 0;
            }
        }
    }

    /// Tells how far we are, where it is due.
    fn confirm(&mut self, now: Instant) {
        match self.inc.due() {
            Due::Nothing => return,
            Due::Now => {}
            Due::Soon => match self.confirm_at {
                Some(at) if at <= now => {}
                Some(_) => return,
                None => {
                    self.confirm_at = Some(now + SOON);
                    return;
                }
            },
        }
        self.confirm_at = None;
        // Where no lane is quiet it stays due: one that becomes so wakes the task.
        if let Some(lane) = self.quiet() {
            let word = self.confirmation();
            self.say(lane, &word);
        }
    }

    /// A lane on which nothing waits to be said, and which is not being left: another each time, so that
    /// one that stands still does not keep all that is said.
    pub(super) fn quiet(&mut self) -> Option<usize> {
        let count = self.list.len();
        let first = self.turn;
        self.turn = first.wrapping_add(1);
        (0..count)
            .map(|step| first.wrapping_add(step) % count)
            .find(|index| {
                let lane = self.list.get(*index);
                lane.is_some_and(|lane| lane.is_allowed && lane.is_quiet() && !lane.left)
            })
    }

    pub(super) fn say(&mut self, lane: usize, word: &[u8]) {
        if let Some(lane) = self.list.get_mut(lane) {
            lane.say(word);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, LanesError> {
        if self.out.is_blocked()
            && let Some(lane) = self.quiet()
            && let Some(limit) = self.out.blocked()
        {
            let mut word = Vec::new();
            Frame::Blocked { limit }.encode(&mut word);
            self.say(lane, &word);
        }
        let count = self.list.len();
        let usable = |lane: &&Lane| lane.is_allowed && !lane.left;
        let only = self.list.iter().filter(usable).count() == 1;
        let mut any = false;
        let mut room = count == 0;
        let mut lost = Vec::new();
        let first = self.turn;
        for step in 0..count {
            let lane = self.list.get_mut((first + step) % count);
            let Some(lane) = lane.filter(|lane| lane.is_allowed) else {
                continue;
            };
            match lane.poll_write(cx, &mut self.out, only, now) {
                Ok(wrote) => {
                    any |= wrote.any;
                    room |= wrote.room;
                }
                Err(error) => lost.push((lane.key, error)),
            }
        }
        self.turn = first.wrapping_add(1);
        // Who gave the stream up has said why before it closed: that is read before the lane is lost.
        for _ in 0..if lost.is_empty() { 0 } else { LAST_READS } {
            if !self.read(cx, now)? {
                break;
            }
        }
        for (key, error) in lost {
            any = true;
            self.lose(key, &error.to_string(), now);
        }
        // Where this task had its turn, nobody has asked the sockets.
        if !room && self.out.is_ready() && tokio::task::coop::has_budget_remaining() {
            self.losses.look(&mut self.list, now);
            self.count.limited(self.losses.limit(now));
            self.starved = true;
        }
        Ok(any)
    }
}
