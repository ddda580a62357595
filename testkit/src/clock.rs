//! A clock that stands until it is turned.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sekisho_certs::{Clock, SystemClock};

/// The host's time, cut to whole seconds as certificates have it.
#[must_use]
pub fn present() -> SystemTime {
    let now = SystemClock.now().duration_since(UNIX_EPOCH);
    UNIX_EPOCH + Duration::from_secs(now.expect("the host's clock is past 1970").as_secs())
}

/// Shows the time it was set to, until it is set again. Clones of its `Arc` are one clock.
#[derive(Debug)]
pub struct TestClock {
    now: Mutex<SystemTime>,
}

impl TestClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: SystemTime) -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::new(now),
        })
    }

    /// A clock that shows [`present`], and stays there.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::at(present())
    }

    /// Turns it to `now`, forwards or back.
    pub fn set(&self, now: SystemTime) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Turns it forwards.
    pub fn advance(&self, by: Duration) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes as tokio's time does, which a test may pause; and can be made to jump besides.
#[derive(Debug)]
pub struct RuntimeClock {
    start: tokio::time::Instant,
    jumping: Arc<TestClock>,
}

impl RuntimeClock {
    /// A clock that starts at [`present`].
    ///
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            start: tokio::time::Instant::now(),
            jumping: TestClock::new(),
        })
    }

    /// Jumps forwards, as a host's clock does when it is set.
    pub fn jump(&self, by: Duration) {
        self.jumping.advance(by);
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> SystemTime {
        self.jumping.now() + self.start.elapsed()
    }
}
