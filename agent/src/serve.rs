//! The doors of the agent: the Workload API and SDS for everybody on this host; the Delegated Identity
//! API for those that may ask in another's name, with SPIRE's Debug and Logger beside it.

mod admin_info;
mod caller;
mod delegated;
mod door;
mod header;
mod idle;
mod logger;
mod members;
mod sds;
mod validated;
mod view;
mod workload_api;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sekisho_certs::{IdList, SpiffeId};
use sekisho_spire_api::{
    DESCRIPTORS,
    agent::{
        debug::debug_server::DebugServer,
        delegated_identity::delegated_identity_server::DelegatedIdentityServer,
        logger::logger_server::LoggerServer,
    },
    envoy::secret::secret_discovery_service_server::SecretDiscoveryServiceServer,
    federation::node_federation_server::NodeFederationServer,
    workload::spiffe_workload_api_server::SpiffeWorkloadApiServer,
};
use tokio::{sync::watch, task::JoinHandle};
use tonic::transport::Server;

use crate::{jwt::Tokens, run::Shared, workload::WorkloadAttestors};
use caller::Callers;
pub use delegated::Delegates;
pub use logger::{Level, LogLevel};

/// Streams that one connection may have at a time.
const STREAMS: u32 = 100;
/// How often a client is asked whether it is still there, however rarely a stream has something to say.
const PING: Duration = Duration::from_secs(120);
/// How long it may take to answer: longer than a process commonly stands still.
const PONG: Duration = Duration::from_secs(60);
/// How long calls may go on once the end has been asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// Where an agent listens.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// The Workload API and SDS, for everybody on this host.
    pub socket: Option<PathBuf>,
    /// The same over TCP, on loopback only.
    pub tcp: Option<SocketAddr>,
    /// Delegated Identity, for root and the owner.
    pub admin: Option<PathBuf>,
}

/// What SDS calls its secrets, beside SPIFFE IDs: SPIRE's names by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdsNames {
    /// The first identity: `default`.
    pub svid: String,
    /// The own bundle: `ROOTCA`.
    pub bundle: String,
    /// All bundles: `ALL`.
    pub all_bundles: String,
}

impl Default for SdsNames {
    fn default() -> Self {
        Self {
            svid: "default".into(),
            bundle: "ROOTCA".into(),
            all_bundles: "ALL".into(),
        }
    }
}

/// What serving needs.
#[derive(Debug)]
pub struct Serve {
    /// What the agent knows.
    pub shared: Shared,
    /// Who finds out who asks.
    pub attestors: WorkloadAttestors,
    /// Who may ask in another's name, and for whom.
    pub delegates: Vec<(SpiffeId, IdList)>,
    /// The names of SDS.
    pub sds: SdsNames,
    /// The log of this process, where its level can be changed.
    pub log: Option<Arc<dyn LogLevel>>,
}

/// Why an agent does not serve.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {error}")]
pub struct ServeError {
    /// Which door.
    pub place: String,
    /// What the system says.
    pub error: io::Error,
}

/// An agent that serves, until it is stopped.
#[derive(Debug)]
pub struct Serving {
    tcp: Option<SocketAddr>,
    sockets: Vec<PathBuf>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Opens the doors.
    ///
    /// # Errors
    /// When one cannot be opened; then none is.
    pub async fn start(serve: Serve, doors: &Doors) -> Result<Self, ServeError> {
        let tokens = Arc::new(Tokens::new(&serve.shared));
        let delegates = Delegates::new(serve.delegates);
        let callers = Arc::new(Callers::new(serve.shared, serve.attestors));
        let mut serving = Self {
            tcp: None,
            sockets: Vec::new(),
            stop: watch::Sender::new(false),
            tasks: Vec::new(),
        };
        let bound = serving.open(doors).await;
        let (socket, tcp, admin) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                serving.stop().await;
                return Err(error);
            }
        };
        for connections in [socket, tcp].into_iter().flatten() {
            let stopped = serving.stopped();
            let router = workload_routes(&callers, &tokens, &serve.sds);
            serving.tasks.push(tokio::spawn(async move {
                told(
                    router
                        .serve_with_incoming_shutdown(connections, stopped)
                        .await,
                );
            }));
        }
        if let Some(connections) = admin {
            let members = members::Service::of_delegates(Arc::clone(&callers), delegates.clone());
            let delegated =
                delegated::Service::new(Arc::clone(&callers), Arc::clone(&tokens), delegates);
            let debug = admin_info::Service::new(callers.shared().clone(), tokens);
            let log = serve.log.map(logger::Service::new).map(LoggerServer::new);
            let router = builder()
                .layer(idle::Counted)
                .add_service(DelegatedIdentityServer::new(delegated))
                .add_service(NodeFederationServer::new(members))
                .add_service(DebugServer::new(debug))
                .add_optional_service(log);
            let stopped = serving.stopped();
            serving.tasks.push(tokio::spawn(async move {
                told(
                    router
                        .serve_with_incoming_shutdown(connections, stopped)
                        .await,
                );
            }));
        }
        Ok(serving)
    }

    async fn open(&mut self, doors: &Doors) -> Result<Opened, ServeError> {
        let unix = |path: &Option<PathBuf>, mode| match path {
            None => Ok(None),
            Some(path) => door::unix(path, mode)
                .map(Some)
                .map_err(failed(path.display())),
        };
        let socket = unix(&doors.socket, door::EVERYBODY)?;
        self.sockets.extend(doors.socket.clone());
        let admin = unix(&doors.admin, door::OWNER)?;
        self.sockets.extend(doors.admin.clone());
        let tcp = match doors.tcp {
            None => None,
            Some(address) => {
                let (connections, bound) = door::tcp(address).await.map_err(failed(address))?;
                self.tcp = Some(bound);
                Some(connections)
            }
        };
        Ok((socket, tcp, admin))
    }

    /// Where the TCP door is: for those that asked for any port.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        self.tcp
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            // An error means that the sender is gone: stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// Closes the doors. Streams that workloads hold are cut after a few seconds: they come again.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for path in &self.sockets {
            remove(path);
        }
        let mut tasks = self.tasks;
        let ended = async {
            for task in &mut tasks {
                // One that panicked has been told.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            for task in &tasks {
                task.abort();
            }
        }
    }
}

type Opened = (
    Option<door::Connections>,
    Option<door::Connections>,
    Option<door::Connections>,
);

fn failed(place: impl ToString) -> impl FnOnce(io::Error) -> ServeError {
    let place = place.to_string();
    move |error| ServeError { place, error }
}

fn remove(path: &Path) {
    // One that stays is put away at the next start.
    let _ = std::fs::remove_file(path);
}

fn told(served: Result<(), tonic::transport::Error>) {
    if let Err(error) = served {
        tracing::error!(%error, "a door has closed");
    }
}

fn builder() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PONG))
}

fn workload_routes(
    callers: &Arc<Callers>,
    tokens: &Arc<Tokens>,
    names: &SdsNames,
) -> tonic::transport::server::Router<header::Stack> {
    let workload = workload_api::Service::new(Arc::clone(callers), Arc::clone(tokens));
    let sds = sds::Service::new(Arc::clone(callers), names.clone());
    let members = members::Service::new(Arc::clone(callers));
    // It serves when it listens: what there is to serve is told by each call.
    let (_, health) = tonic_health::server::health_reporter();
    let mut builder = builder().layer(idle::Counted).layer(header::Required);
    let router = builder
        .add_service(SpiffeWorkloadApiServer::new(workload))
        .add_service(SecretDiscoveryServiceServer::new(sds))
        .add_service(NodeFederationServer::new(members))
        .add_service(health);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .with_service_name("SpiffeWorkloadAPI")
        .with_service_name("envoy.service.secret.v3.SecretDiscoveryService")
        .with_service_name("sekisho.federation.v1.NodeFederation");
    match reflection.build_v1() {
        Ok(service) => router.add_service(service),
        Err(error) => {
            tracing::error!(%error, "no reflection");
            router
        }
    }
}
