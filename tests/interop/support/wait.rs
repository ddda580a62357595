//! Waiting for an event, for a bounded time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Far more than anything here takes on a machine that does its work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(10);

/// Asks until there is an answer.
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

/// The same of what has its own pace.
pub(crate) fn until_within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < patience, "waited in vain: {what}");
        thread::sleep(TICK);
    }
}
