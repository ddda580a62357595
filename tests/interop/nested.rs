//! An authority below another, as `authority.upstream` has it: by files, and by the API of a site that
//! `sekisho run` runs.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use nix::unistd::getuid;
use sekisho_spire_api::{
    server::{
        agent::{CreateJoinTokenRequest, agent_client::AgentClient},
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        svid::{MintX509svidRequest, svid_client::SvidClient},
    },
    types::{self, Bundle},
};
use sekisho_testkit::{KeyKind, Profile, TestCa, clock};
use serde_json::Value;

use crate::support::{
    Process, World,
    node::SEKISHO,
    ports,
    program::program,
    wait::{until, until_within},
    whole::Whole,
};

fn sekisho(words: &[&str]) -> Output {
    Command::new(SEKISHO).args(words).output().unwrap()
}

/// What `sekisho check` finds of the authority.
fn check(world: &World, file: &str) -> (Option<i32>, String) {
    let output = sekisho(&["check", "--json", "-c", &world.name(file)]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    (
        output.status.code(),
        told["authority"]["problems"].to_string(),
    )
}

fn start(world: &World, command: &str, file: &str) -> Process {
    let mut process = Command::new(SEKISHO);
    Process::start(process.args([command, "-c"]).arg(world.file(file)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn pem(der: &[u8]) -> String {
    sekisho_testkit::ca::pem("CERTIFICATE", der)
}

/// A workload's chain, as administrators have it minted.
fn mint(openssl: &Path, world: &World, socket: &str) -> Vec<String> {
    let output = Command::new(openssl)
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-keyout", "/dev/null", "-subj", "/O=job", "-outform", "DER"])
        .args(["-addext", "subjectAltName=URI:spiffe://a.example/job"])
        .output()
        .unwrap();
    let csr = output.stdout;
    let answer = runtime().block_on(async {
        let channel = Whole::channel(world.file(socket)).await;
        let request = MintX509svidRequest { csr, ttl: 0 };
        SvidClient::new(channel)
            .mint_x509svid(request)
            .await
            .unwrap()
    });
    let chain = answer.into_inner().svid.unwrap().cert_chain;
    chain.iter().map(|der| pem(der)).collect()
}

fn bundle(world: &World, socket: &str) -> Bundle {
    runtime().block_on(async {
        let channel = Whole::channel(world.file(socket)).await;
        let mut client = BundleClient::new(channel);
        let answer = client.get_bundle(GetBundleRequest::default()).await;
        answer.unwrap().into_inner()
    })
}

/// `openssl verify` of a chain by a root, with what is between them and without.
fn verified(openssl: &Path, world: &World, chain: &[String], root: &str) -> [bool; 2] {
    world.write("verify/root.pem", root);
    world.write("verify/leaf.pem", &chain[0]);
    world.write("verify/chain.pem", &chain[1..].concat());
    [&["-untrusted", "chain.pem"][..], &[]].map(|untrusted| {
        let mut command = Command::new(openssl);
        command.current_dir(world.file("verify"));
        command
            .args(["verify", "-CAfile", "root.pem"])
            .args(untrusted);
        command.arg("leaf.pem").output().unwrap().status.success()
    })
}

#[test]
fn below_a_ca_in_files_chains_end_at_its_root() {
    let openssl = program!("openssl");
    let world = World::new();
    let mut profile = Profile::ca("a.example").with_uris([]);
    profile.ends = 30 * 24 * 3600;
    let root = TestCa::root(&profile, KeyKind::default(), clock::present());
    let middle = root.issue(&profile.with_common_name("middle"));
    world.write("root.pem", &root.pem());
    world.write("middle.pem", &middle.chain_pem());
    let file = "site: a.example\nauthority:\n  data: data\n  socket: api.sock\n  upstream:\n    \
                disk: {cert: middle.pem, key: middle.key, bundle: root.pem}\n";
    world.write("authority.yaml", file);
    let (code, problems) = check(&world, "authority.yaml");
    assert!(
        code == Some(1) && problems.contains("middle.key"),
        "{problems}"
    );
    // It waits, and the log says for what.
    let process = start(&world, "authority", "authority.yaml");
    let said = process.wait_for("nothing can be signed yet");
    assert!(said.contains("middle.key"), "{said}");
    world.write("middle.new", &middle.key_pem());
    fs::rename(world.file("middle.new"), world.file("middle.key")).unwrap();
    process.wait_for("started");
    let (code, problems) = check(&world, "authority.yaml");
    assert_eq!((code, problems.as_str()), (Some(0), "[]"));
    let chain = mint(&openssl, &world, "api.sock");
    assert_eq!(
        chain.len(),
        3,
        "leaf, ours, the one above, and never the root"
    );
    assert_eq!(
        verified(&openssl, &world, &chain, &root.pem()),
        [true, false]
    );
    let own = bundle(&world, "api.sock").x509_authorities;
    assert_eq!(own.len(), 1);
    assert_eq!(pem(&own[0].asn1), root.pem());
}

#[test]
fn below_a_site_that_runs_the_keys_of_both_are_known_to_both() {
    let openssl = program!("openssl");
    let world = World::new();
    let listen = ports::free();
    world.write(
        "upper.yaml",
        &format!(
            "site: a.example\n\
             authority: {{listen: {listen}, data: upper, socket: upper.sock, entries: entries.yaml}}\n\
             agent: {{data: agent, socket: agent.sock}}\n"
        ),
    );
    world.write(
        "entries.yaml",
        &format!(
            "entries: [{{spiffe_id: /below, downstream: true, selectors: [\"unix:uid:{}\"]}}]\n",
            getuid()
        ),
    );
    world.write(
        "lower.yaml",
        &format!(
            "site: a.example\nauthority:\n  data: lower\n  socket: lower.sock\n  upstream:\n    \
             spire: {{authority: [{listen}], identity: \"unix://{}\", as: /below}}\n",
            world.name("agent.sock")
        ),
    );
    // The one above is not there yet.
    let lower = start(&world, "authority", "lower.yaml");
    lower.wait_for("nothing can be signed yet");
    let upper = start(&world, "run", "upper.yaml");
    lower.wait_for("started");
    let roots = |socket: &str| -> Vec<Vec<u8>> {
        let all = bundle(&world, socket).x509_authorities;
        all.into_iter().map(|root| root.asn1).collect()
    };
    let keys = |socket: &str| -> Vec<String> {
        let all = bundle(&world, socket).jwt_authorities;
        let mut ids: Vec<_> = all.into_iter().map(|key| key.key_id).collect();
        ids.sort();
        ids
    };
    let root = roots("upper.sock");
    assert_eq!(roots("lower.sock"), root);
    let chain = mint(&openssl, &world, "lower.sock");
    assert_eq!(chain.len(), 2);
    assert_eq!(
        verified(&openssl, &world, &chain, &pem(&root[0])),
        [true, false]
    );
    assert_eq!(keys("upper.sock").len(), 2);
    until("all keys below", || {
        (keys("lower.sock") == keys("upper.sock")).then_some(())
    });
    // Gone again: it goes on.
    drop(upper);
    lower.wait_for("does not follow");
    assert_eq!(mint(&openssl, &world, "lower.sock").len(), 2);
}

/// A token by which an agent is the node `/node/lower`.
fn token(world: &World) -> String {
    until("a token", || {
        let socket = world.file("upper.sock");
        socket.exists().then(|| {
            runtime().block_on(async {
                let request = CreateJoinTokenRequest {
                    ttl: 600,
                    token: String::new(),
                    agent_id: Some(types::Spiffeid {
                        trust_domain: "a.example".into(),
                        path: "/node/lower".into(),
                    }),
                };
                let mut client = AgentClient::new(Whole::channel(socket).await);
                let answer = client.create_join_token(request).await;
                answer.unwrap().into_inner().value
            })
        })
    })
}

#[test]
fn the_agent_that_leads_above_may_be_of_the_same_file() {
    let openssl = program!("openssl");
    let world = World::new();
    let listen = ports::free();
    world.write(
        "upper.yaml",
        &format!(
            "site: a.example\n\
             authority: {{listen: {listen}, data: upper, socket: upper.sock, entries: entries.yaml}}\n"
        ),
    );
    world.write(
        "entries.yaml",
        &format!(
            "entries: [{{spiffe_id: /below, parent: /node/lower, downstream: true, \
             selectors: [\"unix:uid:{}\"]}}]\n",
            getuid()
        ),
    );
    let _upper = start(&world, "run", "upper.yaml");
    world.write("token", &token(&world));
    let root = pem(&bundle(&world, "upper.sock").x509_authorities[0].asn1);
    world.write("upper.pem", &root);
    world.write(
        "lower.yaml",
        &format!(
            "site: a.example\n\
             authority:\n  data: lower\n  socket: lower.sock\n  upstream:\n    \
             spire: {{authority: [{listen}], identity: \"unix://{socket}\", as: /below}}\n\
             agent: {{authority: [{listen}], bootstrap: upper.pem, join_token: {{file: token}}, \
             data: agent, socket: {socket}}}\n",
            socket = world.name("agent.sock")
        ),
    );
    let _lower = start(&world, "run", "lower.yaml");
    until("an authority below", || {
        sekisho(&["ca", "show", "--socket", &world.name("lower.sock")])
            .status
            .success()
            .then_some(())
    });
    let chain = mint(&openssl, &world, "lower.sock");
    assert_eq!(chain.len(), 2);
    assert_eq!(verified(&openssl, &world, &chain, &root), [true, false]);
}

/// The supervisor waits for a minute, and so does this.
#[test]
fn without_the_one_above_endpoints_start_all_the_same_and_entries_are_applied_when_it_is_back() {
    let world = World::new();
    let (listen, sender) = (ports::free(), ports::free());
    world.write(
        "upper.yaml",
        &format!(
            "site: a.example\n\
             authority: {{listen: {listen}, data: upper, socket: upper.sock, entries: upper-entries.yaml}}\n"
        ),
    );
    let uid = getuid();
    world.write(
        "upper-entries.yaml",
        &format!(
            "entries: [{{spiffe_id: /below, parent: /node/lower, downstream: true, \
             selectors: [\"unix:uid:{uid}\"]}}]\n"
        ),
    );
    world.write(
        "entries.yaml",
        "entries: [{spiffe_id: /job, selectors: [\"unix:uid:1\"]}]\n",
    );
    let upper = start(&world, "run", "upper.yaml");
    world.write("token", &token(&world));
    let root = pem(&bundle(&world, "upper.sock").x509_authorities[0].asn1);
    drop(upper);
    let socket = world.name("agent.sock");
    world.write(
        "lower.yaml",
        &format!(
            "site: a.example\nadmin: unix://{}\n\
             authority:\n  data: lower\n  socket: lower.sock\n  entries: entries.yaml\n  upstream:\n    \
             spire: {{authority: [{listen}], identity: \"unix://{socket}\", as: /below}}\n\
             agent: {{authority: [{listen}], bootstrap: upper.pem, join_token: {{file: token}}, \
             data: agent, socket: {socket}}}\n\
             endpoints:\n  out:\n    listen: tcp://{sender}\n    forward: mtls://{listen}\n    as: /out\n    \
             expect: [spiffe://a.example/in]\n",
            world.name("admin.sock")
        ),
    );
    world.write("upper.pem", &root);
    // The agent cannot have this for its folder.
    world.write("agent", "");
    let lower = start(&world, "run", "lower.yaml");
    let says = |text: &str| {
        let patience = Duration::from_secs(100);
        let said = || lower.said().contains(text).then_some(());
        until_within(patience, text, said);
    };
    says("has ended; is started again");
    fs::remove_file(world.file("agent")).unwrap();
    says("nothing can be signed yet");
    assert!(!world.file("admin.sock").exists(), "{}", lower.said());
    says("do not wait for it any longer");
    let there = |name: &str| until(name, || world.file(name).exists().then_some(()));
    there("agent.sock");
    there("admin.sock");
    assert!(!lower.said().contains("entries applied"));
    let _upper = start(&world, "run", "upper.yaml");
    says("entries applied");
}
