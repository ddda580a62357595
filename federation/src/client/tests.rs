use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::Full;
use hyper::{server::conn, service::service_fn};
use hyper_util::rt::TokioIo;
use sekisho_certs::{id::parse_trust_domain, tls};
use sekisho_testkit::{Issued, Profile as Certificate, Site, TestCa, TestClock, danger};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{url::MAX_URL, *};

/// What an endpoint answers to a path.
type Answers = Arc<dyn Fn(&str) -> Response<Full<Bytes>> + Send + Sync>;

struct Endpoint {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// How many certificates the client has shown, each time.
    shown: Arc<Mutex<Vec<usize>>>,
    /// With which tag it was asked, each time.
    tags: Arc<Mutex<Vec<Option<String>>>>,
}

impl Endpoint {
    async fn start(
        issued: &Issued,
        versions: &[&'static rustls::SupportedProtocolVersion],
        answers: Answers,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(danger::server_config(issued, versions)));
        let (asked, shown) = (
            Arc::<AtomicUsize>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let (count, noted) = (Arc::clone(&asked), Arc::clone(&shown));
        let tags = Arc::<Mutex<Vec<_>>>::default();
        let tagged = Arc::clone(&tags);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let chain = stream.get_ref().1.peer_certificates();
                noted.lock().unwrap().push(chain.map_or(0, <[_]>::len));
                let (answers, count) = (Arc::clone(&answers), Arc::clone(&count));
                let tagged = Arc::clone(&tagged);
                let service = service_fn(move |request: Request<Incoming>| {
                    count.fetch_add(1, Ordering::SeqCst);
                    let tag = request.headers().get(header::IF_NONE_MATCH);
                    let tag = tag.map(|tag| tag.to_str().unwrap().to_owned());
                    tagged.lock().unwrap().push(tag);
                    let answer = answers(request.uri().path());
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                tokio::spawn(
                    conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self {
            address,
            asked,
            shown,
            tags,
        }
    }

    fn url(&self, path: &str) -> EndpointUrl {
        let port = self.address.port();
        format!("https://localhost:{port}{path}").parse().unwrap()
    }
}

fn ok(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::new(Full::new(body.into()))
}

fn redirect(to: &str) -> Response<Full<Bytes>> {
    let builder = Response::builder().status(302).header(header::LOCATION, to);
    builder.body(Full::default()).unwrap()
}

fn always(body: &str) -> Answers {
    let body = body.to_owned();
    Arc::new(move |_| ok(body.clone()))
}

fn loopback() -> Allowed {
    let listed = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap());
    Allowed::with(listed)
}

fn client(roots: Vec<CertificateDer<'static>>) -> Client {
    let provider = Arc::new(tls::provider());
    Client::new(
        WebRoots::Given(roots),
        loopback(),
        provider,
        TestClock::new(),
    )
}

const BOTH: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

fn domain() -> TrustDomain {
    parse_trust_domain("b.example").unwrap()
}

fn document(site: &Site) -> String {
    site.bundle().to_json().to_string()
}

fn spiffe(site: &Site, path: &str) -> Profile {
    Profile::Spiffe {
        id: site.id(path),
        bundle: Arc::clone(site.bundle()),
    }
}

fn web_server(ca: &TestCa, name: &str) -> Issued {
    ca.issue(
        &Certificate::leaf("spiffe://unused.example/x")
            .with_uris([])
            .with_dns_names([name]),
    )
}

#[tokio::test]
async fn an_endpoint_that_proves_its_id_is_believed_and_no_other() {
    let (site, stranger) = (Site::new("b.example"), Site::new("b.example"));
    for version in BOTH {
        let endpoint = Endpoint::start(
            &site.svid("/spire/server"),
            &[*version],
            always(&document(&site)),
        )
        .await;
        let (client, url) = (client(Vec::new()), endpoint.url("/"));
        let fetched = client
            .fetch(&domain(), &url, &spiffe(&site, "/spire/server"))
            .await;
        assert_eq!(fetched.unwrap(), **site.bundle());
        assert_eq!(
            *endpoint.shown.lock().unwrap(),
            [0],
            "no client certificate"
        );
        for other in [
            spiffe(&site, "/w"),
            spiffe(&stranger, "/spire/server"),
            Profile::Web,
        ] {
            let refused = client.fetch(&domain(), &url, &other).await;
            assert!(refused.is_err(), "{other:?}");
        }
        // A reason that people can read.
        let other = spiffe(&stranger, "/spire/server");
        let refused = client.fetch(&domain(), &url, &other).await;
        let error = refused.unwrap_err().to_string();
        let begin =
            format!("{url}: spiffe://b.example/spire/server: no valid path to a CA in the bundle");
        assert!(error.starts_with(&begin), "{error}");
        assert_eq!(endpoint.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn an_endpoint_may_serve_the_bundle_of_another_domain() {
    let (hub, site) = (Site::new("hub.example"), Site::new("b.example"));
    let answers = always(&document(&site));
    let endpoint = Endpoint::start(&hub.svid("/spire/server"), BOTH, answers).await;
    let profile = spiffe(&hub, "/spire/server");
    let fetched = client(Vec::new())
        .fetch(&domain(), &endpoint.url("/"), &profile)
        .await;
    assert_eq!(fetched.unwrap(), **site.bundle());
}

#[tokio::test]
async fn a_web_endpoint_is_known_by_its_name_and_a_root() {
    let (ca, site) = (TestCa::new("web.example"), Site::new("b.example"));
    let good = Endpoint::start(
        &web_server(&ca, "localhost"),
        BOTH,
        always(&document(&site)),
    )
    .await;
    let other = Endpoint::start(&web_server(&ca, "other.example"), BOTH, always("{}")).await;
    let known = client(vec![ca.der().clone()]);
    let fetched = known.fetch(&domain(), &good.url("/"), &Profile::Web).await;
    assert_eq!(fetched.unwrap(), **site.bundle());
    known
        .fetch(&domain(), &other.url("/"), &Profile::Web)
        .await
        .unwrap_err();
    let stranger = client(vec![TestCa::new("web.example").der().clone()]);
    stranger
        .fetch(&domain(), &good.url("/"), &Profile::Web)
        .await
        .unwrap_err();
    let empty = client(Vec::new())
        .fetch(&domain(), &good.url("/"), &Profile::Web)
        .await;
    assert!(matches!(empty, Err(FetchError::Roots(_))));
    // Its time is that of the clock.
    let clock = TestClock::new();
    clock.advance(Duration::from_secs(1000 * 24 * 3600));
    let roots = WebRoots::Given(vec![ca.der().clone()]);
    let late = Client::new(roots, loopback(), Arc::new(tls::provider()), clock);
    late.fetch(&domain(), &good.url("/"), &Profile::Web)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn redirects_are_followed_by_the_same_rules_and_up_to_a_bound() {
    let site = Site::new("b.example");
    let target = Endpoint::start(&site.svid("/spire/server"), BOTH, always(&document(&site))).await;
    let elsewhere = Endpoint::start(&site.svid("/w"), BOTH, always(&document(&site))).await;
    let (to, other) = (target.url("/x").to_string(), elsewhere.url("/").to_string());
    let answers: Answers = Arc::new(move |path| match path {
        "/a" => redirect("b"),
        "/b" => redirect(&to),
        "/other" => redirect(&other),
        "/plain" => redirect("http://localhost/"),
        "/user" => redirect("https://me@localhost/"),
        _ => redirect("/for-ever"),
    });
    let endpoint = Endpoint::start(&site.svid("/spire/server"), BOTH, answers).await;
    let client = client(Vec::new());
    let profile = spiffe(&site, "/spire/server");
    let fetch = async |path| client.fetch(&domain(), &endpoint.url(path), &profile).await;
    assert_eq!(fetch("/a").await.unwrap(), **site.bundle());
    assert!(matches!(
        fetch("/other").await,
        Err(FetchError::Connect { .. })
    ));
    assert!(matches!(
        fetch("/plain").await,
        Err(FetchError::Redirect(UrlError::Scheme(_)))
    ));
    assert!(matches!(
        fetch("/user").await,
        Err(FetchError::Redirect(UrlError::UserInfo))
    ));
    assert!(matches!(
        fetch("/").await,
        Err(FetchError::TooManyRedirects)
    ));
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_no_bundle_is_refused() {
    let site = Site::new("b.example");
    let answers: Answers = Arc::new(|path| match path {
        "/long" => ok(vec![b' '; MAX_BYTES + 1]),
        "/text" => ok("hello"),
        "/other-domain" => ok(document(&Site::new("c.example"))),
        _ => Response::builder()
            .status(404)
            .body(Full::default())
            .unwrap(),
    });
    let endpoint = Endpoint::start(&site.svid("/spire/server"), BOTH, answers).await;
    let client = client(Vec::new());
    let profile = spiffe(&site, "/spire/server");
    let fetch = async |path| client.fetch(&domain(), &endpoint.url(path), &profile).await;
    assert!(matches!(
        fetch("/long").await,
        Err(FetchError::TooLarge { .. })
    ));
    assert!(matches!(fetch("/text").await, Err(FetchError::Bundle(_))));
    assert!(matches!(
        fetch("/other-domain").await,
        Err(FetchError::Bundle(_))
    ));
    assert!(matches!(
        fetch("/none").await,
        Err(FetchError::Status { .. })
    ));
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_is_given_up() {
    let site = Site::new("b.example");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("https://127.0.0.1:{port}/").parse().unwrap();
    let client = client(Vec::new()).with_deadline(Duration::from_millis(50));
    let fetched = client
        .fetch(&domain(), &url, &spiffe(&site, "/spire/server"))
        .await;
    assert!(matches!(fetched, Err(FetchError::TooLate(_))));
}

#[test]
fn addresses_are_https_with_a_host_and_without_a_user() {
    for good in [
        "https://b.example",
        "https://b.example:8443/x?y",
        "https://[::1]:1/",
        "https://10.0.0.1/",
    ] {
        let url = good.parse::<EndpointUrl>().unwrap();
        assert_eq!(url.to_string(), good, "as it was written");
    }
    for (bad, why) in [
        ("http://b.example", UrlError::Scheme("http".into())),
        ("https://", UrlError::NoHost),
        ("https:///b.example", UrlError::NoHost),
        ("https:b.example", UrlError::NoHost),
        ("https:\\\\b.example", UrlError::NoHost),
        ("https://me@b.example", UrlError::UserInfo),
        ("https://me:secret@b.example", UrlError::UserInfo),
        ("https://:secret@b.example", UrlError::UserInfo),
    ] {
        assert_eq!(bad.parse::<EndpointUrl>().unwrap_err(), why, "{bad}");
    }
    for bad in [
        "",
        "b.example",
        "https://b.example:x",
        " https://b.example",
        "https://b.exa\tmple",
        &format!("https://b.example/{}", "x".repeat(MAX_URL)),
    ] {
        assert!(
            matches!(bad.parse::<EndpointUrl>(), Err(UrlError::NotUrl(_))),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn only_addresses_that_are_allowed_are_connected_to() {
    let site = Site::new("b.example");
    let body = document(&site);
    let target = Endpoint::start(&site.svid("/spire/server"), BOTH, always(&body)).await;
    let port = target.address.port();
    let profile = spiffe(&site, "/spire/server");
    let provider = || Arc::new(tls::provider());
    let client = |allowed| Client::new(WebRoots::default(), allowed, provider(), TestClock::new());
    for url in [
        format!("https://127.0.0.1:{port}/"),
        // A name is no way around it.
        format!("https://localhost:{port}/"),
    ] {
        let public = client(Allowed::default());
        let fetched = public
            .fetch(&domain(), &url.parse().unwrap(), &profile)
            .await;
        let error = fetched.unwrap_err();
        assert!(matches!(error, FetchError::Address { .. }), "{error}");
        assert!(error.to_string().contains("`federation.allow`"), "{error}");
    }
    assert_eq!(target.asked.load(Ordering::SeqCst), 0);
    // Nor is a redirect.
    let to = format!("https://127.0.0.2:{port}/");
    let answers: Answers = Arc::new(move |_| redirect(&to));
    let endpoint = Endpoint::start(&site.svid("/spire/server"), BOTH, answers).await;
    let one = client(Allowed::with(["127.0.0.1/32".parse().unwrap()]));
    let url = format!("https://127.0.0.1:{}/", endpoint.address.port());
    let fetched = one.fetch(&domain(), &url.parse().unwrap(), &profile).await;
    let error = fetched.unwrap_err();
    assert!(
        matches!(&error, FetchError::Address { address, .. } if address.to_string() == "127.0.0.2"),
        "{error}"
    );
    assert_eq!(endpoint.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn whoever_has_a_tag_is_told_only_of_what_is_new() {
    let site = Site::new("b.example");
    let body = document(&site);
    let answers: Answers = Arc::new(move |_| {
        let mut answer = ok(body.clone());
        let tag = header::HeaderValue::from_static("\"1\"");
        answer.headers_mut().insert(header::ETAG, tag);
        answer
    });
    let endpoint = Endpoint::start(&site.svid("/spire/server"), BOTH, answers).await;
    let (client, url) = (client(Vec::new()), endpoint.url("/"));
    let profile = spiffe(&site, "/spire/server");
    let fetched = client.fetch_if(&domain(), &url, &profile, None).await;
    let first = Answer::Bundle((**site.bundle()).clone(), Some("\"1\"".into()));
    assert_eq!(fetched.unwrap(), first);
    let answers: Answers = Arc::new(|_| {
        let unchanged = Response::builder().status(304);
        unchanged.body(Full::default()).unwrap()
    });
    let endpoint = Endpoint::start(&site.svid("/spire/server"), BOTH, answers).await;
    let url = endpoint.url("/");
    let fetched = client
        .fetch_if(&domain(), &url, &profile, Some("\"1\""))
        .await;
    assert_eq!(fetched.unwrap(), Answer::NotModified);
    assert_eq!(*endpoint.tags.lock().unwrap(), [Some("\"1\"".to_owned())]);
    // Nobody has asked whether it was.
    let fetched = client.fetch(&domain(), &url, &profile).await;
    assert!(matches!(fetched, Err(FetchError::Status { .. })));
}
