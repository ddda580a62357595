//! `k8s_psat`, both halves, with a stand-in of the cluster's API server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use sekisho_agent::{
    attest::NodeAttestor,
    run::{AgentError, Settings},
};
use sekisho_authority::attest::k8s_psat;
use sekisho_kube::{KubeLogin, KubeServer};
use sekisho_spire_api::{
    server::agent::{ListAgentsRequest, agent_client::AgentClient},
    types,
};
use sekisho_testkit::{
    kube::{Cluster, StandIn, answer},
    wait_until,
};

use crate::harness::{HOUR, Site};

pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) stand_in: StandIn,
    cluster: Arc<Mutex<Cluster>>,
}

impl World {
    async fn start() -> Self {
        Self::with(|settings, clusters| settings.attestors.k8s_psat = Some(clusters)).await
    }

    /// With an authority that takes agents of the cluster in this way.
    pub(crate) async fn with(
        take: impl FnOnce(&mut sekisho_authority::core::Settings, k8s_psat::Setting),
    ) -> Self {
        let (stand_in, cluster) = Cluster::with_an_agent().serve().await;
        let folder = stand_in.folder();
        let server = KubeServer::api_server()
            .named("localhost")
            .at(stand_in.port())
            .with_ca(folder.join("ca.pem"))
            .with_login(KubeLogin::Token(folder.join("token").into()));
        let campus = k8s_psat::Cluster {
            server,
            accounts: ["sekisho:agent".to_owned()].into(),
            audience: vec![k8s_psat::AUDIENCE.into()],
            node_labels: ["zone".to_owned()].into(),
            pod_labels: ["app".to_owned()].into(),
            name_by: k8s_psat::NameBy::Node,
            places: k8s_psat::Places::default(),
        };
        let clusters = BTreeMap::from([("campus".to_owned(), campus)]);
        let change = |settings: &mut sekisho_authority::core::Settings| {
            take(settings, k8s_psat::Setting { clusters });
            settings.attestations = 1000;
        };
        let site = Site::with(change, 24 * HOUR).await;
        Self {
            site,
            stand_in,
            cluster,
        }
    }

    /// An agent with this token in its pod.
    async fn agent_settings(&self, token: &str) -> Settings {
        Settings {
            attestor: NodeAttestor::K8sPsat {
                cluster: "campus".into(),
                token: self.stand_in.file("psat", &format!("{token}\n")),
            },
            ..self.site.agent_settings("").await
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.cluster.lock().unwrap());
    }

    async fn agents(&self) -> Vec<types::Agent> {
        let mut client = AgentClient::new(self.site.admin().await);
        let answer = client.list_agents(ListAgentsRequest::default()).await;
        answer.unwrap().into_inner().agents
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_in_a_pod_comes_in_and_attests_again_with_the_token_of_the_day() {
    let world = World::start().await;
    let mut agent = world.site.run(world.agent_settings("good").await).await;
    agent.turned().await;
    assert_eq!(agent.path(), "/spire/agent/k8s_psat/campus/node-uid");
    let [known] = world.agents().await.try_into().unwrap();
    assert_eq!(
        (known.attestation_type.as_str(), known.can_reattest),
        ("k8s_psat", true)
    );
    let mut selectors: Vec<String> = known
        .selectors
        .into_iter()
        .map(|one| format!("{}:{}", one.r#type, one.value))
        .collect();
    selectors.sort();
    assert_eq!(
        selectors,
        [
            "k8s_psat:agent_node_ip:192.0.2.7",
            "k8s_psat:agent_node_label:zone:a",
            "k8s_psat:agent_node_name:n1",
            "k8s_psat:agent_node_uid:node-uid",
            "k8s_psat:agent_ns:sekisho",
            "k8s_psat:agent_pod_label:app:agent",
            "k8s_psat:agent_pod_name:agent-x7k2p",
            "k8s_psat:agent_pod_uid:pod-uid",
            "k8s_psat:agent_sa:agent",
            "k8s_psat:cluster:campus",
        ]
    );
    // The kubelet has put another token there; the old one is over.
    world.stand_in.file("psat", "newer");
    world.change(|cluster| {
        let token = cluster.tokens.remove("good").unwrap();
        cluster.tokens.insert("newer".into(), token);
    });
    let before = agent.shared.health.borrow().node.clone().unwrap();
    world.site.clock.advance(HOUR * 7 / 12);
    let health = agent.turn().await;
    assert_eq!(health.problem, None);
    let (id, ends) = health.node.unwrap();
    assert_eq!(id, before.0);
    assert!(ends > before.1);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_waits_for_its_token_and_for_the_api_server() {
    let world = World::start().await;
    let unavailable = answer("503 Service Unavailable", "");
    world.change(|cluster| drop(cluster.instead.insert("tokenreviews".into(), unavailable)));
    let mut settings = world.agent_settings("good").await;
    let token = world.stand_in.folder().join("later");
    settings.attestor = NodeAttestor::K8sPsat {
        cluster: "campus".into(),
        token,
    };
    let mut agent = world.site.run(settings).await;
    let mut told = async |what: &str| {
        agent.shared.hurry();
        let told = |problem: &Option<String>| {
            problem
                .as_ref()
                .is_some_and(|problem| problem.contains(what))
        };
        wait_until(&mut agent.shared.health, what, |health| {
            told(&health.problem)
        })
        .await;
    };
    told("later: No such file or directory").await;
    world.stand_in.file("later", "good");
    told("unable to validate token with TokenReview API (Unavailable)").await;
    world.change(|cluster| cluster.instead.clear());
    agent.shared.hurry();
    wait_until(&mut agent.shared.health, "attested", |health| {
        health.node.is_some()
    })
    .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_account_is_not_allowed_ends() {
    let world = World::start().await;
    world.change(|cluster| {
        let token = cluster.tokens.get_mut("good").unwrap();
        token.username = "system:serviceaccount:sekisho:other".into();
    });
    let settings = world.agent_settings("good").await;
    let agent = world.site.run(settings).await;
    let ended = agent.task.await.unwrap().unwrap_err();
    assert!(matches!(ended, AgentError::Refused(_)), "{ended:?}");
    let text = ended.to_string();
    assert!(
        text.contains(r#""sekisho:other" is not an allowed service account (PermissionDenied)"#),
        "{text}"
    );
    assert!(world.agents().await.is_empty());
}
