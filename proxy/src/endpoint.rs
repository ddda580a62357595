//! One gate: what the file says of it and what it holds now.

pub mod spec;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sekisho_certs::{Material, TlsContext};
use sekisho_policy::Policy;
use tokio::sync::watch;

use crate::{held::Memory, upstream::Upstream};
use spec::EndpointSpec;

/// Everything a connection is decided by, at one time: replaced whole, never changed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the file says.
    pub spec: Arc<EndpointSpec>,
    /// The policy that must allow too, where one is configured.
    pub policy: Option<Policy>,
    /// SVID, trust, TLS configurations.
    pub material: Arc<Material>,
    /// The targets, with what is known of their health.
    pub upstream: Arc<Upstream>,
}

/// An endpoint while the process runs. Its name and its connections outlive a reload.
#[derive(Debug)]
pub struct Endpoint {
    name: String,
    /// `None` once the endpoint is gone from the configuration.
    state: watch::Sender<Option<Arc<Snapshot>>>,
    active: AtomicUsize,
    memory: Arc<Memory>,
}

impl Endpoint {
    /// A new endpoint, without an SVID until [`Endpoint::set_material`].
    #[must_use]
    pub fn new(
        spec: Arc<EndpointSpec>,
        policy: Option<Policy>,
        context: &TlsContext,
        upstream: Arc<Upstream>,
        memory: Arc<Memory>,
    ) -> Arc<Self> {
        let waiting = if spec.needs_identity() {
            "the source has not answered yet"
        } else {
            "neither side is mTLS"
        };
        let material = Arc::new(Material::empty(context, waiting));
        let snapshot = Snapshot {
            policy,
            material,
            upstream,
            spec,
        };
        Arc::new(Self {
            name: snapshot.spec.name.clone(),
            state: watch::Sender::new(Some(Arc::new(snapshot))),
            active: AtomicUsize::new(0),
            memory,
        })
    }

    /// Its name in the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What holds now; `None` once the endpoint was removed.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.state.borrow().clone()
    }

    /// Follows what holds. A connection subscribes before it is decided, so that no change between
    /// the decision and the relay is missed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.state.subscribe()
    }

    /// Connections open now.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// What its connections keep, for slow receivers and of streams over lanes.
    #[must_use]
    pub const fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    fn replace(&self, change: impl FnOnce(&Snapshot) -> Snapshot) {
        self.state.send_if_modified(|state| {
            let Some(old) = state else { return false };
            let mut new = change(old);
            let members = new.material.members();
            if let Some(upstream) = new.upstream.following(&new.spec, members) {
                new.upstream = upstream;
            }
            *state = Some(Arc::new(new));
            true
        });
    }

    /// Publishes new material. Running connections are asked again whether their peer is still
    /// trusted; nothing else happens to them.
    pub fn set_material(&self, material: Arc<Material>) {
        self.replace(|old| Snapshot {
            material,
            ..old.clone()
        });
    }

    /// Publishes a new policy. Running connections are decided again.
    pub fn set_policy(&self, policy: Option<Policy>) {
        self.replace(|old| Snapshot {
            policy,
            ..old.clone()
        });
    }

    /// Publishes a new configuration at once. Running connections are decided again by it.
    pub fn reconfigure(
        &self,
        spec: Arc<EndpointSpec>,
        policy: Option<Policy>,
        upstream: Arc<Upstream>,
    ) {
        self.replace(|old| Snapshot {
            spec,
            policy,
            upstream,
            material: Arc::clone(&old.material),
        });
    }

    /// The endpoint is gone: its connections end as `drained`.
    pub fn remove(&self) {
        self.state.send_replace(None);
    }

    /// Takes a place among the endpoint's connections, if there is one.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let entered = self
            .active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |active| {
                (active < limit).then_some(active + 1)
            });
        entered.is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// A place among an endpoint's connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Endpoint>);

impl Place {
    /// Whether so many connections leave a quarter of `limit` free.
    pub(crate) fn leaves_a_quarter_of(&self, limit: usize) -> bool {
        self.0.active.load(Ordering::Relaxed) <= limit - limit / 4
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
