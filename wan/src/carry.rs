//! The thread of one direction: reads one device, writes the other.
//!
//! It sleeps in `ppoll` until there is something to read or the next packet is due, with the kernel's
//! timer slack at its least (it is 50 µs by default) and at real-time priority, and never spins: the
//! programs that are measured need the cores, and waking up takes some tens of microseconds. For the same
//! reason it wakes seldom where packets come one on the heels of the other: see [`crate::moderation`].

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{prctl::set_timerslack, time::TimeSpec},
};

use crate::{
    Nanos,
    counters::Counters,
    device::{Device, Nothing},
    error::Error,
    moderation::{Moderation, Sleeper},
    path::Path,
    priority,
    settings::nanos,
};

/// Reads before the counters are told again.
const TURN: u32 = 64;

/// One direction, ready to run.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) from: Arc<Device>,
    pub(crate) to: Arc<Device>,
    pub(crate) path: Path,
    /// Since when times are counted. Monotonic: whoever sets the wall clock changes nothing here.
    pub(crate) start: Instant,
    pub(crate) counters: Arc<Mutex<Counters>>,
    /// It is to end when this is closed at the other end.
    pub(crate) stop: Arc<OwnedFd>,
    /// Set once the thread has real-time priority.
    pub(crate) is_real_time: Arc<AtomicBool>,
}

impl Carrier {
    /// Until it is told to stop, or a device is gone.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        // Without it packets leave a little later, which is counted.
        let _ = set_timerslack(1);
        self.is_real_time
            .store(priority::raise(), Ordering::Relaxed);
        let mut buffer = self.path.for_reading();
        let mut moderation = Moderation::new(self.path.delay(), self.path.queue_time());
        loop {
            let outcome = self.turn(&mut buffer);
            let told = *self.path.counters();
            *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = told;
            let is_idle = outcome?;
            if moderation.wait(&mut self, is_idle)? {
                return Ok(());
            }
        }
    }

    /// Reads, and writes what is due; whether there is nothing more to read.
    fn turn(&mut self, buffer: &mut Vec<u8>) -> Result<bool, Error> {
        for _ in 0..TURN {
            self.write_due()?;
            match self.from.read(buffer) {
                Ok(length) => {
                    let now = self.now();
                    self.path.take(now, buffer, length);
                }
                Err(Nothing::Now) => return Ok(true),
                Err(_) => return Err(Error::Gone(self.from.name().to_owned())),
            }
        }
        Ok(false)
    }

    fn write_due(&mut self) -> Result<(), Error> {
        if self.path.next().is_none() {
            return Ok(());
        }
        let mut now = self.now();
        while let Some(leaving) = self.path.due(now) {
            let outcome = self.to.write(leaving.frame());
            self.path.left(leaving, now, outcome.is_ok());
            if outcome == Err(Nothing::Gone) {
                return Err(Error::Gone(self.to.name().to_owned()));
            }
            now = self.now();
        }
        Ok(())
    }
}

impl Sleeper for Carrier {
    type Error = Error;

    fn now(&self) -> Nanos {
        nanos(self.start.elapsed())
    }

    fn next(&self) -> Option<Nanos> {
        self.path.next()
    }

    fn sleep(&mut self, time: Option<Nanos>, read: bool) -> Result<bool, Error> {
        let time = time.map(Duration::from_nanos).map(TimeSpec::from);
        let stop = PollFd::new(self.stop.as_fd(), PollFlags::POLLIN);
        let mut events = [stop, PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        let count = if read { 2 } else { 1 };
        let events = events.get_mut(..count).unwrap_or_default();
        match ppoll(events, time, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::Wait(error.into())),
        }
        let stop = events.first().and_then(PollFd::revents);
        Ok(stop.is_some_and(|found| !found.is_empty()))
    }
}
