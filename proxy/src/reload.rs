//! A new set of endpoints in place of the old: all or nothing.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use sekisho_policy::Policy;

use crate::{
    Proxy, Running,
    accept::{Bound, Listener, Table},
    endpoint::{
        Endpoint,
        spec::{Bind, EndpointSpec},
    },
    upstream::Upstream,
};

/// An endpoint as it shall be.
#[derive(Clone, Debug)]
pub struct Desired {
    /// What the file says.
    pub spec: Arc<EndpointSpec>,
    /// Its policy, loaded.
    pub policy: Option<Policy>,
}

/// Why a reload was refused; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An address cannot be bound.
    #[error("cannot listen on {bind}: {error}")]
    Bind {
        /// Which.
        bind: Bind,
        /// What the system says.
        error: io::Error,
    },
    /// The system refuses a worker.
    #[error("no worker runs")]
    NoWorker,
}

impl Proxy {
    /// Puts these endpoints in place of those that run.
    ///
    /// Endpoints that are equal to what they were are not touched. Connections of a changed one
    /// are decided again; those of one that is gone end. With `strict` (a reload), a new address
    /// that cannot be bound refuses the whole; without (the start), its endpoints are not ready,
    /// and [`Proxy::retry`] tries again.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound, with `strict`.
    pub fn apply(&self, desired: &[Desired], strict: bool) -> Result<(), ApplyError> {
        let runtime = self.shared.workers.acceptor().ok_or(ApplyError::NoWorker)?;
        let mut running = self.running();
        let mut wanted: BTreeMap<Bind, Vec<&Desired>> = BTreeMap::new();
        for endpoint in desired {
            let bind = endpoint.spec.listen.bind();
            wanted.entry(bind).or_default().push(endpoint);
        }
        let mut opened = HashMap::new();
        let mut failed = BTreeMap::new();
        for (bind, endpoints) in &wanted {
            let Some(first) = endpoints.first() else {
                continue;
            };
            if running.listeners.contains_key(bind) {
                continue;
            }
            match Bound::open(bind, &first.spec) {
                Ok(bound) => {
                    opened.insert(bind.clone(), bound);
                }
                // One that was taken before this reload is no fault of it.
                Err(error) if strict && !running.failed.contains_key(bind) => {
                    let bind = bind.clone();
                    return Err(ApplyError::Bind { bind, error });
                }
                Err(error) => {
                    tracing::error!(address = %bind, %error, "cannot listen; will try again");
                    failed.insert(bind.clone(), error.to_string());
                }
            }
        }
        // Nothing can fail from here on.
        let mut endpoints = BTreeMap::new();
        for new in desired {
            let name = &new.spec.name;
            let endpoint = match running.endpoints.get(name) {
                Some(endpoint) => {
                    self.reconfigure(endpoint, new, runtime);
                    Arc::clone(endpoint)
                }
                None => Endpoint::new(
                    Arc::clone(&new.spec),
                    new.policy.clone(),
                    &self.shared.context,
                    Upstream::new(&new.spec, runtime),
                    self.shared.memory.share(),
                ),
            };
            endpoints.insert(name.clone(), endpoint);
        }
        for (name, endpoint) in &running.endpoints {
            if !endpoints.contains_key(name) {
                let targets = targets(endpoint);
                endpoint.remove();
                self.shared.metrics.forget(name, &targets);
            }
        }
        for name in endpoints.keys() {
            self.shared.metrics.know(name);
        }
        running.listeners.retain(|bind, listener| {
            let keep = wanted.contains_key(bind);
            if !keep {
                listener.stop();
            }
            keep
        });
        for (bind, wanted) in &wanted {
            let pairs = wanted.iter().filter_map(|new| {
                let endpoint = endpoints.get(&new.spec.name)?;
                Some((&*new.spec, endpoint))
            });
            let table = Table::new(pairs);
            if let Some(bound) = opened.remove(bind) {
                let listener = Listener::start(bound, table, &self.shared);
                running.listeners.insert(bind.clone(), listener);
            } else if let (Some(listener), Some(first)) =
                (running.listeners.get(bind), wanted.first())
            {
                listener.set_table(table, bind, &first.spec);
            }
        }
        running.endpoints = endpoints;
        running.failed = failed;
        Ok(())
    }

    fn reconfigure(
        &self,
        endpoint: &Arc<Endpoint>,
        new: &Desired,
        runtime: &tokio::runtime::Handle,
    ) {
        let Some(old) = endpoint.snapshot() else {
            return;
        };
        let revision = |policy: &Option<Policy>| {
            let policy = policy.as_ref();
            policy.map(|policy| {
                (
                    policy.revision().to_owned(),
                    policy.decision_path().to_owned(),
                )
            })
        };
        let same_policy = revision(&old.policy) == revision(&new.policy);
        if old.spec == new.spec && same_policy {
            return;
        }
        let same_targets = old.spec.forward == new.spec.forward
            && old.spec.balance == new.spec.balance
            && old.spec.health == new.spec.health
            && old.spec.sockets.forward == new.spec.sockets.forward;
        let upstream = if same_targets {
            Arc::clone(&old.upstream)
        } else {
            self.shared
                .metrics
                .forget_targets(endpoint.name(), &targets(endpoint));
            Upstream::new(&new.spec, runtime)
        };
        endpoint.reconfigure(Arc::clone(&new.spec), new.policy.clone(), upstream);
    }

    /// Tries again to bind the addresses that could not be bound at start. Returns how many are
    /// still missing.
    ///
    /// Must be called inside a tokio runtime.
    pub fn retry(&self) -> usize {
        let mut running = self.running();
        if self.is_draining() {
            return 0;
        }
        let missing: Vec<_> = running.failed.keys().cloned().collect();
        for bind in missing {
            let specs = specs_at(&running, &bind);
            let Some((first, _)) = specs.first() else {
                running.failed.remove(&bind);
                continue;
            };
            match Bound::open(&bind, first) {
                Ok(bound) => {
                    tracing::info!(address = %bind, "listening at last");
                    let table =
                        Table::new(specs.iter().map(|(spec, endpoint)| (&**spec, endpoint)));
                    let listener = Listener::start(bound, table, &self.shared);
                    running.failed.remove(&bind);
                    running.listeners.insert(bind, listener);
                }
                Err(error) => {
                    running.failed.insert(bind, error.to_string());
                }
            }
        }
        running.failed.len()
    }
}

fn specs_at(running: &Running, bind: &Bind) -> Vec<(Arc<EndpointSpec>, Arc<Endpoint>)> {
    let all = running.endpoints.values().filter_map(|endpoint| {
        let spec = Arc::clone(&endpoint.snapshot()?.spec);
        (spec.listen.bind() == *bind).then(|| (spec, Arc::clone(endpoint)))
    });
    all.collect()
}

fn targets(endpoint: &Endpoint) -> Vec<String> {
    let snapshot = endpoint.snapshot();
    snapshot
        .iter()
        .flat_map(|snapshot| snapshot.upstream.targets())
        .map(|target| target.name().to_owned())
        .collect()
}
