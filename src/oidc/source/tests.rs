use std::{collections::HashMap, path::Path, pin::Pin};

use futures_util::{Stream, StreamExt as _, stream};
use sekisho_certs::id::parse_trust_domain;
use sekisho_spire_api::workload::{
    JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest,
    X509svidResponse,
    spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
};
use sekisho_testkit::TestClock;
use serde_json::{Value, json};
use tokio::{net::UnixListener, task::JoinHandle};
use tonic::{Response, transport::Server};

use super::*;

/// What the API says: nobody is known, or bundles.
type Said = Option<HashMap<String, Vec<u8>>>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Api(watch::Receiver<Said>);

fn denied() -> Status {
    Status::permission_denied("no identity issued")
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let header = request.metadata().get("workload.spiffe.io");
        assert_eq!(header.unwrap(), "true");
        let mut said = self.0.clone();
        said.mark_changed();
        if said.borrow().is_none() {
            return Err(denied());
        }
        let messages = stream::unfold(said, async |mut said| {
            said.changed().await.ok()?;
            let now = said.borrow_and_update().clone();
            let message = now.map(|bundles| JwtBundlesResponse { bundles });
            Some((message.ok_or_else(denied), said))
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn fetch_x509svid(
        &self,
        _: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        Err(denied())
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(denied())
    }

    async fn fetch_jwtsvid(
        &self,
        _: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        Err(denied())
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Err(denied())
    }
}

fn serve(path: &Path, said: watch::Receiver<Said>) -> JoinHandle<()> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();
    let incoming = stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let service = SpiffeWorkloadApiServer::new(Api(said));
    tokio::spawn(async move {
        let server = Server::builder().add_service(service);
        server
            .serve_with_incoming(Box::pin(incoming))
            .await
            .unwrap();
    })
}

/// A set with keys of these names, as an agent has it.
fn bundles(names: &[&str]) -> Said {
    let number = "ngLYQnlfF6GsojUwqtcEE3WgTNG2RUlsGhK73RNEl5k";
    let keys = names
        .iter()
        .map(|kid| json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": number, "y": number}));
    let set = json!({"keys": keys.collect::<Vec<_>>()});
    let other = json!({"keys": []});
    Some(HashMap::from([
        ("spiffe://a.example".into(), set.to_string().into_bytes()),
        ("spiffe://b.example".into(), other.to_string().into_bytes()),
    ]))
}

fn names(keys: &Keys) -> Vec<String> {
    let set: Value = match &keys.jwks {
        Some(set) => serde_json::from_slice(set).unwrap(),
        None => return Vec::new(),
    };
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn keys_come_change_and_stay_while_their_source_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let clock = TestClock::new();
    let (say, said) = watch::channel(None);
    let serving = serve(&path, said.clone());
    let domain = parse_trust_domain("a.example").unwrap();
    let mut keys = watch(path.clone(), domain, Arc::<TestClock>::clone(&clock));
    let mut wait = async |wanted: &[&str], away: bool| {
        let there = keys.wait_for(|now| names(now) == wanted && now.away.is_some() == away);
        let there = timeout(Duration::from_secs(30), there).await;
        there.expect("in time").expect("a source").clone()
    };
    // Nobody is known.
    assert_eq!(wait(&[], true).await.away, Some(clock.now()));
    say.send_replace(bundles(&["one"]));
    wait(&["one"], false).await;
    say.send_replace(bundles(&["one", "two"]));
    wait(&["one", "two"], false).await;
    // Not ours, or broken: what was told before stays.
    say.send_replace(Some(HashMap::new()));
    wait(&["one", "two"], true).await;
    say.send_replace(bundles(&["", "three"]));
    wait(&["one", "two"], true).await;
    say.send_replace(bundles(&["three"]));
    wait(&["three"], false).await;
    // Gone; and since when, however long it takes.
    serving.abort();
    say.send_replace(None);
    let since = clock.now();
    assert_eq!(wait(&["three"], true).await.away, Some(since));
    let _serving = serve(&path, said);
    clock.advance(AWAY);
    say.send_replace(bundles(&[]));
    wait(&[], false).await;
}

const AWAY: Duration = Duration::from_secs(600);
