//! A line a second, while it goes on.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sekisho_bench::path::{Sample, verdict::Side};

/// In microseconds.
const SECOND: u64 = 1_000_000;

/// Our own stream.
#[derive(Debug)]
pub(super) struct Live {
    sender: Side,
    last: Mutex<Option<Sample>>,
}

impl Live {
    pub(super) const fn new(sender: Side) -> Self {
        Self {
            sender,
            last: Mutex::new(None),
        }
    }

    pub(super) fn head() -> String {
        format!(
            "{:<15}  {:>9}  {:>10}  {:>9}  {:>11}  {:>10}",
            "seconds", "Mb/s", "rtt, ms", "cwnd, KiB", "window, KiB", "sent again"
        )
    }

    /// Once a second.
    pub(super) fn line(&self, sample: &Sample) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = last.as_ref() else {
            *last = Some(sample.clone());
            return None;
        };
        let span = sample.at.saturating_sub(before.at);
        if span < SECOND {
            return None;
        }
        let moved = |one: &Sample| match self.sender {
            Side::Here => one.tcp.acked.unwrap_or_default(),
            Side::There => one.tcp.received.unwrap_or_default(),
        };
        let bytes = moved(sample).saturating_sub(moved(before));
        let tcp = &sample.tcp;
        let again = tcp.retransmissions;
        let again = again.saturating_sub(before.tcp.retransmissions);
        let (cwnd, window) = match self.sender {
            Side::Here => {
                let cwnd = u64::from(tcp.cwnd) * u64::from(tcp.mss) / 1024;
                (cwnd.to_string(), tcp.send_window)
            }
            Side::There => ("-".into(), tcp.receive_window),
        };
        let window = window.map_or_else(|| "-".into(), |bytes| (bytes / 1024).to_string());
        let line = format!(
            "{:>6.1} - {:<6.1}  {:>9.1}  {:>10.2}  {:>9}  {:>11}  {:>10}",
            before.at as f64 / 1e6,
            sample.at as f64 / 1e6,
            bytes as f64 * 8.0 / span as f64,
            f64::from(tcp.rtt) / 1e3,
            cwnd,
            window,
            again,
        );
        *last = Some(sample.clone());
        Some(line)
    }
}

/// Others' connections.
#[derive(Debug, Default)]
pub(super) struct Watching(Mutex<u64>);

impl Watching {
    /// Once a second.
    pub(super) fn line(&self, passed: Duration, count: usize) -> Option<String> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.as_secs() <= *told {
            return None;
        }
        *told = passed.as_secs();
        Some(format!("{told} s: {count} connections"))
    }
}
