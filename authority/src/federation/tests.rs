//! An authority's own polling, at a clock that is turned, against a bundle endpoint in this process.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use sekisho_certs::{hex, id::parse_trust_domain, sha256};
use sekisho_testkit::{Site, TestClock, danger};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    ca::{Ca, CaSettings, keys::KeyFolder},
    core::Settings,
    members::Wanted,
    store::{Bundle, By, Origin, Store, X509Authority},
};

struct Endpoint {
    url: String,
    asked: Arc<AtomicUsize>,
    document: Arc<Mutex<String>>,
    /// Whether it was asked with a tag, each time.
    tags: Arc<Mutex<Vec<bool>>>,
}

/// HTTP that closes after each answer.
async fn endpoint(site: &Site, hint: u64) -> Endpoint {
    let document = Arc::new(Mutex::new(document(site, 1, hint)));
    let asked = Arc::<AtomicUsize>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let config = danger::server_config(&site.svid("/spire/server"), &[&rustls::version::TLS13]);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (served, count) = (Arc::clone(&document), Arc::clone(&asked));
    let tags = Arc::<Mutex<Vec<bool>>>::default();
    let tagged = Arc::clone(&tags);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            count.fetch_add(1, Ordering::SeqCst);
            let body = served.lock().unwrap().clone();
            let length = body.len();
            let tag = format!("\"{}\"", hex(&sha256(body.as_bytes())));
            let head = String::from_utf8(head).unwrap();
            let known = head
                .lines()
                .find_map(|line| line.strip_prefix("if-none-match: "));
            tagged.lock().unwrap().push(known.is_some());
            let answer = if known == Some(&tag) {
                "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned()
            } else {
                format!("HTTP/1.1 200 OK\r\netag: {tag}\r\ncontent-length: {length}\r\n\r\n{body}")
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    Endpoint {
        url,
        asked,
        document,
        tags,
    }
}

fn document(site: &Site, sequence: u64, hint: u64) -> String {
    let bundle = (**site.bundle()).clone();
    let hint = Some(Duration::from_secs(hint));
    bundle
        .with_hints(Some(sequence), hint)
        .to_json()
        .to_string()
}

struct World {
    _folder: tempfile::TempDir,
    clock: Arc<TestClock>,
    polling: Polling,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let domain = parse_trust_domain("a.example").unwrap();
        let store = Arc::new(Store::open(&folder.path().join("db")).unwrap());
        let keys = KeyFolder::open(&folder.path().join("keys"), None).unwrap();
        let settings = CaSettings {
            domain: domain.clone(),
            ttl: Duration::from_secs(24 * 3600),
            announced: Duration::ZERO,
        };
        let time = Arc::<TestClock>::clone(&clock);
        let ca = Ca::open(settings, Arc::clone(&store), keys, time).await;
        let mut settings = Settings::new(domain);
        settings.federation.allowed = Allowed::with(["127.0.0.1/32".parse().unwrap()]);
        let core = Core::new(
            settings,
            store,
            Arc::new(ca.unwrap()),
            Arc::<TestClock>::clone(&clock),
        );
        Self {
            _folder: folder,
            clock,
            polling: Polling {
                earlier: || 0.0,
                ..Polling::new(Arc::new(core))
            },
        }
    }

    fn core(&self) -> &Core {
        &self.polling.core
    }

    fn by(&self) -> By {
        self.core().by("test")
    }

    /// Fetches what is due, to the end, and says how often this endpoint was asked in all.
    async fn turn(&mut self, endpoint: &Endpoint) -> usize {
        self.polling.begin().await;
        while self.polling.one_is_done().await {}
        endpoint.asked.load(Ordering::SeqCst)
    }

    async fn stored(&self, site: &Site) -> Option<Bundle> {
        self.core()
            .store
            .bundle(site.domain().clone())
            .await
            .unwrap()
    }

    /// Names an endpoint that speaks for `site` with its own ID, and hands its bundle over.
    async fn relate(&self, site: &Site, url: &str) {
        let relationship = Relationship {
            origin: Origin::Api,
            domain: site.domain().clone(),
            url: url.parse().unwrap(),
            profile: EndpointProfile::Spiffe(site.id("/spire/server")),
        };
        let bundle = Bundle {
            x509: vec![X509Authority {
                der: site.ca().der().to_vec(),
                tainted: false,
                above: false,
            }],
            ..Bundle::empty(site.domain().clone())
        };
        let created = self
            .core()
            .store
            .create_relationship(self.by(), relationship, Some(bundle));
        assert!(created.await.unwrap());
    }
}

#[tokio::test]
async fn a_bundle_is_fetched_at_once_and_then_as_often_as_it_says() {
    let (mut world, site) = (World::new().await, Site::new("b.example"));
    let endpoint = endpoint(&site, 120).await;
    world.relate(&site, &endpoint.url).await;
    assert_eq!(world.turn(&endpoint).await, 1);
    let first = world.stored(&site).await.unwrap();
    assert_eq!((first.sequence, first.refresh_hint.as_secs()), (1, 120));
    world.clock.advance(Duration::from_secs(29));
    assert_eq!(world.turn(&endpoint).await, 1);
    *endpoint.document.lock().unwrap() = document(&site, 2, 0);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.turn(&endpoint).await, 2);
    assert_eq!(world.stored(&site).await.unwrap().sequence, 2);
    // It does not say how often any more.
    world.clock.advance(Duration::from_secs(299));
    assert_eq!(world.turn(&endpoint).await, 2);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.turn(&endpoint).await, 3);
    // The same again: nothing was written.
    let lines = world.core().store.audit_lines(0, 100).await.unwrap();
    let stored = lines.iter().filter(|line| line.action == "bundle.set");
    assert_eq!(stored.count(), 2);
}

#[tokio::test]
async fn a_peers_age_is_that_of_its_endpoints_last_answer() {
    let (mut world, site) = (World::new().await, Site::new("b.example"));
    let endpoint = endpoint(&site, 60).await;
    world.relate(&site, &endpoint.url).await;
    let wanted = Wanted {
        domains: [site.domain().clone()].into(),
        ..Wanted::default()
    };
    // Its bundle came with the relationship, and no endpoint has said that it is so.
    let mut answer = world.core().members(&wanted).await.unwrap();
    let peer = answer.members.remove(0);
    assert!(peer.bundle().is_some());
    assert_eq!(peer.confirmed(), std::time::UNIX_EPOCH);
    world.turn(&endpoint).await;
    world.clock.advance(Duration::from_secs(10));
    *endpoint.document.lock().unwrap() = "{}".into();
    let mut answer = world.core().members(&wanted).await.unwrap();
    let age = answer.members.remove(0).age(world.clock.now());
    assert!((10..=11).contains(&age.as_secs()), "{age:?}");
    // An answer that is no bundle confirms nothing.
    world.clock.advance(Duration::from_secs(60));
    world.turn(&endpoint).await;
    let mut answer = world.core().members(&wanted).await.unwrap();
    let age = answer.members.remove(0).age(world.clock.now());
    assert!((70..=71).contains(&age.as_secs()), "{age:?}");
}

#[tokio::test]
async fn what_is_fetched_in_vain_leaves_the_bundle_as_it_was() {
    let (mut world, site) = (World::new().await, Site::new("b.example"));
    let endpoint = endpoint(&site, 60).await;
    world.relate(&site, &endpoint.url).await;
    world.turn(&endpoint).await;
    let good = world.stored(&site).await;
    for bad in [
        "{}".to_owned(),
        document(&Site::new("c.example"), 9, 60),
        document(&site, u64::MAX, 60),
        // A key that no agent could load.
        r#"{"keys":[{"use":"jwt-svid","kid":"k","kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#
            .to_owned(),
    ] {
        *endpoint.document.lock().unwrap() = bad;
        let before = endpoint.asked.load(Ordering::SeqCst);
        world.clock.advance(Duration::from_secs(15));
        assert_eq!(world.turn(&endpoint).await, before + 1);
        assert_eq!(world.stored(&site).await, good);
    }
    // Keys that were all withdrawn are withdrawn here.
    *endpoint.document.lock().unwrap() = r#"{"keys":[]}"#.into();
    world.clock.advance(Duration::from_secs(15));
    world.turn(&endpoint).await;
    assert_eq!(world.stored(&site).await.unwrap().x509, []);
}

#[tokio::test]
async fn what_was_fetched_by_a_relationship_that_has_changed_is_not_stored() {
    let (world, site) = (World::new().await, Site::new("b.example"));
    let endpoint = endpoint(&site, 60).await;
    world.relate(&site, &endpoint.url).await;
    let store = &world.core().store;
    let before = store
        .relationship(site.domain().clone())
        .await
        .unwrap()
        .unwrap();
    let domain = site.domain().clone();
    let gone = store.delete_relationship(world.by(), domain).await.unwrap();
    assert!(gone);
    let refreshed = world.core().refresh(&before).await;
    assert!(matches!(refreshed, Err(RefreshError::Unrelated)));
    assert_eq!(world.stored(&site).await.unwrap().sequence, 0);
}

#[tokio::test]
async fn an_endpoint_needs_the_bundle_of_its_own_domain_first() {
    let (world, site) = (World::new().await, Site::new("b.example"));
    let relationship = Relationship {
        origin: Origin::Api,
        domain: parse_trust_domain("c.example").unwrap(),
        url: "https://127.0.0.1:1/".parse().unwrap(),
        profile: EndpointProfile::Spiffe(site.id("/spire/server")),
    };
    let refreshed = world.core().refresh(&relationship).await;
    assert!(
        matches!(refreshed, Err(RefreshError::NoEndpointBundle(domain)) if domain == *site.domain())
    );
}

#[tokio::test]
async fn an_older_bundle_is_told_and_not_stored_and_the_good_one_ages() {
    let (mut world, site) = (World::new().await, Site::new("b.example"));
    let endpoint = endpoint(&site, 60).await;
    *endpoint.document.lock().unwrap() = document(&site, 5, 60);
    world.relate(&site, &endpoint.url).await;
    world.turn(&endpoint).await;
    let state = |world: &World| {
        let states = world.core().federation.states();
        let state = states.borrow()["b.example"].clone();
        (
            state.age(world.core().now()).map(|age| age.as_secs()),
            state.error,
        )
    };
    assert_eq!(state(&world), (Some(0), None));
    *endpoint.document.lock().unwrap() = document(&site, 4, 60);
    world.clock.advance(Duration::from_secs(15));
    world.turn(&endpoint).await;
    let (age, error) = state(&world);
    assert_eq!(age, Some(15));
    assert!(error.unwrap().contains("accept-rollback b.example"));
    assert_eq!(world.stored(&site).await.unwrap().sequence, 5);
    let accepted = world
        .core()
        .store
        .accept_rollback(world.by(), site.domain().clone());
    assert!(accepted.await.unwrap());
    world.clock.advance(Duration::from_secs(15));
    world.turn(&endpoint).await;
    assert_eq!(state(&world), (Some(0), None));
    assert_eq!(world.stored(&site).await.unwrap().sequence, 4);
}

#[tokio::test]
async fn an_endpoint_is_asked_for_what_is_new_only_while_what_it_gave_is_stored() {
    let (mut world, site) = (World::new().await, Site::new("b.example"));
    let endpoint = endpoint(&site, 60).await;
    world.relate(&site, &endpoint.url).await;
    world.turn(&endpoint).await;
    world.clock.advance(Duration::from_secs(15));
    world.turn(&endpoint).await;
    let states = world.core().federation.states();
    let confirmed = states.borrow()["b.example"].confirmed.unwrap();
    assert_eq!(confirmed, world.core().now(), "not modified counts");
    // An administrator has set another.
    let edit = |old: Option<Bundle>| {
        let mut new = old.unwrap();
        new.refresh_hint = Duration::from_secs(7);
        Ok::<_, ()>(new)
    };
    let domain = site.domain().clone();
    let edited = world.core().store.edit_bundle(world.by(), domain, edit);
    edited.await.unwrap().unwrap();
    world.clock.advance(Duration::from_secs(15));
    world.turn(&endpoint).await;
    let tags = endpoint.tags.lock().unwrap().clone();
    assert_eq!(tags, [false, true, false]);
    assert_eq!(
        world.stored(&site).await.unwrap().refresh_hint.as_secs(),
        60
    );
}

#[tokio::test]
async fn what_an_administrator_has_not_listed_is_not_connected_to() {
    let (mut world, site) = (World::new().await, Site::new("b.example"));
    let endpoint = endpoint(&site, 60).await;
    let url = endpoint.url.replace("127.0.0.1", "127.0.0.2");
    world.relate(&site, &url).await;
    assert_eq!(world.turn(&endpoint).await, 0);
    let states = world.core().federation.states();
    let error = states.borrow()["b.example"].error.clone().unwrap();
    assert!(
        error.contains("127.0.0.2") && error.contains("`federation.allow`"),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_delivers_our_own_bundle() {
    let (world, site) = (World::new().await, Site::new("a.example"));
    let endpoint = endpoint(&site, 60).await;
    world.relate(&Site::new("b.example"), &endpoint.url).await;
    let own = Relationship {
        origin: Origin::Api,
        domain: site.domain().clone(),
        url: endpoint.url.parse().unwrap(),
        profile: EndpointProfile::Spiffe(site.id("/spire/server")),
    };
    let before = Arc::clone(&world.core().ca.bundle().borrow());
    let refreshed = world.core().refresh(&own).await;
    assert!(matches!(refreshed, Err(RefreshError::OwnDomain)));
    assert_eq!(world.stored(&site).await.as_ref(), Some(&*before));
}

#[test]
fn a_fetch_is_earlier_by_a_tenth_at_most() {
    for _ in 0..1000 {
        assert!((0.0..=0.1).contains(&earlier()));
    }
}
