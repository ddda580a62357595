//! A site that wants a token and a certificate of its nodes together, as an administrator would set it
//! up: by files, with certificates of OpenSSL's.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::{Process, World, node::SEKISHO, ports, program::find, wait::until};

const POLICY: &str = r#"
package sekisho.attest

default decision := {"allow": false, "reason": "a token and a certificate are wanted"}

token if { some piece in input.evidence; piece.type == "join_token" }

host := piece.common_name if {
	some piece in input.evidence
	piece.type == "x509pop"
	data.inventory[piece.common_name]
}

decision := {"allow": true, "path": sprintf("/node/%s", [host]), "selectors": [sprintf("host:%s", [host])]} if token
"#;

struct Site {
    world: World,
    listen: SocketAddr,
}

impl Site {
    /// A CA of nodes, a node's certificate and key, and the authority's files.
    fn new(openssl: &Path) -> Self {
        let world = World::new();
        let listen = ports::free();
        let run = |line: &str| {
            let mut command = Command::new(openssl);
            command.args(line.split(' ')).current_dir(world.path());
            let output = command.output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        };
        run(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -keyout ca.key -out nodes.pem -subj /CN=nodes",
        );
        run(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout node.key \
             -out node.csr -subj /CN=node7",
        );
        world.write("usage", "keyUsage=critical,digitalSignature\n");
        run(
            "x509 -req -in node.csr -CA nodes.pem -CAkey ca.key -CAcreateserial -days 1 \
             -out node.pem -extfile usage",
        );
        world.write("attest/attest.rego", POLICY);
        world.write("attest/data.json", r#"{"inventory": {"node7": true}}"#);
        Self { world, listen }
    }

    fn authority(&self) -> String {
        format!(
            "site: a.example\nauthority:\n  listen: {}\n  data: authority\n  socket: authority.sock\n  \
             attest:\n    - sekisho_evidence:\n        \
             evidence: [join_token, {{x509pop: {{ca: nodes.pem}}}}]\n        policy: attest\n",
            self.listen
        )
    }

    fn start(&self, command: &str, file: &str) -> Process {
        let mut program = Command::new(SEKISHO);
        Process::start(program.arg(command).arg("-c").arg(self.world.file(file)))
    }

    fn ask(&self, line: &str) -> Output {
        let mut command = Command::new(SEKISHO);
        command.args(line.split(' ')).arg("--json").arg("--socket");
        command.arg(self.world.file("authority.sock"));
        command.output().unwrap()
    }

    fn json(&self, line: &str) -> Value {
        let output = self.ask(line);
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn until_it_answers(&self) {
        until("an authority that answers", || {
            self.ask("node list").status.success().then_some(())
        });
    }

    /// An agent of its own file, with this evidence.
    fn agent(&self, name: &str, evidence: &str) -> Process {
        self.world.write(
            &format!("{name}.yaml"),
            &format!(
                "site: a.example\nagent:\n  authority: [\"{}\"]\n  bootstrap: bundle.pem\n  \
                 data: {name}\n  socket: {name}.sock\n  seal: file\n  evidence: {evidence}\n",
                self.listen
            ),
        );
        self.start("agent", &format!("{name}.yaml"))
    }

    /// A token in a file.
    fn token(&self, file: &str) {
        let token = self.json("token create");
        self.world.write(file, token["value"].as_str().unwrap());
    }
}

const CERTIFICATE: &str = "{x509pop: {cert: node.pem, key: node.key}}";

#[test]
fn neither_piece_is_enough_and_both_are() {
    let Some(openssl) = find("openssl") else {
        return;
    };
    let site = Site::new(&openssl);
    site.world.write("authority.yaml", &site.authority());
    let check = Command::new(SEKISHO)
        .arg("check")
        .arg("-c")
        .arg(site.world.file("authority.yaml"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    let _authority = site.start("authority", "authority.yaml");
    site.until_it_answers();
    let bundle = Command::new(SEKISHO)
        .args(["bundle", "export", "--format", "pem", "--socket"])
        .arg(site.world.file("authority.sock"))
        .output()
        .unwrap();
    let text = String::from_utf8(bundle.stdout).unwrap();
    assert!(text.contains("BEGIN CERTIFICATE"), "{text}");
    site.world.write("bundle.pem", &text);

    let (status, said) = site.agent("one", &format!("[{CERTIFICATE}]")).ended();
    assert!(
        !status.success() && said.contains("a token and a certificate are wanted"),
        "{said}"
    );
    site.token("alone");
    let (status, said) = site.agent("two", "[{join_token: {file: alone}}]").ended();
    assert!(
        !status.success() && said.contains("a token and a certificate are wanted"),
        "{said}"
    );
    assert_eq!(site.json("node list"), serde_json::json!([]));

    site.token("token");
    let both = format!("[{{join_token: {{file: token}}}}, {CERTIFICATE}]");
    let agent = site.agent("three", &both);
    agent.wait_for("attested");
    let nodes = site.json("node list");
    assert_eq!(
        nodes[0]["id"],
        "spiffe://a.example/spire/agent/sekisho_evidence/node/node7"
    );
    assert_eq!(nodes[0]["selectors"][0], "host:node7");
    drop(agent);
    // The token is used up: another agent that has copied both files is not this node.
    let (status, said) = site.agent("four", &both).ended();
    assert!(
        !status.success() && said.contains("already been used"),
        "{said}"
    );
    // A token beside a certificate that somebody else's CA has signed.
    site.token("token");
    site.world.issue(&site.world.b, "stranger");
    let stranger =
        "[{join_token: {file: token}}, {x509pop: {cert: stranger.pem, key: stranger.key}}]";
    let (status, said) = site.agent("five", stranger).ended();
    assert!(
        !status.success() && said.contains("verification failed"),
        "{said}"
    );
    // It was not looked at, and is good.
    site.agent("six", &both).wait_for("attested");
}

/// The same in one file: the supervisor hands the token over.
#[test]
fn a_whole_site_may_want_it_of_its_own_node() {
    let Some(openssl) = find("openssl") else {
        return;
    };
    let site = Site::new(&openssl);
    let text = format!(
        "{}agent:\n  data: agent\n  socket: agent.sock\n  evidence: [join_token, {CERTIFICATE}]\n",
        site.authority()
    );
    site.world.write("site.yaml", &text);
    let _run = site.start("run", "site.yaml");
    site.until_it_answers();
    until("a node", || {
        let nodes = site.json("node list");
        (nodes[0]["id"] == "spiffe://a.example/spire/agent/sekisho_evidence/node/node7")
            .then_some(())
    });
}
