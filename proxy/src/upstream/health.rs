//! The active health check: a TCP connection, opened and closed.

use std::sync::{Arc, Weak, atomic::Ordering};

use tokio::runtime::Handle;

use super::{Target, Upstream, dial};
use crate::endpoint::spec::{HealthCheck, Side};

/// Checks the targets of `upstream` until it is dropped.
pub(super) fn keep(upstream: &Arc<Upstream>, check: HealthCheck, runtime: &Handle) {
    for index in 0..upstream.targets.len() {
        let upstream = Arc::downgrade(upstream);
        runtime.spawn(async move {
            let mut streak = Streak::default();
            while let Some(upstream) = Weak::upgrade(&upstream) {
                let Some(target) = upstream.targets.get(index) else {
                    return;
                };
                look(target, check, &mut streak).await;
                drop(upstream);
                tokio::time::sleep(check.interval).await;
            }
        });
    }
}

/// Equal results in a row.
#[derive(Debug, Default)]
struct Streak {
    ok: bool,
    length: u32,
}

impl Streak {
    /// Counts a result; returns the new state when the streak is long enough to change it.
    fn add(&mut self, ok: bool, healthy: bool, check: HealthCheck) -> Option<bool> {
        if self.ok != ok {
            self.length = 0;
        }
        self.ok = ok;
        self.length = self.length.saturating_add(1);
        let enough = if ok { check.rise } else { check.fall };
        (ok != healthy && self.length >= enough).then_some(ok)
    }
}

async fn look(target: &Target, check: HealthCheck, streak: &mut Streak) {
    let side = Side::default();
    let dialled = dial::target(&target.planned, &target.resolved, &side);
    let answer = tokio::time::timeout(check.timeout, dialled).await;
    let ok = matches!(answer, Ok(Ok(_)));
    let healthy = target.healthy.load(Ordering::Relaxed);
    if let Some(now) = streak.add(ok, healthy, check) {
        target.healthy.store(now, Ordering::Relaxed);
        tracing::info!(
            target = target.name(),
            healthy = now,
            "health of a target changed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_and_rises_only_after_enough_results_in_a_row() {
        let check = HealthCheck {
            fall: 3,
            rise: 2,
            ..HealthCheck::default()
        };
        let mut streak = Streak::default();
        assert_eq!(streak.add(false, true, check), None);
        assert_eq!(streak.add(false, true, check), None);
        assert_eq!(streak.add(true, true, check), None);
        assert_eq!(streak.add(false, true, check), None);
        assert_eq!(streak.add(false, true, check), None);
        assert_eq!(streak.add(false, true, check), Some(false));
        assert_eq!(streak.add(true, false, check), None);
        assert_eq!(streak.add(true, false, check), Some(true));
    }
}
