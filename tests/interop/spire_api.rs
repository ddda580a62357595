//! Every call of SPIRE's server and agent APIs, of the Workload API and of SDS, asked over the wire by
//! a client that has none of our code: gRPC's Go implementation and the `.proto` files
//! (`tests/interop/spire-api`). It asks as everybody who may and who may not, and says of each answer
//! what SPIRE's would be.

use std::{collections::BTreeSet, path::Path, process::Command};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use sekisho_spire_api::DESCRIPTORS;
use tonic::Code;

use crate::support::{
    Process, World, node::SEKISHO, ports, program::program, wait::until, whole::Whole,
};

/// Calls that our `.proto` files do not define: some are served all the same, the others are asked for
/// to see that they are not.
const OTHERS: [&str; 6] = [
    "SpiffeWorkloadAPI/FetchWITBundles",
    "SpiffeWorkloadAPI/FetchWITSVID",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// Where our authority answers otherwise than SPIRE's, and stays with it.
const KNOWN: [&str; 4] = [
    // Refused: what is for clients and servers says so, or nothing (X509-SVID §4.4).
    "for something else alone",
    // Whoever wants a certificate for a key has to have it.
    "a request that is not signed by its key",
    // Nobody reads them by their order.
    "order of extensions",
    // Served. SPIRE's server refuses, by the way in which its TLS calls it.
    "TLS 1.2 without a certificate",
];

/// Calls that nobody is served by, by SPIRE neither: the first two for want of an authority above.
const NEVER_SERVED: [&str; 9] = [
    "spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority",
    "spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority",
    "SpiffeWorkloadAPI/FetchWITBundles",
    "SpiffeWorkloadAPI/FetchWITSVID",
    "envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    TLS,
];

/// What the client calls its look at TLS.
const TLS: &str = "TLS";

/// `Service/Call` of every call of SPIRE's in our descriptors.
fn described() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    // What SPIRE does not have is asked for elsewhere.
    let files = set.file.iter();
    let files = files.filter(|file| !file.package().starts_with("sekisho."));
    let services = files.flat_map(|file| file.service.iter().map(move |it| (file.package(), it)));
    let calls = services.flat_map(|(package, service)| {
        let dot = if package.is_empty() { "" } else { "." };
        let name = format!("{package}{dot}{}", service.name());
        let calls = service.method.iter();
        calls.map(move |call| format!("{name}/{}", call.name()))
    });
    calls.collect()
}

/// Authority and agent, by one file. Nodes come in by token, or by certificate of `nodes.pem`.
fn site(world: &World) -> Process {
    let listen = ports::free();
    world.write("address", &listen.to_string());
    world.write(
        "site.yaml",
        &format!(
            "site: a.example\n\
             authority:\n  listen: {listen}\n  data: authority\n  socket: authority.sock\n  \
             attest: [join_token, {{x509pop: {{ca: nodes.pem}}}}]\n  \
             admins: [spiffe://foreign.example/admin]\n\
             agent:\n  data: agent\n  socket: agent.sock\n  \
             delegated:\n    socket: agent-admin.sock\n    delegates:\n      \
             spiffe://a.example/delegate: [spiffe://a.example/asked, spiffe://a.example/asked/admin]\n"
        ),
    );
    let mut command = Command::new(SEKISHO);
    command.args(["run", "-c"]).arg(world.file("site.yaml"));
    Process::start(&mut command)
}

#[test]
fn every_call_answers_everybody_as_spires_does() {
    let program = program!("spire-api");
    let world = World::new();
    let mut prepare = Command::new(&program);
    let prepared = prepare.arg("prepare").arg(world.path()).status();
    assert!(prepared.unwrap().success());
    let site = site(&world);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    until("an agent that knows its site", || {
        assert!(!site.has_ended(), "the site does not start");
        // Nobody has an identity yet, and only an agent that knows its entries says so.
        let answer = runtime.block_on(Whole::ask(world.file("agent.sock")));
        (answer.err()?.code() == Code::PermissionDenied).then_some(())
    });
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("spire-api/proto");
    let mut command = Command::new(&program);
    let mut client = Process::start(command.arg("ask").arg(world.path()).arg(proto));
    client.line("the last row", 0, |line| (line == "end").then_some(()));
    let (status, said) = client.ended();
    assert!(status.success(), "{status}");
    judge(&said);
}

/// All rows are as they should be, and there is one of every call.
fn judge(said: &str) {
    let (mut rows, mut failed, mut counted) = (0, Vec::new(), BTreeSet::new());
    let (mut known, mut never) = (BTreeSet::new(), BTreeSet::new());
    for line in said.lines() {
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            ["ok", ..] => rows += 1,
            ["FAIL", ..] => failed.push(line),
            ["known", _, _, case, ..] => drop(known.insert(*case)),
            ["count", call, _, served] => {
                counted.insert((*call).to_owned());
                if *served == "0" {
                    never.insert(*call);
                }
            }
            ["end"] => {}
            other => panic!("not a row: {other:?}"),
        }
    }
    let mut expected = described();
    expected.extend(OTHERS.map(str::to_owned));
    expected.insert(TLS.into());
    let missing: Vec<_> = expected.difference(&counted).collect();
    let strange: Vec<_> = counted.difference(&expected).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "calls that nobody asked by: {missing:?}; calls that are not there: {strange:?}"
    );
    assert!(
        failed.is_empty(),
        "{} of {} answers are not SPIRE's (call, caller, case, expected, got):\n{}",
        failed.len(),
        rows + failed.len(),
        failed.join("\n")
    );
    assert_eq!(known, BTreeSet::from(KNOWN));
    assert_eq!(never, BTreeSet::from(NEVER_SERVED));
}
