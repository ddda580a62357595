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
