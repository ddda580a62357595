//! A site: an authority, and agents of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use sekisho_agent::{
    attest::{NodeAttestor, Token},
    cache::SealKind,
    run::{Agent, AgentError, Bootstrap, Health, Settings, Shared},
    serve::{Doors, SdsNames, Serve, Serving},
    workload::{UnixSpec, WorkloadAttestorSpec, WorkloadAttestors},
};
use sekisho_authority::{
    ca::{Ca, CaSettings, keys::KeyFolder},
    core::{Core, Settings as AuthoritySettings},
    members::MemberSource,
    serve::{Doors as AuthorityDoors, Serving as Authority},
    store::Store,
};
use sekisho_certs::{Clock, IdList, SpiffeId, TrustDomain, id, tls};
use sekisho_spire_api::{
    server::{
        agent::{CreateJoinTokenRequest, ListAgentsRequest, agent_client::AgentClient},
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        entry::{BatchCreateEntryRequest, entry_client::EntryClient},
        local_authority::{
            ActivateX509AuthorityRequest, GetX509AuthorityStateRequest,
            PrepareX509AuthorityRequest, RevokeX509AuthorityRequest, TaintX509AuthorityRequest,
            local_authority_client::LocalAuthorityClient,
        },
    },
    types,
    workload::spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use sekisho_testkit::{TestClock, danger, wait_until};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Request,
    transport::{Channel, Endpoint, Uri},
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Site {
    folder: tempfile::TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) settings: AuthoritySettings,
    /// Who knows other sites, from the authority's next start on.
    pub(crate) directory: Option<Arc<dyn MemberSource>>,
    ca_ttl: Duration,
    port: u16,
    authority: Option<Authority>,
}

pub(crate) fn domain() -> TrustDomain {
    id::parse_trust_domain("hokkaido.example").unwrap()
}

pub(crate) async fn channel(path: &Path) -> Channel {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connect).await.unwrap()
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, 24 * HOUR).await
    }

    pub(crate) async fn with(
        change: impl FnOnce(&mut AuthoritySettings),
        ca_ttl: Duration,
    ) -> Self {
        let mut settings = AuthoritySettings::new(domain());
        change(&mut settings);
        let mut site = Self {
            folder: tempfile::tempdir().unwrap(),
            clock: TestClock::new(),
            settings,
            directory: None,
            ca_ttl,
            port: 0,
            authority: None,
        };
        site.start_authority().await;
        site
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::<TestClock>::clone(&self.clock)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// At the address that it had before.
    pub(crate) async fn start_authority(&mut self) {
        let store = Arc::new(Store::open(&self.path("db")).unwrap());
        let keys = KeyFolder::open(&self.path("keys"), None).unwrap();
        let settings = CaSettings {
            domain: domain(),
            ttl: self.ca_ttl,
            announced: Duration::ZERO,
        };
        let ca = Ca::open(settings, Arc::clone(&store), keys, self.clock());
        let ca = Arc::new(ca.await.unwrap());
        let mut core = Core::new(self.settings.clone(), store, ca, self.clock());
        core.directory.clone_from(&self.directory);
        let doors = AuthorityDoors {
            tcp: Some(([127, 0, 0, 1], self.port).into()),
            socket: Some(self.path("authority.sock")),
            owner_only: false,
        };
        let provider = Arc::new(tls::provider());
        let serving = Authority::start(Arc::new(core), &doors, provider)
            .await
            .unwrap();
        self.port = serving.address().unwrap().port();
        self.authority = Some(serving);
    }

    pub(crate) async fn stop_authority(&mut self) {
        self.authority.take().unwrap().stop().await;
    }

    /// What the authority says of its agents.
    pub(crate) async fn agents(&self) -> Vec<types::Agent> {
        let mut client = AgentClient::new(self.admin().await);
        let listed = client.list_agents(ListAgentsRequest::default()).await;
        listed.unwrap().into_inner().agents
    }

    /// Has another CA made, in the bundle at once; its name.
    pub(crate) async fn prepare_ca(&self) -> String {
        let mut client = LocalAuthorityClient::new(self.admin().await);
        let prepared = client.prepare_x509_authority(PrepareX509AuthorityRequest {});
        let prepared = prepared.await.unwrap().into_inner();
        prepared.prepared_authority.unwrap().authority_id
    }

    /// Has it sign, and the one before tainted and revoked at once.
    pub(crate) async fn replace_ca(&self, authority_id: String) {
        let mut client = LocalAuthorityClient::new(self.admin().await);
        let state = client.get_x509_authority_state(GetX509AuthorityStateRequest {});
        let old = state.await.unwrap().into_inner().active.unwrap();
        let activate = ActivateX509AuthorityRequest { authority_id };
        client.activate_x509_authority(activate).await.unwrap();
        let authority_id = old.authority_id;
        let taint = TaintX509AuthorityRequest {
            authority_id: authority_id.clone(),
        };
        client.taint_x509_authority(taint).await.unwrap();
        let revoke = RevokeX509AuthorityRequest { authority_id };
        client.revoke_x509_authority(revoke).await.unwrap();
    }

    /// As an administrator.
    pub(crate) async fn admin(&self) -> Channel {
        channel(&self.path("authority.sock")).await
    }

    pub(crate) async fn token(&self) -> String {
        let request = CreateJoinTokenRequest {
            ttl: 600,
            ..Default::default()
        };
        let mut client = AgentClient::new(self.admin().await);
        let token = client.create_join_token(request).await.unwrap();
        token.into_inner().value
    }

    /// The site's bundle in a file, as an administrator brings it to a node.
    pub(crate) async fn bundle_file(&self) -> PathBuf {
        let mut client = BundleClient::new(self.admin().await);
        let bundle = client
            .get_bundle(GetBundleRequest::default())
            .await
            .unwrap();
        let cas = bundle.into_inner().x509_authorities.into_iter();
        let pem: String = cas
            .map(|ca| pem::encode(&pem::Pem::new("CERTIFICATE", ca.asn1)))
            .collect();
        let path = self.path("bundle.pem");
        std::fs::write(&path, pem).unwrap();
        path
    }

    pub(crate) async fn create(&self, entries: Vec<types::Entry>) -> Vec<types::Entry> {
        let request = BatchCreateEntryRequest {
            entries,
            ..Default::default()
        };
        let mut client = EntryClient::new(self.admin().await);
        let answer = client.batch_create_entry(request).await.unwrap();
        let results = answer.into_inner().results.into_iter();
        results
            .map(|result| {
                let status = result.status.unwrap();
                assert_eq!(status.code, 0, "{}", status.message);
                result.entry.unwrap()
            })
            .collect()
    }

    pub(crate) async fn agent_settings(&self, token: &str) -> Settings {
        Settings {
            domain: domain(),
            servers: vec![format!("127.0.0.1:{}", self.port)],
            bootstrap: Bootstrap::File(self.bundle_file().await),
            attestor: NodeAttestor::JoinToken(Token::Value(token.to_owned().into())),
            availability: None,
            data: self.path("agent"),
            seal: SealKind::File,
        }
    }

    /// An agent by a token of its own, that has made its first turn.
    pub(crate) async fn agent(&self) -> Running {
        let token = self.token().await;
        let settings = self.agent_settings(&token).await;
        let mut running = self.run(settings).await;
        running.turned().await;
        running
    }

    pub(crate) async fn run(&self, settings: Settings) -> Running {
        self.run_with(settings, Vec::new()).await
    }

    pub(crate) async fn run_with(
        &self,
        settings: Settings,
        delegates: Vec<(SpiffeId, IdList)>,
    ) -> Running {
        let provider = Arc::new(tls::provider());
        let agent = Agent::new(settings, self.clock(), provider).unwrap();
        let shared = agent.shared();
        let doors = Doors {
            socket: Some(self.path("api.sock")),
            tcp: None,
            admin: Some(self.path("admin.sock")),
        };
        let serve = Serve {
            shared: shared.clone(),
            attestors: WorkloadAttestors::new(vec![
                WorkloadAttestorSpec::Unix(UnixSpec::default()),
            ]),
            delegates,
            sds: SdsNames::default(),
            log: None,
        };
        let serving = Serving::start(serve, &doors).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(agent.run(async move {
            let _ = stopped.await;
        }));
        Running {
            shared,
            serving,
            stop,
            task,
            socket: self.path("api.sock"),
            admin: self.path("admin.sock"),
        }
    }
}

/// An agent that runs.
pub(crate) struct Running {
    pub(crate) shared: Shared,
    serving: Serving,
    stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<Result<(), AgentError>>,
    pub(crate) socket: PathBuf,
    pub(crate) admin: PathBuf,
}

impl Running {
    /// Waits for the end of a turn that begins now.
    pub(crate) async fn turn(&mut self) -> Health {
        let turns = self.shared.health.borrow().turns;
        self.shared.hurry();
        let passes = |health: &Health| health.turns > turns;
        wait_until(&mut self.shared.health, "a turn", passes).await
    }

    /// Waits for the first turn, and one more: the first may have begun before.
    pub(crate) async fn turned(&mut self) {
        wait_until(&mut self.shared.health, "the first turn", |health| {
            health.turns > 0
        })
        .await;
        let health = self.shared.health.borrow().clone();
        assert_eq!(health.problem, None);
    }

    /// The agent's ID path.
    pub(crate) fn path(&self) -> String {
        let health = self.shared.health.borrow();
        health.node.as_ref().unwrap().0.path().to_owned()
    }

    /// What it ends with, by itself.
    pub(crate) async fn ended(self) -> Result<(), AgentError> {
        let ended = self.task.await.unwrap();
        self.serving.stop().await;
        ended
    }

    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.serving.stop().await;
        self.task.await.unwrap().unwrap();
    }

    pub(crate) async fn api(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(channel(&self.socket).await)
    }
}

/// At the authority's door without a certificate, as an agent comes that has none yet.
pub(crate) async fn anonymous(site: &Site) -> Channel {
    let mut config = danger::client_config(None, &[&rustls::version::TLS13]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, port) = (TlsConnector::from(Arc::new(config)), site.port);
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = rustls_pki_types::ServerName::try_from("any.name").unwrap();
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://authority");
    endpoint.connect_with_connector(connect).await.unwrap()
}

/// A request with the header that the Workload API wants.
pub(crate) fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

pub(crate) fn spiffe_id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: "hokkaido.example".into(),
        path: path.into(),
    })
}

/// An entry below `parent` for this very process.
pub(crate) fn entry(path: &str, parent: &str) -> types::Entry {
    types::Entry {
        id: path.trim_start_matches('/').replace('/', "-"),
        spiffe_id: spiffe_id(path),
        parent_id: spiffe_id(parent),
        selectors: vec![own_uid()],
        ..Default::default()
    }
}

pub(crate) fn own_uid() -> types::Selector {
    types::Selector {
        r#type: "unix".into(),
        value: format!("uid:{}", nix::unistd::getuid()),
    }
}

/// The three entries of the recordings, for this process, federated with osaka.example.
pub(crate) async fn recorded(site: &Site, parent: &str) -> Vec<types::Entry> {
    use sekisho_spire_api::server::bundle::BatchSetFederatedBundleRequest;
    let osaka = sekisho_testkit::Site::new("osaka.example");
    let authorities = osaka.bundle().authorities().iter();
    let bundle = types::Bundle {
        trust_domain: "osaka.example".into(),
        x509_authorities: authorities
            .map(|ca| types::X509Certificate {
                asn1: ca.der().to_vec(),
                tainted: false,
            })
            .collect(),
        ..Default::default()
    };
    let request = BatchSetFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let mut client = BundleClient::new(site.admin().await);
    let answer = client.batch_set_federated_bundle(request).await.unwrap();
    let status = answer.into_inner().results.remove(0).status.unwrap();
    assert_eq!(status.code, 0, "{}", status.message);
    let entries = ["from-kyushu", "from-osaka", "to-tokyo"].map(|name| types::Entry {
        id: format!("e-{name}"),
        hint: name.into(),
        federates_with: vec!["osaka.example".into()],
        ..entry(&format!("/broker/{name}"), parent)
    });
    site.create(entries.to_vec()).await
}

/// A recording of SPIRE's agent.
pub(crate) fn recording(name: &str) -> serde_json::Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/recordings/spire");
    let text = std::fs::read(folder.join(name)).unwrap();
    serde_json::from_slice(&text).unwrap()
}
