//! Moving bytes, once there is a permit.

#[cfg(test)]
mod canary;
mod copy;
mod splice;
mod straight;
pub mod tcp;
mod turn;

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sekisho_record::RecordError;
use tokio::time::Instant;

use crate::lanes::LanesError;

/// Which side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The listening side.
    Client,
    /// The forwarding side.
    Upstream,
}

impl Side {
    /// Its name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// How a relay failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", side.as_str())]
pub struct RelayError {
    /// At which side.
    pub side: Side,
    /// What the system or TLS says.
    #[source]
    pub error: io::Error,
}

impl RelayError {
    /// The alert's name, where the other side sent a fatal one.
    #[must_use]
    pub fn alert(&self) -> Option<String> {
        if let Some(error) = self.record_error() {
            return match error {
                RecordError::AlertReceived(alert) => Some(alert.to_string()),
                _ => None,
            };
        }
        let inner = self.error.get_ref()?.downcast_ref::<rustls::Error>()?;
        match inner {
            rustls::Error::AlertReceived(alert) => Some(crate::error::alert_name(*alert)),
            _ => None,
        }
    }

    /// What `sekisho/1` says, where it was that.
    pub(crate) fn lanes_error(&self) -> Option<&LanesError> {
        self.error.get_ref()?.downcast_ref()
    }

    /// What our record layer says, where it was that.
    pub(crate) fn record_error(&self) -> Option<&RecordError> {
        self.error.get_ref()?.downcast_ref()
    }

    /// The stable word for the access log's `end`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.error.kind() {
            io::ErrorKind::UnexpectedEof => "truncated",
            io::ErrorKind::InvalidData => "tls_error",
            _ => "reset",
        }
    }
}

/// What has moved, readable while it moves.
#[derive(Debug)]
pub struct Counters {
    started: Instant,
    to_upstream: AtomicU64,
    to_client: AtomicU64,
    /// Bytes of both directions that stayed in the kernel.
    spliced: AtomicU64,
    /// Milliseconds after `started` at which something last moved.
    last: AtomicU64,
    /// Milliseconds after `started` at which the relay began; 0 before.
    relay: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            to_upstream: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            spliced: AtomicU64::new(0),
            last: AtomicU64::new(0),
            relay: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Bytes of the application from client to upstream.
    #[must_use]
    pub fn to_upstream(&self) -> u64 {
        self.to_upstream.load(Ordering::Relaxed)
    }

    /// Bytes of the application from upstream to client.
    #[must_use]
    pub fn to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }

    /// Those of both directions that went from socket to socket within the kernel.
    #[must_use]
    pub fn spliced(&self) -> u64 {
        self.spliced.load(Ordering::Relaxed)
    }

    /// Time since the connection came.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// When something last moved.
    #[must_use]
    pub fn last_activity(&self) -> Instant {
        self.started + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// The relay begins now, and with it the time in which nothing may move.
    pub(crate) fn begin_relay(&self) {
        let now = self.now();
        self.last.store(now, Ordering::Relaxed);
        self.relay.store(now.max(1), Ordering::Relaxed);
    }

    /// How long it has been relayed; `None` before.
    #[must_use]
    pub fn relaying(&self) -> Option<Duration> {
        let began = self.relay.load(Ordering::Relaxed);
        (began > 0).then(|| self.age().saturating_sub(Duration::from_millis(began)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    fn add_spliced(&self, bytes: usize) {
        self.spliced.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn add(&self, to: Side, bytes: usize) {
        let counter = match to {
            Side::Client => &self.to_client,
            Side::Upstream => &self.to_upstream,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last.store(self.now(), Ordering::Relaxed);
    }
}
