//! An API server with its etcd, and what stands in it. There is no kubelet: pods are words.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sekisho_kube::KubeServer;
use sekisho_testkit::{Profile, TestCa};
use serde_json::{Value, json};

use crate::support::{Process, World, ports, wait::until};

/// Who may do everything.
const ADMIN: &str = "administrators-token";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1";

/// It runs.
pub(super) struct Cluster {
    port: u16,
    ca: PathBuf,
    curl: PathBuf,
    process: Process,
    _etcd: Process,
}

impl Cluster {
    /// Starts one with a namespace `sekisho`, the accounts `agent` and `other` in it, and the user
    /// `authority`, who may do what the documentation says, with a certificate in `kube.conf`.
    pub(super) fn start(world: &World, etcd: &Path, server: &Path, curl: &Path) -> Self {
        let (client, peer, secure) = (ports::free(), ports::free(), ports::free());
        let mut command = Command::new(etcd);
        command
            .arg(format!("--data-dir={}", world.name("etcd")))
            .args([format!("--listen-client-urls=http://{client}")])
            .args([format!("--advertise-client-urls=http://{client}")])
            .args([format!("--listen-peer-urls=http://{peer}")])
            .args([format!("--initial-advertise-peer-urls=http://{peer}")])
            .args([format!("--initial-cluster=default=http://{peer}")]);
        let etcd = Process::start(&mut command);

        let ca = TestCa::new("cluster.example");
        world.write("ca.pem", &ca.pem());
        let names = Profile::leaf("spiffe://cluster.example/api").with_dns_names(["localhost"]);
        ca.issue(&names).write(world.path(), "serving");
        // Its key signs tokens; of the certificate only the key counts.
        ca.issue(&Profile::leaf("")).write(world.path(), "accounts");
        let clients = TestCa::new("clients.example");
        world.write("clients.pem", &clients.pem());
        let authority = clients.issue(&Profile::leaf("").with_common_name("authority"));
        world.write("tokens.csv", &format!("{ADMIN},admin,1,system:masters\n"));

        let file = |name: &str| world.name(name);
        let mut command = Command::new(server);
        command
            .arg(format!("--etcd-servers=http://{client}"))
            .args(["--bind-address=127.0.0.1", "--advertise-address=192.0.2.1"])
            .args([
                "--endpoint-reconciler-type=none",
                "--authorization-mode=RBAC",
            ])
            .args(["--service-cluster-ip-range=10.96.0.0/24"])
            .args(["--service-account-issuer=https://kubernetes.default.svc"])
            .arg(format!("--secure-port={}", secure.port()))
            .arg(format!(
                "--service-account-signing-key-file={}",
                file("accounts.key")
            ))
            .arg(format!(
                "--service-account-key-file={}",
                file("accounts.pem")
            ))
            .arg(format!("--token-auth-file={}", file("tokens.csv")))
            .arg(format!("--client-ca-file={}", file("clients.pem")))
            .arg(format!("--tls-cert-file={}", file("serving.pem")))
            .arg(format!("--tls-private-key-file={}", file("serving.key")))
            .arg(format!("--cert-dir={}", file("")));
        let cluster = Self {
            port: secure.port(),
            ca: world.file("ca.pem"),
            curl: curl.into(),
            process: Process::start(&mut command),
            _etcd: etcd,
        };
        until("an API server that is ready", || {
            let ready = cluster.ask("GET", "/readyz", "", None);
            assert!(!cluster.process.has_ended(), "the API server has ended");
            ready.is_ok_and(|body| body == b"ok").then_some(())
        });
        cluster.furnish();
        let encode = |text: String| BASE64.encode(text);
        world.write(
            "kube.conf",
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- {{name: c, context: {{cluster: k, user: u}}}}\n\
                 clusters:\n- name: k\n  cluster:\n    server: https://localhost:{}\n    certificate-authority: ca.pem\n\
                 users:\n- name: u\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
                secure.port(),
                encode(authority.chain_pem()),
                encode(authority.key_pem()),
            ),
        );
        cluster
    }

    fn furnish(&self) {
        let named = |name: &str| json!({ "metadata": { "name": name } });
        self.post("/api/v1/namespaces", &named("sekisho"));
        for account in ["agent", "other"] {
            self.post(
                "/api/v1/namespaces/sekisho/serviceaccounts",
                &named(account),
            );
        }
        let rules = json!([
            { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] },
            { "apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get"] },
        ]);
        let role = json!({ "metadata": { "name": "sekisho-authority" }, "rules": rules });
        self.post(&format!("{ROLES}/clusterroles"), &role);
        let binding = json!({
            "metadata": { "name": "sekisho-authority" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "sekisho-authority" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "authority" }],
        });
        self.post(&format!("{ROLES}/clusterrolebindings"), &binding);
    }

    /// The API server, for whoever logs in.
    pub(super) fn server(&self) -> KubeServer {
        KubeServer::api_server().named("localhost").at(self.port)
    }

    /// Lets pods of an account make tokens of that account.
    pub(super) fn let_make_tokens(&self, account: &str) {
        let of = format!("{ROLES}/namespaces/sekisho");
        let rules = json!([{
            "apiGroups": [""], "resources": ["serviceaccounts/token"],
            "resourceNames": [account], "verbs": ["create"],
        }]);
        self.post(
            &format!("{of}/roles"),
            &json!({ "metadata": { "name": "tokens" }, "rules": rules }),
        );
        let binding = json!({
            "metadata": { "name": "tokens" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tokens" },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": "sekisho" }],
        });
        self.post(&format!("{of}/rolebindings"), &binding);
    }

    /// Makes a node; its UID.
    pub(super) fn node(&self, name: &str, labels: &Value) -> String {
        let node = json!({ "metadata": { "name": name, "labels": labels } });
        uid(&self.post("/api/v1/nodes", &node))
    }

    /// Makes a pod of an account on the node `n1`; its UID.
    pub(super) fn pod(&self, name: &str, account: &str) -> String {
        let pod = json!({
            "metadata": { "name": name, "labels": { "app": account, "tier": "x" } },
            "spec": {
                "serviceAccountName": account, "nodeName": "n1",
                "containers": [{ "name": "c", "image": "none" }],
            },
        });
        uid(&self.post("/api/v1/namespaces/sekisho/pods", &pod))
    }

    /// A token of a pod for somebody, as the kubelet would put it there.
    pub(super) fn token(&self, account: &str, pod: &str, audience: &str) -> String {
        self.request_token(account, &json!([audience]), Some(pod))
    }

    /// A token of a pod for the API server.
    pub(super) fn default_token(&self, account: &str, pod: &str) -> String {
        self.request_token(account, &json!([]), Some(pod))
    }

    /// A token that is bound to nothing.
    pub(super) fn unbound_token(&self, account: &str, audience: &str) -> String {
        self.request_token(account, &json!([audience]), None)
    }

    fn request_token(&self, account: &str, audiences: &Value, pod: Option<&str>) -> String {
        let mut spec = json!({ "audiences": audiences, "expirationSeconds": 3600 });
        if let Some(pod) = pod {
            spec["boundObjectRef"] = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod });
        }
        let path = format!("/api/v1/namespaces/sekisho/serviceaccounts/{account}/token");
        let made = self.post(&path, &json!({ "spec": spec }));
        made["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Changes what is at `path`.
    pub(super) fn patch(&self, path: &str, change: &Value) {
        self.json("PATCH", path, "application/merge-patch+json", Some(change));
    }

    /// Deletes what is at `path`, at once: no kubelet would say that it has ended.
    pub(super) fn delete(&self, path: &str) {
        self.json("DELETE", &format!("{path}?gracePeriodSeconds=0"), "", None);
    }

    fn post(&self, path: &str, object: &Value) -> Value {
        self.json("POST", path, "application/json", Some(object))
    }

    fn json(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> Value {
        let answer = self.ask(method, path, kind, body).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }

    /// As the administrator. `Err`: what curl says.
    fn ask(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.curl);
        command
            .args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--request",
                method,
            ])
            .arg("--cacert")
            .arg(&self.ca)
            .args(["--header", &format!("Authorization: Bearer {ADMIN}")]);
        if let Some(body) = body {
            command.args(["--header", &format!("Content-Type: {kind}")]);
            command.args(["--data", &body.to_string()]);
        }
        let output = command
            .arg(format!("https://localhost:{}{path}", self.port))
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = [output.stderr, output.stdout].concat();
        Err(format!(
            "{method} {path}: {}",
            String::from_utf8_lossy(&said)
        ))
    }
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}
