//! A pod's token as one piece of evidence, with a stand-in of the cluster's API server.

use std::fs;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sekisho_agent::{
    attest::{AttestError, Evidence, NodeAttestor, Token, evidence::PodToken, k8s_psat::Api},
    run::AgentError,
};
use sekisho_authority::attest::evidence::{Judge, Setting, Source};
use sekisho_kube::{KubeLogin, KubeServer};
use sekisho_testkit::{kube::answer, wait_until};
use tonic::Code;

use crate::{harness::Running, k8s_psat::World};

/// A token, and a pod of the account of agents; the path says whether its token is of this conversation.
const POLICY: &str = r#"
package sekisho.attest

default decision := {"allow": false, "reason": "a token and a pod are wanted"}

token if { some piece in input.evidence; piece.type == "join_token" }

decision := {"allow": true, "path": sprintf("/%s/%s", [kind, piece.node]), "selectors": [sprintf("node:%s", [piece.node])]} if {
	token
	some piece in input.evidence
	piece.type == "k8s_psat"
	piece.cluster == "campus"
	piece.service_account == "agent"
	kind := {true: "bound", false: "file"}[piece.bound]
}
"#;

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("attest.rego"), POLICY).unwrap();
    let judge = Judge::load(Source::Folder(folder.path().into())).unwrap();
    let world = World::with(|settings, clusters| {
        settings.attestors.join_token = false;
        settings.attestors.evidence = Some(Setting {
            join_token: true,
            x509pop: None,
            k8s_psat: Some(clusters),
            judge,
        });
    });
    let world = world.await;
    // It is looked at for each attestation.
    let _ = folder.keep();
    world
}

fn pod(token: PodToken) -> Evidence {
    Evidence::K8sPsat {
        cluster: "campus".into(),
        token,
    }
}

async fn run(world: &World, evidence: Vec<Evidence>) -> Running {
    let mut settings = world.site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(evidence);
    world.site.run(settings).await
}

async fn token(world: &World) -> Evidence {
    Evidence::JoinToken(Token::Value(world.site.token().await.into()))
}

/// The pod's own token says which pod it is; another is asked for with it.
fn requested(world: &World) -> PodToken {
    let claims = r#"{"kubernetes.io":{"namespace":"sekisho","pod":{"name":"agent-x7k2p","uid":"pod-uid"},
        "serviceaccount":{"name":"agent","uid":"u"}}}"#;
    let own = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    let own = world.stand_in.file("own", &own);
    let folder = world.stand_in.folder();
    let server = KubeServer::api_server()
        .named("localhost")
        .at(world.stand_in.port());
    let mut api = Api::given(server, folder.join("ca.pem"), own);
    let login = folder.join("token");
    api.server = api.server.with_login(KubeLogin::Token(login.into()));
    PodToken::Requested(api)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_made_for_the_conversation_is_bound_and_one_from_a_file_is_not() {
    let world = world().await;
    let evidence = vec![token(&world).await, pod(requested(&world))];
    let mut agent = run(&world, evidence).await;
    agent.turned().await;
    assert_eq!(agent.path(), "/spire/agent/sekisho_evidence/bound/n1");
    agent.stop().await;
    let file = PodToken::File(world.stand_in.file("psat", "good"));
    let mut settings = world.site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(vec![token(&world).await, pod(file.clone())]);
    settings.data = settings.data.join("second");
    let mut agent = world.site.run(settings).await;
    agent.turned().await;
    assert_eq!(agent.path(), "/spire/agent/sekisho_evidence/file/n1");
    agent.stop().await;
    // The pod alone is not enough.
    let mut settings = world.site.agent_settings("unused").await;
    settings.attestor = NodeAttestor::Evidence(vec![pod(file)]);
    settings.data = settings.data.join("third");
    let ended = world.site.run(settings).await.ended().await;
    let Err(AgentError::Refused(AttestError::Refused(status))) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_nothing_is_used_up() {
    let world = world().await;
    let unavailable = answer("503 Service Unavailable", "");
    world.change(|cluster| drop(cluster.instead.insert("tokenreviews".into(), unavailable)));
    let file = PodToken::File(world.stand_in.file("psat", "good"));
    let evidence = vec![token(&world).await, pod(file)];
    let mut agent = run(&world, evidence).await;
    let health = wait_until(&mut agent.shared.health, "a turn", |health| {
        health.turns > 0
    })
    .await;
    let problem = health.problem.unwrap();
    assert!(problem.contains("Unavailable"), "{problem}");
    world.change(|cluster| cluster.instead.clear());
    let known = |health: &sekisho_agent::run::Health| health.node.is_some();
    agent.shared.hurry();
    wait_until(&mut agent.shared.health, "the same token taken", known).await;
    assert_eq!(agent.path(), "/spire/agent/sekisho_evidence/file/n1");
    agent.stop().await;
}
