//! What a proxy is told of another site by its agent, and that by its authority: three processes.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::unistd::getuid;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName, version::TLS13};
use sekisho_spire_api::{
    server::bundle::{
        BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest,
        bundle_client::BundleClient,
    },
    types,
};
use sekisho_testkit::danger;
use serde_json::Value;

use crate::support::{World, ports, wait::until, whole::Whole};

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                // Whoever leaves, leaves.
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
    address
}

/// A workload of site b.
fn connect(world: &World, gate: SocketAddr) -> Tls {
    let stream = TcpStream::connect(gate).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let config = danger::client_config(Some(&world.b.svid("/front")), &[&TLS13]);
    let name = ServerName::try_from("from-b.a.example").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, stream)
}

fn exchange(stream: &mut Tls) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"ping");
    Ok(())
}

fn set_bundle(whole: &Whole, world: &World) {
    let bundle = types::Bundle {
        trust_domain: "b.example".into(),
        x509_authorities: vec![types::X509Certificate {
            asn1: world.b.ca().der().to_vec(),
            tainted: false,
        }],
        ..Default::default()
    };
    let request = BatchSetFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let answer = whole.runtime.block_on(async {
        let mut client = BundleClient::new(Whole::channel(whole.authority.clone()).await);
        client.batch_set_federated_bundle(request).await.unwrap()
    });
    let status = answer.into_inner().results.remove(0).status.unwrap();
    assert_eq!(status.code, 0, "{}", status.message);
}

fn delete_bundle(whole: &Whole) {
    let request = BatchDeleteFederatedBundleRequest {
        trust_domains: vec!["b.example".into()],
        mode: 0,
    };
    whole.runtime.block_on(async {
        let mut client = BundleClient::new(Whole::channel(whole.authority.clone()).await);
        client.batch_delete_federated_bundle(request).await.unwrap();
    });
}

fn federation(whole: &Whole) -> Value {
    let status: Value = serde_json::from_str(&whole.get("/status").1).unwrap();
    status["federation"].clone()
}

/// How many connections of site b ended so.
fn count(whole: &Whole, decision: &str, reason: &str) -> u64 {
    let text = whole.get("/metrics").1;
    let labels = format!("endpoint=\"from-b\",decision=\"{decision}\",reason=\"{reason}\"");
    let line = text.lines().find(|line| line.contains(&labels));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_default()
}

#[test]
fn a_peers_bundle_comes_by_the_authority_with_its_age_and_goes_with_its_connections() {
    let world = World::new();
    let gate = ports::free();
    world.write(
        "policy/authz.rego",
        "package sekisho.authz\n\nallow if {\n  input.sekisho.federation.source == \"peer\"\n  \
         input.sekisho.federation.age < 3600\n  input.sekisho.federation.marks == []\n}\n",
    );
    let selectors = format!("[\"unix:uid:{}\"]", getuid());
    // Federated with nobody: the Workload API does not deliver the bundle of b.
    let entries = format!("  - {{spiffe_id: /from-b, selectors: {selectors}}}\n");
    let endpoints = format!(
        "  from-b:\n    listen: mtls://{gate}\n    forward: tcp://{}\n    as: /from-b\n    \
         accept: [spiffe://b.example/front]\n    policy: policy\n",
        echo()
    );
    let whole = Whole::start_with(&world, echo(), &selectors, &entries, &endpoints);
    // The agent has answered, and nobody of that name is known.
    until("an answer of the agent", || {
        federation(&whole)["problem"].is_null().then_some(())
    });
    assert!(exchange(&mut connect(&world, gate)).is_err());
    until("a refusal", || {
        (count(&whole, "refused", "unknown_trust_domain") == 1).then_some(())
    });

    set_bundle(&whole, &world);
    let member = until("b among the members", || {
        let known = federation(&whole)["members"].as_array()?.first()?.clone();
        (known["loaded"] == true).then_some(known)
    });
    assert_eq!(
        (&member["trust_domain"], &member["source"]),
        (&"b.example".into(), &"peer".into())
    );
    let mut held = connect(&world, gate);
    exchange(&mut held).unwrap();
    let text = whole.get("/metrics").1;
    assert!(
        text.contains("sekisho_federation_members{source=\"peer\"} 1"),
        "{text}"
    );
    assert!(text.contains("sekisho_federation_age_seconds{source=\"peer\"}"));

    delete_bundle(&whole);
    until("the end of its connection", || {
        (count(&whole, "allowed", "bundle_changed") == 1).then_some(())
    });
    assert!(exchange(&mut held).is_err());
    assert!(exchange(&mut connect(&world, gate)).is_err());
    until("a refusal", || {
        (count(&whole, "refused", "unknown_trust_domain") == 2).then_some(())
    });
}
