//! Attestation by a certificate of the node, alone.

use sekisho_agent::{
    attest::{Evidence, NodeAttestor},
    run::AgentError,
};
use sekisho_authority::attest::{Attestors, x509pop::Mode};
use sekisho_spire_api::server::agent::{
    BanAgentRequest, DeleteAgentRequest, agent_client::AgentClient,
};

use crate::{
    evidence::Nodes,
    harness::{HOUR, Running, Site, entry, spiffe_id},
    life::svids,
};

fn alone(shown: &Evidence) -> NodeAttestor {
    let Evidence::X509Pop { cert, key } = shown else {
        panic!("a host has a certificate");
    };
    NodeAttestor::X509Pop {
        cert: cert.clone(),
        key: key.clone(),
    }
}

/// A site that takes nodes by certificate, and an agent that has one.
async fn site_and_agent(nodes: &Nodes, shown: &Evidence) -> (Site, Running) {
    let attestors = Attestors {
        join_token: false,
        x509pop: Some(Mode::external(vec![nodes.ca.clone()]).unwrap()),
        ..Attestors::default()
    };
    let site = Site::with(|settings| settings.attestors = attestors, 24 * HOUR).await;
    let mut settings = site.agent_settings("").await;
    settings.attestor = alone(shown);
    let mut agent = site.run(settings).await;
    agent.turned().await;
    site.create(vec![entry("/w", &agent.path())]).await;
    assert_eq!(agent.turn().await.problem, None);
    (site, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_attests_again_half_through_and_stays_who_it_is() {
    let nodes = Nodes::new();
    let (shown, ..) = nodes.host("n1");
    let (mut site, mut agent) = site_and_agent(&nodes, &shown).await;
    assert!(agent.path().starts_with("/spire/agent/x509pop/"));
    svids(&agent).await.unwrap();
    let own = agent.shared.health.borrow().node.clone().unwrap();
    site.clock.advance(HOUR / 3);
    assert_eq!(agent.turn().await.node.unwrap(), own);
    site.clock.advance(HOUR / 3);
    let health = agent.turn().await;
    assert_eq!(health.problem, None);
    let (id, ends) = health.node.unwrap();
    assert_eq!(id, own.0);
    assert!(ends > own.1);
    let listed = site.agents().await;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].can_reattest);
    // Long away, it comes back the same way.
    site.stop_authority().await;
    site.clock.advance(3 * HOUR);
    assert!(agent.turn().await.problem.is_some());
    site.start_authority().await;
    assert_eq!(agent.turn().await.problem, None);
    assert_eq!(agent.shared.health.borrow().node.clone().unwrap().0, own.0);
    svids(&agent).await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_comes_back_after_an_eviction_and_not_after_a_ban() {
    let nodes = Nodes::new();
    let (shown, ..) = nodes.host("n1");
    let (site, mut agent) = site_and_agent(&nodes, &shown).await;
    let id = spiffe_id(&agent.path());
    let mut admin = AgentClient::new(site.admin().await);
    let evict = DeleteAgentRequest { id: id.clone() };
    admin.delete_agent(evict).await.unwrap();
    assert!(agent.turn().await.problem.is_some());
    assert_eq!(agent.turn().await.problem, None);
    svids(&agent).await.unwrap();

    admin.ban_agent(BanAgentRequest { id }).await.unwrap();
    agent.shared.hurry();
    let ended = agent.ended().await;
    assert!(matches!(ended, Err(AgentError::Banned)), "{ended:?}");
    // The certificate is good, and does not help.
    let mut settings = site.agent_settings("").await;
    settings.attestor = alone(&shown);
    let ended = site.run(settings).await.ended().await;
    assert!(matches!(ended, Err(AgentError::Refused(_))), "{ended:?}");
}
