//! Envoy with `tcp_proxy`, its own TLS and its own SPIFFE validator.

use std::{net::SocketAddr, process::Command};

use serde_json::{Value, json};

use super::{Gate, Role, Side, Versions};
use crate::support::{Process, http, ports, program, wait::until};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// Starts it, and waits until it is live.
pub(super) fn start(role: &Role<'_>) -> Option<Gate> {
    let program = program::find("envoy")?;
    let (address, admin) = (ports::free(), ports::free());
    let file = format!("envoy-{}.json", role.own);
    role.world
        .write(&file, &config(role, address, admin).to_string());
    let process = Process::start(
        Command::new(program)
            .arg("-c")
            .arg(role.world.file(&file))
            .args(["--disable-hot-restart", "--concurrency", "1"])
            .args(["--log-level", "warning"]),
    );
    until("an Envoy that is live", || {
        assert!(!process.has_ended(), "Envoy does not start");
        let (status, _) = http::get_tcp(admin, "/ready").ok()?;
        (status == 200).then_some(())
    });
    Some(Gate {
        address,
        _process: process,
    })
}

fn config(role: &Role<'_>, address: SocketAddr, admin: SocketAddr) -> Value {
    let (listening, forwarding) = match role.side {
        Side::Dial => (None, Some(upstream_tls(role))),
        Side::Serve => (Some(downstream_tls(role)), None),
    };
    let mut chain = json!({
        "filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "tcp",
                "cluster": "upstream",
            },
        }],
    });
    let mut cluster = json!({
        "name": "upstream",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(role.forward)}}]}],
        },
    });
    if let Some(tls) = listening {
        chain["transport_socket"] = tls;
        // By default it dials for anybody who connects, verified or not.
        let proxy = &mut chain["filters"][0]["typed_config"];
        proxy["upstream_connect_mode"] = "ON_DOWNSTREAM_TLS_HANDSHAKE".into();
        proxy["max_early_data_bytes"] = 65_536.into();
    }
    if let Some(tls) = forwarding {
        cluster["transport_socket"] = tls;
    }
    json!({
        "admin": {"address": socket(admin)},
        "static_resources": {
            "listeners": [{"name": "in", "address": socket(address), "filter_chains": [chain]}],
            "clusters": [cluster],
        },
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn upstream_tls(role: &Role<'_>) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TLS}.UpstreamTlsContext"),
            "common_tls_context": common_tls(role),
        },
    })
}

fn downstream_tls(role: &Role<'_>) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TLS}.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": common_tls(role),
        },
    })
}

/// Both sides are verified the same way: by the bundle of the peer's own trust domain, and by ID.
fn common_tls(role: &Role<'_>) -> Value {
    let own = |kind: &str| json!({"filename": role.world.name(&format!("{}.{kind}", role.own))});
    let domain = role.peer.0.domain().to_string();
    let mut common = json!({
        "tls_certificates": [{"certificate_chain": own("pem"), "private_key": own("key")}],
        "validation_context": {
            "custom_validator_config": {
                "name": "envoy.tls.cert_validator.spiffe",
                "typed_config": {
                    "@type": format!("{TLS}.SPIFFECertValidatorConfig"),
                    "trust_domains": [{
                        "name": domain,
                        "trust_bundle": {"filename": role.world.name(&format!("{domain}.pem"))},
                    }],
                },
            },
            "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": role.peer_id()}},
            ],
        },
    });
    if role.versions == Versions::Tls13 {
        common["tls_params"] = json!({
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        });
    }
    common
}
