//! An authority that serves, and those who call it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sekisho_authority::{
    api,
    ca::{Ca, CaError, CaSettings, keys::KeyFolder, upstream::Upstream},
    core::{Core, Settings},
    federation::HINTS,
    members::MemberSource,
    serve::{Doors, Serving},
    store::Store,
};
use sekisho_certs::{id, tls};
use sekisho_federation::client::Allowed;
use sekisho_spire_api::{
    server::{
        agent::{
            AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, CreateJoinTokenRequest,
            agent_client::AgentClient, attest_agent_request, attest_agent_response,
        },
        entry::{BatchCreateEntryRequest, entry_client::EntryClient},
    },
    types::{self, LogLevel},
};
use sekisho_testkit::{Issued, TestClock, danger};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};

pub(crate) struct World {
    pub(crate) core: Arc<Core>,
    folder: tempfile::TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) address: SocketAddr,
    /// The bundle endpoint, where one was asked for.
    pub(crate) bundles: Option<SocketAddr>,
    serving: Serving,
}

/// An agent's certificate and key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
    pub(crate) id: String,
}

/// A key with a signing request for it, as SPIRE's agents make them: no names.
pub(crate) fn request() -> (KeyPair, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    (key, csr.der().to_vec())
}

pub(crate) fn spiffe_id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: "a.example".into(),
        path: path.into(),
    })
}

pub(crate) fn selector(text: &str) -> types::Selector {
    let (kind, value) = text.split_once(':').unwrap();
    types::Selector {
        r#type: kind.into(),
        value: value.into(),
    }
}

/// An entry of a workload with one selector.
pub(crate) fn entry(path: &str, parent: &str, given: &str) -> types::Entry {
    types::Entry {
        spiffe_id: spiffe_id(path),
        parent_id: spiffe_id(parent),
        selectors: vec![selector(given)],
        ..Default::default()
    }
}

/// A log of level `INFO` that says nothing.
#[derive(Debug, Default)]
struct Log(Mutex<Option<LogLevel>>);

impl api::LogLevel for Log {
    fn now(&self) -> LogLevel {
        self.0.lock().unwrap().unwrap_or(LogLevel::Info)
    }

    fn at_start(&self) -> LogLevel {
        LogLevel::Info
    }

    fn set(&self, level: LogLevel) -> Result<(), String> {
        *self.0.lock().unwrap() = Some(level);
        Ok(())
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With other settings.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opened = Self::open(folder, TestClock::new(), None, change).await;
        opened.unwrap_or_else(|(error, _)| panic!("{error}"))
    }

    /// With somebody who knows the members of a directory.
    pub(crate) async fn start_with_directory(directory: Arc<dyn MemberSource>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opened = Self::open_with(folder, TestClock::new(), None, |_| {}, Some(directory)).await;
        opened.unwrap_or_else(|(error, _)| panic!("{error}"))
    }

    /// In a folder that may have been used before, below another authority or not. The folder is given
    /// back where it fails.
    pub(crate) async fn open(
        folder: tempfile::TempDir,
        clock: Arc<TestClock>,
        upstream: Option<Arc<dyn Upstream>>,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Self, (CaError, tempfile::TempDir)> {
        Self::open_with(folder, clock, upstream, change, None).await
    }

    async fn open_with(
        folder: tempfile::TempDir,
        clock: Arc<TestClock>,
        upstream: Option<Arc<dyn Upstream>>,
        change: impl FnOnce(&mut Settings),
        directory: Option<Arc<dyn MemberSource>>,
    ) -> Result<Self, (CaError, tempfile::TempDir)> {
        let domain = id::parse_trust_domain("a.example").unwrap();
        let store = Arc::new(Store::open(&folder.path().join("db")).unwrap());
        let keys = KeyFolder::open(&folder.path().join("keys"), None).unwrap();
        let mut settings = Settings {
            // Tests do not wait.
            attestations: 1000,
            ..Settings::new(domain.clone())
        };
        let loopback = ["127.0.0.1/32".parse().unwrap(), "::1/128".parse().unwrap()];
        settings.federation.allowed = Allowed::with(loopback);
        change(&mut settings);
        let endpoint = settings.federation.endpoint.as_ref();
        let ca_settings = CaSettings {
            domain,
            ttl: Duration::from_secs(24 * 3600),
            announced: endpoint.map_or(Duration::ZERO, |endpoint| endpoint.refresh * HINTS),
        };
        let ca = Ca::open_below(
            upstream,
            ca_settings,
            Arc::clone(&store),
            keys,
            Arc::<TestClock>::clone(&clock),
        );
        let ca = match ca.await {
            Ok(ca) => Arc::new(ca),
            Err(error) => return Err((error, folder)),
        };
        let mut core = Core::new(settings, store, ca, Arc::<TestClock>::clone(&clock))
            .with_log(Arc::new(Log::default()));
        core.directory = directory;
        let core = Arc::new(core);
        let doors = Doors {
            tcp: Some("127.0.0.1:0".parse().unwrap()),
            socket: Some(folder.path().join("api.sock")),
            owner_only: false,
        };
        let provider = Arc::new(tls::provider());
        let serving = Serving::start(Arc::clone(&core), &doors, provider)
            .await
            .unwrap();
        Ok(Self {
            core,
            address: serving.address().unwrap(),
            bundles: serving.bundles(),
            folder,
            clock,
            serving,
        })
    }

    /// Ends it, and gives its folder back.
    pub(crate) async fn close(self) -> tempfile::TempDir {
        self.serving.stop().await;
        self.folder
    }

    pub(crate) async fn stop(self) {
        self.serving.stop().await;
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    /// As an administrator of this host.
    pub(crate) async fn local(&self) -> Channel {
        let path = self.socket();
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        endpoint.connect_with_connector(connect).await.unwrap()
    }

    /// Over TLS, with a certificate or without.
    pub(crate) async fn tls(&self, identity: Option<&Identity>) -> Result<Channel, String> {
        let mut config = client_config(identity);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(config)), self.address);
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("any.name").unwrap();
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://authority");
        let channel = endpoint.connect_with_connector(connect).await;
        channel.map_err(|error| format!("{error:?}"))
    }

    pub(crate) async fn token(&self) -> String {
        let request = CreateJoinTokenRequest {
            ttl: 600,
            ..Default::default()
        };
        let mut client = AgentClient::new(self.local().await);
        client
            .create_join_token(request)
            .await
            .unwrap()
            .into_inner()
            .value
    }

    /// An agent that has attested by a token of its own.
    pub(crate) async fn agent(&self) -> Identity {
        let token = self.token().await;
        self.attest("join_token", token.as_bytes()).await.unwrap()
    }

    pub(crate) async fn attest(&self, kind: &str, payload: &[u8]) -> Result<Identity, Status> {
        let (key, csr) = request();
        let params = attest_agent_request::Params {
            data: Some(types::AttestationData {
                r#type: kind.into(),
                payload: payload.to_vec(),
            }),
            params: Some(AgentX509svidParams { csr }),
        };
        let first = AttestAgentRequest {
            step: Some(attest_agent_request::Step::Params(params)),
        };
        let mut client = AgentClient::new(self.tls(None).await.unwrap());
        let mut answers = client
            .attest_agent(tokio_stream::once(first))
            .await?
            .into_inner();
        let answer: AttestAgentResponse = answers.message().await?.unwrap();
        let Some(attest_agent_response::Step::Result(result)) = answer.step else {
            panic!("a challenge");
        };
        Ok(identity(result.svid.unwrap(), &key))
    }

    pub(crate) async fn create(&self, entries: Vec<types::Entry>) -> Vec<types::Status> {
        let request = BatchCreateEntryRequest {
            entries,
            ..Default::default()
        };
        let mut client = EntryClient::new(self.local().await);
        let answer = client
            .batch_create_entry(request)
            .await
            .unwrap()
            .into_inner();
        answer
            .results
            .into_iter()
            .map(|result| result.status.unwrap())
            .collect()
    }
}

pub(crate) fn identity(svid: types::X509svid, key: &KeyPair) -> Identity {
    let id = svid.id.unwrap();
    Identity {
        chain: svid
            .cert_chain
            .into_iter()
            .map(CertificateDer::from)
            .collect(),
        key: key.serialize_der(),
        id: format!("spiffe://{}{}", id.trust_domain, id.path),
    }
}

fn client_config(identity: Option<&Identity>) -> ClientConfig {
    let issued = identity.map(|identity| Issued {
        chain: identity.chain.clone(),
        key: PrivatePkcs8KeyDer::from(identity.key.clone()).into(),
    });
    danger::client_config(issued.as_ref(), &[&rustls::version::TLS13])
}
