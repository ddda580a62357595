//! The forwarding side: which target, at which of its addresses.

mod catalogue;
mod dial;
mod health;
mod resolve;
mod services;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sekisho_certs::{Members, SpiffeId};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    endpoint::spec::{Address, Balance, EndpointSpec, Side, SiteService},
    error::UpstreamError,
    path::{Far, PathDetails},
    transport::Transport,
};
use catalogue::{Plan, Planned};
pub(crate) use dial::tcp as redial;
use resolve::Resolved;
use services::Services;

/// Failures to connect in a row that eject a target for a while.
const EJECT_AFTER: u32 = 3;
/// The first ejection; each further one without a success between is longer by as much.
const EJECT_FOR: Duration = Duration::from_secs(10);
/// A target that does not bear to be offered `sekisho/1` is not offered it for so long.
const STOCK_FOR: Duration = Duration::from_secs(600);
/// The longest ejection.
const EJECT_AT_MOST: Duration = Duration::from_secs(60);

/// An endpoint's targets and what is known of them.
pub struct Upstream {
    targets: Vec<Arc<Target>>,
    /// Of services that clients asked for by their names.
    services: Services,
    /// Services of other sites of which no target is known.
    missing: Vec<SiteService>,
    balance: Balance,
    side: Side,
    next: AtomicUsize,
    /// Where names are resolved and targets are checked.
    runtime: Handle,
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
    planned: Planned,
    resolved: Resolved,
    active: AtomicUsize,
    /// What the health check says; true without one.
    healthy: AtomicBool,
    failures: Mutex<Failures>,
    /// When it has refused a handshake in which `sekisho/1` was offered.
    stock: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    ejections: u32,
    ejected_until: Option<Instant>,
}

impl Target {
    fn new(planned: Planned) -> Self {
        Self {
            planned,
            resolved: Resolved::default(),
            active: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            failures: Mutex::default(),
            stock: Mutex::default(),
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

    /// Its address: as in the file, or as a catalogue has it.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.planned.address
    }

    /// Its name: the address as in the file; of a service of another site, that and the address that
    /// its catalogue names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.planned.name
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
            tracing::warn!(
                target = self.name(),
                seconds = time.as_secs(),
                "target ejected"
            );
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
    /// Who has to answer, where a catalogue says so.
    pub(crate) expected: Option<SpiffeId>,
    /// What was seen of its path, where the target is not on this host.
    pub(crate) path: Option<Box<PathDetails>>,
    /// The same, where the path is a long one.
    pub(crate) far: Option<Far>,
    /// Counts this connection at its target.
    pub(crate) held: Held,
}

/// Counts a connection at its target until dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<Target>);

impl Held {
    fn at(target: &Arc<Target>) -> Self {
        target.active.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(target))
    }
}

impl Held {
    /// Whether the target has refused a handshake for what was offered in ALPN, not long ago: it may be
    /// another program by now, and whoever is on the way could have said so in its place.
    pub(crate) fn is_stock(&self) -> bool {
        let stock = self.0.stock.lock().unwrap_or_else(PoisonError::into_inner);
        stock.is_some_and(|since| since.elapsed() < STOCK_FOR)
    }

    /// It has.
    pub(crate) fn set_stock(&self) {
        let mut stock = self.0.stock.lock().unwrap_or_else(PoisonError::into_inner);
        *stock = Some(Instant::now());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// The targets of `spec`. Names are resolved, and targets checked, on `runtime` until this is
    /// dropped. Services of other sites are looked for once members are known:
    /// [`Upstream::following`].
    #[must_use]
    pub fn new(spec: &EndpointSpec, runtime: &Handle) -> Arc<Self> {
        Self::planned(
            spec,
            Plan::new(spec, &Members::default()),
            &[],
            runtime.clone(),
        )
    }

    /// The targets of `spec` by the catalogues of `members`; `None` where they are as before. What
    /// is known of a target that stays goes on, and so does every connection.
    #[must_use]
    pub fn following(&self, spec: &EndpointSpec, members: &Members) -> Option<Arc<Self>> {
        self.services.keep_listed(members);
        spec.site_services().next()?;
        let plan = Plan::new(spec, members);
        (!self.is_by(&plan)).then(|| Self::planned(spec, plan, &self.targets, self.runtime.clone()))
    }

    /// Whether its targets are those of `plan`.
    fn is_by(&self, plan: &Plan) -> bool {
        let own = self.targets.iter().map(|target| &target.planned);
        plan.missing == self.missing && plan.targets.iter().eq(own)
    }

    fn planned(
        spec: &EndpointSpec,
        plan: Plan,
        known: &[Arc<Target>],
        runtime: Handle,
    ) -> Arc<Self> {
        let targets = plan.targets.into_iter().map(|planned| {
            let same = known.iter().find(|target| target.planned == planned);
            same.map_or_else(|| Arc::new(Target::new(planned)), Arc::clone)
        });
        let upstream = Arc::new(Self {
            targets: targets.collect(),
            missing: plan.missing,
            services: Services::default(),
            balance: spec.balance,
            side: spec.forwarding(),
            next: AtomicUsize::new(0),
            runtime,
        });
        resolve::keep(&upstream, &upstream.runtime);
        if let Some(check) = spec.health {
            health::keep(&upstream, check, &upstream.runtime);
        }
        upstream
    }

    /// The targets, in the order of the file; those of services that clients asked for by their names
    /// last.
    #[must_use]
    pub fn targets(&self) -> Vec<Arc<Target>> {
        let mut all = self.targets.clone();
        all.extend(self.services.targets());
        all
    }

    /// Services of other sites of which no target is known.
    #[must_use]
    pub fn missing(&self) -> &[SiteService] {
        &self.missing
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
            let held = Held::at(target);
            let dialled = dial::target(&target.planned, &target.resolved, &self.side);
            let dialled = tokio::time::timeout(time, dialled).await;
            match dialled.unwrap_or(Err(UpstreamError::Timeout(time))) {
                Ok((transport, address)) => {
                    target.connected(true);
                    let path = transport.look_at_path();
                    return Ok(Connected {
                        transport,
                        far: path.as_deref().and_then(Far::of),
                        path,
                        target: target.name().to_owned(),
                        address,
                        server_name: target.planned.server_name.clone(),
                        expected: target.planned.found.as_ref().map(|found| found.id.clone()),
                        held,
                    });
                }
                Err(error) => {
                    target.connected(false);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| match self.missing.first() {
            Some(service) => UpstreamError::NotListed(service.to_string()),
            None => UpstreamError::Connect("there is no target".into()),
        }))
    }

    fn order(&self) -> Vec<usize> {
        let count = self.targets.len().max(1);
        let start = self.next.fetch_add(1, Ordering::Relaxed) % count;
        let mut order: Vec<_> = (start..count).chain(0..start).collect();
        let target = |index: &usize| self.targets.get(*index);
        if self.balance == Balance::LeastConnections {
            order.sort_by_key(|index| target(index).map_or(usize::MAX, |target| target.active()));
        }
        // Stable: the order among the available stays.
        order.sort_by_key(|index| !target(index).is_some_and(|target| target.is_available()));
        order
    }
}
