//! SDS against the recordings of SPIRE's agent.

use prost::Message as _;
use sekisho_spire_api::envoy::{
    core::{BuildVersion, Node, SemanticVersion, node},
    discovery::{DiscoveryRequest, DiscoveryResponse},
    secret::secret_discovery_service_client::SecretDiscoveryServiceClient,
    tls::{Secret, SpiffeCertValidatorConfig, secret::Type},
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::harness::{HOUR, Running, Site, channel, recorded, recording};

const TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

fn request(names: &[&str], minor: u32) -> DiscoveryRequest {
    let build = BuildVersion {
        version: Some(SemanticVersion {
            major_number: 1,
            minor_number: minor,
            patch: 0,
        }),
        metadata: None,
    };
    DiscoveryRequest {
        node: Some(Node {
            user_agent_name: "envoy".into(),
            user_agent_version_type: Some(node::UserAgentVersionType::UserAgentBuildVersion(build)),
            ..Default::default()
        }),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: TYPE.into(),
        ..Default::default()
    }
}

type Ask = mpsc::Sender<DiscoveryRequest>;

async fn open(agent: &Running) -> (Ask, Streaming<DiscoveryResponse>) {
    let mut client = SecretDiscoveryServiceClient::new(channel(&agent.socket).await);
    let (ask, asked) = mpsc::channel(4);
    let answers = client
        .stream_secrets(ReceiverStream::new(asked))
        .await
        .unwrap();
    (ask, answers.into_inner())
}

async fn first(agent: &Running, request: DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
    let (ask, mut answers) = open(agent).await;
    ask.send(request).await.unwrap();
    Ok(answers.message().await?.unwrap())
}

fn secrets(response: &DiscoveryResponse) -> Vec<Secret> {
    let resources = response.resources.iter();
    resources
        .map(|any| {
            assert_eq!(any.type_url, TYPE);
            Secret::decode(any.value.as_slice()).unwrap()
        })
        .collect()
}

/// Name and kind of a secret, and the domains of a validation context.
fn shape(secret: &Secret) -> (String, Vec<String>) {
    let kinds = match secret.r#type.as_ref().unwrap() {
        Type::TlsCertificate(_) => vec!["certificate".into()],
        Type::ValidationContext(context) => match &context.custom_validator_config {
            None => vec!["plain".into()],
            Some(validator) => {
                assert_eq!(validator.name, "envoy.tls.cert_validator.spiffe");
                let any = validator.typed_config.as_ref().unwrap();
                let config = SpiffeCertValidatorConfig::decode(any.value.as_slice()).unwrap();
                config
                    .trust_domains
                    .into_iter()
                    .map(|domain| domain.name)
                    .collect()
            }
        },
    };
    (secret.name.clone(), kinds)
}

/// The same of a recorded one.
fn recorded_shape(secret: &Value) -> (String, Vec<String>) {
    let name = secret["name"].as_str().unwrap().to_owned();
    let config = &secret["validationContext"]["customValidatorConfig"]["typedConfig"];
    let Some(domains) = config["trustDomains"].as_array() else {
        assert!(secret["tlsCertificate"]["privateKey"]["inlineBytes"].is_string());
        return (name, vec!["certificate".into()]);
    };
    let names = domains
        .iter()
        .map(|domain| domain["name"].as_str().unwrap().to_owned());
    (name, names.collect())
}

async fn site_of_the_recordings() -> (Site, Running) {
    let site = Site::start().await;
    let mut agent = site.agent().await;
    recorded(&site, &agent.path()).await;
    assert_eq!(agent.turn().await.problem, None);
    (site, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_request_is_answered_as_recorded_and_mixtures_too() {
    let (_site, agent) = site_of_the_recordings().await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("../testkit/recordings/spire/sds");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let mut mixtures = 0;
    for file in &names {
        let told = recording(&format!("sds/{file}"));
        let asked = told["request"]["resource_names"].as_array().unwrap().iter();
        let asked: Vec<&str> = asked.map(|name| name.as_str().unwrap()).collect();
        let ours = first(&agent, request(&asked, 40)).await;
        let Some(error) = told["answer"]["error"].as_str() else {
            let ours = ours.unwrap();
            assert_eq!(
                (ours.version_info.as_str(), ours.type_url.as_str()),
                ("1", TYPE)
            );
            assert_eq!(
                ours.nonce.len(),
                told["answer"]["nonce"].as_str().unwrap().len()
            );
            let ours: Vec<_> = secrets(&ours).iter().map(shape).collect();
            let theirs = told["answer"]["resources"].as_array().unwrap();
            let theirs: Vec<_> = theirs.iter().map(recorded_shape).collect();
            assert_eq!(ours, theirs, "{file}");
            continue;
        };
        match ours {
            Err(status) => {
                assert_eq!(status.code(), Code::InvalidArgument);
                assert!(error.contains(status.message()), "{file}: {status:?}");
            }
            // What SPIRE refuses together, and answers alone.
            Ok(ours) => {
                assert!(
                    [
                        "rootca-and-td.json",
                        "rootca-and-all.json",
                        "default-and-own-id.json",
                        "default-and-all.json"
                    ]
                    .contains(&file.as_str()),
                    "{file}"
                );
                let ours: Vec<String> = secrets(&ours).into_iter().map(|one| one.name).collect();
                assert!(
                    asked
                        .iter()
                        .all(|name| ours.iter().any(|ours| ours == name)),
                    "{file}"
                );
                mixtures += 1;
            }
        }
    }
    assert_eq!((names.len(), mixtures), (15, 3));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_pushed_under_the_next_version_and_a_stale_nonce_is_ignored() {
    let (site, mut agent) = site_of_the_recordings().await;
    let (ask, mut answers) = open(&agent).await;
    ask.send(request(&["default"], 40)).await.unwrap();
    let one = answers.message().await.unwrap().unwrap();
    assert_eq!(one.version_info, "1");
    // Taken: nothing follows from it. With another nonce: not even a change of names counts.
    let taken = |nonce: &str, names: &[&str]| DiscoveryRequest {
        version_info: "1".into(),
        response_nonce: nonce.into(),
        node: None,
        ..request(names, 40)
    };
    ask.send(taken(&one.nonce, &["default"])).await.unwrap();
    ask.send(taken("00000000", &["ROOTCA"])).await.unwrap();
    site.clock.advance(HOUR / 2 + HOUR / 10);
    agent.turn().await;
    let two = answers.message().await.unwrap().unwrap();
    assert_eq!(two.version_info, "2");
    let (before, after) = (secrets(&one), secrets(&two));
    assert_eq!(after[0].name, "default");
    assert_ne!(before, after);
    // Other names, in the answer to this one.
    ask.send(DiscoveryRequest {
        version_info: "2".into(),
        ..taken(&two.nonce, &["ROOTCA", "ALL"])
    })
    .await
    .unwrap();
    let three = answers.message().await.unwrap().unwrap();
    assert_eq!(three.version_info, "2");
    let names: Vec<String> = secrets(&three).into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["ROOTCA", "ALL"]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_envoy_gets_plain_cas() {
    let (_site, agent) = site_of_the_recordings().await;
    let answer = first(&agent, request(&["ROOTCA"], 17)).await.unwrap();
    assert_eq!(shape(&secrets(&answer)[0]).1, ["plain"]);
    let error = first(&agent, request(&["ALL"], 17)).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    let mut told = request(&["ROOTCA"], 40);
    let yes = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue("true".into())),
    };
    let fields = [("disable_spiffe_cert_validation".into(), yes)].into();
    told.node.as_mut().unwrap().metadata = Some(prost_types::Struct { fields });
    let answer = first(&agent, told).await.unwrap();
    assert_eq!(shape(&secrets(&answer)[0]).1, ["plain"]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_has_no_version_and_delta_is_not_implemented() {
    let (_site, agent) = site_of_the_recordings().await;
    let mut client = SecretDiscoveryServiceClient::new(channel(&agent.socket).await);
    let answer = client
        .fetch_secrets(request(&[], 40))
        .await
        .unwrap()
        .into_inner();
    assert!(answer.version_info.is_empty() && answer.nonce.is_empty());
    assert_eq!(answer.resources.len(), 5);
    let none = tokio_stream::iter([sekisho_spire_api::envoy::discovery::DeltaDiscoveryRequest {}]);
    let error = client.delta_secrets(none).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    agent.stop().await;
}
