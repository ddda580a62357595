//! Waiting for something to happen, for a bounded time.

use std::time::Duration;

use tokio::sync::watch;

const TICK: Duration = Duration::from_millis(5);

/// Looks at `condition` every few milliseconds until it holds.
///
/// # Panics
/// When it does not within `timeout`; says `what` was waited for.
pub async fn wait_for(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    let look = async {
        while !condition() {
            tokio::time::sleep(TICK).await;
        }
    };
    assert!(
        tokio::time::timeout(timeout, look).await.is_ok(),
        "waited {timeout:?} in vain: {what}"
    );
}

/// Waits for a published value that passes, the present one included, and returns it.
///
/// # Panics
/// When none passes within ten seconds, or the publisher is gone; says `what` was waited for.
pub async fn wait_until<T: Clone>(
    receiver: &mut watch::Receiver<T>,
    what: &str,
    passes: impl FnMut(&T) -> bool,
) -> T {
    let found = tokio::time::timeout(Duration::from_secs(10), receiver.wait_for(passes)).await;
    match found {
        Ok(Ok(value)) => value.clone(),
        Ok(Err(_)) => panic!("the publisher went away, waiting: {what}"),
        Err(_) => panic!("waited ten seconds in vain: {what}"),
    }
}
