//! Attestation by a projected service account token of a pod (SPIRE's `k8s_psat`): the API server of
//! the pod's cluster says whose the token is, and on which node the pod runs.

mod api;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sekisho_certs::{SpiffeId, TrustDomain, id};
use sekisho_kube::{KubeServer, REQUEST};
use serde::Deserialize;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{AttestError, Attested};
use crate::entry::Selector;

/// Its name in the protocol.
pub const TYPE: &str = "k8s_psat";
/// Whom a token must be for, unless a cluster's setting says otherwise; SPIRE's default.
pub const AUDIENCE: &str = "spire-server";

/// Reviews at a time of one cluster: anybody may ask for one, and an API server has other work. Who waits
/// for longer than a review may take comes again.
const REVIEWS: usize = 32;

/// Places for reviews of one cluster, so that one whose API server does not answer keeps the agents of no
/// other waiting. Clones share them.
#[derive(Clone, Debug)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REVIEWS)))
    }
}

/// They say nothing of a setting.
impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

/// From which clusters agents come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// By the name that agents give, which stands in their IDs.
    pub clusters: BTreeMap<String, Cluster>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its API server, and who we are to it: somebody who may create `tokenreviews` and get `pods` and
    /// `nodes`.
    pub server: KubeServer,
    /// The service accounts whose pods are agents, as in `sekisho:agent` (namespace, name).
    pub accounts: BTreeSet<String>,
    /// Whom a token must be for: one of these. [`AUDIENCE`], unless said otherwise; never empty.
    pub audience: Vec<String>,
    /// Keys of nodes' labels that become selectors.
    pub node_labels: BTreeSet<String>,
    /// Keys of pods' labels that become selectors.
    pub pod_labels: BTreeSet<String>,
    /// What an agent is named by.
    pub name_by: NameBy,
    /// How many reviews run at a time.
    pub places: Places,
}

/// What an agent is named by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameBy {
    /// `/spire/agent/k8s_psat/CLUSTER/NODE-UID`: for one agent on each node, which keeps its name when
    /// its pod is replaced.
    #[default]
    Node,
    /// `/spire/agent/k8s_psat/CLUSTER/pod/POD-UID` (SPIRE's `use_pod_uid_for_agent_id`): for agents
    /// inside of pods, of which a node may have several.
    Pod,
}

/// What the API server has said of a token, its pod and its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The cluster, by its name in the setting.
    pub cluster: String,
    /// What an agent of it is named by.
    pub name_by: NameBy,
    /// The namespace of service account and pod.
    pub namespace: String,
    /// The name of the service account.
    pub service_account: String,
    /// The name of the pod.
    pub pod_name: String,
    /// The UID of the pod: another pod of the same name has another.
    pub pod_uid: String,
    /// All labels of the pod.
    pub pod_labels: BTreeMap<String, String>,
    /// The name of the node.
    pub node_name: String,
    /// The UID of the node.
    pub node_uid: String,
    /// The address of the node, as the pod's status has it; empty where it has none.
    pub node_ip: String,
    /// All labels of the node.
    pub node_labels: BTreeMap<String, String>,
    /// Those of the audiences asked for that the token is for, by the word of the API server. Never
    /// empty.
    pub audiences: Vec<String>,
}

impl Claims {
    /// The node that they make by themselves.
    ///
    /// # Errors
    /// As [`Claims::id`].
    pub fn attested(
        &self,
        cluster: &Cluster,
        domain: &TrustDomain,
    ) -> Result<Attested, AttestError> {
        Ok(Attested {
            selectors: self.selectors(cluster),
            ..Attested::again(self.id(domain)?)
        })
    }

    /// What is true of the agent, as SPIRE says it; of labels those that `cluster` lets through.
    #[must_use]
    pub fn selectors(&self, cluster: &Cluster) -> BTreeSet<Selector> {
        let of = |what: &str, value: &str| format!("{what}:{value}");
        let mut values = vec![
            of("cluster", &self.cluster),
            of("agent_ns", &self.namespace),
            of("agent_sa", &self.service_account),
            of("agent_pod_name", &self.pod_name),
            of("agent_pod_uid", &self.pod_uid),
            of("agent_node_ip", &self.node_ip),
            of("agent_node_name", &self.node_name),
            of("agent_node_uid", &self.node_uid),
        ];
        for (what, labels, allowed) in [
            ("agent_node_label", &self.node_labels, &cluster.node_labels),
            ("agent_pod_label", &self.pod_labels, &cluster.pod_labels),
        ] {
            let allowed = labels.iter().filter(|(key, _)| allowed.contains(*key));
            values.extend(allowed.map(|(key, value)| format!("{what}:{key}:{value}")));
        }
        let selector = |value| Selector {
            kind: TYPE.into(),
            value,
        };
        values.into_iter().map(selector).collect()
    }

    /// The ID of the agent.
    ///
    /// # Errors
    /// When a SPIFFE ID cannot have the cluster's name or the UID in its path.
    pub fn id(&self, domain: &TrustDomain) -> Result<SpiffeId, AttestError> {
        let Self {
            cluster,
            node_uid,
            pod_uid,
            ..
        } = self;
        let path = match self.name_by {
            NameBy::Node => format!("/spire/agent/{TYPE}/{cluster}/{node_uid}"),
            NameBy::Pod => format!("/spire/agent/{TYPE}/{cluster}/pod/{pod_uid}"),
        };
        id::id_below(domain, &path).map_err(internal)
    }
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    token: String,
}

fn invalid(text: impl std::fmt::Display) -> AttestError {
    AttestError::Invalid(format!("{TYPE}: {text}"))
}

fn denied(text: impl std::fmt::Display) -> AttestError {
    AttestError::Denied(format!("{TYPE}: {text}"))
}

fn internal(text: impl std::fmt::Display) -> AttestError {
    AttestError::Internal(format!("{TYPE}: {text}"))
}

/// Lets in whoever has the token of a pod of an allowed service account.
///
/// # Errors
/// When the payload cannot be read, and as [`review`].
pub async fn attest(
    payload: &[u8],
    setting: &Setting,
    domain: &TrustDomain,
) -> Result<Attested, AttestError> {
    // What serde_json would say of it could quote the token.
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|_| invalid("failed to unmarshal data payload: cluster and token are expected"))?;
    let token = Zeroizing::new(payload.token);
    if payload.cluster.is_empty() {
        return Err(invalid("missing cluster in attestation data"));
    }
    if token.is_empty() {
        return Err(invalid("missing token in attestation data"));
    }
    let cluster = cluster(setting, &payload.cluster)?;
    let claims = review(setting, &payload.cluster, &token, &cluster.audience).await?;
    claims.attested(cluster, domain)
}

fn cluster<'a>(setting: &'a Setting, name: &str) -> Result<&'a Cluster, AttestError> {
    // What anybody sends is not sent back, or into the log, at any length.
    let unknown = || {
        invalid(format_args!(
            "not configured for cluster {:?}",
            api::shown(name)
        ))
    };
    setting.clusters.get(name).ok_or_else(unknown)
}

/// Asks the API server of `cluster` whose `token` is, and for its pod and node. The token must be for
/// one of `audiences`, in place of those of the setting.
///
/// # Errors
/// [`AttestError::Invalid`] when the cluster is not known, [`AttestError::Denied`] when the token is
/// not good, for somebody else, of another account or of a pod that is no more,
/// [`AttestError::Internal`] when the API server has an error to tell or says what makes no sense,
/// [`AttestError::Unavailable`] when it does not answer as it should within ten seconds.
pub async fn review(
    setting: &Setting,
    cluster: &str,
    token: &str,
    audiences: &[String],
) -> Result<Claims, AttestError> {
    let known = self::cluster(setting, cluster)?;
    let found = async {
        // It is never closed.
        let _permit = known.places.0.acquire().await;
        found(known, cluster, token, audiences).await
    };
    let found = tokio::time::timeout(REQUEST, found).await;
    found.unwrap_or_else(|_| {
        let text = format!("{TYPE}: the API server is too slow");
        Err(AttestError::Unavailable(text))
    })
}

async fn found(
    known: &Cluster,
    cluster: &str,
    token: &str,
    audiences: &[String],
) -> Result<Claims, AttestError> {
    let api = api::Api {
        server: &known.server,
        cluster,
    };
    let user = api.review(token, audiences).await?;
    let account = format!("{}:{}", user.namespace, user.service_account);
    if !known.accounts.contains(&account) {
        return Err(denied(format_args!(
            "{account:?} is not an allowed service account"
        )));
    }
    let (pod_name, pod_uid) = user.pod()?;
    let pod = api.pod(&user.namespace, &pod_name).await?;
    if pod.metadata.uid != pod_uid {
        return Err(denied(format_args!(
            "the pod {pod_name:?} is not the one that the token was made for"
        )));
    }
    let node_name = pod.spec.node_name;
    let node = api.node(&node_name).await?;
    if node.metadata.uid.is_empty() {
        return Err(internal("node UID is empty"));
    }
    Ok(Claims {
        cluster: cluster.into(),
        name_by: known.name_by,
        namespace: user.namespace,
        service_account: user.service_account,
        pod_name,
        pod_uid,
        pod_labels: pod.metadata.labels.unwrap_or_default(),
        node_name,
        node_uid: node.metadata.uid,
        node_ip: pod.status.host_ip,
        node_labels: node.metadata.labels.unwrap_or_default(),
        audiences: user.audiences,
    })
}
