//! Ending a process in order: stop accepting, wait, close.

use std::time::Duration;

use tokio::sync::watch;

use crate::{live::Registry, worker::Workers};

/// Where a process is on its way to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Everything is accepted.
    #[default]
    Serving,
    /// Nothing new is accepted; connections go on.
    Draining,
    /// Connections are closed.
    Closed,
}

/// How often the number of connections is looked at while draining.
const LOOK: Duration = Duration::from_millis(20);
/// How long connections may take to say goodbye once they are told to close.
const GOODBYE: Duration = Duration::from_secs(3);

/// Waits for the connections to end by themselves for at most `time`, then closes the rest.
/// Returns how many had to be closed.
pub(crate) async fn drain(
    phase: &watch::Sender<Phase>,
    registry: &Registry,
    workers: &Workers,
    time: Duration,
) -> usize {
    phase.send_replace(Phase::Draining);
    // A connection that was accepted is given to a worker before it enters the registry.
    let busy = || !registry.is_empty() || workers.loads().iter().any(|load| *load > 0);
    let empty = async {
        while busy() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(time, empty).await.is_ok() {
        phase.send_replace(Phase::Closed);
        return 0;
    }
    let left = registry.len();
    phase.send_replace(Phase::Closed);
    let empty = async {
        while busy() {
            tokio::time::sleep(LOOK).await;
        }
    };
    // Who does not go is cut off with the runtime.
    let _ = tokio::time::timeout(GOODBYE, empty).await;
    left
}
