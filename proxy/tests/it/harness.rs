//! A receiving proxy with its sites, a client and a service.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use sekisho_certs::{
    BundleSet, Material, StoreSpec, Svid, TlsContext, TrustBundle,
    source::Supply,
    tls::{self, MinVersion},
};
use sekisho_policy::{DEFAULT_DECISION, Limits as PolicyLimits, Policy};
use sekisho_proxy::{
    Desired, Options, Proxy,
    endpoint::{
        Endpoint,
        spec::{
            Address, Balance, EndpointSpec, Forward, Limits, Listen, MtlsTarget, Paths,
            ProxyProtocol, RecordLayer, Sockets, Timeouts,
        },
    },
};
use sekisho_testkit::{ca::Issued, clock::TestClock, danger, ports, site::Site, wait::wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long anything may take that is bound to happen.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Gives back what it gets, and counts who came.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    let _ = writer.shutdown().await;
                });
            }
        });
        Self { address, accepted }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// Site b, which receives, and site a, which sends.
pub(crate) struct World {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) a: Site,
    pub(crate) b: Site,
    pub(crate) echo: Echo,
    pub(crate) gate: SocketAddr,
}

impl World {
    /// A proxy without endpoints yet.
    pub(crate) async fn new() -> Self {
        Self::with_options(&Options {
            workers: 2,
            ..Options::default()
        })
        .await
    }

    /// The same, set up otherwise.
    pub(crate) async fn with_options(options: &Options) -> Self {
        let clock = TestClock::new();
        let context = TlsContext {
            provider: Arc::new(tls::provider()),
            clock: clock.clone(),
        };
        Self {
            proxy: Arc::new(Proxy::start(context, options).unwrap()),
            clock,
            a: Site::new("a.example"),
            b: Site::new("b.example"),
            echo: Echo::start().await,
            gate: ports::free(),
        }
    }

    /// One endpoint `back` of site b that accepts `spiffe://a.example/front`.
    pub(crate) async fn with_gate(change: impl FnOnce(&mut EndpointSpec)) -> Self {
        let world = Self::new().await;
        let mut spec = world.receiving("back");
        change(&mut spec);
        world.apply(&[spec], None);
        world
    }

    /// An endpoint of site b that receives and forwards to the echo.
    pub(crate) fn receiving(&self, name: &str) -> EndpointSpec {
        EndpointSpec {
            name: name.into(),
            site: self.b.domain().clone(),
            listen: Listen::Mtls {
                address: self.gate,
                accept: list(&["spiffe://a.example/front"]),
                min_version: MinVersion::Tls13,
            },
            forward: plain(&[self.echo.address]),
            own_id: Some(self.b.id(&format!("/{name}"))),
            server_name: format!("{name}.b.example"),
            default: false,
            balance: Balance::RoundRobin,
            health: None,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            max_age: None,
            cut_at_expiry: false,
            proxy_protocol: ProxyProtocol::default(),
            record: RecordLayer::default(),
            resumption: false,
            sockets: Sockets::default(),
            path: Paths::default(),
        }
    }

    /// An endpoint of site a that sends to site b's gate.
    pub(crate) fn sending(&self, name: &str, listen: SocketAddr) -> EndpointSpec {
        EndpointSpec {
            site: self.a.domain().clone(),
            listen: Listen::Tcp {
                address: listen,
                local: sekisho_proxy::endpoint::spec::LocalClients::Anyone,
                from: Vec::new(),
            },
            forward: Forward::Mtls {
                targets: vec![MtlsTarget {
                    address: Address::Ip(self.gate),
                    server_name: Some("back.b.example".into()),
                }],
                expect: list(&["spiffe://b.example/back"]),
                min_version: MinVersion::Tls13,
            },
            own_id: Some(self.a.id("/front")),
            server_name: format!("{name}.a.example"),
            ..self.receiving(name)
        }
    }

    /// Puts these endpoints in place and gives each the SVID its `own_id` names.
    pub(crate) fn apply(&self, specs: &[EndpointSpec], policy: Option<&Policy>) {
        self.proxy.apply(&desired(specs, policy), true).unwrap();
        for spec in specs {
            let has = self.endpoint(&spec.name).snapshot().unwrap();
            if has.material.latest_svid().is_none() {
                self.supply(spec, &[self.a.bundle(), self.b.bundle()]);
            }
        }
    }

    pub(crate) fn endpoint(&self, name: &str) -> Arc<Endpoint> {
        self.proxy.endpoint(name).unwrap()
    }

    /// A new SVID for an endpoint, and these bundles.
    pub(crate) fn supply(&self, spec: &EndpointSpec, bundles: &[&Arc<TrustBundle>]) {
        let id = spec.own_id.clone().unwrap();
        let site = if id.trust_domain() == self.a.domain() {
            &self.a
        } else {
            &self.b
        };
        self.supply_svid(spec, site.svid(id.path()).svid(), bundles);
    }

    pub(crate) fn supply_svid(
        &self,
        spec: &EndpointSpec,
        svid: Svid,
        bundles: &[&Arc<TrustBundle>],
    ) {
        let mut set = BundleSet::default();
        for bundle in bundles {
            set.insert(Arc::clone(bundle)).unwrap();
        }
        let supply = Supply {
            svids: vec![Arc::new(svid)],
            bundles: set,
            ..Supply::default()
        };
        let store = StoreSpec {
            name: spec.name.clone(),
            site: spec.site.clone(),
            own_id: spec.own_id.clone(),
            lists: spec.lists().cloned().collect(),
            resumption: spec.resumption,
            listen: Some(MinVersion::Tls13),
            forward: match &spec.forward {
                Forward::Mtls { expect, .. } => Some((MinVersion::Tls13, expect.clone())),
                Forward::Plain { .. } => None,
            },
        };
        let endpoint = self.endpoint(&spec.name);
        let before = endpoint.snapshot().unwrap().material.clone();
        let context = self.proxy.context();
        let material = Material::derive(&store, &supply, &BundleSet::default(), &before, context);
        endpoint.set_material(Arc::new(material));
    }

    /// A handshake at the gate as a workload of site a.
    pub(crate) async fn dial(&self, path: &str) -> io::Result<TlsStream<TcpStream>> {
        self.dial_as(&self.a.svid(path), "back.b.example").await
    }

    pub(crate) async fn dial_as(
        &self,
        issued: &Issued,
        name: &'static str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = danger::client_config(Some(issued), &[&rustls::version::TLS13]);
        connect(self.gate, name, config).await
    }

    /// Connections that ended with this decision and reason.
    pub(crate) fn count(&self, decision: &str, reason: &str) -> u64 {
        let text = self.proxy.metrics_text();
        let label = format!("decision=\"{decision}\",reason=\"{reason}\"");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("sekisho_connections_total") && line.contains(&label));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    pub(crate) async fn until(&self, decision: &str, reason: &str, count: u64) {
        let what = format!("{count} connections {decision} as {reason:?}");
        wait_for(&what, SOON, || self.count(decision, reason) >= count).await;
        assert_eq!(self.count(decision, reason), count, "{what}");
    }
}

pub(crate) async fn connect(
    gate: SocketAddr,
    name: &'static str,
    config: ClientConfig,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(gate).await?;
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Sends four bytes and reads them back.
pub(crate) async fn ping<S>(stream: &mut S) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let exchange = async {
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut back = [0; 4];
        stream.read_exact(&mut back).await?;
        assert_eq!(&back, b"ping");
        Ok(())
    };
    tokio::time::timeout(SOON, exchange)
        .await
        .expect("an answer or an end")
}

/// Waits for the end of a stream and returns how it came: `Ok` for an orderly one.
pub(crate) async fn end<S>(stream: &mut S) -> io::Result<()>
where
    S: tokio::io::AsyncRead + Unpin,
{
    let mut byte = [0; 64];
    loop {
        let read = tokio::time::timeout(SOON, stream.read(&mut byte)).await;
        if read.expect("an end")? == 0 {
            return Ok(());
        }
    }
}

/// The TLS alert in an error, as RFC 8446 spells it.
pub(crate) fn alert(error: &io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

pub(crate) fn desired(specs: &[EndpointSpec], policy: Option<&Policy>) -> Vec<Desired> {
    specs
        .iter()
        .map(|spec| Desired {
            spec: Arc::new(spec.clone()),
            policy: policy.cloned(),
        })
        .collect()
}

pub(crate) fn list(lines: &[&str]) -> sekisho_certs::IdList {
    sekisho_certs::IdList::Named(lines.iter().map(|line| line.parse().unwrap()).collect())
}

pub(crate) fn plain(addresses: &[SocketAddr]) -> Forward {
    Forward::Plain {
        targets: addresses.iter().copied().map(Address::Ip).collect(),
    }
}

/// A policy of one rule body, loaded from a folder of its own.
pub(crate) fn policy(rules: &str) -> Policy {
    let folder = tempfile::tempdir().unwrap();
    write_policy(folder.path(), rules);
    Policy::load(folder.path(), DEFAULT_DECISION, PolicyLimits::default()).unwrap()
}

fn write_policy(folder: &Path, rules: &str) {
    std::fs::write(
        folder.join("authz.rego"),
        format!("package sekisho.authz\n{rules}\n"),
    )
    .unwrap();
}
