//! The kubelet's list of pods, asked for once for all who wait.

use std::{sync::Arc, time::Duration};

use sekisho_kube::{KubeError, KubeServer};
use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::pod::{Pod, PodList};

/// Longest list: 500 pods of 100 KiB each, and more than any node has.
const MAX_LIST: usize = 64 * 1024 * 1024;

type Outcome = Result<Arc<Vec<Pod>>, Arc<KubeError>>;

#[derive(Debug)]
pub(super) struct PodLists {
    kubelet: KubeServer,
    interval: Duration,
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    asked: Instant,
    version: u64,
    outcome: Outcome,
}

impl PodLists {
    pub(super) fn new(kubelet: KubeServer, interval: Duration) -> Self {
        Self {
            kubelet,
            interval,
            last: Mutex::default(),
        }
    }

    /// A list, or failure, with a greater number than `seen` (0: none seen yet) and not older than
    /// the interval; asks the kubelet for one at most once in that time. Who waits meanwhile gets
    /// the same answer.
    pub(super) async fn newer_than(&self, seen: u64) -> (u64, Outcome) {
        let mut last = self.last.lock().await;
        let mut version = 1;
        if let Some(last) = &*last {
            if last.version > seen && last.asked.elapsed() < self.interval {
                return (last.version, last.outcome.clone());
            }
            version = last.version.saturating_add(1);
            sleep_until(last.asked + self.interval).await;
        }
        let asked = Instant::now();
        let outcome = self.ask().await.map(Arc::new).map_err(Arc::new);
        *last = Some(Last {
            asked,
            version,
            outcome: outcome.clone(),
        });
        (version, outcome)
    }

    async fn ask(&self) -> Result<Vec<Pod>, KubeError> {
        let answer = self.kubelet.get("/pods", MAX_LIST).await?;
        // A long list takes a while.
        let list = spawn_blocking(move || serde_json::from_slice::<PodList>(&answer))
            .await
            .map_err(|_| KubeError::Stopped)?;
        Ok(list.map_err(KubeError::Json)?.items.unwrap_or_default())
    }
}
