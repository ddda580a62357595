//! Time as an argument, so that tests turn the clock.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::UnixTime;

/// Where certificate validity and rotation read the time.
///
/// The methods are called on every handshake and must not block.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. May go backwards; callers must not assume otherwise.
    fn now(&self) -> SystemTime;
}

/// The clock of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the host's clock"
    )]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// `time` as seconds since 1970, as rustls and webpki want it; times before are 1970.
#[must_use]
pub fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

/// Lets rustls read our clock.
#[derive(Debug)]
pub struct TlsTime(pub Arc<dyn Clock>);

impl rustls::time_provider::TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}
