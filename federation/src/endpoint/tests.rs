use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    SupportedProtocolVersion,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sekisho_certs::tls;
use sekisho_testkit::{Site, TestClock, danger};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::client::{Allowed, Answer as Fetched, Client, Profile, WebRoots};

/// `a.example`, which has the bundle of `b.example`.
struct Two {
    own: Mutex<Document>,
    asked: Mutex<Vec<Asked>>,
}

impl Documents for Two {
    async fn find(&self, asked: Asked) -> Found {
        self.asked.lock().unwrap().push(asked.clone());
        match asked {
            Asked::Own => Found::Document(self.own.lock().unwrap().clone()),
            Asked::Of(domain) if domain.as_str() == "b.example" => {
                Found::Document(Document::new(r#"{"keys":[]}"#))
            }
            Asked::Of(domain) if domain.as_str() == "away.example" => Found::Unavailable,
            _ => Found::Nothing,
        }
    }
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

struct World {
    site: Site,
    documents: Arc<Two>,
    address: SocketAddr,
}

async fn world() -> World {
    let site = Site::new("a.example");
    let issued = site.svid("/spire/server");
    let shown = Shown(Arc::clone(issued.svid().certified()));
    let documents = Arc::new(Two {
        own: Mutex::new(Document::new(site.bundle().to_json().to_string())),
        asked: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (served, provider) = (Arc::clone(&documents), Arc::new(tls::provider()));
    tokio::spawn(serve(listener, Arc::new(shown), false, served, provider));
    World {
        site,
        documents,
        address,
    }
}

impl World {
    async fn connect(&self, versions: &[&'static SupportedProtocolVersion]) -> Conversation {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let config = danger::client_config(None, versions);
        let stream = TlsConnector::from(Arc::new(config))
            .connect("localhost".try_into().unwrap(), stream)
            .await
            .unwrap();
        Conversation::new(stream).await
    }

    async fn once(&self, method: &str, path: &str, tag: Option<&str>) -> (u16, HeaderMap, Bytes) {
        let mut one = self.connect(BOTH).await;
        one.ask(method, path, tag).await
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

struct Conversation(http1::SendRequest<Empty<Bytes>>);

impl Conversation {
    async fn new(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        tag: Option<&str>,
    ) -> (u16, HeaderMap, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", "anything");
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request.body(Empty::new()).unwrap();
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, body)
    }
}

#[tokio::test]
async fn whoever_asks_gets_the_bundle_by_both_versions_of_tls() {
    let world = world().await;
    for version in BOTH {
        let (status, headers, body) = world.connect(&[*version]).await.ask("GET", "/", None).await;
        assert_eq!(
            (status, &headers["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
        let read = sekisho_certs::TrustBundle::from_json(world.site.domain().clone(), &body);
        assert_eq!(read.unwrap(), **world.site.bundle());
    }
    // A query says nothing, as with SPIRE.
    assert_eq!(world.once("GET", "/?x=y", None).await.0, 200);
    let (status, _, body) = world.once("GET", "/federation/b.example", None).await;
    assert_eq!((status, body.as_ref()), (200, br#"{"keys":[]}"#.as_slice()));
    assert_eq!(
        world.once("GET", "/federation/away.example", None).await.0,
        503
    );
}

#[tokio::test]
async fn names_are_taken_as_they_are_written_and_paths_lead_nowhere_else() {
    let world = world().await;
    for path in [
        "/x",
        "/federation",
        "/federation/",
        "/federation/c.example",
        "/federation/B.example",
        "/federation/b.example/",
        "/federation//b.example",
        "/federation/b.example%2f",
        "/federation/%62.example",
        "/federation/../",
        "/federation/spiffe://b.example",
        "//",
        "/./",
    ] {
        assert_eq!(world.once("GET", path, None).await.0, 404, "{path}");
    }
    let asked = world.documents.asked.lock().unwrap().clone();
    let domains = asked.iter().filter(|asked| matches!(asked, Asked::Of(_)));
    assert_eq!(domains.count(), 1, "{asked:?}");
}

#[tokio::test]
async fn it_is_read_and_nothing_else() {
    let world = world().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        let (status, headers, _) = world.once(method, "/", None).await;
        assert_eq!(
            (status, &headers["allow"]),
            (405, &"GET, HEAD".parse().unwrap()),
            "{method}"
        );
    }
    assert_eq!(*world.documents.asked.lock().unwrap(), []);
    let (status, headers, body) = world.once("HEAD", "/", None).await;
    assert_eq!((status, body.len()), (200, 0));
    let whole = world.once("GET", "/", None).await.2.len().to_string();
    assert_eq!(headers["content-length"].to_str().unwrap(), whole);
}

#[tokio::test]
async fn whoever_has_it_is_told_so_until_it_changes() {
    let world = world().await;
    let (_, headers, _) = world.once("GET", "/", None).await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".into(),
    ] {
        let (status, headers, body) = world.once("GET", "/", Some(&known)).await;
        assert_eq!((status, body.len()), (304, 0), "{known}");
        assert_eq!(headers["etag"].to_str().unwrap(), tag);
    }
    assert_eq!(world.once("GET", "/", Some("\"x\"")).await.0, 200);
    *world.documents.own.lock().unwrap() = Document::new("{}");
    let (status, headers, _) = world.once("GET", "/", Some(&tag)).await;
    assert!(status == 200 && headers["etag"] != tag.as_str());
}

#[tokio::test]
async fn our_own_client_and_this_server_understand_each_other() {
    let world = world().await;
    let profile = Profile::Spiffe {
        id: world.site.id("/spire/server"),
        bundle: Arc::clone(world.site.bundle()),
    };
    let allowed = Allowed::with(["127.0.0.1/32".parse().unwrap()]);
    let provider = Arc::new(tls::provider());
    let client = Client::new(WebRoots::default(), allowed, provider, TestClock::new());
    let url = format!("https://{}/", world.address).parse().unwrap();
    let domain = world.site.domain().clone();
    let first = client.fetch_if(&domain, &url, &profile, None).await;
    let Fetched::Bundle(bundle, Some(tag)) = first.unwrap() else {
        panic!("no bundle, or none with a tag");
    };
    assert_eq!(bundle, **world.site.bundle());
    let again = client.fetch_if(&domain, &url, &profile, Some(&tag)).await;
    assert_eq!(again.unwrap(), Fetched::NotModified);
}

#[tokio::test]
async fn one_network_may_ask_only_so_often() {
    let world = world().await;
    let mut one = world.connect(BOTH).await;
    let mut refused = 0;
    for _ in 0..250 {
        match one.ask("GET", "/", None).await.0 {
            200 => {}
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    // What comes back while this runs is let through too.
    assert!((1..=50).contains(&refused), "{refused}");
}

#[tokio::test]
async fn connections_of_one_network_have_a_bound_and_long_heads_are_refused() {
    let world = world().await;
    let mut held = Vec::new();
    for _ in 0..door::CONNECTIONS_OF_ONE {
        held.push(world.connect(BOTH).await);
    }
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
    drop(held);
    // Once their places are free again.
    let stream = loop {
        let stream = TcpStream::connect(world.address).await.unwrap();
        let config = Arc::new(danger::client_config(None, BOTH));
        let name = "localhost".try_into().unwrap();
        if let Ok(stream) = TlsConnector::from(config).connect(name, stream).await {
            break stream;
        }
        tokio::task::yield_now().await;
    };
    let mut stream = stream;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n", "x".repeat(20_000));
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn handshakes_that_are_not_finished_shut_out_their_own_network_only() {
    let world = world().await;
    let mut held = Vec::new();
    for _ in 0..door::HANDSHAKES_OF_ONE {
        held.push(TcpStream::connect(world.address).await.unwrap());
    }
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.1.1:0".parse().unwrap()).unwrap();
    let stream = other.connect(world.address).await.unwrap();
    let config = Arc::new(danger::client_config(None, BOTH));
    let name = "localhost".try_into().unwrap();
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let mut other = Conversation::new(stream.unwrap()).await;
    assert_eq!(other.ask("GET", "/", None).await.0, 200);
}
