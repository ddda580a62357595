//! The Workload API against the recordings of SPIRE's agent: the same messages, field by field, and
//! the same codes and words for what is wrong. Numbers are lines of spiffe.md §2.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sekisho_certs::{Svid, tls};
use sekisho_spire_api::{
    server::entry::{BatchDeleteEntryRequest, entry_client::EntryClient},
    types,
    workload::{
        JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest,
        X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
    },
};
use serde_json::Value;
use tonic::{Code, Request, Status, Streaming};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::harness::{Running, Site, channel, entry, recorded, recording, with_header};

async fn site_of_the_recordings() -> (Site, Running) {
    let site = Site::start().await;
    let mut agent = site.agent().await;
    recorded(&site, &agent.path()).await;
    assert_eq!(agent.turn().await.problem, None);
    (site, agent)
}

async fn x509(agent: &Running) -> Result<Streaming<X509svidResponse>, Status> {
    let mut api = agent.api().await;
    let answer = api.fetch_x509svid(with_header(X509svidRequest {})).await;
    Ok(answer?.into_inner())
}

async fn delete(site: &Site, ids: &[&str]) {
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let mut client = EntryClient::new(site.admin().await);
    client
        .batch_delete_entry(BatchDeleteEntryRequest { ids })
        .await
        .unwrap();
}

/// What a certificate says, without what differs each time; the order of its extensions says nothing.
fn said(der: &[u8]) -> (String, Vec<String>, i64) {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let extensions = certificate.extensions().iter();
    let mut kinds: Vec<String> = extensions
        .map(|one| format!("{} {}", one.oid, one.critical))
        .collect();
    kinds.sort_unstable();
    let validity = certificate.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    (certificate.subject().to_string(), kinds, life)
}

/// Lines 11, 14, 15, 16: one full message, at once, with everything that SPIRE's has.
#[tokio::test(flavor = "multi_thread")]
async fn x509_svids_are_told_as_recorded() {
    let (_site, agent) = site_of_the_recordings().await;
    let message = x509(&agent)
        .await
        .unwrap()
        .message()
        .await
        .unwrap()
        .unwrap();
    let told = recording("workload-api/FetchX509SVID.json");
    let expected = told["svids"].as_array().unwrap();
    assert_eq!(message.svids.len(), expected.len());
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    for (ours, theirs) in message.svids.iter().zip(expected) {
        assert_eq!(ours.spiffe_id, theirs["spiffeId"].as_str().unwrap());
        assert_eq!(ours.hint, theirs["hint"].as_str().unwrap());
        assert_eq!(said(&ours.x509_svid), said(&bytes(&theirs["x509Svid"])));
        assert_eq!(
            ours.x509_svid_key.len(),
            bytes(&theirs["x509SvidKey"]).len()
        );
        let key = PrivatePkcs8KeyDer::from(ours.x509_svid_key.clone());
        let chain = vec![CertificateDer::from(ours.x509_svid.clone())];
        let svid = Svid::new(chain, key.into(), &tls::provider()).unwrap();
        assert_eq!(svid.id().to_string(), ours.spiffe_id);
        let (kinds, theirs) = (said(&ours.bundle).1, said(&bytes(&theirs["bundle"])).1);
        assert_eq!(kinds, theirs);
    }
    let federated: Vec<&String> = message.federated_bundles.keys().collect();
    assert_eq!(federated, ["spiffe://osaka.example"]);
    assert!(message.crl.is_empty());
    agent.stop().await;
}

/// Lines 15, 16: keyed by the ID of the trust domain, our own among them; JWKS with JWT keys only.
#[tokio::test(flavor = "multi_thread")]
async fn bundles_are_told_as_recorded() {
    let (_site, agent) = site_of_the_recordings().await;
    let mut api = agent.api().await;
    let answer = api
        .fetch_x509_bundles(with_header(X509BundlesRequest {}))
        .await;
    let message = answer
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let keys = |recorded: &Value| {
        let bundles = recorded["bundles"].as_object().unwrap();
        bundles.keys().cloned().collect::<Vec<_>>()
    };
    let mut names: Vec<String> = message.bundles.keys().cloned().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        keys(&recording("workload-api/FetchX509Bundles.json"))
    );
    let answer = api
        .fetch_jwt_bundles(with_header(JwtBundlesRequest {}))
        .await;
    let message = answer
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let recorded = recording("workload-api/FetchJWTBundles.json");
    for name in keys(&recorded) {
        let theirs = STANDARD
            .decode(recorded["bundles"][&name].as_str().unwrap())
            .unwrap();
        let (ours, theirs): (Value, Value) = (
            serde_json::from_slice(&message.bundles[&name]).unwrap(),
            serde_json::from_slice(&theirs).unwrap(),
        );
        let members = |set: &Value| {
            let keys = set["keys"].as_array().unwrap().iter();
            keys.map(|key| key.as_object().unwrap().keys().cloned().collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        assert_eq!(members(&ours), members(&theirs), "{name}");
    }
    let empty = String::from_utf8(message.bundles["spiffe://osaka.example"].clone()).unwrap();
    let theirs = recorded["bundles"]["spiffe://osaka.example"]
        .as_str()
        .unwrap();
    assert_eq!(empty.into_bytes(), STANDARD.decode(theirs).unwrap());
    agent.stop().await;
}

fn claims(answer: prost_types::Struct) -> Value {
    use prost_types::value::Kind;
    fn json(value: prost_types::Value) -> Value {
        match value.kind.unwrap() {
            Kind::NumberValue(number) => number.into(),
            Kind::StringValue(text) => text.into(),
            Kind::ListValue(list) => list.values.into_iter().map(json).collect(),
            other => panic!("{other:?}"),
        }
    }
    let fields = answer.fields.into_iter();
    fields
        .map(|(name, value)| (name, json(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Lines 9, 10, 16: all identities without an ID; told and verified as recorded; cached to half-life.
#[tokio::test(flavor = "multi_thread")]
async fn jwt_svids_are_told_and_verified_as_recorded() {
    let (mut site, mut agent) = site_of_the_recordings().await;
    let mut api = agent.api().await;
    let ask = |id: &str| {
        with_header(JwtsvidRequest {
            audience: vec!["kafka".into()],
            spiffe_id: id.into(),
        })
    };
    let all = api.fetch_jwtsvid(ask("")).await.unwrap().into_inner().svids;
    let recorded_svids = recording("workload-api/FetchJWTSVID.json");
    let expected = recorded_svids["svids"].as_array().unwrap().iter();
    let expected: Vec<_> = expected
        .map(|svid| (&svid["spiffeId"], &svid["hint"]))
        .collect();
    let told: Vec<_> = all
        .iter()
        .map(|svid| (&svid.spiffe_id, &svid.hint))
        .collect();
    assert_eq!(told.len(), expected.len());
    for ((id, hint), (theirs, their_hint)) in told.into_iter().zip(expected) {
        assert_eq!(
            (id.as_str(), hint.as_str()),
            (theirs.as_str().unwrap(), their_hint.as_str().unwrap())
        );
    }
    let own = "spiffe://hokkaido.example/broker/from-kyushu";
    let one = api
        .fetch_jwtsvid(ask(own))
        .await
        .unwrap()
        .into_inner()
        .svids;
    assert_eq!(
        (one.len(), &one[0].svid),
        (1, &all[0].svid),
        "the same token"
    );

    let validate = |token: &str, audience: &str| {
        with_header(ValidateJwtsvidRequest {
            audience: audience.into(),
            svid: token.into(),
        })
    };
    let valid = api
        .validate_jwtsvid(validate(&one[0].svid, "kafka"))
        .await
        .unwrap();
    let valid = valid.into_inner();
    let recorded = recording("workload-api/ValidateJWTSVID.json");
    assert_eq!(valid.spiffe_id, recorded["spiffeId"].as_str().unwrap());
    let (ours, theirs) = (claims(valid.claims.unwrap()), &recorded["claims"]);
    let keys = |map: &Value| map.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(theirs));
    assert_eq!(
        (&ours["aud"], &ours["sub"]),
        (&theirs["aud"], &theirs["sub"])
    );
    let life = |claims: &Value| claims["exp"].as_f64().unwrap() - claims["iat"].as_f64().unwrap();
    assert!((life(&ours) - life(theirs)).abs() < 0.5);

    // The authority is away: what is remembered is told while it lasts, and then nothing.
    site.stop_authority().await;
    site.clock.advance(Duration::from_secs(290));
    agent.turn().await;
    let late = api
        .fetch_jwtsvid(ask(own))
        .await
        .unwrap()
        .into_inner()
        .svids;
    assert_eq!(late[0].svid, one[0].svid);
    site.clock.advance(Duration::from_secs(20));
    let error = api.fetch_jwtsvid(ask(own)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let error = api
        .validate_jwtsvid(validate(&one[0].svid, "kafka"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::InvalidArgument, "token has expired")
    );
    agent.stop().await;
}

async fn refused(agent: &Running, call: &str) -> Status {
    let mut api = agent.api().await;
    let jwt = |audience: &[&str], id: &str| {
        with_header(JwtsvidRequest {
            audience: audience.iter().map(|one| (*one).to_owned()).collect(),
            spiffe_id: id.into(),
        })
    };
    let validate = |audience: &str, svid: &str| {
        with_header(ValidateJwtsvidRequest {
            audience: audience.into(),
            svid: svid.into(),
        })
    };
    let mut bare = Request::new(X509svidRequest {});
    let mut add = |value: &str| {
        bare.metadata_mut()
            .append("workload.spiffe.io", value.parse().unwrap());
    };
    let first = "first message";
    match call {
        "FetchX509SVID without the security header" => {
            api.fetch_x509svid(bare).await.expect_err(first)
        }
        "FetchX509SVID, header value True" => {
            add("True");
            api.fetch_x509svid(bare).await.expect_err(first)
        }
        "FetchX509SVID, header twice" => {
            add("true");
            add("true");
            api.fetch_x509svid(bare).await.expect_err(first)
        }
        "FetchJWTSVID without audience" => api.fetch_jwtsvid(jwt(&[], "")).await.unwrap_err(),
        "FetchJWTSVID, an ID that is not the caller's" => api
            .fetch_jwtsvid(jwt(&["kafka"], "spiffe://hokkaido.example/not/mine"))
            .await
            .unwrap_err(),
        "FetchJWTSVID, malformed ID" => api
            .fetch_jwtsvid(jwt(&["kafka"], "garbage"))
            .await
            .unwrap_err(),
        "ValidateJWTSVID, wrong audience" => {
            let token = api.fetch_jwtsvid(jwt(&["kafka"], "")).await.unwrap();
            let token = token.into_inner().svids[0].svid.clone();
            api.validate_jwtsvid(validate("other", &token))
                .await
                .unwrap_err()
        }
        "ValidateJWTSVID, no audience" => {
            api.validate_jwtsvid(validate("", "x")).await.unwrap_err()
        }
        "ValidateJWTSVID, garbage token" => api
            .validate_jwtsvid(validate("kafka", "!!!"))
            .await
            .unwrap_err(),
        "ValidateJWTSVID, no token" => api
            .validate_jwtsvid(validate("kafka", ""))
            .await
            .unwrap_err(),
        "FetchX509SVID by a process with no entry" => {
            let answer = api.fetch_x509svid(with_header(X509svidRequest {})).await;
            answer.unwrap().into_inner().message().await.unwrap_err()
        }
        "FetchX509Bundles by a process with no entry" => {
            let answer = api
                .fetch_x509_bundles(with_header(X509BundlesRequest {}))
                .await;
            answer.unwrap().into_inner().message().await.unwrap_err()
        }
        "FetchJWTBundles by a process with no entry" => {
            let answer = api
                .fetch_jwt_bundles(with_header(JwtBundlesRequest {}))
                .await;
            answer.unwrap().into_inner().message().await.unwrap_err()
        }
        "FetchJWTSVID by a process with no entry" => {
            api.fetch_jwtsvid(jwt(&["kafka"], "")).await.unwrap_err()
        }
        other => panic!("a recording without a test: {other}"),
    }
}

/// Lines 11, 13: every refusal that was recorded, with its code and its words.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_as_recorded() {
    let (site, mut agent) = site_of_the_recordings().await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = folder.join("../testkit/recordings/spire/workload-api/errors.md");
    let text = std::fs::read_to_string(text).unwrap();
    let mut cases: Vec<(&str, &str, &str)> = Vec::new();
    for case in text.split("\n## ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let line = |label: &str| {
            let found = rest
                .lines()
                .find_map(|line| line.trim().strip_prefix(label));
            found.unwrap()
        };
        cases.push((name, line("Code: "), line("Message: ")));
    }
    assert_eq!(cases.len(), 14);
    let mut entries_gone = false;
    for (name, code, message) in cases {
        if name.contains("with no entry") && !entries_gone {
            delete(&site, &["e-from-kyushu", "e-from-osaka", "e-to-tokyo"]).await;
            agent.turn().await;
            entries_gone = true;
        }
        let status = refused(&agent, name).await;
        assert_eq!(
            (format!("{:?}", status.code()).as_str(), status.message()),
            (code, message),
            "{name}"
        );
    }
    agent.stop().await;
}

/// Line 14: whoever loses an identity is told by its absence; whoever loses all, by a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_is_missing_from_the_next_message() {
    let (site, mut agent) = site_of_the_recordings().await;
    let mut stream = x509(&agent).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 3);
    delete(&site, &["e-from-osaka"]).await;
    agent.turn().await;
    let message = stream.message().await.unwrap().unwrap();
    let hints: Vec<_> = message
        .svids
        .iter()
        .map(|svid| svid.hint.as_str())
        .collect();
    assert_eq!(hints, ["from-kyushu", "to-tokyo"]);
    delete(&site, &["e-from-kyushu", "e-to-tokyo"]).await;
    agent.turn().await;
    let error = stream.message().await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::PermissionDenied, "no identity issued")
    );
    agent.stop().await;
}

/// Line 15: a hint stands once in a message; the oldest entry has it.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_the_same_hint_the_older_one_is_told() {
    let site = Site::start().await;
    let mut agent = site.agent().await;
    let hinted = |name: &str| types::Entry {
        hint: "db".into(),
        ..entry(name, &agent.path())
    };
    let (older, newer) = (hinted("/z-older"), hinted("/a-newer"));
    site.create(vec![older]).await;
    site.clock.advance(Duration::from_secs(2));
    site.create(vec![newer]).await;
    agent.turn().await;
    let message = x509(&agent)
        .await
        .unwrap()
        .message()
        .await
        .unwrap()
        .unwrap();
    let ids: Vec<_> = message
        .svids
        .iter()
        .map(|svid| svid.spiffe_id.as_str())
        .collect();
    assert_eq!(ids, ["spiffe://hokkaido.example/z-older"]);
    agent.stop().await;
}

/// Line 16 (§7): calls of the WIT profile.
#[tokio::test(flavor = "multi_thread")]
async fn wit_is_not_implemented() {
    let (_site, agent) = site_of_the_recordings().await;
    for method in ["FetchWITSVID", "FetchWITBundles", "ValidateWITSVID"] {
        let mut client = tonic::client::Grpc::new(channel(&agent.socket).await);
        client.ready().await.unwrap();
        let path = format!("/SpiffeWorkloadAPI/{method}").parse().unwrap();
        let codec = tonic_prost::ProstCodec::<X509svidRequest, X509svidResponse>::default();
        let answer = client
            .unary(with_header(X509svidRequest {}), path, codec)
            .await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{method}");
    }
    agent.stop().await;
}

/// An entry whose SVID is made on demand is signed when a workload asks for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_svid_on_demand_comes_when_it_is_asked_for() {
    let site = Site::start().await;
    let mut agent = site.agent().await;
    let lazy = types::Entry {
        additional_attributes: Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: false,
        }),
        ..entry("/lazy", &agent.path())
    };
    site.create(vec![lazy]).await;
    agent.turn().await;
    assert!(
        agent.shared.state.borrow().identities["lazy"]
            .svid
            .is_none()
    );
    let message = x509(&agent)
        .await
        .unwrap()
        .message()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(message.svids[0].spiffe_id, "spiffe://hokkaido.example/lazy");
    agent.stop().await;
}

/// Line 12: over TCP on loopback the same, to the process that is at the other end.
#[tokio::test(flavor = "multi_thread")]
async fn reflection_and_health_need_no_header() {
    let (_site, agent) = site_of_the_recordings().await;
    let channel = channel(&agent.socket).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(
        answer.status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );
    let mut client = SpiffeWorkloadApiClient::new(channel);
    let error = client.fetch_x509svid(X509svidRequest {}).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    agent.stop().await;
}
