//! The forwarding side: which target, at which of its addresses.

mod dial;
mod health;
mod resolve;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::Instant};

use crate::{
    endpoint::spec::{Address, Balance, EndpointSpec, Forward, SocketOptions},
    error::UpstreamError,
    transport::Transport,
};
use resolve::Resolved;

/// Failures to connect in a row that eject a target for a while.
const EJECT_AFTER: u32 = 3;
/// The first ejection; each further one without a success between is longer by as much.
const EJECT_FOR: Duration = Duration::from_secs(10);
/// The longest ejection.
const EJECT_AT_MOST: Duration = Duration::from_secs(60);

/// An endpoint's targets and what is known of them.
pub struct Upstream {
    targets: Vec<Target>,
    balance: Balance,
    socket: SocketOptions,
    next: AtomicUsize,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

/// One target.
#[derive(Debug)]
pub struct Target {
    address: Address,
    server_name: Option<String>,
    resolved: Resolved,
    active: AtomicUsize,
    /// What the health check says; true without one.
    healthy: AtomicBool,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    ejections: u32,
    ejected_until: Option<Instant>,
}

impl Target {
    fn new(address: Address, server_name: Option<String>) -> Self {
        Self {
            address,
            server_name,
            resolved: Resolved::default(),
            active: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            failures: Mutex::default(),
        }
    }

    /// Whether health check and recent connections speak for it.
    #[must_use]
    pub fn is_available(&self) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let ejected = failures
            .ejected_until
            .is_some_and(|until| Instant::now() < until);
        !ejected && self.healthy.load(Ordering::Relaxed)
    }

    /// Its address, as in the file.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Connections open now.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    fn connected(&self, ok: bool) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if ok {
            *failures = Failures::default();
            return;
        }
        failures.in_a_row += 1;
        if failures.in_a_row >= EJECT_AFTER {
            failures.in_a_row = 0;
            failures.ejections += 1;
            let time = (EJECT_FOR * failures.ejections).min(EJECT_AT_MOST);
            failures.ejected_until = Some(Instant::now() + time);
            tracing::warn!(target = %self.address, seconds = time.as_secs(), "target ejected");
        }
    }
}

/// A connected target.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) transport: Transport,
    /// The target as in the file.
    pub(crate) target: String,
    /// The same, with the address that answered where it is a name.
    pub(crate) address: String,
    pub(crate) server_name: Option<String>,
    /// Counts this connection at its target.
    pub(crate) held: Held,
}

/// Counts a connection at its target until dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<Upstream>, usize);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(target) = self.0.targets.get(self.1) {
            target.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Upstream {
    /// The targets of `spec`. Names are resolved, and targets checked, on `runtime` until this is
    /// dropped.
    #[must_use]
    pub fn new(spec: &EndpointSpec, runtime: &Handle) -> Arc<Self> {
        let targets = match &spec.forward {
            Forward::Mtls { targets, .. } => targets
                .iter()
                .map(|target| Target::new(target.address.clone(), target.server_name.clone()))
                .collect(),
            Forward::Plain { targets } => targets
                .iter()
                .map(|address| Target::new(address.clone(), None))
                .collect(),
        };
        let upstream = Arc::new(Self {
            targets,
            balance: spec.balance,
            socket: spec.sockets.forward.clone(),
            next: AtomicUsize::new(0),
        });
        resolve::keep(&upstream, runtime);
        if let Some(check) = spec.health {
            health::keep(&upstream, check, runtime);
        }
        upstream
    }

    /// The targets, in the order of the file.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Connects to a target: the one whose turn it is, then the others, until one answers. Each has
    /// `time`, over all its addresses. Targets that are ejected or fail their health check come last: trying one
    /// is better than refusing.
    ///
    /// # Errors
    /// When none answered.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        time: Duration,
    ) -> Result<Connected, UpstreamError> {
        let mut last = None;
        for index in self.order() {
            let Some(target) = self.targets.get(index) else {
                continue;
            };
            // Counted before it is connected: otherwise a burst all goes to one.
            target.active.fetch_add(1, Ordering::Relaxed);
            let held = Held(Arc::clone(self), index);
            let dialled = dial::target(&target.address, &target.resolved, &self.socket);
            let dialled = tokio::time::timeout(time, dialled).await;
            match dialled.unwrap_or(Err(UpstreamError::Timeout(time))) {
                Ok((transport, address)) => {
                    target.connected(true);
                    return Ok(Connected {
                        transport,
                        target: target.address.to_string(),
                        address,
                        server_name: target.server_name.clone(),
                        held,
                    });
                }
                Err(error) => {
                    target.connected(false);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| UpstreamError::Connect("there is no target".into())))
    }

    fn order(&self) -> Vec<usize> {
        let count = self.targets.len().max(1);
        let start = self.next.fetch_add(1, Ordering::Relaxed) % count;
        let mut order: Vec<_> = (start..count).chain(0..start).collect();
        let target = |index: &usize| self.targets.get(*index);
        if self.balance == Balance::LeastConnections {
            order.sort_by_key(|index| target(index).map_or(usize::MAX, Target::active));
        }
        // Stable: the order among the available stays.
        order.sort_by_key(|index| !target(index).is_some_and(Target::is_available));
        order
    }
}
