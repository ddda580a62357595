use sekisho_testkit::TestClock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use super::*;

const DOMAIN: &str = "oidc.a.example";

struct World {
    keys: watch::Sender<Keys>,
    clock: Arc<TestClock>,
    provider: Provider,
}

fn world(issuer: &str, jwks_uri: Option<&str>) -> World {
    let (keys, told) = watch::channel(Keys::default());
    let clock = TestClock::new();
    let domains = vec![DOMAIN.to_owned(), "other.example".to_owned()];
    let time: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
    let provider = Provider::new(&issuer.parse().unwrap(), jwks_uri, domains, told, time);
    World {
        keys,
        clock,
        provider,
    }
}

impl World {
    fn ask(&self, method: &str, target: &str, hosts: &[&str]) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        self.provider.answer(&request.body(()).unwrap())
    }

    fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask("GET", path, &[DOMAIN]);
        (answer.status().as_u16(), body(answer))
    }
}

fn body(answer: Answer) -> String {
    use http_body_util::BodyExt as _;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let whole = runtime.block_on(answer.into_body().collect()).unwrap();
    String::from_utf8(whole.to_bytes().to_vec()).unwrap()
}

#[test]
fn the_document_is_spires_to_the_byte() {
    let world = world("https://oidc.a.example", None);
    let (status, text) = world.get("/.well-known/openid-configuration");
    let expected = r#"{
  "issuer": "https://oidc.a.example",
  "jwks_uri": "https://oidc.a.example/keys",
  "authorization_endpoint": "",
  "response_types_supported": [
    "id_token"
  ],
  "subject_types_supported": [],
  "id_token_signing_alg_values_supported": [
    "RS256",
    "ES256",
    "ES384"
  ]
}"#;
    assert_eq!((status, text.as_str()), (200, expected));
    let answer = world.ask("GET", "/.well-known/openid-configuration", &[DOMAIN]);
    assert_eq!(answer.headers()["content-type"], "application/json");
}

#[test]
fn below_a_path_both_documents_are_there_and_nowhere_else() {
    let below = world("https://oidc.a.example/site/a", None);
    let (status, text) = below.get("/site/a/.well-known/openid-configuration");
    assert_eq!(status, 200);
    assert!(
        text.contains("\"https://oidc.a.example/site/a/keys\""),
        "{text}"
    );
    assert_eq!(below.get("/site/a/keys").0, 503);
    for path in [
        "/keys",
        "/.well-known/openid-configuration",
        "/",
        "/site/a/",
        "/keys/",
    ] {
        assert_eq!(below.get(path).0, 404, "{path}");
    }
    let elsewhere = world("https://oidc.a.example", Some("https://cdn.example/k"));
    let (_, text) = elsewhere.get("/.well-known/openid-configuration");
    assert!(
        text.contains("\"jwks_uri\": \"https://cdn.example/k\""),
        "{text}"
    );
}

#[test]
fn keys_are_told_once_they_are_known_and_stay_while_the_source_is_away() {
    let world = world("https://oidc.a.example", None);
    assert_eq!(world.get("/keys").0, 503);
    assert_eq!((world.get("/ready").0, world.get("/live").0), (503, 200));
    world.keys.send_modify(|keys| keys.jwks = Some("{}".into()));
    let answer = world.ask("GET", "/keys", &[DOMAIN]);
    let caching = &answer.headers()["cache-control"];
    assert_eq!(caching, "no-cache, no-store, must-revalidate");
    assert_eq!(body(answer), "{}");
    assert_eq!(world.get("/ready"), (200, "ready\n".into()));
    let now = world.clock.now();
    world.keys.send_modify(|keys| keys.away = Some(now));
    let (status, text) = world.get("/ready");
    assert!(status == 200 && text.contains("away"), "{text}");
    world.clock.advance(AWAY);
    let (status, text) = world.get("/ready");
    assert!(status == 503 && text.contains("away"), "{text}");
    assert_eq!((world.get("/keys").0, world.get("/live").0), (200, 200));
    world.keys.send_modify(|keys| keys.away = None);
    assert_eq!(world.get("/ready").0, 200);
}

#[test]
fn only_our_domains_are_answered_by_whatever_name_they_are_reached() {
    let world = world("https://oidc.a.example", None);
    let path = "/.well-known/openid-configuration";
    let status = |target: &str, hosts: &[&str]| world.ask("GET", target, hosts).status().as_u16();
    for host in [
        DOMAIN,
        "OIDC.a.example",
        "oidc.a.example:8443",
        "other.example",
    ] {
        assert_eq!(status(path, &[host]), 200, "{host}");
    }
    for host in [
        "a.example",
        "oidc.a.example.evil.example",
        "",
        "127.0.0.1",
        "oidc.a.example:x",
    ] {
        assert_eq!(status(path, &[host]), 400, "{host}");
        assert_eq!(status("/keys", &[host]), 400, "{host}");
    }
    assert_eq!(status(path, &[]), 400);
    assert_eq!(status(path, &[DOMAIN, DOMAIN]), 400);
    // A whole URL as target is the one that counts.
    let target = format!("https://other.example{path}");
    assert_eq!(status(&target, &["evil.example"]), 200);
    let target = format!("https://evil.example{path}");
    assert_eq!(status(&target, &[DOMAIN]), 400);
    // Probes know no name.
    assert_eq!(status("/live", &["10.0.0.7"]), 200);
    let forwarded = Request::builder()
        .uri(path)
        .header("host", "evil.example")
        .header("x-forwarded-host", DOMAIN);
    let answer = world.provider.answer(&forwarded.body(()).unwrap());
    assert_eq!(answer.status(), 400);
}

#[test]
fn nothing_can_be_written() {
    let world = world("https://oidc.a.example", None);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT"] {
        let answer = world.ask(method, "/keys", &[DOMAIN]);
        assert_eq!(answer.status(), 405, "{method}");
        assert_eq!(answer.headers()["allow"], "GET, HEAD");
    }
}

/// What a socket says to these bytes, until it is closed.
async fn said(path: &std::path::Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // It may be closed before all is written.
    let _ = stream.write_all(bytes).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_head_without_end_or_measure_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let world = world("https://oidc.a.example", None);
    world.keys.send_modify(|keys| keys.jwks = Some("{}".into()));
    let crypto = Arc::new(sekisho_certs::tls::provider());
    tokio::spawn(serve(
        Door::Unix(listener),
        Arc::new(world.provider),
        crypto,
    ));
    let good = format!("GET /keys HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r\n");
    let answer = said(&path, good.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{}"),
        "{answer}"
    );
    let long = format!(
        "GET /keys HTTP/1.1\r\nHost: {DOMAIN}\r\nX: {}\r\n\r\n",
        "x".repeat(MAX)
    );
    let many = format!("GET /keys HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(100));
    for bad in [long.as_bytes(), many.as_bytes(), b"\x16\x03\x01\r\n\r\n"] {
        let answer = said(&path, bad).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let answer = said(&path, b"GET /keys HTTP/1.1\r\n").await;
    assert!(!answer.contains("200 OK"), "{answer}");
    // By the bound of a head, long before that of a connection.
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(10), "{waited:?}");
    assert!(waited < Duration::from_secs(11), "{waited:?}");
}

const MAX: usize = 64 * 1024;

fn write(folder: &std::path::Path, name: &str) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    certificate.der().to_vec()
}

/// The certificate that is shown at an address.
async fn shown(address: std::net::SocketAddr) -> Vec<u8> {
    let config = sekisho_testkit::danger::client_config(None, &[&rustls::version::TLS12]);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from(DOMAIN).unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn the_certificate_follows_its_files_and_outlives_broken_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let crypto = Arc::new(sekisho_certs::tls::provider());
    let load = || Certificate::load(cert.clone(), key.clone(), Arc::clone(&crypto));
    assert!(matches!(load().unwrap_err(), CertificateError::File { .. }));
    let first = write(folder.path(), DOMAIN);
    let certificate = Arc::new(load().unwrap());
    assert!(certificate.is_for(DOMAIN) && !certificate.is_for("other.example"));
    assert!(certificate.not_after() > sekisho_testkit::clock::present());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let world = world("https://oidc.a.example", None);
    let door = Door::Tls(listener, Arc::clone(&certificate));
    tokio::spawn(serve(door, Arc::new(world.provider), Arc::clone(&crypto)));
    let followed = Arc::clone(&certificate);
    tokio::spawn(async move { followed.follow().await });
    assert_eq!(shown(address).await, first);
    let second = write(folder.path(), DOMAIN);
    while shown(address).await == first {
        tokio::task::yield_now().await;
    }
    assert_eq!(shown(address).await, second);
    // The key of another: at start an error, later what was shown before.
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&key, other.serialize_pem()).unwrap();
    assert!(matches!(load().unwrap_err(), CertificateError::Key { .. }));
    certificate.look();
    assert_eq!(shown(address).await, second);
    std::fs::write(&cert, "").unwrap();
    assert!(matches!(
        load().unwrap_err(),
        CertificateError::Unreadable { .. }
    ));
}
