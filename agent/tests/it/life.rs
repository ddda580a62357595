//! The life of an agent: attested, renewed, cut off, put out.

use sekisho_agent::{cache::Cache, run::AgentError};
use sekisho_spire_api::{
    server::agent::{BanAgentRequest, DeleteAgentRequest, agent_client::AgentClient},
    workload::{X509svidRequest, X509svidResponse},
};
use sekisho_testkit::wait_until;
use tonic::Code;

use crate::harness::{HOUR, Running, Site, domain, entry, spiffe_id, with_header};

pub(crate) async fn svids(agent: &Running) -> Result<X509svidResponse, tonic::Status> {
    let mut api = agent.api().await;
    let request = with_header(X509svidRequest {});
    let mut stream = api.fetch_x509svid(request).await?.into_inner();
    Ok(stream.message().await?.unwrap())
}

fn ids(message: &X509svidResponse) -> Vec<&str> {
    message
        .svids
        .iter()
        .map(|svid| svid.spiffe_id.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_attests_by_token_and_serves_what_is_made_for_it() {
    let site = Site::start().await;
    let mut agent = site.agent().await;
    let error = svids(&agent).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::PermissionDenied, "no identity issued")
    );
    site.create(vec![
        entry("/w", &agent.path()),
        entry("/other-node", "/spire/agent/join_token/other"),
    ])
    .await;
    agent.turn().await;
    assert_eq!(
        ids(&svids(&agent).await.unwrap()),
        ["spiffe://hokkaido.example/w"]
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn svids_and_the_agents_own_are_renewed_half_through() {
    let site = Site::start().await;
    let mut agent = site.agent().await;
    site.create(vec![entry("/w", &agent.path())]).await;
    agent.turn().await;
    let first = svids(&agent).await.unwrap().svids[0].x509_svid.clone();
    let own = agent.shared.health.borrow().node.clone().unwrap();
    site.clock.advance(HOUR / 3);
    agent.turn().await;
    assert_eq!(svids(&agent).await.unwrap().svids[0].x509_svid, first);
    site.clock.advance(HOUR / 4);
    let health = agent.turn().await;
    assert_eq!(health.problem, None);
    let (id, ends) = health.node.unwrap();
    assert_eq!(id, own.0);
    assert!(ends > own.1);
    let second = svids(&agent).await.unwrap().svids[0].x509_svid.clone();
    assert_ne!(second, first);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_started_while_the_authority_is_away_serves_what_it_had() {
    let day = 24 * HOUR;
    let long = |settings: &mut sekisho_authority::core::Settings| {
        settings.x509_ttl = 2 * day;
        settings.agent_ttl = 2 * day;
    };
    let mut site = Site::with(long, 30 * day).await;
    let token = site.token().await;
    let mut settings = site.agent_settings(&token).await;
    settings.availability = Some(day);
    let mut agent = site.run(settings.clone()).await;
    agent.turned().await;
    site.create(vec![entry("/w", &agent.path())]).await;
    agent.turn().await;
    // A day of turns: whenever the authority goes, a day is left.
    for _ in 0..8 {
        site.clock.advance(3 * HOUR);
        assert_eq!(agent.turn().await.problem, None);
    }
    let before = svids(&agent).await.unwrap();
    let own_end = agent.shared.health.borrow().node.clone().unwrap().1;
    site.stop_authority().await;
    site.clock.advance(day / 2);
    assert!(agent.turn().await.problem.is_some());
    assert_eq!(svids(&agent).await.unwrap(), before);
    agent.stop().await;

    let mut agent = site.run(settings.clone()).await;
    assert_eq!(
        svids(&agent).await.unwrap(),
        before,
        "before the first turn"
    );
    site.clock.advance(day / 2);
    let problem = agent.turn().await.problem.unwrap();
    assert!(problem.contains("no authority"), "{problem}");
    assert_eq!(svids(&agent).await.unwrap(), before, "a day later");

    site.start_authority().await;
    let health = agent.turn().await;
    assert_eq!(health.problem, None);
    assert!(health.node.unwrap().1 > own_end);
    assert_ne!(
        svids(&agent).await.unwrap().svids[0].x509_svid,
        before.svids[0].x509_svid
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_banned_forgets_everything_and_ends() {
    let site = Site::start().await;
    let mut agent = site.agent().await;
    site.create(vec![entry("/w", &agent.path())]).await;
    agent.turn().await;
    let mut stream = {
        let mut api = agent.api().await;
        let request = with_header(X509svidRequest {});
        api.fetch_x509svid(request).await.unwrap().into_inner()
    };
    stream.message().await.unwrap().unwrap();
    let mut admin = AgentClient::new(site.admin().await);
    let id = spiffe_id(&agent.path());
    admin.ban_agent(BanAgentRequest { id }).await.unwrap();
    agent.shared.hurry();
    let error = stream.message().await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::PermissionDenied, "no identity issued")
    );
    let ended = agent.task.await.unwrap();
    assert!(matches!(ended, Err(AgentError::Banned)), "{ended:?}");
    let settings = site.agent_settings("x").await;
    let cache = Cache::open(&settings.data, domain(), settings.seal).unwrap();
    assert!(cache.load().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_evicted_comes_back_by_a_new_token_or_ends() {
    let site = Site::start().await;
    let mut agent = site.agent().await;
    site.create(vec![entry("/w", &agent.path())]).await;
    agent.turn().await;
    let mut admin = AgentClient::new(site.admin().await);
    let id = spiffe_id(&agent.path());
    admin.delete_agent(DeleteAgentRequest { id }).await.unwrap();
    let health = agent.turn().await;
    let problem = health.problem.unwrap();
    assert!(problem.contains("authorization denied"), "{problem}");
    // Its token was used: it is not taken again.
    agent.shared.hurry();
    let ended = agent.task.await.unwrap();
    assert!(matches!(ended, Err(AgentError::Refused(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_at_once() {
    let site = Site::start().await;
    let settings = site.agent_settings("nonsense").await;
    let agent = site.run(settings).await;
    let ended = agent.task.await.unwrap().unwrap_err();
    assert!(
        ended.to_string().contains("join token does not exist"),
        "{ended}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_another_key_is_not_believed() {
    let site = Site::start().await;
    let other = Site::start().await;
    let token = site.token().await;
    let mut settings = site.agent_settings(&token).await;
    settings.bootstrap = sekisho_agent::run::Bootstrap::File(other.bundle_file().await);
    let mut agent = site.run(settings).await;
    let health = wait_until(&mut agent.shared.health, "a turn", |health| {
        health.turns > 0
    })
    .await;
    assert!(health.problem.unwrap().contains("no authority"));
    assert!(health.node.is_none());
    let error = svids(&agent).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    agent.stop().await;
}
