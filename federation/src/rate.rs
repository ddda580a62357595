//! How often one network may ask.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::places::Network;

/// Networks that are remembered: more at a time, and new ones are refused until others have waited.
const MOST: usize = 65_536;

/// A bucket for each network, told by the time at which it is full again.
#[derive(Debug)]
pub(crate) struct Rate {
    full_at: Mutex<HashMap<Network, Instant>>,
    /// What one costs: the time in which the bucket gains it back.
    cost: Duration,
    /// What a full bucket has.
    whole: Duration,
}

impl Rate {
    /// So many a second, and so many at once.
    pub(crate) fn new(a_second: u32, at_once: u32) -> Self {
        let cost = Duration::from_secs(1) / a_second.max(1);
        Self {
            full_at: Mutex::default(),
            cost,
            whole: cost * at_once.max(1),
        }
    }

    /// Whether somebody from there may ask once more.
    pub(crate) fn take(&self, address: IpAddr) -> bool {
        let (network, now) = (Network::of(address), Instant::now());
        let mut known = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&network) {
            known.retain(|_, full| *full > now);
            if known.len() >= MOST {
                return false;
            }
        }
        let full = known.get(&network).copied().unwrap_or(now).max(now) + self.cost;
        let may = full - now <= self.whole;
        if may {
            known.insert(network, full);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_network_that_has_asked_too_often_waits_and_no_other() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let rate = Rate::new(2, 3);
        for host in 1..=3 {
            assert!(rate.take(at(&format!("10.0.0.{host}"))));
        }
        assert!(!rate.take(at("10.0.0.4")));
        assert!(rate.take(at("10.0.1.1")));
        tokio::time::advance(Duration::from_millis(499)).await;
        assert!(!rate.take(at("10.0.0.4")));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(rate.take(at("10.0.0.4")));
        assert!(!rate.take(at("10.0.0.4")));
    }
}
