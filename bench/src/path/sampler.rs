//! Figures of one connection, from time to time.

use std::{
    io,
    net::SocketAddr,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use super::{
    cpu::{Thread, micros},
    diag::Kernel,
    sample::Sample,
};

/// Between two samples.
const INTERVAL: Duration = Duration::from_millis(100);
/// Samples of a measurement, about; a long one has longer intervals.
const COUNT: u32 = 6000;

/// Between two samples of a measurement that takes so long.
pub(super) fn interval(time: Duration) -> Duration {
    INTERVAL.max(time / COUNT)
}

/// One end of a connection that this process, or this host, has.
#[derive(Debug)]
pub(super) struct Sampler {
    kernel: Kernel,
    local: SocketAddr,
    remote: SocketAddr,
    start: Instant,
}

impl Sampler {
    pub(super) fn new(local: SocketAddr, remote: SocketAddr, start: Instant) -> io::Result<Self> {
        Ok(Self {
            kernel: Kernel::open()?,
            local,
            remote,
            start,
        })
    }

    /// Now; `None` once the connection is gone.
    pub(super) fn take(&self, thread: Option<&Thread>) -> io::Result<Option<Sample>> {
        let found = self.kernel.one(self.local, self.remote)?;
        Ok(found.map(|found| Sample {
            at: micros(self.start.elapsed()),
            cpu: thread.and_then(Thread::time),
            ..found.sample
        }))
    }
}

/// Calls each interval, until `stop` says something or nobody is left who could.
pub(super) fn each(
    interval: Duration,
    stop: &Receiver<()>,
    mut call: impl FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let start = Instant::now();
    let mut count = 0_u32;
    loop {
        call()?;
        // By their number: one that is late does not delay all others, and many late ones are one.
        let passed = start.elapsed();
        while interval.saturating_mul(count) <= passed {
            count += 1;
        }
        let wait = interval.saturating_mul(count).saturating_sub(passed);
        match stop.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}
