//! The way of a connection, stage by stage; each consumes what the one before gave.
//!
//! ```text
//! receiving (mTLS in):  accept → handshake → peer → permit → upstream → relay
//! sending (mTLS out):   accept → peer (local client) → upstream (dial, handshake, peer) → permit → relay
//! the same, by CONNECT: accept → peer (local client) → request → upstream → permit → answer → relay
//! ```
//!
//! What this crate refuses to do: relay a byte without a [`permit::Permit`], dial on behalf of a
//! peer that is not permitted, resume a TLS session without verifying its peer again, or fall back to
//! an identity nobody chose. It does not know where identities come from: it is given
//! [`sekisho_certs::Material`].

mod accept;
pub mod connect;
mod connection;
pub mod drain;
pub mod endpoint;
pub mod error;
pub mod federation;
mod handshake;
pub mod held;
pub mod lanes;
pub mod live;
pub mod local;
pub mod metrics;
pub mod path;
pub mod peer;
pub mod permit;
pub mod proxy_protocol;
pub mod relay;
mod reload;
mod scratch;
pub mod socket;
pub mod socket_file;
pub mod status;
pub mod stream;
pub mod transport;
pub mod upstream;
pub mod wire;
pub mod worker;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sekisho_certs::{TlsContext, members::Feed};
use sekisho_record::{Backend, Measured};
use tokio::sync::watch;

use crate::{
    accept::Listener,
    drain::Phase,
    endpoint::{Endpoint, spec::Bind},
    held::Memory,
    lanes::streams::Streams,
    live::Registry,
    local::LocalUsers,
    metrics::Metrics,
    worker::Workers,
};

pub use reload::{ApplyError, Desired};
pub use sekisho_record::Limits;

/// What all connections of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    context: TlsContext,
    workers: Workers,
    registry: Registry,
    metrics: Metrics,
    users: LocalUsers,
    drain: watch::Sender<Phase>,
    access_log: bool,
    /// What all connections keep together.
    memory: Arc<Memory>,
    /// Streams that lanes may join.
    streams: Arc<Streams>,
    aead: Aead,
    limits: Limits,
}

/// How a proxy is set up. What a reload may change is not here.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that serve connections; at least one.
    pub workers: usize,
    /// Whether every connection writes one event of target `access`.
    pub access_log: bool,
    /// Most bytes that all connections together keep, for slow receivers and of streams over lanes; see
    /// [`Memory`]. Default: 256 MiB.
    pub buffers: usize,
    /// What protects records.
    pub aead: Aead,
    /// Bounds of TLS sessions; lower ones are for tests.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            access_log: true,
            buffers: 256 * 1024 * 1024,
            aead: Aead::measured(),
            limits: Limits::default(),
        }
    }
}

/// Which library's AEAD protects records of endpoints that do not say otherwise, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aead {
    /// What both did on this machine.
    pub measured: Measured,
    /// The faster one.
    pub chosen: Backend,
}

impl Aead {
    /// Measures both, and takes the faster one. Some milliseconds.
    #[must_use]
    pub fn measured() -> Self {
        let measured = Measured::now();
        Self {
            measured,
            chosen: measured.fastest(),
        }
    }
}

/// What runs now.
#[derive(Debug, Default)]
struct Running {
    endpoints: BTreeMap<String, Arc<Endpoint>>,
    listeners: HashMap<Bind, Arc<Listener>>,
    /// Addresses that could not be bound at start, and why; tried again.
    failed: BTreeMap<Bind, String>,
}

/// A proxy: endpoints, the sockets they listen on and the threads they run on.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    running: Mutex<Running>,
    /// From where endpoints know other sites.
    feeds: Mutex<Vec<Feed>>,
}

impl Proxy {
    /// Starts the threads, with nothing to do yet.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(context: TlsContext, options: &Options) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared {
                context,
                workers: Workers::start(options.workers)?,
                registry: Registry::default(),
                metrics: Metrics::default(),
                users: LocalUsers::default(),
                drain: watch::Sender::new(Phase::Serving),
                access_log: options.access_log,
                memory: Memory::new(options.buffers),
                streams: Arc::default(),
                aead: options.aead,
                limits: options.limits,
            }),
            running: Mutex::default(),
            feeds: Mutex::default(),
        })
    }

    /// Cryptography and clock.
    #[must_use]
    pub fn context(&self) -> &TlsContext {
        &self.shared.context
    }

    /// The connections that exist now.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Metrics, without the gauges that [`Proxy::metrics_text`] brings up to date.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The endpoint of a name.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<Arc<Endpoint>> {
        self.running().endpoints.get(name).cloned()
    }

    /// All endpoints, by name.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.running().endpoints.values().cloned().collect()
    }

    /// The threads that serve connections.
    #[must_use]
    pub fn workers(&self) -> &Workers {
        &self.shared.workers
    }

    /// Bytes that connections keep, for slow receivers and of streams over lanes.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// What protects records.
    #[must_use]
    pub fn aead(&self) -> Aead {
        self.shared.aead
    }

    /// Stops accepting, waits for the connections for at most `time`, then closes the rest.
    /// Returns how many had to be closed.
    pub async fn drain(&self, time: Duration) -> usize {
        for (_, listener) in self.running().listeners.drain() {
            listener.stop();
        }
        let Shared {
            drain,
            registry,
            workers,
            ..
        } = &*self.shared;
        drain::drain(drain, registry, workers, time).await
    }

    /// Whether it is on its way to the end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.shared.drain.borrow() != Phase::Serving
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
