//! Kubernetes: agents come in by `k8s_psat`, verified by a real API server.

mod cluster;

use std::{net::SocketAddr, process::Command};

use sekisho_agent::attest::k8s_psat::{Api, token_request};
use serde_json::{Value, json};

use self::cluster::Cluster;
use crate::support::{Process, World, node::SEKISHO, ports, program::program, wait::until};

/// An authority of the cluster's agents.
struct Authority {
    process: Process,
    listen: SocketAddr,
}

impl Authority {
    fn start(world: &World) -> Self {
        let listen = ports::free();
        world.write(
            "authority.yaml",
            &format!(
                "site: a.example\nauthority:\n  listen: {listen}\n  data: data\n  socket: api.sock\n  attest:\n    \
                 - k8s_psat: {{clusters: {{campus: {{kubeconfig: kube.conf, accounts: [sekisho:agent], \
                 node_labels: [zone], pod_labels: [app]}}}}}}\n"
            ),
        );
        let mut command = Command::new(SEKISHO);
        command
            .args(["authority", "-c"])
            .arg(world.file("authority.yaml"));
        let process = Process::start(&mut command);
        process.wait_for("started");
        Self { process, listen }
    }

    /// What it knows of agents.
    fn nodes(world: &World) -> Vec<Value> {
        let mut command = Command::new(SEKISHO);
        command
            .args(["node", "list", "--json", "--socket"])
            .arg(world.file("api.sock"));
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts an agent with this token in a file.
    fn agent(&self, world: &World, name: &str, token: &str) -> Process {
        world.write(&format!("{name}.psat"), token);
        world.write(
            &format!("{name}.yaml"),
            &format!(
                "site: a.example\nagent:\n  authority: [\"{}\"]\n  bootstrap: unused.pem\n  data: {name}\n  \
                 socket: {name}.sock\n  seal: file\n  k8s_psat: {{cluster: campus, token: {name}.psat}}\n",
                self.listen
            ),
        );
        let mut command = Command::new(SEKISHO);
        let file = world.file(&format!("{name}.yaml"));
        // That the authority is ours is for other tests.
        Process::start(
            command
                .args(["agent", "--insecure-bootstrap", "-c"])
                .arg(file),
        )
    }

    /// Why an agent with this token is not let in.
    fn refusal(&self, world: &World, name: &str, token: &str) -> String {
        let before = self.process.said().lines().count();
        let agent = self.agent(world, name, token);
        let refused = |line: &str| line.contains("agent not attested").then(|| line.to_owned());
        let (line, _) = self.process.line("a refusal", before, refused);
        assert!(!self.process.said().contains(token) && !agent.said().contains(token));
        line
    }
}

fn agents_pod(cluster: &Cluster) -> String {
    let uid = cluster.pod("agent-x7k2p", "agent");
    let status = json!({ "status": { "hostIP": "192.0.2.7", "hostIPs": [{ "ip": "192.0.2.7" }] } });
    cluster.patch(
        "/api/v1/namespaces/sekisho/pods/agent-x7k2p/status",
        &status,
    );
    uid
}

#[test]
fn agents_in_pods_are_let_in_by_the_word_of_a_real_api_server() {
    let (etcd, server, curl) = (
        program!("etcd"),
        program!("kube-apiserver"),
        program!("curl"),
    );
    let world = World::new();
    let cluster = Cluster::start(&world, &etcd, &server, &curl);
    let node = cluster.node("n1", &json!({ "zone": "a", "other": "b" }));
    let (pod, _) = (agents_pod(&cluster), cluster.pod("other-1", "other"));
    let authority = Authority::start(&world);

    let token = |pod: &str, account: &str, audience: &str| cluster.token(account, pod, audience);
    let good = token("agent-x7k2p", "agent", "spire-server");
    let agent = authority.agent(&world, "good", &good);
    let [known] = until("an agent that is let in", || {
        let nodes = Authority::nodes(&world);
        assert!(!agent.has_ended(), "{}", agent.said());
        <[Value; 1]>::try_from(nodes).ok()
    });
    let id = format!("spiffe://a.example/spire/agent/k8s_psat/campus/{node}");
    assert_eq!(known["id"], id);
    let mut selectors: Vec<&str> = known["selectors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect();
    selectors.sort_unstable();
    assert_eq!(
        selectors,
        [
            "k8s_psat:agent_node_ip:192.0.2.7",
            "k8s_psat:agent_node_label:zone:a",
            "k8s_psat:agent_node_name:n1",
            &format!("k8s_psat:agent_node_uid:{node}"),
            "k8s_psat:agent_ns:sekisho",
            "k8s_psat:agent_pod_label:app:agent",
            "k8s_psat:agent_pod_name:agent-x7k2p",
            &format!("k8s_psat:agent_pod_uid:{pod}"),
            "k8s_psat:agent_sa:agent",
            "k8s_psat:cluster:campus",
        ]
    );
    drop(agent);

    let elsewhere = token("agent-x7k2p", "agent", "vault");
    let refusal = authority.refusal(&world, "elsewhere", &elsewhere);
    assert!(
        refusal.contains("Internal") && refusal.contains("audiences"),
        "{refusal}"
    );
    let other = token("other-1", "other", "spire-server");
    let refusal = authority.refusal(&world, "other", &other);
    assert!(refusal.contains("PermissionDenied"), "{refusal}");
    assert!(
        refusal.contains("sekisho:other") && refusal.contains("is not an allowed service account"),
        "{refusal}"
    );
    let unbound = cluster.unbound_token("agent", "spire-server");
    let refusal = authority.refusal(&world, "unbound", &unbound);
    assert!(refusal.contains("missing pod name"), "{refusal}");
    // The API server remembers for ten seconds that a token was good. Then the pod tells that it is not.
    let over = |name: &str, by_pod: &str| {
        let refusal = authority.refusal(&world, name, &good);
        let by_token = refusal.contains("Internal") && refusal.contains("invalid bearer token");
        let by_pod = refusal.contains("PermissionDenied") && refusal.contains(by_pod);
        assert!(by_token || by_pod, "{refusal}");
    };
    cluster.delete("/api/v1/namespaces/sekisho/pods/agent-x7k2p");
    over("gone", "fail to get pod from k8s API server: not found");
    agents_pod(&cluster);
    over("replaced", "is not the one that the token was made for");
    assert_eq!(Authority::nodes(&world).len(), 1);
}

#[test]
fn a_pod_gets_tokens_for_a_session_from_a_real_api_server() {
    let (etcd, server, curl) = (
        program!("etcd"),
        program!("kube-apiserver"),
        program!("curl"),
    );
    let world = World::new();
    let cluster = Cluster::start(&world, &etcd, &server, &curl);
    cluster.node("n1", &json!({}));
    agents_pod(&cluster);
    world.write("own", &cluster.default_token("agent", "agent-x7k2p"));
    let api = Api::given(cluster.server(), world.file("ca.pem"), world.file("own"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ask = |api: &Api| runtime.block_on(token_request(api, "spire-server"));
    // Not everybody may.
    let refused = ask(&api).unwrap_err().to_string();
    assert!(refused.contains("403"), "{refused}");
    cluster.let_make_tokens("agent");
    let token = until("a token", || ask(&api).ok());
    let authority = Authority::start(&world);
    let agent = authority.agent(&world, "agent", &token);
    until("an agent that is let in", || {
        assert!(!agent.has_ended(), "{}", agent.said());
        (Authority::nodes(&world).len() == 1).then_some(())
    });
}

/// What stands before `k8s_psat`'s clusters, and behind them.
fn with_cluster(cluster: &str) -> String {
    format!(
        "site: a.example\nauthority: {{data: data, socket: api.sock, attest: \
         [{{k8s_psat: {{clusters: {{campus: {cluster}}}}}}}]}}\n"
    )
}

#[test]
fn check_reads_the_kubeconfig_that_the_authority_will_read() {
    let world = World::new();
    world.write(
        "authority.yaml",
        &with_cluster("{kubeconfig: kube.conf, accounts: [sekisho:agent]}"),
    );
    let run = |command: &str| {
        let mut sekisho = Command::new(SEKISHO);
        let output = sekisho
            .args([command, "-c"])
            .arg(world.file("authority.yaml"));
        let output = output.output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let conf = "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, \
                cluster: {server: \"https://localhost\", certificate-authority: ca.pem}}]\n";
    world.write(
        "kube.conf",
        &format!("{conf}users: [{{name: u, user: {{exec: {{command: s3cret}}}}}}]\n"),
    );
    let expected = "kube.conf:4:26: users[0].user.exec: would have to start or ask a program";
    let (code, said) = run("check");
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains(expected) && !said.contains("s3cret"),
        "{said}"
    );
    let (code, said) = run("authority");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("cluster campus") && said.contains(expected),
        "{said}"
    );
    world.write(
        "kube.conf",
        &format!("{conf}users: [{{name: u, user: {{tokenFile: t}}}}]\n"),
    );
    let (code, said) = run("check");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn without_a_kubeconfig_an_authority_is_in_a_pod() {
    let world = World::new();
    world.write(
        "authority.yaml",
        &with_cluster("{accounts: [sekisho:agent]}"),
    );
    let start = |variables: &[(&str, &str)]| {
        let mut command = Command::new(SEKISHO);
        command
            .args(["authority", "-c"])
            .arg(world.file("authority.yaml"));
        command.env_remove("KUBERNETES_SERVICE_HOST");
        Process::start(command.envs(variables.iter().copied()))
    };
    let (status, said) = start(&[]).ended();
    assert_eq!(status.code(), Some(1));
    let expected =
        "cluster campus: KUBERNETES_SERVICE_HOST is not set, as it is in a pod: give `kubeconfig`";
    assert!(said.contains(expected), "{said}");
    let pod = [
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
    ];
    start(&pod).wait_for("started");
}
