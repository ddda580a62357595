use std::{fs, os::unix::fs::symlink};

use http_body_util::BodyExt as _;
use sekisho_certs::SystemClock;
use sekisho_testkit::{Profile, TestCa};
use tokio::net::TcpListener;

use super::*;
use crate::{
    client::WebRoots,
    directory::{
        fixture::{Federation, Member},
        submit::{Hosting as There, SubmitError, Taken},
    },
    oidc::Certificate,
};

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn files(here: &Federation) -> Served {
    Served::new(here.repository.clone(), here.clock.clone())
}

fn hosted(here: &Federation) -> Arc<Served> {
    // The key of the host of the test, in other hands.
    let file = here.path().join("host.key");
    here.host.write(&file).unwrap();
    let key = crate::directory::key::FileKey::read(&file).unwrap();
    let served = files(here).accepting();
    Arc::new(served.hosted(Arc::new(key), Duration::from_secs(600)))
}

fn request(method: &str, path: &str, body: &[u8]) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path);
    builder
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap()
}

async fn get(served: &Served, path: &str) -> Answer {
    served.answer(LOCAL, request("GET", path, b"")).await
}

async fn bytes(answer: Answer) -> Bytes {
    answer.into_body().collect().await.unwrap().to_bytes()
}

async fn post(served: &Served, body: &[u8]) -> (u16, Taken) {
    let answer = served.answer(LOCAL, request("POST", "/submissions", body));
    let answer = answer.await;
    let status = answer.status().as_u16();
    (
        status,
        serde_json::from_slice(&bytes(answer).await).unwrap(),
    )
}

fn word(member: &Member, here: &Federation) -> Vec<u8> {
    let version = here.repository.next_version(&member.domain).unwrap();
    let now = here.now();
    let signers: [&dyn Signer; 1] = [&member.key];
    let sent =
        crate::directory::repository::Submission::new(&member.descriptor(), version, &signers, now);
    sent.unwrap().to_json().unwrap()
}

#[tokio::test]
async fn files_are_served_and_asked_for_by_tag() {
    let here = Federation::new(1);
    let served = files(&here);
    let answer = get(&served, "/metadata/timestamp.json").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-cache");
    let tag = answer.headers()[header::ETAG].clone();
    let expected = fs::read(here.path().join("metadata/timestamp.json")).unwrap();
    assert_eq!(bytes(answer).await, expected);
    let ask = async |tag: &HeaderValue| {
        let mut request = request("GET", "/metadata/timestamp.json", b"");
        request
            .headers_mut()
            .insert(header::IF_NONE_MATCH, tag.clone());
        served.answer(LOCAL, request).await
    };
    let again = ask(&tag).await;
    assert_eq!(again.status(), 304);
    assert_eq!(again.headers()[header::ETAG], tag);
    here.publish();
    assert_eq!(ask(&tag).await.status(), 200);
    let small = get(&served, "/metadata/1.root.json.gz").await;
    assert_eq!(small.headers()[header::CONTENT_TYPE], "application/gzip");
    assert!(!small.headers().contains_key(header::CONTENT_ENCODING));
    let head = served.answer(LOCAL, request("HEAD", "/metadata/1.root.json", b""));
    assert_eq!(head.await.status(), 200);
    // The next root is asked for until it is there.
    let missing = get(&served, "/metadata/2.root.json").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.headers()[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn nothing_else_is_served() {
    let here = Federation::new(1);
    here.repository
        .propose_root(&Default::default(), here.now())
        .unwrap();
    let (served, outside) = (files(&here), tempfile::tempdir().unwrap());
    let secret = outside.path().join("secret.json");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, here.path().join("metadata/link.json")).unwrap();
    fs::create_dir(here.path().join("metadata/folder.json")).unwrap();
    fs::write(here.path().join("metadata/.hidden.json"), "x").unwrap();
    fs::write(here.path().join("metadata/host.key"), "x").unwrap();
    for path in [
        "/",
        "/.lock",
        "/drafts/root.json",
        "/metadata/link.json",
        "/metadata/folder.json",
        "/metadata/.hidden.json",
        "/metadata/host.key",
        "/metadata/../drafts/root.json",
        "/metadata/%2e%2e%2fdrafts%2froot.json",
        "/submissions",
    ] {
        let answer = get(&served, path).await;
        assert_eq!(answer.status(), 404, "{path}");
    }
    // A folder that leads away.
    fs::rename(here.path().join("continuity"), outside.path().join("c")).unwrap_or(());
    symlink(outside.path(), here.path().join("continuity")).unwrap();
    assert_eq!(get(&served, "/continuity/secret.json").await.status(), 404);
    for method in ["PUT", "DELETE", "POST"] {
        let answer = served.answer(LOCAL, request(method, "/metadata/1.root.json", b""));
        assert_eq!(answer.await.status(), 405, "{method}");
    }
    let answer = served.answer(LOCAL, request("POST", "/submissions", b"{}"));
    assert_eq!(answer.await.status(), 404, "it takes none");
}

#[tokio::test]
async fn a_member_speaks_and_nobody_else() {
    let here = Federation::new(1);
    let mut tokyo = here.join("tokyo.example");
    let served = hosted(&here);
    tokyo.sequence = 7;
    let sent = word(&tokyo, &here);
    assert_eq!(post(&served, &sent).await.0, 200);
    // Once more it is no news, and no error.
    assert!(post(&served, &sent).await.1.accepted);
    let reason = |(status, taken): (u16, Taken)| {
        assert!(!taken.accepted && taken.problem.is_some());
        (status, taken.reason.unwrap())
    };
    let stranger = Member::new("tokyo.example");
    let answer = post(&served, &word(&stranger, &here)).await;
    assert_eq!(reason(answer), (403, "signatures".into()));
    let nobody = Member::new("osaka.example");
    let answer = post(&served, &word(&nobody, &here)).await;
    assert_eq!(reason(answer), (403, "not_a_member".into()));
    tokyo.sequence = 6;
    let answer = post(&served, &word(&tokyo, &here)).await;
    assert_eq!(reason(answer), (409, "rollback".into()));
    assert_eq!(reason(post(&served, b"{").await), (400, "malformed".into()));
    let long = vec![b' '; crate::directory::repository::MOST + 1];
    assert_eq!(
        reason(post(&served, &long).await),
        (413, "too_large".into())
    );
    assert_eq!(
        here.repository
            .said(&tokyo.domain)
            .unwrap()
            .unwrap()
            .version,
        2
    );
}

#[tokio::test(start_paused = true)]
async fn who_sends_too_often_waits_and_no_other_member() {
    let here = Federation::new(1);
    let (mut tokyo, osaka) = (here.join("tokyo.example"), here.join("osaka.example"));
    let served = hosted(&here);
    let mut last = 0;
    for sequence in 2..20 {
        tokyo.sequence = sequence;
        let (status, taken) = post(&served, &word(&tokyo, &here)).await;
        if status == 429 {
            assert_eq!(taken.reason.as_deref(), Some("rate"));
            break;
        }
        last = sequence;
    }
    assert_eq!(last, 9, "eight at once");
    assert_eq!(post(&served, &word(&osaka, &here)).await.0, 200);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(post(&served, &word(&tokyo, &here)).await.0, 200);
    // A network that sends anything.
    let mut refused = 0;
    for _ in 0..40 {
        refused += u32::from(post(&served, b"{}").await.0 == 429);
    }
    assert!(refused >= 8, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn who_repeats_a_members_words_does_not_silence_it() {
    let here = Federation::new(1);
    let mut tokyo = here.join("tokyo.example");
    let served = hosted(&here);
    let (first, mut words) = (word(&tokyo, &here), Vec::new());
    assert_eq!(post(&served, &first).await.0, 200);
    for _ in 0..12 {
        assert_eq!(post(&served, &first).await.0, 200);
    }
    for sequence in 2..9 {
        tokyo.sequence = sequence;
        words.push(post(&served, &word(&tokyo, &here)).await.0);
    }
    assert_eq!(words, [200; 7]);
    let old = post(&served, &first).await;
    assert_eq!(old.1.reason.as_deref(), Some("rollback"));
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_hosted_at_once_and_seldom() {
    let here = Federation::new(1);
    let (tokyo, osaka) = (here.join("tokyo.example"), here.join("osaka.example"));
    let served = hosted(&here);
    let timestamp = || {
        here.repository
            .timestamp()
            .unwrap()
            .unwrap()
            .signed
            .signed
            .version
            .get()
    };
    let before = timestamp();
    let hosting = tokio::spawn({
        let served = Arc::clone(&served);
        async move { served.host().await }
    });
    let until = async |wanted: u64| {
        let began = tokio::time::Instant::now();
        while timestamp() < wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(
                began.elapsed() < Duration::from_secs(700),
                "{}",
                timestamp()
            );
        }
        began.elapsed()
    };
    until(before + 1).await;
    // By a member, and by a registrar in the same folder.
    assert_eq!(post(&served, &word(&tokyo, &here)).await.0, 200);
    assert!(until(before + 2).await <= Duration::from_secs(6));
    let said = here
        .repository
        .snapshot_version("td-tokyo.example")
        .unwrap();
    assert_eq!(said, 2);
    let locked = here.repository.lock().unwrap();
    let registrars = here.two_registrars();
    here.repository
        .expel(&osaka.domain, &registrars, here.now())
        .unwrap();
    drop(locked);
    assert!(until(before + 3).await <= Duration::from_secs(11));
    let bin = here.repository.snapshot_version("bin").unwrap();
    assert_eq!(
        bin,
        here.repository
            .targets("bin")
            .unwrap()
            .unwrap()
            .signed
            .signed
            .version
            .get()
    );
    // And then only as often as was said.
    let quiet = until(before + 4).await;
    assert!(quiet >= Duration::from_secs(590), "{quiet:?}");
    hosting.abort();
}

#[tokio::test]
async fn a_member_asks_what_is_there_and_sends_the_next() {
    let here = Federation::new(16);
    let tokyo = here.join("tokyo.example");
    let served = hosted(&here);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let crypto = Arc::new(sekisho_certs::tls::provider());
    let serving = tokio::spawn(serve(Door::Plain(listener), served, Arc::clone(&crypto)));
    let there = There::new(&url, WebRoots::System, crypto, here.clock.clone()).unwrap();
    let said = there.said(&tokyo.domain, &tokyo.set(), None).await.unwrap();
    let said = said.unwrap();
    assert_eq!(
        (said.version, said.descriptor),
        (1, Some(tokyo.descriptor()))
    );
    let stranger = Member::new("tokyo.example");
    let none = there
        .said(&tokyo.domain, &stranger.set(), None)
        .await
        .unwrap();
    assert!(none.is_none(), "not by these keys");
    let nobody = Member::new("osaka.example");
    assert!(
        there
            .said(&nobody.domain, &nobody.set(), None)
            .await
            .unwrap()
            .is_none()
    );
    let next = crate::directory::repository::Submission::read(&word(&tokyo, &here)).unwrap();
    assert!(there.send(&next).await.unwrap().accepted);
    serving.abort();
    let _ = serving.await;
    assert!(matches!(
        there.send(&next).await,
        Err(SubmitError::Io { .. })
    ));
    for (url, word) in [
        ("ftp://a.example/", "scheme"),
        ("https://u@a.example/", "user info"),
        ("https://a.example/?x", "query"),
        ("a.example", "not valid"),
    ] {
        let crypto = Arc::new(sekisho_certs::tls::provider());
        let error = There::new(url, WebRoots::System, crypto, here.clock.clone());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(word), "{url}: {error}");
    }
}

#[tokio::test]
async fn behind_tls_it_is_asked_by_name() {
    let here = Federation::new(1);
    let tokyo = here.join("tokyo.example");
    let ca = TestCa::new("web.example");
    let profile = Profile::leaf("spiffe://web.example/web").with_dns_names(["localhost"]);
    let files = tempfile::tempdir().unwrap();
    let (cert, key) = ca.issue(&profile).write(files.path(), "web");
    let crypto = Arc::new(sekisho_certs::tls::provider());
    let certificate = Certificate::load(cert, key, Arc::clone(&crypto)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let door = Door::Tls(listener, Arc::new(certificate));
    let serving = tokio::spawn(serve(door, hosted(&here), Arc::clone(&crypto)));
    let there = |roots: WebRoots| {
        let url = format!("https://localhost:{port}/");
        There::new(&url, roots, Arc::clone(&crypto), Arc::new(SystemClock)).unwrap()
    };
    let known = there(WebRoots::Given(vec![ca.der().clone()]));
    let said = known.said(&tokyo.domain, &tokyo.set(), None).await.unwrap();
    assert_eq!(said.unwrap().version, 1);
    let stranger = TestCa::new("web.example").der().clone();
    let unknown = there(WebRoots::Given(vec![stranger]));
    let error = unknown.said(&tokyo.domain, &tokyo.set(), None).await;
    assert!(matches!(error, Err(SubmitError::Io { .. })), "{error:?}");
    serving.abort();
}
