//! The two doors of the authority: TCP with TLS for agents, servers below and administrators from
//! afar; a Unix socket for administrators of this host.

mod authorize;
mod door;
mod tcp;
mod tls;
mod unix;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::{crypto::CryptoProvider, server::ResolvesServerCert};
use sekisho_federation::{
    acme::{Acme, AcmeError},
    endpoint,
    oidc::{Certificate, CertificateError},
};
use sekisho_spire_api::federation::federation_server::FederationServer;
use sekisho_spire_api::federation_admin::federation_admin_server::FederationAdminServer;
use sekisho_spire_api::server::{
    agent::agent_server::AgentServer, bundle::bundle_server::BundleServer,
    debug::debug_server::DebugServer, entry::entry_server::EntryServer,
    local_authority::local_authority_server::LocalAuthorityServer,
    logger::logger_server::LoggerServer, svid::svid_server::SvidServer,
    trust_domain::trust_domain_server::TrustDomainServer,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Server, server::Router};
use tonic_health::pb::health_server::HealthServer;

use crate::{
    api::{
        AgentService, BundleService, DebugService, EntryService, FederationAdminService,
        HealthService, LocalAuthorityService, LoggerService, MembersService, SvidService,
        TrustDomainService,
    },
    ca::{CaError, upstream},
    core::Core,
    directory,
    federation::{self, EndpointSettings, Published, Shown},
    store::StoreError,
};
use authorize::{Authorize, Stack};
use tls::{Callers, ServerIdentity};

/// A connection that is older ends after its running calls: agents come back by themselves, to
/// another authority where there are several.
const OLDEST: Duration = Duration::from_secs(180);
/// How long calls may go on once the end has been asked for, or their connection is too old.
const DRAIN: Duration = Duration::from_secs(30);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// The longest pause between attempts that fail.
const LONGEST: Duration = Duration::from_secs(60);
/// How often what has ended is put away.
const PRUNE: Duration = Duration::from_secs(300);
/// Connections that wait to be served.
const READY: usize = 16;

/// Where an authority listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// TLS.
    pub tcp: Option<SocketAddr>,
    /// For administrators of this host.
    pub socket: Option<PathBuf>,
    /// Whether that socket is for the user of this process alone, and not for its group too.
    pub owner_only: bool,
}

/// Why an authority does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate of the bundle endpoint cannot be asked for.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The certificate of the bundle endpoint cannot be shown.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Its own certificate cannot be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The system refuses.
    #[error("{what}: {error}")]
    Io {
        /// Where.
        what: String,
        /// What it says.
        error: io::Error,
    },
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// An authority that serves, until it is stopped.
#[derive(Debug)]
pub struct Serving {
    address: Option<SocketAddr>,
    bundles: Option<SocketAddr>,
    socket: Option<PathBuf>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Opens the doors.
    ///
    /// # Errors
    /// Each of [`ServeError`]'s variants; then nothing listens.
    pub async fn start(
        core: Arc<Core>,
        doors: &Doors,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, ServeError> {
        let stop = watch::Sender::new(false);
        let mut serving = Self {
            address: None,
            bundles: None,
            socket: None,
            tasks: Vec::new(),
            stop,
        };
        core.begin_federation().await?;
        let identity = ServerIdentity::new(&core, &provider)?;
        let callers = Callers::new(Arc::clone(&core), Arc::clone(&provider)).await?;
        let config = tls::config(
            Arc::clone(&identity),
            Arc::clone(&callers),
            Arc::clone(&provider),
        )?;
        if let Some(endpoint) = core.settings.federation.endpoint.clone() {
            serving
                .open_bundles(&core, endpoint, &identity, &provider)
                .await?;
        }
        if let Some(address) = doors.tcp {
            let failed = |error| ServeError::Io {
                what: address.to_string(),
                error,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            serving.address = Some(listener.local_addr().map_err(failed)?);
            let (ready, connections) = mpsc::channel(READY);
            let limits = core.settings.connections;
            serving.run(tcp::accept(listener, Arc::new(config), limits, ready));
            let router = routes(&core);
            let stopped = serving.stopped();
            serving.run(async move {
                let connections = ReceiverStream::new(connections);
                let served = router
                    .serve_with_incoming_shutdown(connections, stopped)
                    .await;
                told(served);
            });
        }
        if let Some(path) = &doors.socket {
            let listener =
                unix::listen(path, doors.owner_only).map_err(|error| ServeError::Io {
                    what: "socket".into(),
                    error,
                })?;
            let router = routes_of_this_host(&core);
            serving.socket = Some(path.clone());
            let stopped = serving.stopped();
            let (ready, connections) = mpsc::channel(READY);
            serving.run(unix::accept(listener, ready));
            serving.run(async move {
                let connections = ReceiverStream::new(connections);
                let served = router
                    .serve_with_incoming_shutdown(connections, stopped)
                    .await;
                told(served);
            });
        }
        let (polled, stopped) = (Arc::clone(&core), serving.stopped());
        serving.run(async move {
            tokio::select! {
                () = federation::poll(polled) => {}
                () = stopped => {}
            }
        });
        if let Some(member) = core.settings.member.clone() {
            let (spoken, stopped) = (Arc::clone(&core), serving.stopped());
            serving.run(async move {
                tokio::select! {
                    () = directory::publish(spoken, member) => {}
                    () = stopped => {}
                }
            });
        }
        if let Some(handle) = core.followed().cloned() {
            let (kept, asked) = (Arc::clone(&core), Arc::clone(&core));
            let (first, second) = (serving.stopped(), serving.stopped());
            let listened = handle.clone();
            serving.run(async move {
                tokio::select! {
                    () = directory::keep(kept, handle) => {}
                    () = first => {}
                }
            });
            serving.run(async move {
                tokio::select! {
                    () = directory::listen(asked, listened) => {}
                    () = second => {}
                }
            });
        }
        let (turned, stopped) = (Arc::clone(&core), serving.stopped());
        serving.run(async move {
            tokio::select! {
                () = rotate(turned) => {}
                () = stopped => {}
            }
        });
        if core.ca.has_upstream() {
            let (below, stopped) = (Arc::clone(&core), serving.stopped());
            serving.run(async move {
                tokio::select! {
                    () = follow(below) => {}
                    () = stopped => {}
                }
            });
        }
        let stopped = serving.stopped();
        serving.run(async move {
            tokio::select! {
                () = keep(core, identity, callers, provider) => {}
                () = stopped => {}
            }
        });
        Ok(serving)
    }

    /// Where the TCP door is: for those that asked for any port.
    #[must_use]
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where the bundle endpoint is: for those that asked for any port.
    #[must_use]
    pub const fn bundles(&self) -> Option<SocketAddr> {
        self.bundles
    }

    /// Opens the door of our bundle endpoint.
    async fn open_bundles(
        &mut self,
        core: &Arc<Core>,
        endpoint: EndpointSettings,
        own: &Arc<ServerIdentity>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), ServeError> {
        let failed = |error| ServeError::Io {
            what: format!("bundle endpoint, {}", endpoint.listen),
            error,
        };
        let listener = TcpListener::bind(endpoint.listen).await.map_err(failed)?;
        self.bundles = Some(listener.local_addr().map_err(failed)?);
        let acme = matches!(endpoint.shown, Shown::Acme(_));
        let shown: Arc<dyn ResolvesServerCert> = match endpoint.shown {
            Shown::Own => Arc::<ServerIdentity>::clone(own),
            Shown::Web { cert, key } => {
                let files = Certificate::load(cert, key, Arc::clone(provider))?;
                let (files, stopped) = (Arc::new(files), self.stopped());
                let followed = Arc::clone(&files);
                self.run(async move {
                    tokio::select! {
                        () = followed.follow() => {}
                        () = stopped => {}
                    }
                });
                files
            }
            Shown::Acme(settings) => {
                let clock = Arc::clone(&core.clock);
                let acme = Arc::new(Acme::open(settings, Arc::clone(provider), clock)?);
                let (kept, stopped) = (Arc::clone(&acme), self.stopped());
                self.run(async move {
                    tokio::select! {
                        () = kept.keep() => {}
                        () = stopped => {}
                    }
                });
                acme
            }
        };
        let documents = Arc::new(Published::new(Arc::clone(core)));
        let (provider, stopped) = (Arc::clone(provider), self.stopped());
        self.run(async move {
            tokio::select! {
                served = endpoint::serve(listener, shown, acme, documents, provider) => {
                    if let Err(error) = served {
                        tracing::error!(%error, "the bundle endpoint has closed");
                    }
                }
                () = stopped => {}
            }
        });
        Ok(())
    }

    fn run(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            // An error means that the sender is gone: stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// Closes the doors and waits until running calls have ended.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Some(path) = &self.socket {
            // One that stays is put away at the next start.
            let _ = std::fs::remove_file(path);
        }
        let ended = async {
            for task in self.tasks {
                // One that panicked has been told.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("calls that still run are cut");
        }
    }
}

fn told(served: Result<(), tonic::transport::Error>) {
    if let Err(error) = served {
        tracing::error!(%error, "a door has closed");
    }
}

fn routes(core: &Arc<Core>) -> Router<Stack> {
    let core = || Arc::clone(core);
    Server::builder()
        .layer(Authorize(core()))
        .max_connection_age(OLDEST)
        .max_connection_age_grace(DRAIN)
        .add_service(AgentServer::new(AgentService::new(core())))
        .add_service(BundleServer::new(BundleService::new(core())))
        .add_service(EntryServer::new(EntryService::new(core())))
        .add_service(FederationAdminServer::new(FederationAdminService::new(
            core(),
        )))
        .add_service(FederationServer::new(MembersService::new(core())))
        .add_service(LocalAuthorityServer::new(
            LocalAuthorityService::new(core()),
        ))
        .add_service(SvidServer::new(SvidService::new(core())))
        .add_service(TrustDomainServer::new(TrustDomainService::new(core())))
}

/// What is there for administrators of this host only.
fn routes_of_this_host(core: &Arc<Core>) -> Router<Stack> {
    let log = core.log.as_ref().map(|log| {
        let (core, log) = (Arc::clone(core), Arc::clone(log));
        LoggerServer::new(LoggerService::new(core, log))
    });
    routes(core)
        .add_service(DebugServer::new(DebugService::new(Arc::clone(core))))
        .add_service(HealthServer::new(HealthService::new(Arc::clone(core))))
        .add_optional_service(log)
}

/// The pause after a failure: twice the one before.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST)
}

/// Takes the steps that time asks of the CA. By itself: the authority above may take its time.
async fn rotate(core: Arc<Core>) {
    let mut pause = LOOK;
    loop {
        tokio::time::sleep(pause).await;
        pause = match core.ca.look_at_the_clock().await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::error!(%error, "authorities not rotated");
                longer(pause)
            }
        };
    }
}

/// Has our bundle follow that of the authority above, as long as that has one to follow.
async fn follow(core: Arc<Core>) {
    let mut pause = upstream::EVERY;
    loop {
        pause = match core.ca.follow().await {
            Ok(true) => upstream::EVERY,
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "the bundle does not follow that of the authority above");
                longer(pause)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// What has to be done from time to time.
async fn keep(
    core: Arc<Core>,
    identity: Arc<ServerIdentity>,
    callers: Arc<Callers>,
    provider: Arc<CryptoProvider>,
) {
    let mut pruned = core.now();
    let mut bundle = core.ca.bundle();
    loop {
        // A change of our own bundle is seen at once, everything else a little later.
        let _ = tokio::time::timeout(LOOK, bundle.changed()).await;
        if let Err(error) = identity.renew(&core, &provider) {
            tracing::error!(%error, "own certificate not renewed");
        }
        if let Err(error) = callers.renew().await {
            tracing::error!(%error, "bundles not read");
        }
        if core.now().duration_since(pruned).unwrap_or_default() >= PRUNE {
            pruned = core.now();
            core.prune().await;
        }
    }
}
