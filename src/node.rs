//! One node: a configuration with its policies, joined to sources, stores and a proxy.

pub(crate) mod federation;
mod inside;
mod load;
mod sources;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use sekisho_certs::{
    StoreSpec, SystemClock, TlsContext,
    members::Feed,
    source::{BundlesSpec, SourceSpec, watch_bundles},
    store, tls,
};
use sekisho_proxy::{
    Desired, Options, Proxy,
    endpoint::spec::{Forward, Listen},
};
use tokio::task::JoinHandle;

use crate::{
    admin::{AdminServer, Prepared},
    check,
    config::{Config, EndpointConfig},
};
use federation::Teller;
pub(crate) use inside::Inside;
pub(crate) use load::{Loaded, load};
use sources::Sources;
pub(crate) use sources::describe;

/// Cores used when the file does not say.
const MAX_WORKERS: usize = 8;

/// How reloads went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reloads {
    pub(crate) applied: u64,
    pub(crate) refused: u64,
    /// Why the last one was refused; `None` after one that was applied.
    pub(crate) problem: Option<String>,
}

/// What the admin address shows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) started: SystemTime,
    pub(crate) about: Mutex<About>,
}

/// The part of it that a reload changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) site: String,
    pub(crate) reloads: Reloads,
    /// By endpoint: the source of its identity, in words.
    pub(crate) sources: HashMap<String, String>,
}

/// What an endpoint's store task depends on.
#[derive(Clone, Debug, PartialEq)]
struct StoreKey {
    spec: StoreSpec,
    identity: SourceSpec,
    bundles: KeptBundles,
    /// Who is asked for members, where they count.
    members: Option<Teller>,
}

/// Bundles from files, and how many of the first may be of our own trust domain.
#[derive(Clone, Debug, PartialEq)]
struct KeptBundles {
    specs: Vec<BundlesSpec>,
    own: usize,
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    config: Config,
    shown: Arc<Shown>,
    sources: Sources,
    stores: HashMap<String, (StoreKey, JoinHandle<()>)>,
}

impl Node {
    /// Starts what `loaded` says. What the world refuses (a port in use, a missing key) leaves
    /// the endpoints concerned not ready.
    pub(crate) fn start(loaded: Loaded) -> anyhow::Result<Self> {
        let context = TlsContext {
            provider: Arc::new(tls::provider()),
            clock: Arc::new(SystemClock),
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = loaded
            .config
            .workers
            .unwrap_or_else(|| cores.min(MAX_WORKERS));
        let started = context.clock.now();
        let proxy = Proxy::start(
            context,
            &Options {
                workers,
                access_log: loaded.config.log.access,
                buffers: loaded.config.buffers,
                ..Options::default()
            },
        )?;
        for warning in loaded
            .config
            .endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.warnings)
        {
            tracing::warn!(place = %warning.location, field = warning.field, "{}", warning.message);
        }
        proxy.apply(&desired(&loaded), false)?;
        let mut node = Self {
            shown: Arc::new(Shown {
                proxy: Arc::new(proxy),
                started,
                about: Mutex::default(),
            }),
            sources: Sources::new(loaded.config.clone()),
            stores: HashMap::new(),
            config: loaded.config,
        };
        warn_of_sockets(&node.config);
        node.follow();
        tracing::info!(
            site = %node.config.site,
            endpoints = node.config.endpoints.len(),
            workers,
            version = env!("CARGO_PKG_VERSION"),
            "started"
        );
        Ok(node)
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn proxy(&self) -> &Arc<Proxy> {
        &self.shown.proxy
    }

    pub(crate) fn shared(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// New SVIDs from embedded CAs, now.
    pub(crate) fn rotate(&self) {
        let count = self.sources.rotate();
        tracing::info!(authorities = count, "SVIDs rotated on request");
    }

    /// Puts a new configuration in place, or refuses it whole.
    pub(crate) fn reload(&mut self, loaded: Loaded, asked: bool, admin: &mut AdminServer) {
        let same = loaded.config == self.config && self.same_policies(&loaded);
        if same {
            if asked {
                tracing::info!("reload asked for, nothing has changed");
            }
            self.about().reloads.problem = None;
            return;
        }
        // Both are bound before either is taken, so that a refusal takes nothing away.
        let admin_there = match admin.prepare(loaded.config.admin.as_ref(), &self.shown) {
            Ok(prepared) => prepared,
            // The old one could not be bound either: it is tried again, as at start.
            Err(_) if loaded.config.admin == self.config.admin => Prepared::Same,
            Err(error) => return self.refused(format!("admin address: {error}"), asked),
        };
        if let Err(error) = self.proxy().apply(&desired(&loaded), true) {
            return self.refused(error.to_string(), asked);
        }
        admin.replace(admin_there);
        if loaded.config.workers != self.config.workers
            || loaded.config.log != self.config.log
            || loaded.config.buffers != self.config.buffers
        {
            tracing::warn!("`workers`, `log` and `buffers` take effect at the next start");
        }
        let now = federated(&self.config);
        if now.is_some()
            && now == federated(&loaded.config)
            && loaded.config.federation != self.config.federation
        {
            tracing::warn!("what has changed in `federation` takes effect at the next start");
        }
        self.config = loaded.config;
        warn_of_sockets(&self.config);
        self.follow();
        let mut about = self.about();
        about.reloads.applied += 1;
        about.reloads.problem = None;
        drop(about);
        self.proxy().metrics().reloaded(true);
        tracing::info!(endpoints = self.config.endpoints.len(), "reload applied");
    }

    fn same_policies(&self, loaded: &Loaded) -> bool {
        loaded.config.endpoints.iter().all(|endpoint| {
            let endpoint_now = self.proxy().endpoint(&endpoint.spec.name);
            let now = endpoint_now.and_then(|endpoint| endpoint.snapshot());
            let now = now.as_ref().and_then(|snapshot| snapshot.policy.as_ref());
            let new = loaded.policy_of(endpoint);
            now.map(sekisho_policy::Policy::revision) == new.map(sekisho_policy::Policy::revision)
        })
    }

    /// Says that a new configuration was refused and the old one stays.
    pub(crate) fn refused(&self, problem: String, asked: bool) {
        let mut about = self.about();
        let news = about.reloads.problem.as_ref() != Some(&problem);
        // A file that stays wrong is looked at again and again, and is one refusal.
        if !news && !asked {
            return;
        }
        about.reloads.refused += 1;
        about.reloads.problem = Some(problem.clone());
        drop(about);
        self.proxy().metrics().reloaded(false);
        tracing::error!(problem, "reload refused; the running configuration stays");
    }

    fn about(&self) -> std::sync::MutexGuard<'_, About> {
        self.shown
            .about
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts, keeps or ends the tasks that keep each endpoint's material up to date.
    fn follow(&mut self) {
        let mut kept = HashMap::new();
        let mut names = HashMap::new();
        self.sources.set_file(&self.config);
        self.sources.want(federation::wants(&self.config.endpoints));
        for endpoint in &self.config.endpoints {
            let name = &endpoint.spec.name;
            let (Some(key), Some(running)) = (key(endpoint), self.shown.proxy.endpoint(name))
            else {
                continue;
            };
            names.insert(name.clone(), describe(&key.identity));
            let task = match self.stores.remove(name) {
                Some((old, task)) if old == key => task,
                old => {
                    if let Some((_, task)) = old {
                        task.abort();
                    }
                    let context = self.shown.proxy.context().clone();
                    let supply = self.sources.supply(&key.identity, &key.spec, &context);
                    let KeptBundles { specs, own } = key.bundles.clone();
                    let extra = watch_bundles(specs, key.spec.site.clone(), own);
                    let held = running
                        .snapshot()
                        .map(|snapshot| Arc::clone(&snapshot.material));
                    let Some(held) = held else { continue };
                    let spec = key.spec.clone();
                    let publish = move |material| running.set_material(material);
                    let feed = key.members.as_ref().map_or_else(Feed::none, |teller| {
                        self.sources.feed(teller, &key.spec.site, &context)
                    });
                    tokio::spawn(store::follow(
                        spec, supply, extra, feed, context, held, publish,
                    ))
                }
            };
            kept.insert(name.clone(), (key, task));
        }
        for (_, (_, task)) in self.stores.drain() {
            task.abort();
        }
        self.stores = kept;
        let used: Vec<_> = self
            .stores
            .values()
            .map(|(key, _)| (&key.identity, &key.spec.site))
            .collect();
        self.sources.keep_only(&used);
        self.shown.proxy.set_feeds(self.sources.feeds());
        let mut about = self.about();
        about.site = self.config.site.to_string();
        about.sources = names;
    }
}

fn key(endpoint: &EndpointConfig) -> Option<StoreKey> {
    let spec = &endpoint.spec;
    let identity = endpoint.identity.clone()?;
    let own_id = match &identity {
        // A CA of our own mints what it is asked for; without `as`, the endpoint's name.
        SourceSpec::Embedded { .. } => {
            let path = format!("/{}", spec.name);
            let named = || sekisho_certs::id::id_below(&spec.site, &path).ok();
            spec.own_id.clone().or_else(named)
        }
        SourceSpec::Files { .. }
        | SourceSpec::WorkloadApi { .. }
        | SourceSpec::Delegated { .. } => spec.own_id.clone(),
    };
    Some(StoreKey {
        spec: StoreSpec {
            name: spec.name.clone(),
            site: spec.site.clone(),
            own_id,
            lists: spec.lists().cloned().collect(),
            listen: match &spec.listen {
                Listen::Mtls { min_version, .. } => Some(*min_version),
                _ => None,
            },
            resumption: spec.resumption,
            forward: match &spec.forward {
                Forward::Mtls {
                    expect,
                    min_version,
                    ..
                } => Some((*min_version, expect.clone())),
                Forward::Plain { .. } => None,
            },
        },
        members: federation::teller(endpoint),
        identity,
        bundles: KeptBundles {
            specs: endpoint.bundles.clone(),
            own: endpoint.own_bundles,
        },
    })
}

/// The folder of the CA in this process that is federated by the file.
fn federated(config: &Config) -> Option<&PathBuf> {
    let mut identities = config.endpoints.iter().map(|one| one.identity.as_ref());
    identities.find_map(|identity| match identity {
        Some(SourceSpec::Embedded {
            data,
            federated: true,
        }) => Some(data),
        _ => None,
    })
}

/// Says which options of sockets this system refuses: they are tried when a configuration comes, and
/// not complained of for each connection.
fn warn_of_sockets(config: &Config) {
    for endpoint in &config.endpoints {
        for warning in check::world::sockets(&endpoint.spec) {
            tracing::warn!(endpoint = endpoint.spec.name, "{warning}");
        }
    }
}

fn desired(loaded: &Loaded) -> Vec<Desired> {
    let endpoints = loaded.config.endpoints.iter();
    endpoints
        .map(|endpoint| Desired {
            spec: Arc::new(endpoint.spec.clone()),
            policy: loaded.policy_of(endpoint).cloned(),
        })
        .collect()
}

/// Folders below `root`, `root` itself included; links are not followed.
pub(crate) fn folders(root: &std::path::Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next).cloned() {
        next += 1;
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(folders.map(|entry| entry.path()));
        if found.len() > 1000 {
            break;
        }
    }
    found
}
