//! Against a stand-in of an API server over TLS.

use std::sync::{Arc, Mutex};

use sekisho_certs::id;
use sekisho_kube::KubeLogin;
use sekisho_testkit::kube::{Cluster as Known, Pod, StandIn, answer, ok};

use super::*;

struct World {
    stand_in: StandIn,
    known: Arc<Mutex<Known>>,
    setting: Setting,
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

impl World {
    async fn start() -> Self {
        let (stand_in, known) = Known::with_an_agent().serve().await;
        let folder = stand_in.folder();
        let server = KubeServer::api_server()
            .named("localhost")
            .at(stand_in.port())
            .with_ca(folder.join("ca.pem"))
            .with_login(KubeLogin::Token(folder.join("token").into()));
        let cluster = Cluster {
            server,
            accounts: set(&["sekisho:agent"]),
            audience: vec![AUDIENCE.into()],
            node_labels: set(&["zone"]),
            pod_labels: BTreeSet::new(),
            name_by: NameBy::Node,
            places: Places::default(),
        };
        let clusters = BTreeMap::from([("campus".into(), cluster)]);
        Self {
            stand_in,
            known,
            setting: Setting { clusters },
        }
    }

    fn cluster(&mut self) -> &mut Cluster {
        self.setting.clusters.get_mut("campus").unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap());
    }

    async fn attest(&self, payload: &str) -> Result<Attested, AttestError> {
        let domain = id::parse_trust_domain("a.example").unwrap();
        attest(payload.as_bytes(), &self.setting, &domain).await
    }

    async fn good(&self) -> Result<Attested, AttestError> {
        self.attest(r#"{"cluster":"campus","token":"good"}"#).await
    }

    /// What the agent is told, without its kind.
    async fn refused(&self, expected: fn(String) -> AttestError) -> String {
        let error = self.good().await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error, expected(text.clone()));
        text
    }
}

fn selectors(attested: &Attested) -> Vec<&str> {
    assert!(attested.selectors.iter().all(|one| one.kind == "k8s_psat"));
    attested
        .selectors
        .iter()
        .map(|one| one.value.as_str())
        .collect()
}

#[tokio::test]
async fn a_pods_token_makes_an_agent_of_its_node_with_spires_selectors() {
    let mut world = World::start().await;
    let attested = world.good().await.unwrap();
    assert_eq!(
        attested.id.to_string(),
        "spiffe://a.example/spire/agent/k8s_psat/campus/node-uid"
    );
    assert_eq!(
        selectors(&attested),
        [
            "agent_node_ip:192.0.2.7",
            "agent_node_label:zone:a",
            "agent_node_name:n1",
            "agent_node_uid:node-uid",
            "agent_ns:sekisho",
            "agent_pod_name:agent-x7k2p",
            "agent_pod_uid:pod-uid",
            "agent_sa:agent",
            "cluster:campus",
        ]
    );
    assert!(attested.can_reattest);
    assert_eq!((attested.ttl, attested.reattest_in), (None, None));
    assert_eq!(world.stand_in.asked(), 3);

    let cluster = world.cluster();
    cluster.name_by = NameBy::Pod;
    cluster.node_labels.clear();
    cluster.pod_labels = set(&["app", "tier"]);
    let attested = world.good().await.unwrap();
    assert_eq!(
        attested.id.to_string(),
        "spiffe://a.example/spire/agent/k8s_psat/campus/pod/pod-uid"
    );
    let labels: Vec<&str> = selectors(&attested)
        .into_iter()
        .filter(|value| value.contains("label"))
        .collect();
    assert_eq!(labels, ["agent_pod_label:app:agent"]);
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_is_refused_without_a_word_of_it() {
    let world = World::start().await;
    for (payload, expected) in [
        ("s3cret", "failed to unmarshal data payload"),
        (r#""s3cret""#, "failed to unmarshal data payload"),
        (
            r#"{"cluster":"campus","token":["s3cret"]}"#,
            "failed to unmarshal data payload",
        ),
        (
            r#"{"token":"s3cret"}"#,
            "missing cluster in attestation data",
        ),
        (
            r#"{"cluster":"campus"}"#,
            "missing token in attestation data",
        ),
        (
            r#"{"cluster":"other","token":"s3cret"}"#,
            r#"not configured for cluster "other""#,
        ),
    ] {
        let error = world.attest(payload).await.unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, AttestError::Invalid(_)),
            "{payload}: {error:?}"
        );
        assert!(
            text.contains(expected) && !text.contains("s3cret"),
            "{text}"
        );
    }
    let long = "x".repeat(100_000);
    let payload = format!(r#"{{"cluster":"{long}","token":"s3cret"}}"#);
    let error = world.attest(&payload).await.unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
    assert_eq!(world.stand_in.asked(), 0);
}

#[tokio::test]
async fn a_token_that_is_not_known_or_for_somebody_else_is_refused() {
    let world = World::start().await;
    let unknown = world
        .attest(r#"{"cluster":"campus","token":"unknown"}"#)
        .await;
    // The token itself is taken out of what the API server says.
    assert_eq!(
        unknown,
        Err(AttestError::Internal(
            "k8s_psat: unable to validate token with TokenReview API: token review API response \
             contains an error: [invalid bearer token, …]"
                .into()
        ))
    );
    world.change(|known| known.tokens.get_mut("good").unwrap().audiences = vec!["vault".into()]);
    let text = world.refused(AttestError::Internal).await;
    assert!(text.contains("token audiences are not these"), "{text}");
    let review = ok(r#"{"status":{"authenticated":false,"user":{}}}"#);
    world.change(|known| drop(known.instead.insert("tokenreviews".into(), review)));
    let text = world.refused(AttestError::Denied).await;
    assert_eq!(
        text,
        "k8s_psat: token not authenticated according to TokenReview API"
    );
}

#[tokio::test]
async fn an_api_server_that_does_not_tell_the_audience_has_not_checked_it() {
    let world = World::start().await;
    world.change(|known| known.ignores_audiences = true);
    let text = world.refused(AttestError::Denied).await;
    assert!(text.contains("it may be for anybody"), "{text}");
    // Nor has one that tells another.
    let review = r#"{"status":{"authenticated":true,"audiences":["vault"],
        "user":{"username":"system:serviceaccount:sekisho:agent"}}}"#;
    world.change(|known| drop(known.instead.insert("tokenreviews".into(), ok(review))));
    let text = world.refused(AttestError::Denied).await;
    assert!(text.contains("it may be for anybody"), "{text}");
}

#[tokio::test]
async fn evidence_may_ask_for_an_audience_of_its_own() {
    let world = World::start().await;
    let ask = |audiences: &[&str]| {
        let audiences: Vec<String> = audiences.iter().map(|&one| one.to_owned()).collect();
        let setting = &world.setting;
        async move { review(setting, "campus", "good", &audiences).await }
    };
    assert!(ask(&["this session"]).await.is_err());
    world.change(|known| {
        known.tokens.get_mut("good").unwrap().audiences = vec!["a".into(), "this session".into()];
    });
    let claims = ask(&["this session", "another"]).await.unwrap();
    assert_eq!(claims.audiences, ["this session"]);
    assert_eq!(claims.pod_labels["app"], "agent");
    assert_eq!(claims.node_labels["zone"], "a");
    assert!(world.good().await.is_err());
}

#[tokio::test]
async fn only_pods_of_listed_accounts_come_in() {
    let world = World::start().await;
    let as_user = |name: &str| {
        let name = name.to_owned();
        world.change(|known| known.tokens.get_mut("good").unwrap().username = name);
    };
    as_user("system:serviceaccount:sekisho:other");
    let text = world.refused(AttestError::Denied).await;
    assert_eq!(
        text,
        r#"k8s_psat: "sekisho:other" is not an allowed service account"#
    );
    for (name, problem) in [
        ("", "empty username"),
        ("admin", "unexpected username format: admin"),
        ("a:b:sekisho:agent", "unexpected username format"),
        ("system:serviceaccount::agent", "missing namespace"),
        (
            "system:serviceaccount:sekisho:",
            "missing service account name",
        ),
        (
            "system:serviceaccount:../nodes:agent",
            "unexpected username format",
        ),
    ] {
        as_user(name);
        let text = world.refused(AttestError::Internal).await;
        let start = "fail to parse username from token review status: ";
        assert!(text.contains(&format!("{start}{problem}")), "{text}");
    }
}

#[tokio::test]
async fn a_token_without_a_pod_is_no_agents() {
    let world = World::start().await;
    world.change(|known| known.tokens.get_mut("good").unwrap().pod = None);
    let text = world.refused(AttestError::Internal).await;
    assert!(
        text.ends_with("fail to get pod name from token review status: missing pod name"),
        "{text}"
    );
    for (names, problem) in [
        (("", "u"), "pod name is empty"),
        (("p", ""), "pod UID is empty"),
        (("../../nodes/n1", "u"), "is no name"),
    ] {
        let pod = Some((names.0.to_owned(), names.1.to_owned()));
        world.change(|known| known.tokens.get_mut("good").unwrap().pod = pod);
        let text = world.refused(AttestError::Internal).await;
        assert!(text.contains(problem), "{text}");
    }
    let review = r#"{"status":{"authenticated":true,"audiences":["spire-server"],"user":{"username":
        "system:serviceaccount:sekisho:agent","extra":{"authentication.kubernetes.io/pod-name":["a","b"]}}}}"#;
    world.change(|known| drop(known.instead.insert("tokenreviews".into(), ok(review))));
    let text = world.refused(AttestError::Internal).await;
    assert!(text.ends_with("expected 1 name but got: 2"), "{text}");
}

#[tokio::test]
async fn a_pod_that_is_gone_or_another_of_its_name_is_refused() {
    let world = World::start().await;
    let pod = |change: fn(&mut Pod)| {
        world.change(|known| change(known.pods.get_mut("sekisho/agent-x7k2p").unwrap()));
    };
    pod(|pod| pod.uid = "another".into());
    let text = world.refused(AttestError::Denied).await;
    assert!(
        text.contains("is not the one that the token was made for"),
        "{text}"
    );
    pod(|pod| {
        pod.uid = "pod-uid".into();
        pod.node.clear();
    });
    let text = world.refused(AttestError::Internal).await;
    assert!(
        text.ends_with("fail to get node from k8s API server: empty node name"),
        "{text}"
    );
    pod(|pod| pod.node = "..".into());
    let text = world.refused(AttestError::Internal).await;
    assert!(text.contains("is no name"), "{text}");
    pod(|pod| pod.node = "n2".into());
    let text = world.refused(AttestError::Internal).await;
    assert!(
        text.ends_with("fail to get node from k8s API server: not found"),
        "{text}"
    );
    pod(|pod| pod.node = "n1".into());
    world.change(|known| known.nodes.get_mut("n1").unwrap().0.clear());
    let text = world.refused(AttestError::Internal).await;
    assert!(text.ends_with("node UID is empty"), "{text}");
    world.change(|known| known.pods.clear());
    let text = world.refused(AttestError::Denied).await;
    assert!(
        text.ends_with("fail to get pod from k8s API server: not found"),
        "{text}"
    );
}

/// What cannot be found out now is never a denial, after which an agent would end.
#[tokio::test]
async fn an_api_server_in_trouble_is_asked_again_later() {
    let world = World::start().await;
    let long = ok(&format!("{{\"x\":\"{}\"}}", "x".repeat(1024 * 1024)));
    let not_found = answer("404 Not Found", "");
    for at in ["tokenreviews", "agent-x7k2p", "n1"] {
        for text in [
            answer("503 Service Unavailable", ""),
            answer("429 Too Many Requests", ""),
            // Our own credentials.
            answer("401 Unauthorized", ""),
            answer("403 Forbidden", ""),
            long.clone(),
            ok("no JSON"),
            ok("[]"),
            ok(r#"{"metadata":7,"status":7}"#),
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".into(),
            String::new(),
        ] {
            world.change(|known| known.instead = [(at.to_owned(), text)].into());
            let told = world.refused(AttestError::Unavailable).await;
            assert!(told.starts_with("k8s_psat: "), "{told}");
            assert!(!told.contains("localhost"), "{told}");
        }
    }
    world.change(|known| known.instead = [("tokenreviews".to_owned(), not_found)].into());
    world.refused(AttestError::Unavailable).await;
    world.change(|known| known.instead.clear());
    world.good().await.unwrap();
}

#[tokio::test]
async fn one_that_is_not_there_or_not_the_clusters_is_asked_again_later() {
    let mut world = World::start().await;
    let free = sekisho_testkit::ports::free().port();
    let there = world.cluster().server.clone();
    world.cluster().server = there.clone().at(free);
    world.refused(AttestError::Unavailable).await;
    world.cluster().server = there.clone().named("127.0.0.1");
    world.refused(AttestError::Unavailable).await;
    world.cluster().server = there.with_login(KubeLogin::Token("/nowhere/token".into()));
    world.refused(AttestError::Unavailable).await;
    assert_eq!(world.stand_in.asked(), 0);
}

#[test]
fn names_that_kubernetes_has_are_names() {
    for good in ["a", "agent-x7k2p", "n1.site.example", &"a".repeat(253)] {
        assert!(api::is_name(good), "{good}");
    }
    for bad in [
        "",
        ".",
        "..",
        "a/b",
        "-a",
        "a-",
        "A",
        "a b",
        "a%2f",
        "é",
        &"a".repeat(254),
    ] {
        assert!(!api::is_name(bad), "{bad}");
    }
}

/// An API server that takes connections and says nothing.
#[tokio::test(start_paused = true)]
async fn one_that_is_silent_is_given_up() {
    let mut world = World::start().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    world.cluster().server = world.cluster().server.clone().at(port);
    let begin = tokio::time::Instant::now();
    world.refused(AttestError::Unavailable).await;
    let waited = begin.elapsed();
    assert!((REQUEST..REQUEST * 2).contains(&waited), "{waited:?}");
}
