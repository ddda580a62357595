//! What is asked of an API server: `authentication.k8s.io/v1` TokenReview, `v1` Pod and Node, of which
//! only what is needed is read.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::{self, Write as _},
};

use sekisho_kube::{KubeError, KubeServer};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{AttestError, TYPE, denied, internal};

/// Longest answer.
const LIMIT: usize = 1024 * 1024;
/// Most characters that are told on of what somebody else has said.
const TOLD: usize = 200;
/// Under these names TokenReview tells the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: ReviewSpec<'a>,
}

#[derive(Serialize)]
struct ReviewSpec<'a> {
    token: &'a str,
    audiences: &'a [String],
}

#[derive(Deserialize)]
struct Reviewed {
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    user: ReviewUser,
    audiences: Option<Vec<String>>,
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewUser {
    username: String,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

/// A pod or a node.
#[derive(Deserialize)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) uid: String,
    pub(super) labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) node_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    #[serde(rename = "hostIP")]
    pub(super) host_ip: String,
}

/// Whose a token is.
pub(super) struct User {
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) audiences: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Name and UID of the pod that the token is bound to.
    pub(super) fn pod(&self) -> Result<(String, String), AttestError> {
        Ok((self.one(POD_NAME, "name")?, self.one(POD_UID, "UID")?))
    }

    fn one(&self, key: &str, what: &str) -> Result<String, AttestError> {
        let wrong = |problem: &dyn fmt::Display| {
            internal(format_args!(
                "fail to get pod {what} from token review status: {problem}"
            ))
        };
        match self.extra.get(key).map(Vec::as_slice) {
            None => Err(wrong(&format_args!("missing pod {what}"))),
            Some([one]) if one.is_empty() => Err(wrong(&format_args!("pod {what} is empty"))),
            Some([one]) => Ok(one.clone()),
            Some(several) => {
                let count = several.len();
                Err(wrong(&format_args!("expected 1 {what} but got: {count}")))
            }
        }
    }
}

/// The API server of one cluster.
pub(super) struct Api<'a> {
    pub(super) server: &'a KubeServer,
    pub(super) cluster: &'a str,
}

impl Api<'_> {
    /// Whose the token is, if it is for one of `audiences`.
    pub(super) async fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<User, AttestError> {
        const WHAT: &str = "unable to validate token with TokenReview API";
        let review = Review {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenReview",
            spec: ReviewSpec { token, audiences },
        };
        // A buffer that grows leaves copies of the token behind.
        let mut json = Zeroizing::new(Vec::with_capacity(2 * token.len() + 4096));
        serde_json::to_writer(&mut *json, &review).map_err(internal)?;
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let answer = self.server.post(path, json, LIMIT).await;
        let Reviewed { status } = answer
            .and_then(|body| read(&body))
            .map_err(|error| self.unavailable(WHAT, &error))?;
        if !status.authenticated && !status.error.is_empty() {
            let text = shown(&status.error.replace(token, "…"));
            return Err(internal(format_args!(
                "{WHAT}: token review API response contains an error: {text}"
            )));
        }
        if !status.authenticated {
            return Err(denied(
                "token not authenticated according to TokenReview API",
            ));
        }
        // An API server that does not know of audiences says nothing of them: the token may be for
        // anybody.
        let told = status.audiences.unwrap_or_default();
        let both: Vec<String> = told
            .into_iter()
            .filter(|one| audiences.contains(one))
            .collect();
        if both.is_empty() {
            return Err(denied(
                "the API server does not say that the token is for us: it may be for anybody",
            ));
        }
        let (namespace, service_account) = names(&status.user.username).map_err(|problem| {
            internal(format_args!(
                "fail to parse username from token review status: {problem}"
            ))
        })?;
        Ok(User {
            namespace,
            service_account,
            audiences: both,
            extra: status.user.extra.unwrap_or_default(),
        })
    }

    /// A pod.
    pub(super) async fn pod(&self, namespace: &str, name: &str) -> Result<Object, AttestError> {
        const WHAT: &str = "fail to get pod from k8s API server";
        if !is_name(name) {
            return Err(internal(format_args!(
                "{WHAT}: {:?} is no name",
                shown(name)
            )));
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        match self.get(&path).await {
            Ok(pod) => Ok(pod),
            // It has been deleted meanwhile, and its token with it.
            Err(error) if error.is_not_found() => Err(denied(format_args!("{WHAT}: not found"))),
            Err(error) => Err(self.unavailable(WHAT, &error)),
        }
    }

    /// A node.
    pub(super) async fn node(&self, name: &str) -> Result<Object, AttestError> {
        const WHAT: &str = "fail to get node from k8s API server";
        if name.is_empty() {
            return Err(internal(format_args!("{WHAT}: empty node name")));
        }
        if !is_name(name) {
            return Err(internal(format_args!(
                "{WHAT}: {:?} is no name",
                shown(name)
            )));
        }
        match self.get(&format!("/api/v1/nodes/{name}")).await {
            Ok(node) => Ok(node),
            Err(error) if error.is_not_found() => Err(internal(format_args!("{WHAT}: not found"))),
            Err(error) => Err(self.unavailable(WHAT, &error)),
        }
    }

    async fn get(&self, path: &str) -> Result<Object, KubeError> {
        read(&self.server.get(path, LIMIT).await?)
    }

    /// What is wrong with the API server is for our log; the agent, which may be anybody, is told that
    /// something is.
    fn unavailable(&self, what: &str, error: &KubeError) -> AttestError {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            // Writing to a string does not fail.
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        tracing::warn!(cluster = self.cluster, reason = text, "{what}");
        AttestError::Unavailable(format!("{TYPE}: {what}"))
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, KubeError> {
    serde_json::from_slice(body).map_err(KubeError::Json)
}

/// Namespace and name out of `system:serviceaccount:NAMESPACE:NAME`.
fn names(username: &str) -> Result<(String, String), String> {
    if username.is_empty() {
        return Err("empty username".into());
    }
    let words: Vec<&str> = username.split(':').collect();
    let ["system", "serviceaccount", namespace, name] = words.as_slice() else {
        return Err(format!("unexpected username format: {}", shown(username)));
    };
    if namespace.is_empty() {
        return Err("missing namespace".into());
    }
    if name.is_empty() {
        return Err("missing service account name".into());
    }
    if !is_name(namespace) || !is_name(name) {
        return Err(format!("unexpected username format: {}", shown(username)));
    }
    Ok(((*namespace).into(), (*name).into()))
}

/// A subdomain of RFC 1123, which Kubernetes demands of names: nothing that would make another path.
pub(super) fn is_name(text: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes
            .iter()
            .all(|byte| edge(byte) || matches!(byte, b'-' | b'.'))
}

/// One line, not too long.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(TOLD)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
