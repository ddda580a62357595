//! Envoy: `tcp_proxy` at both ends, mutual TLS 1.3 between them, both peers verified by SPIFFE ID.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::{BACK, BACK_ADMIN, FRONT, FRONT_ADMIN, Pair, Place, SERVER, Setting, text_of};
use crate::{certificates, certificates::Papers, child::Program};

/// Its circuit breaker stops at 1,024 connections unless told otherwise.
const CONNECTIONS: u32 = 1_000_000;

pub(super) fn pair(
    program: &Path,
    group: &str,
    place: &Place,
    setting: Setting,
) -> anyhow::Result<Pair> {
    let up = upstream(&place.certificates.front, group, setting)?;
    let down = downstream(&place.certificates.back, group, setting)?;
    let front = document(FRONT_ADMIN, (FRONT, None), (BACK, Some(up)));
    let back = document(BACK_ADMIN, (BACK, Some(down)), (SERVER, None));
    let start = |name: &str, document: &Value| -> anyhow::Result<Program> {
        let file = place.write(&format!("envoy/{name}.json"), &format!("{document:#}"))?;
        let workers = setting.workers.to_string();
        Ok(Program::new(
            program,
            &[
                "-c",
                &file,
                "--concurrency",
                &workers,
                "--disable-hot-restart",
                "--log-level",
                "warn",
            ],
        ))
    };
    Ok(Pair {
        front: start("front", &front)?,
        back: start("back", &back)?,
    })
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn document(
    admin: SocketAddr,
    (listen, listen_tls): (SocketAddr, Option<Value>),
    (forward, forward_tls): (SocketAddr, Option<Value>),
) -> Value {
    let mut chain = json!({"filters": [{
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "pair",
            "cluster": "next",
        },
    }]});
    let mut cluster = json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{
            "max_connections": CONNECTIONS,
            "max_pending_requests": CONNECTIONS,
            "max_requests": CONNECTIONS,
        }]},
        "load_assignment": {
            "cluster_name": "next",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(forward)}}]}],
        },
    });
    for (value, tls) in [(&mut chain, listen_tls), (&mut cluster, forward_tls)] {
        if let (Some(map), Some(tls)) = (value.as_object_mut(), tls) {
            map.insert("transport_socket".into(), tls);
        }
    }
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{
                "name": "pair",
                "address": address(listen),
                "filter_chains": [chain],
            }],
            "clusters": [cluster],
        },
    })
}

fn common(papers: &Papers, peer: &str, group: &str) -> anyhow::Result<Value> {
    let file = |path| -> anyhow::Result<Value> { Ok(json!({"filename": text_of(path)?})) };
    Ok(json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": [group],
        },
        "tls_certificates": [{
            "certificate_chain": file(&papers.certificate)?,
            "private_key": file(&papers.key)?,
        }],
        "validation_context": {
            "trusted_ca": file(&papers.peer_ca)?,
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": peer}}],
        },
    }))
}

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.";

fn downstream(papers: &Papers, group: &str, setting: Setting) -> anyhow::Result<Value> {
    Ok(json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TLS}DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": common(papers, certificates::FRONT, group)?,
            "disable_stateless_session_resumption": !setting.resumption,
            "disable_stateful_session_resumption": !setting.resumption,
        },
    }))
}

fn upstream(papers: &Papers, group: &str, setting: Setting) -> anyhow::Result<Value> {
    Ok(json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TLS}UpstreamTlsContext"),
            "common_tls_context": common(papers, certificates::BACK, group)?,
            // One is its default; a ticket serves once, so with many connections some resume.
            "max_session_keys": u32::from(setting.resumption),
        },
    }))
}

/// From the statistics of the back proxy.
pub(super) fn negotiated() -> String {
    summary(&statistics(BACK_ADMIN).unwrap_or_default())
}

fn statistics(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(
        b"GET /stats?filter=ssl HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn summary(statistics: &str) -> String {
    let counted = |part: &str| {
        let names: Vec<_> = statistics
            .lines()
            .filter_map(|line| {
                let (name, count) = line.trim().split_once(": ")?;
                let (_, behind) = name.split_once(part)?;
                (count != "0").then(|| behind.to_owned())
            })
            .collect();
        names.join("/")
    };
    let total = |name: &str| -> u64 {
        let values = statistics.lines().filter_map(|line| {
            let (key, count) = line.trim().split_once(": ")?;
            key.ends_with(name).then(|| count.parse::<u64>().ok())?
        });
        values.sum()
    };
    let parts = [
        counted("ssl.versions."),
        counted("ssl.curves."),
        counted("ssl.ciphers."),
    ];
    let mut text = parts.join(" ");
    if total("ssl.handshake") > 0 {
        text.push_str(&format!(
            ", {} of {} handshakes resumed",
            total("ssl.session_reused"),
            total("ssl.handshake")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_say_what_was_negotiated() {
        let text = "listener.127.0.0.1_7002.ssl.ciphers.TLS_AES_128_GCM_SHA256: 12\n\
            listener.127.0.0.1_7002.ssl.curves.X25519MLKEM768: 12\n\
            listener.127.0.0.1_7002.ssl.handshake: 12\n\
            listener.127.0.0.1_7002.ssl.session_reused: 3\n\
            listener.127.0.0.1_7002.ssl.versions.TLSv1.3: 12\n";
        assert_eq!(
            summary(text),
            "TLSv1.3 X25519MLKEM768 TLS_AES_128_GCM_SHA256, 3 of 12 handshakes resumed"
        );
    }

    #[test]
    fn resumption_is_off_unless_asked_for() {
        let papers = Papers {
            certificate: "c".into(),
            key: "k".into(),
            both: "b".into(),
            own_ca: "o".into(),
            peer_ca: "p".into(),
        };
        for (resumption, keys) in [(false, 0), (true, 1)] {
            let setting = Setting {
                workers: 1,
                resumption,
            };
            let up = upstream(&papers, "X25519", setting).unwrap();
            assert_eq!(up["typed_config"]["max_session_keys"], keys);
            let down = downstream(&papers, "X25519", setting).unwrap();
            let off = &down["typed_config"]["disable_stateless_session_resumption"];
            assert_eq!(*off, !resumption);
            let groups = &down["typed_config"]["common_tls_context"]["tls_params"]["ecdh_curves"];
            assert_eq!(*groups, json!(["X25519"]));
        }
    }
}
