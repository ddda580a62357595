//! By a web server: one that knows nothing of what it serves.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Mutex,
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use sekisho_certs::tls;
use tokio::net::TcpListener;

use super::*;
use crate::client::{Allowed, WebRoots};

/// What was asked, and how it was answered.
type Log = Arc<Mutex<Vec<(String, u16)>>>;

/// Serves the files of a folder, with tags.
async fn serve(folder: &Path) -> (SocketAddr, Log) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (folder, log) = (folder.to_owned(), Log::default());
    let told = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (folder, told) = (folder.clone(), Arc::clone(&told));
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&folder, &request);
                let line = (request.uri().path().to_owned(), answer.status().as_u16());
                told.lock().unwrap().push(line);
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, log)
}

fn answer(folder: &Path, request: &Request<Incoming>) -> Response<Full<bytes::Bytes>> {
    let path = request.uri().path().trim_start_matches("/dir/");
    let Ok(bytes) = std::fs::read(folder.join(path)) else {
        let mut answer = Response::default();
        *answer.status_mut() = StatusCode::NOT_FOUND;
        return answer;
    };
    let tag = format!("\"{}\"", crate::directory::metadata::sha256(&bytes));
    let mut answer = Response::new(Full::default());
    if request
        .headers()
        .get(header::IF_NONE_MATCH)
        .is_some_and(|asked| *asked == *tag)
    {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *answer.body_mut() = Full::new(bytes.into());
    }
    answer
        .headers_mut()
        .insert(header::ETAG, tag.parse().unwrap());
    answer
}

fn web(address: SocketAddr, allowed: Allowed, federation: &Federation) -> Source {
    let clock = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
    let provider = Arc::new(tls::provider());
    let url = format!("http://{address}/dir");
    Source::Web(Box::new(
        Web::new(&url, WebRoots::System, allowed, provider, clock).unwrap(),
    ))
}

fn client(federation: &Federation, data: &TempDir, source: Source) -> Client {
    let root = federation.path().join("metadata/1.root.json");
    let mut settings = settings(federation, data, &root);
    settings.source = source;
    let clock = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
    Client::open(settings, clock).unwrap()
}

#[tokio::test]
async fn what_has_not_changed_is_not_fetched_again() {
    let federation = Federation::new(1);
    let mut tokyo = federation.join("tokyo.example");
    let (address, log) = serve(federation.path()).await;
    let data = tempfile::tempdir().unwrap();
    let local = Allowed::with(["127.0.0.0/8".parse().unwrap()]);
    let mut client = client(&federation, &data, web(address, local, &federation));
    client.sync(&wanting(&["tokyo.example"])).await.unwrap();
    client.sync(&wanting(&[])).await.unwrap();
    log.lock().unwrap().clear();
    let synced = client.sync(&wanting(&[])).await.unwrap();
    assert_eq!((synced.traffic.requests, synced.traffic.bytes), (2, 0));
    let asked = std::mem::take(&mut *log.lock().unwrap());
    let line = |path: &str, status| (path.to_owned(), status);
    assert_eq!(
        asked,
        [
            line("/dir/metadata/2.root.json", 404),
            line("/dir/metadata/timestamp.json", 304),
        ]
    );
    tokyo.rotate_ca(&federation);
    let synced = client.sync(&wanting(&[])).await.unwrap();
    assert_eq!(synced.fetched.len(), 1);
    assert!(synced.traffic.bytes < 8 * 1024, "{synced:?}");
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_not_connected_to() {
    let federation = Federation::new(1);
    let (address, log) = serve(federation.path()).await;
    let data = tempfile::tempdir().unwrap();
    let source = web(address, Allowed::default(), &federation);
    let mut client = client(&federation, &data, source);
    let error = client.sync(&wanting(&[])).await.unwrap_err().to_string();
    assert!(
        error.contains("federation.allow") && error.contains("127.0.0.1"),
        "{error}"
    );
    assert_eq!(log.lock().unwrap().len(), 0);
}

/// Row 9 of the attack table: huge files, of a web server that sends them. Check: the bound of an answer (`Web::ask`).
#[tokio::test]
async fn what_is_longer_than_it_may_be_is_not_read() {
    let federation = Federation::new(1);
    let (address, _) = serve(federation.path()).await;
    let data = tempfile::tempdir().unwrap();
    let local = Allowed::with(["127.0.0.0/8".parse().unwrap()]);
    let mut client = client(&federation, &data, web(address, local, &federation));
    let file = federation.path().join("metadata/timestamp.json");
    let mut long = std::fs::read(&file).unwrap();
    long.resize(65 * 1024, b' ');
    std::fs::write(file, long).unwrap();
    let error = client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "unreachable", "{error}");
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[test]
fn what_is_no_address_of_a_directory_is_refused() {
    for url in [
        "ftp://a.example/",
        "https://",
        "https://user@a.example/",
        "https://a.example/?a=b",
        "https://a.example/#a",
        "a.example",
        "https://a example/",
    ] {
        let clock = Arc::new(sekisho_certs::SystemClock);
        let provider = Arc::new(tls::provider());
        let web = Web::new(url, WebRoots::System, Allowed::default(), provider, clock);
        assert!(web.is_err(), "{url}");
    }
}
