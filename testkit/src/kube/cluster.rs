//! What an API server knows that is asked about tokens: who has them, pods and nodes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};

use super::{Asked, StandIn, answer, ok};

/// A token that is good, as the API server sees it.
#[derive(Clone, Debug)]
pub struct Token {
    /// As in `system:serviceaccount:sekisho:agent`.
    pub username: String,
    /// The pod that it is bound to: name and UID.
    pub pod: Option<(String, String)>,
    /// Whom it is for.
    pub audiences: Vec<String>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// The name of its node; empty while it has none.
    pub node: String,
    /// The address of that node.
    pub host_ip: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// All it knows. A token that it does not know is not authenticated.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// By token.
    pub tokens: BTreeMap<String, Token>,
    /// By namespace and name, as in `sekisho/agent-x7k2p`.
    pub pods: BTreeMap<String, Pod>,
    /// UID and labels by name.
    pub nodes: BTreeMap<String, (String, BTreeMap<String, String>)>,
    /// What is answered to a path that ends so, in place of what is known.
    pub instead: BTreeMap<String, String>,
    /// An API server of old, which does not know of audiences.
    pub ignores_audiences: bool,
}

impl Cluster {
    /// One with the pod `agent-x7k2p` of the service account `agent` in the namespace `sekisho`, on the
    /// node `n1`; it has the token `good`, for `spire-server`.
    #[must_use]
    pub fn with_an_agent() -> Self {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let token = Token {
            username: "system:serviceaccount:sekisho:agent".into(),
            pod: Some(("agent-x7k2p".into(), "pod-uid".into())),
            audiences: vec!["spire-server".into()],
        };
        let pod = Pod {
            uid: "pod-uid".into(),
            node: "n1".into(),
            host_ip: "192.0.2.7".into(),
            labels: one("app", "agent"),
        };
        Self {
            tokens: BTreeMap::from([("good".into(), token)]),
            pods: BTreeMap::from([("sekisho/agent-x7k2p".into(), pod)]),
            nodes: BTreeMap::from([("n1".into(), ("node-uid".into(), one("zone", "a")))]),
            ..Self::default()
        }
    }

    /// An API server that knows what stands there at the moment of each question.
    pub async fn serve(self) -> (StandIn, Arc<Mutex<Self>>) {
        let shared = Arc::new(Mutex::new(self));
        let known = Arc::clone(&shared);
        let stand_in = StandIn::start(move |asked| lock(&known).answer(asked)).await;
        (stand_in, shared)
    }

    fn answer(&self, asked: &Asked) -> String {
        let mut instead = self.instead.iter();
        if let Some((_, text)) = instead.find(|(end, _)| asked.path.ends_with(end.as_str())) {
            return text.clone();
        }
        let missing = || answer("404 Not Found", r#"{"kind":"Status","code":404}"#);
        let words: Vec<&str> = asked.path.split('/').skip(1).collect();
        match (asked.method.as_str(), words.as_slice()) {
            ("POST", ["apis", "authentication.k8s.io", "v1", "tokenreviews"]) => {
                let review: Value = serde_json::from_slice(&asked.body).unwrap();
                let reviewed =
                    json!({ "kind": "TokenReview", "status": self.review(&review["spec"]) });
                answer("201 Created", &reviewed.to_string())
            }
            ("GET", ["api", "v1", "namespaces", namespace, "pods", name]) => {
                let pod = self.pods.get(&format!("{namespace}/{name}"));
                pod.map_or_else(missing, |pod| ok(&pod.json(name).to_string()))
            }
            ("GET", ["api", "v1", "nodes", name]) => {
                self.nodes.get(*name).map_or_else(missing, |(uid, labels)| {
                    let metadata = json!({ "name": name, "uid": uid, "labels": labels });
                    ok(&json!({ "kind": "Node", "metadata": metadata }).to_string())
                })
            }
            (
                "POST",
                [
                    "api",
                    "v1",
                    "namespaces",
                    namespace,
                    "serviceaccounts",
                    account,
                    "token",
                ],
            ) => {
                let request: Value = serde_json::from_slice(&asked.body).unwrap();
                // What was asked for is the token, so that a test sees it.
                let token =
                    json!({ "namespace": namespace, "account": account, "spec": request["spec"] });
                let status = json!({ "token": token.to_string() });
                answer("201 Created", &json!({ "status": status }).to_string())
            }
            _ => missing(),
        }
    }

    fn review(&self, spec: &Value) -> Value {
        let token = spec["token"].as_str().unwrap();
        let known = self.tokens.get(token).cloned().or_else(|| issued(token));
        let Some(known) = known else {
            return json!({ "user": {}, "error": "[invalid bearer token, unknown]" });
        };
        let asked: Vec<&str> = spec["audiences"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap())
            .collect();
        let both: Vec<&str> = asked
            .into_iter()
            .filter(|one| known.audiences.iter().any(|own| own == one))
            .collect();
        if both.is_empty() && !self.ignores_audiences {
            return json!({ "user": {}, "error": "[invalid bearer token, token audiences are not these]" });
        }
        let mut extra = serde_json::Map::new();
        if let Some((name, uid)) = &known.pod {
            extra.insert(
                "authentication.kubernetes.io/pod-name".into(),
                json!([name]),
            );
            extra.insert("authentication.kubernetes.io/pod-uid".into(), json!([uid]));
        }
        let mut status = json!({
            "authenticated": true,
            "user": { "username": known.username, "uid": "u", "groups": ["g"], "extra": extra },
        });
        if !self.ignores_audiences {
            status["audiences"] = json!(both);
        }
        status
    }
}

/// What a token says that was asked for here: it is the request itself.
fn issued(token: &str) -> Option<Token> {
    let asked: Value = serde_json::from_str(token).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (namespace, account) = (text(&asked["namespace"])?, text(&asked["account"])?);
    let bound = &asked["spec"]["boundObjectRef"];
    let audiences = asked["spec"]["audiences"].as_array()?.iter();
    Some(Token {
        username: format!("system:serviceaccount:{namespace}:{account}"),
        pod: Some((text(&bound["name"])?, text(&bound["uid"])?)),
        audiences: audiences.filter_map(text).collect(),
    })
}

impl Pod {
    fn json(&self, name: &str) -> Value {
        json!({
            "kind": "Pod",
            "metadata": { "name": name, "uid": self.uid, "labels": self.labels },
            "spec": { "nodeName": self.node },
            "status": { "hostIP": self.host_ip },
        })
    }
}

fn lock(cluster: &Mutex<Cluster>) -> MutexGuard<'_, Cluster> {
    cluster.lock().unwrap()
}
