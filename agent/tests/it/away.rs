//! A day without the authority, with a proxy that has its identities from the agent: what is connected
//! stays connected, and what is new still finds in.

use std::{net::SocketAddr, sync::Arc};

use sekisho_certs::{
    BundleSet, IdList, Material, StoreSpec, TlsContext, id,
    source::{Supply, watch_workload_api},
    tls::{self, MinVersion},
};
use sekisho_proxy::{
    Desired, Options, Proxy,
    endpoint::spec::{
        Address, Balance, EndpointSpec, Forward, Limits, Listen, LocalClients, MtlsTarget, Paths,
        ProxyProtocol, RecordLayer, Sockets, Timeouts,
    },
};
use sekisho_testkit::{ports, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::harness::{HOUR, Running, Site, domain, entry};

const SOON: std::time::Duration = std::time::Duration::from_secs(10);

fn list(id: &str) -> IdList {
    IdList::Named(vec![id.parse().unwrap()])
}

/// `out` listens in the clear and sends to `in`, which sends to an echo.
struct Pair {
    proxy: Arc<Proxy>,
    sender: SocketAddr,
}

impl Pair {
    async fn start(site: &Site, agent: &Running) -> Self {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        let context = TlsContext {
            provider: Arc::new(tls::provider()),
            clock: site.clock.clone(),
        };
        let options = Options {
            workers: 1,
            ..Options::default()
        };
        let supplies = watch_workload_api(agent.socket.clone(), Arc::clone(&context.provider));
        let proxy = Arc::new(Proxy::start(context, &options).unwrap());
        let (gate, sender) = (ports::free(), ports::free());
        let inbound = EndpointSpec {
            name: "in".into(),
            site: domain(),
            listen: Listen::Mtls {
                address: gate,
                accept: list("spiffe://hokkaido.example/out"),
                min_version: MinVersion::Tls13,
            },
            forward: Forward::Plain {
                targets: vec![Address::Ip(service)],
            },
            own_id: Some(id::id_below(&domain(), "/in").unwrap()),
            server_name: "in.hokkaido.example".into(),
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
        };
        let outbound = EndpointSpec {
            name: "out".into(),
            listen: Listen::Tcp {
                address: sender,
                local: LocalClients::Anyone,
                from: Vec::new(),
            },
            forward: Forward::Mtls {
                targets: vec![MtlsTarget {
                    address: Address::Ip(gate),
                    server_name: Some("in.hokkaido.example".into()),
                }],
                expect: list("spiffe://hokkaido.example/in"),
                min_version: MinVersion::Tls13,
            },
            own_id: Some(id::id_below(&domain(), "/out").unwrap()),
            server_name: "out.hokkaido.example".into(),
            ..inbound.clone()
        };
        let specs = [inbound, outbound];
        let desired = specs.iter().map(|spec| Desired {
            spec: Arc::new(spec.clone()),
            policy: None,
        });
        proxy.apply(&desired.collect::<Vec<_>>(), true).unwrap();
        for spec in specs {
            tokio::spawn(feed(Arc::clone(&proxy), spec, supplies.clone()));
        }
        Self { proxy, sender }
    }

    /// A new connection that carries something.
    async fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.sender).await.unwrap();
        ping(&mut stream).await;
        stream
    }

    /// The serial number that an endpoint would show.
    fn serial(&self, name: &str) -> Option<String> {
        let has = self.proxy.endpoint(name)?.snapshot()?;
        Some(has.material.latest_svid()?.serial().to_owned())
    }
}

/// Gives an endpoint what the Workload API says, as the binary does.
async fn feed(proxy: Arc<Proxy>, spec: EndpointSpec, mut supplies: watch::Receiver<Arc<Supply>>) {
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
    let endpoint = proxy.endpoint(&spec.name).unwrap();
    loop {
        let supply = Arc::clone(&supplies.borrow_and_update());
        let before = endpoint.snapshot().unwrap().material.clone();
        let context = proxy.context();
        let material = Material::derive(&store, &supply, &BundleSet::default(), &before, context);
        endpoint.set_material(Arc::new(material));
        if supplies.changed().await.is_err() {
            return;
        }
    }
}

async fn ping(stream: &mut TcpStream) {
    let exchange = async {
        stream.write_all(b"ping").await?;
        let mut back = [0; 4];
        stream.read_exact(&mut back).await?;
        assert_eq!(&back, b"ping");
        std::io::Result::Ok(())
    };
    let exchange = tokio::time::timeout(SOON, exchange).await;
    exchange.expect("an answer").unwrap();
}

async fn all(streams: &mut [TcpStream]) {
    for stream in streams {
        ping(stream).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_ends_for_a_day_without_the_authority() {
    let day = 24 * HOUR;
    let long = |settings: &mut sekisho_authority::core::Settings| {
        settings.x509_ttl = 2 * day;
        settings.agent_ttl = 2 * day;
    };
    let mut site = Site::with(long, 30 * day).await;
    let token = site.token().await;
    let mut settings = site.agent_settings(&token).await;
    settings.availability = Some(day);
    let mut agent = site.run(settings.clone()).await;
    agent.turned().await;
    let path = agent.path();
    site.create(vec![entry("/in", &path), entry("/out", &path)])
        .await;
    agent.turn().await;
    let pair = Pair::start(&site, &agent).await;
    wait_for("both identities", SOON, || {
        ["in", "out"].iter().all(|name| pair.serial(name).is_some())
    })
    .await;
    let mut held = vec![pair.connect().await, pair.connect().await];
    // A day of turns: whenever the authority goes, a day is left.
    for _ in 0..8 {
        site.clock.advance(3 * HOUR);
        assert_eq!(agent.turn().await.problem, None);
    }
    held.push(pair.connect().await);

    site.stop_authority().await;
    site.clock.advance(day / 2);
    assert!(agent.turn().await.problem.is_some());
    all(&mut held).await;
    held.push(pair.connect().await);
    agent.stop().await;
    // Without an agent too.
    all(&mut held).await;
    held.push(pair.connect().await);

    let mut agent = site.run(settings).await;
    site.clock.advance(day / 2);
    assert!(agent.turn().await.problem.is_some());
    all(&mut held).await;
    held.push(pair.connect().await);
    let before = ["in", "out"].map(|name| pair.serial(name).unwrap());

    site.start_authority().await;
    assert_eq!(agent.turn().await.problem, None);
    wait_for("new identities", SOON, || {
        let now = ["in", "out"].map(|name| pair.serial(name).unwrap());
        now.iter().zip(&before).all(|(now, before)| now != before)
    })
    .await;
    all(&mut held).await;
    held.push(pair.connect().await);
    assert_eq!(held.len(), 7);
    agent.stop().await;
}
