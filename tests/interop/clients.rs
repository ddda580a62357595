//! Other people's clients of the Workload API and of SDS, against our agent: configured as for SPIRE,
//! with another path of the socket.

mod authority;
mod java;
mod rust;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::Arc,
    thread,
};

use nix::{sys::signal::Signal, unistd::getuid};
use sekisho_testkit::danger;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use crate::support::{
    Process, World, http, ports,
    program::{self, program},
    wait::until,
    whole::Whole,
};

fn selectors() -> String {
    format!("[\"unix:uid:{}\"]", getuid())
}

/// Says back what it hears, once for each connection.
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

fn exchange(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(b"hello")?;
    let mut back = [0; 5];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"hello");
    Ok(())
}

/// Lines 8 to 16 of spiffe.md §2 as go-spiffe sees them.
#[test]
fn go_spiffe_takes_what_the_agent_says_and_sees_its_rotation() {
    let program = program!("go-spiffe");
    let world = World::new();
    let hinted = format!(
        "  - {{spiffe_id: /go, selectors: {}, hint: go}}\n",
        selectors()
    );
    let whole = Whole::start_with(&world, echo(), &selectors(), &hinted, "");
    let go = Process::start(
        Command::new(program)
            .arg("workload")
            .arg(&whole.agent)
            .arg("kafka"),
    );
    let json = |line: &str| serde_json::from_str::<Value>(line).ok();
    let (said, next) = go.line("what the API has", 0, json);
    let ids = ["go", "in", "out"].map(|name| format!("spiffe://a.example/{name}"));
    let mut told: Vec<&str> = said["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    told.sort_unstable();
    // That of the node itself is among them: it is for every process that the agent's own token names.
    told.retain(|id| !id.contains("/node/"));
    assert_eq!(told, ids, "{said}");
    assert!(
        said["hints"].as_array().unwrap().contains(&"go".into()),
        "{said}"
    );
    assert_eq!(said["domains"], json!(["a.example"]));
    assert_eq!(said["validated"], said["ids"][0]);
    assert_eq!(said["parsed"], said["ids"][0]);
    let refused = said["refused"].as_str().unwrap();
    assert!(refused.contains("InvalidArgument"), "{said}");
    let foreign = said["foreign"].as_str().unwrap();
    assert!(
        foreign.contains("PermissionDenied") && foreign.contains("no identity issued"),
        "{said}"
    );
    let (before, next) = go.line("the first update", next, json);
    whole.process.signal(Signal::SIGUSR1);
    go.line("new serial numbers", next, |line| {
        let now = json(line)?;
        let (now, before) = (now["serials"].as_array()?, before["serials"].as_array()?);
        now.iter()
            .all(|serial| !before.contains(serial))
            .then_some(())
    });
}

/// gRPC's C core names the socket in `:authority` as no other does.
#[test]
fn py_spiffe_takes_what_the_agent_says() {
    let (python, Some(packages)) = (program!("python3"), program::packages("py-spiffe")) else {
        return;
    };
    let world = World::new();
    let whole = Whole::start(&world, echo(), &selectors());
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/interop/clients/workload.py"
    );
    let mut command = Command::new(python);
    command
        .env("PYTHONPATH", packages)
        .arg(script)
        .arg(&whole.agent);
    let process = Process::start(command.args(["kafka", "spiffe://a.example/in"]));
    let json = |line: &str| serde_json::from_str::<Value>(line).ok();
    let (said, _) = process.line("what the API has", 0, json);
    assert_eq!(
        said["ids"],
        json!(["spiffe://a.example/in", "spiffe://a.example/out"])
    );
    assert_eq!(
        (&said["authorities"], &said["keys"]),
        (&json!(1), &json!(1))
    );
    for key in ["token", "validated"] {
        assert_eq!(said[key], "spiffe://a.example/in", "{key}");
    }
    for (key, code) in [
        ("refused", "INVALID_ARGUMENT"),
        ("foreign", "PERMISSION_DENIED"),
    ] {
        let text = said[key].as_str().unwrap();
        assert!(text.contains(code), "{key}: {text}");
    }
}

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

/// As SPIRE's documents have it: the agent's socket as a cluster, secrets by name.
fn envoy(listen: SocketAddr, admin: SocketAddr, service: SocketAddr, socket: &str) -> Value {
    let agent = json!({
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "spire_agent"}}],
        },
    });
    let secret = |name: &str| json!({"name": name, "sds_config": agent.clone()});
    json!({
        "node": {"id": "envoy", "cluster": "test"},
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{
                "name": "in",
                "address": address(listen),
                "filter_chains": [{
                    "filters": [{
                        "name": "envoy.filters.network.tcp_proxy",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                            "stat_prefix": "tcp",
                            "cluster": "service",
                        },
                    }],
                    "transport_socket": {
                        "name": "envoy.transport_sockets.tls",
                        "typed_config": {
                            "@type": format!("{TLS}.DownstreamTlsContext"),
                            "require_client_certificate": true,
                            "common_tls_context": {
                                "tls_certificate_sds_secret_configs": [secret("spiffe://a.example/envoy")],
                                "combined_validation_context": {
                                    "default_validation_context": {
                                        "match_typed_subject_alt_names": [
                                            {"san_type": "URI", "matcher": {"exact": "spiffe://a.example/out"}},
                                        ],
                                    },
                                    "validation_context_sds_secret_config": secret("ROOTCA"),
                                },
                            },
                        },
                    },
                }],
            }],
            "clusters": [
                {
                    "name": "service",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "service",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(service)}}]}],
                    },
                },
                {
                    "name": "spire_agent",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        },
                    },
                    "load_assignment": {
                        "cluster_name": "spire_agent",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}],
                    },
                },
            ],
        },
    })
}

/// The certificate that a new handshake with Envoy shows.
async fn leaf(at: SocketAddr) -> Option<Vec<u8>> {
    let config = danger::client_config(None, &[&rustls::version::TLS13]);
    let stream = tokio::net::TcpStream::connect(at).await.ok()?;
    let name = "any.name".try_into().ok()?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = stream.await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

#[test]
fn envoy_gets_its_secrets_from_the_agent_and_sees_their_rotation() {
    let program = program!("envoy");
    let world = World::new();
    let (listen, admin, sender) = (ports::free(), ports::free(), ports::free());
    let entry = format!("  - {{spiffe_id: /envoy, selectors: {}}}\n", selectors());
    let endpoint = format!(
        "  to-envoy:\n    listen: tcp://{sender}\n    forward: mtls://{listen}\n    as: /out\n    \
         expect: [spiffe://a.example/envoy]\n  \
         wrong:\n    listen: tcp://{wrong}\n    forward: mtls://{listen}\n    as: /in\n    \
         expect: [spiffe://a.example/envoy]\n",
        wrong = ports::free()
    );
    let service = echo();
    let whole = Whole::start_with(&world, service, &selectors(), &entry, &endpoint);
    let config = envoy(listen, admin, service, whole.agent.to_str().unwrap());
    world.write("envoy.json", &config.to_string());
    let process = Process::start(
        Command::new(program)
            .arg("-c")
            .arg(world.file("envoy.json"))
            .args([
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "--log-level",
                "warning",
            ]),
    );
    until("an Envoy that is live", || {
        assert!(!process.has_ended(), "Envoy does not start");
        let (status, _) = http::get_tcp(admin, "/ready").ok()?;
        (status == 200).then_some(())
    });
    until("bytes through Envoy", || exchange(sender).ok());
    let leaf = || whole.runtime.block_on(leaf(listen));
    let before = until("Envoy's certificate", leaf);
    whole.process.signal(Signal::SIGUSR1);
    until("another certificate in the same Envoy", || {
        leaf().filter(|now| *now != before)
    });
    until("bytes after the rotation", || exchange(sender).ok());
    // Whom Envoy does not expect, it refuses.
    let wrong = whole.endpoint("wrong")["listen"]
        .as_str()
        .unwrap()
        .to_owned();
    let wrong: SocketAddr = wrong.trim_start_matches("tcp://").parse().unwrap();
    assert!(exchange(wrong).is_err());
}
