//! By a projected service account token of the agent's own pod (SPIRE's `k8s_psat`): the kubelet keeps
//! it fresh in a file, and the authority asks the cluster whose it is.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sekisho_kube::{KubeLogin, KubeServer, Material, SERVICE_ACCOUNT};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::AttestError;

/// Its name in the protocol.
pub const TYPE: &str = "k8s_psat";
/// Where the token is, unless said otherwise; SPIRE's default.
pub const TOKEN: &str = "/var/run/secrets/tokens/spire-agent";
/// Longest token: they are of one or two KiB.
const MOST: usize = 64 * 1024;
/// Longest answer to a request for a token.
const LIMIT: usize = 1024 * 1024;
/// Lifetime of a requested token, in seconds: the shortest that API servers give.
const LIFETIME: u32 = 600;

fn own(problem: impl ToString) -> AttestError {
    AttestError::Own {
        kind: TYPE,
        problem: problem.to_string(),
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    cluster: &'a str,
    token: &'a str,
}

/// The cluster's name and the token, which is read anew: the kubelet replaces it.
///
/// # Errors
/// When the file cannot be read, is empty or longer than 64 KiB.
pub fn payload(cluster: &str, token: &Path) -> Result<Vec<u8>, AttestError> {
    let token = read(token)?;
    let token = token.trim();
    serde_json::to_vec(&Payload { cluster, token }).map_err(own)
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, AttestError> {
    let wrong = |problem: &dyn std::fmt::Display| own(format!("{}: {problem}", path.display()));
    // With room for all of it: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MOST + 1));
    let file = fs::File::open(path).map_err(|error| wrong(&error))?;
    let most = u64::try_from(MOST).unwrap_or(u64::MAX);
    let read = file.take(most + 1).read_to_string(&mut text);
    read.map_err(|error| wrong(&error))?;
    if text.len() > MOST {
        return Err(wrong(&"is longer than a token"));
    }
    if text.trim().is_empty() {
        return Err(wrong(&"is empty, a token is expected"));
    }
    Ok(text)
}

/// The API server of this pod's cluster, and a token that says which pod this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The API server, with the log-in of the pod's service account, which must be allowed to create
    /// `serviceaccounts/token` for itself.
    pub server: KubeServer,
    /// A projected token of this pod. Its claims are believed without verification: it is our own, and
    /// the API server verifies what is made of them.
    pub token: PathBuf,
}

impl Api {
    /// What every pod finds: the API server at this address, which Kubernetes writes into the variables
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, and the service account's token.
    #[must_use]
    pub fn in_pod(host: impl Into<String>, port: u16) -> Self {
        Self {
            server: KubeServer::api_server().named(host).at(port),
            token: Path::new(SERVICE_ACCOUNT).join("token"),
        }
    }

    /// The same with another API server, CA (PEM) and token, which is log-in and claims in one.
    #[must_use]
    pub fn given(server: KubeServer, ca: impl Into<Material>, token: PathBuf) -> Self {
        let login = KubeLogin::Token(token.clone().into());
        Self {
            server: server.with_ca(ca).with_login(login),
            token,
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Named,
    serviceaccount: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    audiences: [&'a str; 1],
    expiration_seconds: u32,
    bound_object_ref: Bound<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bound<'a> {
    api_version: &'static str,
    kind: &'static str,
    name: &'a str,
    uid: &'a str,
}

#[derive(Deserialize)]
struct Made {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    token: String,
}

/// A token of this pod for `audience`, good for ten minutes and as long as the pod is there
/// (`authentication.k8s.io/v1` TokenRequest).
///
/// # Errors
/// When our own token does not say which pod this is, or the API server does not give another.
pub async fn token_request(api: &Api, audience: &str) -> Result<Zeroizing<String>, AttestError> {
    let Kubernetes {
        namespace,
        pod,
        serviceaccount,
    } = claims(&api.token)?;
    // Nothing that would make it another path: RFC 1123's names, which Kubernetes demands.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(plain) && !text.starts_with('.');
    if !is_name(&namespace) || !is_name(&serviceaccount.name) {
        return Err(own("our token names no service account"));
    }
    let request = Request {
        api_version: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: Spec {
            audiences: [audience],
            expiration_seconds: LIFETIME,
            bound_object_ref: Bound {
                api_version: "v1",
                kind: "Pod",
                name: &pod.name,
                uid: &pod.uid,
            },
        },
    };
    let json = Zeroizing::new(serde_json::to_vec(&request).map_err(own)?);
    let account = &serviceaccount.name;
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let answer = api.server.post(&path, json, LIMIT).await.map_err(|error| {
        use std::error::Error as _;
        let cause = error.source().map(|source| format!(": {source}"));
        own(format!(
            "the API server makes no token: {error}{}",
            cause.unwrap_or_default()
        ))
    })?;
    // What serde_json says could quote the token.
    let made: Made =
        serde_json::from_slice(&answer).map_err(|_| own("the API server answers with no token"))?;
    if made.status.token.is_empty() {
        return Err(own("the API server answers with no token"));
    }
    Ok(Zeroizing::new(made.status.token))
}

/// Which pod this is, by its own token (a JWS in compact form, RFC 7515 §3.1).
fn claims(token: &Path) -> Result<Kubernetes, AttestError> {
    let none = || own(format!("{}: no token of a pod", token.display()));
    let text = read(token)?;
    let mut parts = text.trim().split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(none());
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| none())?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| none())?;
    Ok(claims.kubernetes)
}

#[cfg(test)]
mod tests {
    use sekisho_testkit::kube::{Cluster, answer};

    use super::*;

    const CLAIMS: &str = r#"{"aud":["kubernetes"],"kubernetes.io":{"namespace":"sekisho",
        "node":{"name":"n1","uid":"node-uid"},"pod":{"name":"agent-x7k2p","uid":"pod-uid"},
        "serviceaccount":{"name":"agent","uid":"u"}},"sub":"system:serviceaccount:sekisho:agent"}"#;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_payload_is_spires_and_the_token_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for token in ["a.b.c", "d.e.f"] {
            fs::write(&file, format!("{token}\n")).unwrap();
            let payload = payload("campus", &file).unwrap();
            let expected = format!(r#"{{"cluster":"campus","token":"{token}"}}"#);
            assert_eq!(String::from_utf8(payload).unwrap(), expected);
        }
        for (content, problem) in [
            (String::from(" \n"), "is empty"),
            ("x".repeat(MOST + 1), "is longer than a token"),
        ] {
            fs::write(&file, content).unwrap();
            let error = payload("campus", &file).unwrap_err().to_string();
            assert!(
                error.contains("k8s_psat") && error.contains(problem),
                "{error}"
            );
        }
        assert!(payload("campus", Path::new("/nowhere/token")).is_err());
    }

    #[tokio::test]
    async fn a_token_is_asked_for_this_pod_and_one_audience() {
        let (stand_in, known) = Cluster::default().serve().await;
        let server = KubeServer::api_server()
            .named("localhost")
            .at(stand_in.port());
        let mut api = Api::given(server, stand_in.folder().join("ca.pem"), "/nowhere".into());
        let login = stand_in.folder().join("token");
        api.server = api.server.with_login(KubeLogin::Token(login.into()));
        api.token = stand_in.file("own", &jwt(CLAIMS));
        // The stand-in's token tells what was asked for.
        let token = token_request(&api, "session-1").await.unwrap();
        let asked: serde_json::Value = serde_json::from_str(&token).unwrap();
        let expected = serde_json::json!({
            "namespace": "sekisho", "account": "agent", "spec": {
                "audiences": ["session-1"], "expirationSeconds": 600, "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": "agent-x7k2p", "uid": "pod-uid",
                },
            },
        });
        assert_eq!(asked, expected);

        for (own, problem) in [
            ("not a token".to_owned(), "no token of a pod"),
            (jwt("{}"), "no token of a pod"),
            (
                jwt(&CLAIMS.replace("sekisho", "../x")),
                "names no service account",
            ),
        ] {
            api.token = stand_in.file("own", &own);
            let error = token_request(&api, "a").await.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        api.token = stand_in.file("own", &jwt(CLAIMS));
        for (text, problem) in [
            (answer("403 Forbidden", ""), "403"),
            (
                answer("201 Created", r#"{"status":"s3cret"}"#),
                "answers with no token",
            ),
            (
                answer("201 Created", r#"{"status":{"token":""}}"#),
                "answers with no token",
            ),
        ] {
            known.lock().unwrap().instead = [("agent/token".to_owned(), text)].into();
            let error = token_request(&api, "a").await.unwrap_err().to_string();
            assert!(
                error.contains(problem) && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn in_a_pod_everything_is_where_kubernetes_puts_it() {
        let api = Api::in_pod("fd00::1", 6443);
        assert_eq!(api.server.to_string(), "[fd00::1]:6443");
        assert_eq!(
            api.token,
            Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token")
        );
    }
}
