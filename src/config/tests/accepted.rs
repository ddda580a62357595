use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use sekisho_certs::{
    IdList,
    id::{parse_trust_domain, parse_workload_id},
    source::{BundlesSpec, SourceSpec},
    tls::MinVersion,
};
use sekisho_proxy::endpoint::spec::{
    Address, Balance, EndpointSpec, Forward, HealthCheck, Limits, Listen, LocalClient,
    LocalClients, MtlsTarget, Paths, ProxyProtocol, RecordLayer, Sockets, Timeouts,
};

use super::{INBOUND, OUTBOUND, endpoint, load_text, site};
use crate::config::{Admin, EndpointConfig, Log, LogFormat, LogLevel, PolicyConfig};

const HOKKAIDO: &str = "\
site: hokkaido.example
identity: unix:///run/sekisho/agent/api.sock  # a Workload API, ours or SPIRE's
bundles: bundles/
policy: policy/                               # Rego: every *.rego below it
endpoints:
  from-osaka:
    listen: mtls://0.0.0.0:9443
    forward: tcp://127.0.0.1:9092
    as: /broker/osaka
    accept: [spiffe://osaka.example/sender]
  from-kyushu:
    listen: mtls://0.0.0.0:9443               # the same port: told apart by server name
    forward: tcp://127.0.0.1:9092
    as: /broker/kyushu
    accept: [spiffe://kyushu.example/sender]
  to-tokyo:
    listen: unix:///run/sekisho/to-tokyo.sock # or tcp://127.0.0.1:19092 with `local`
    local: [user:kafka, group:hpc]            # who on this host may use it
    forward: mtls://tokyo.sinet.example:9443/mdx
    as: /broker/tokyo
    expect: [spiffe://tokyo.example/mdx]
";

const B: &str = "\
site: b.example
workers: 1
admin: 127.0.0.1:9901
endpoints:
  back:
    listen: mtls://127.0.0.1:7002
    forward: [tcp://127.0.0.1:7003, tcp://127.0.0.1:7004]
    identity: {cert: b.pem, key: b.key, bundles: {a.example: a-ca.pem, b.example: b.json}}
    accept: [spiffe://a.example/front, spiffe://c.example/*]
";

fn named(patterns: &[&str]) -> IdList {
    IdList::Named(patterns.iter().map(|text| text.parse().unwrap()).collect())
}

/// An endpoint of `hokkaido.example` with every default.
fn hokkaido(name: &str, own_id: &str, listen: Listen, forward: Forward) -> EndpointSpec {
    EndpointSpec {
        name: name.into(),
        site: parse_trust_domain("hokkaido.example").unwrap(),
        listen,
        forward,
        own_id: Some(parse_workload_id(own_id).unwrap()),
        server_name: format!("{name}.hokkaido.example"),
        default: false,
        balance: Balance::RoundRobin,
        health: None,
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        max_age: None,
        cut_at_expiry: false,
        proxy_protocol: ProxyProtocol::default(),
        record: RecordLayer::default(),
        resumption: false,
        sockets: Sockets::default(),
        path: Paths::default(),
    }
}

#[test]
fn the_broker_of_the_design_is_read_as_meant() {
    let config = load_text(HOKKAIDO).unwrap();
    assert_eq!(config.files, [PathBuf::from("etc/f.yaml")]);
    assert_eq!(config.site.as_str(), "hokkaido.example");
    assert_eq!(config.workers, None);
    assert_eq!(config.admin, None);
    assert_eq!(config.drain, Duration::from_secs(30));
    assert_eq!(config.log, Log::default());

    let inbound = |name, own, peer| {
        let listen = Listen::Mtls {
            address: "0.0.0.0:9443".parse().unwrap(),
            accept: named(&[peer]),
            min_version: MinVersion::Tls13,
        };
        let forward = Forward::Plain {
            targets: vec![Address::Ip("127.0.0.1:9092".parse().unwrap())],
        };
        hokkaido(name, own, listen, forward)
    };
    let to_tokyo = hokkaido(
        "to-tokyo",
        "spiffe://hokkaido.example/broker/tokyo",
        Listen::Unix {
            path: "/run/sekisho/to-tokyo.sock".into(),
            local: LocalClients::Only(vec![
                LocalClient::User("kafka".into()),
                LocalClient::Group("hpc".into()),
            ]),
        },
        Forward::Mtls {
            targets: vec![MtlsTarget {
                address: Address::Name("tokyo.sinet.example".into(), 9443),
                server_name: Some("mdx.tokyo.example".into()),
            }],
            expect: named(&["spiffe://tokyo.example/mdx"]),
            min_version: MinVersion::Tls13,
        },
    );
    let expected = [
        inbound(
            "from-osaka",
            "spiffe://hokkaido.example/broker/osaka",
            "spiffe://osaka.example/sender",
        ),
        inbound(
            "from-kyushu",
            "spiffe://hokkaido.example/broker/kyushu",
            "spiffe://kyushu.example/sender",
        ),
        to_tokyo,
    ];
    let specs: Vec<_> = config
        .endpoints
        .iter()
        .map(|endpoint| &endpoint.spec)
        .collect();
    assert_eq!(specs, expected.iter().collect::<Vec<_>>());
    let lines: Vec<_> = config
        .endpoints
        .iter()
        .map(|endpoint| endpoint.location.line)
        .collect();
    assert_eq!(lines, [6, 11, 16]);
    for endpoint in &config.endpoints {
        let socket = "/run/sekisho/agent/api.sock".into();
        assert_eq!(endpoint.identity, Some(SourceSpec::WorkloadApi { socket }));
        assert_eq!(
            endpoint.bundles,
            [BundlesSpec::Folder("etc/bundles/".into())]
        );
        let policy = PolicyConfig {
            dir: "etc/policy".into(),
            decision: "sekisho/authz/allow".into(),
        };
        assert_eq!(endpoint.policy, Some(policy));
        assert_eq!(endpoint.warnings, []);
    }
}

#[test]
fn the_site_from_files_of_the_design_is_read_as_meant() {
    let config = load_text(B).unwrap();
    assert_eq!(config.workers, Some(1));
    assert_eq!(
        config.admin,
        Some(Admin::Tcp("127.0.0.1:9901".parse().unwrap()))
    );
    let back = &config.endpoints[0];
    assert_eq!(back.spec.own_id, None);
    assert_eq!(back.spec.server_name, "back.b.example");
    assert_eq!(back.spec.forward.addresses().len(), 2);
    let accept = named(&["spiffe://a.example/front", "spiffe://c.example/*"]);
    assert_eq!(back.spec.lists().collect::<Vec<_>>(), [&accept]);
    let files = SourceSpec::Files {
        cert: "etc/b.pem".into(),
        key: "etc/b.key".into(),
    };
    assert_eq!(back.identity, Some(files));
    let bundles = BTreeMap::from([
        ("a.example".into(), "etc/a-ca.pem".into()),
        ("b.example".into(), "etc/b.json".into()),
    ]);
    assert_eq!(back.bundles, [BundlesSpec::Files(bundles)]);
    assert_eq!(back.policy, None);
}

#[test]
fn every_key_of_an_endpoint_has_its_effect() {
    let keys = "\
as: /w
name: svc.kafka
default: true
tls: {min: \"1.2\"}
balance: least_connections
health: {interval: 1s, timeout: 500ms, fall: 5, rise: 1}
timeouts: {connect: 1s, handshake: 2s, idle: 1h30m}
limits: {connections: 10, handshakes: 8, lanes: 5}
max_age: 2d
cut_at_expiry: true
proxy_protocol: {in: true, from: [10.0.0.0/8], out: true}
protocol: tcp
bundles: map.json
policy: {dir: ./p, decision: data.envoy.authz.allow}
";
    let EndpointConfig {
        spec,
        bundles,
        policy,
        ..
    } = endpoint(&site(&format!("{INBOUND}{keys}")));
    assert_eq!(spec.own_id.unwrap().to_string(), "spiffe://b.example/w");
    assert_eq!(spec.server_name, "svc.kafka.b.example");
    assert!(spec.default);
    assert!(matches!(
        spec.listen,
        Listen::Mtls {
            min_version: MinVersion::Tls12,
            ..
        }
    ));
    assert_eq!(spec.balance, Balance::LeastConnections);
    let health = HealthCheck {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        fall: 5,
        rise: 1,
    };
    assert_eq!(spec.health, Some(health));
    let timeouts = Timeouts {
        connect: Duration::from_secs(1),
        handshake: Duration::from_secs(2),
        idle: Some(Duration::from_secs(5_400)),
    };
    assert_eq!(spec.timeouts, timeouts);
    let limits = Limits {
        connections: 10,
        handshakes: 8,
        lanes: 5,
    };
    assert_eq!(spec.limits, limits);
    assert_eq!(spec.max_age, Some(Duration::from_secs(172_800)));
    assert!(spec.cut_at_expiry);
    let proxy_protocol = ProxyProtocol {
        accept_from: vec!["10.0.0.0/8".parse().unwrap()],
        send: true,
    };
    assert_eq!(spec.proxy_protocol, proxy_protocol);
    assert_eq!(bundles, [BundlesSpec::Map("etc/map.json".into())]);
    let decided = PolicyConfig {
        dir: "etc/p".into(),
        decision: "envoy/authz/allow".into(),
    };
    assert_eq!(policy, Some(decided));
}

#[test]
fn parts_of_a_map_keep_the_other_defaults() {
    let keys = "health: {fall: 1}\ntimeouts: {}\nlimits: {handshakes: 4}\ntls: {}\n";
    let spec = endpoint(&site(&format!("{INBOUND}{keys}"))).spec;
    let health = HealthCheck {
        fall: 1,
        ..HealthCheck::default()
    };
    assert_eq!(spec.health, Some(health));
    assert_eq!(spec.timeouts, Timeouts::default());
    assert_eq!(
        spec.limits,
        Limits {
            handshakes: 4,
            ..Limits::default()
        }
    );
    let on = endpoint(&site(&format!("{INBOUND}health: true"))).spec;
    assert_eq!(on.health, Some(HealthCheck::default()));
    let off = endpoint(&site(&format!("{INBOUND}health: false"))).spec;
    assert_eq!(off.health, None);
}

#[test]
fn every_key_of_the_top_level_has_its_effect() {
    let text = format!(
        "{}workers: \"256\"\nadmin: unix:///run/admin.sock\ndrain: 0s\n\
         log: {{format: json, level: trace, access: false}}\n",
        site(INBOUND)
    );
    let config = load_text(&text).unwrap();
    assert_eq!(config.workers, Some(256));
    assert_eq!(config.admin, Some(Admin::Unix("/run/admin.sock".into())));
    assert_eq!(config.drain, Duration::ZERO);
    let log = Log {
        format: LogFormat::Json,
        level: LogLevel::Trace,
        access: false,
    };
    assert_eq!(config.log, log);
}

#[test]
fn targets_have_every_form() {
    let forward = |text: &str| {
        let lines = OUTBOUND.replace("mtls://a.example:7000", text);
        endpoint(&site(&lines)).spec.forward
    };
    let address = |text: &str| match forward(text) {
        Forward::Mtls { mut targets, .. } => targets.remove(0),
        Forward::Plain { .. } => panic!("plain"),
    };
    let ip = |text: &str| Address::Ip(text.parse().unwrap());
    assert_eq!(address("mtls://10.0.0.1:1").address, ip("10.0.0.1:1"));
    assert_eq!(
        address("\"mtls://[fd00::1]:65535\"").address,
        ip("[fd00::1]:65535")
    );
    let upper = address("mtls://Broker.A.example.:9/in.svc_1");
    assert_eq!(upper.address, Address::Name("broker.a.example.".into(), 9));
    assert_eq!(upper.server_name.as_deref(), Some("in.svc_1.a.example"));
    let several = forward("[mtls://a:1/n, mtls://b:1]");
    assert_eq!(
        several.to_string(),
        "mtls://a:1 (as n.a.example), mtls://b:1"
    );

    let plain = INBOUND.replace("tcp://127.0.0.1:7001", "[unix:///run/s, tcp://kafka:9092]");
    let plain = endpoint(&site(&plain)).spec.forward;
    assert_eq!(plain.to_string(), "unix:///run/s, kafka:9092");
}

#[test]
fn listening_sides_have_every_form() {
    let listen = |lines: &str| {
        let lines = OUTBOUND.replace("listen: unix:///run/out.sock", lines);
        endpoint(&site(&lines)).spec.listen
    };
    assert_eq!(
        listen("listen: tcp://[::]:1\nfrom: [10.0.0.0/8, fd00::/8]"),
        Listen::Tcp {
            address: "[::]:1".parse().unwrap(),
            local: LocalClients::Anyone,
            from: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        }
    );
    assert_eq!(
        listen("listen: tcp://127.0.0.1:1\nlocal: [user:1000]"),
        Listen::Tcp {
            address: "127.0.0.1:1".parse().unwrap(),
            local: LocalClients::Only(vec![LocalClient::User("1000".into())]),
            from: vec![],
        }
    );
}

#[test]
fn an_endpoint_wins_over_the_top_level() {
    let top = "identity: {cert: t.pem, key: t.key, bundles: {b.example: t.json}}\n\
               bundles: {c.example: c.pem}\npolicy: top\n";
    let lines = INBOUND.replace("identity: unix:///run/a.sock\n", "");
    let inherited = endpoint(&format!("{top}{}", site(&lines)));
    let files =
        |name: &str, file: &str| BundlesSpec::Files(BTreeMap::from([(name.into(), file.into())]));
    assert!(matches!(inherited.identity, Some(SourceSpec::Files { .. })));
    let of_top = files("c.example", "etc/c.pem");
    assert_eq!(
        inherited.bundles,
        [files("b.example", "etc/t.json"), of_top.clone()]
    );
    assert_eq!(inherited.policy.unwrap().dir, PathBuf::from("etc/top"));

    let lines = format!("{lines}identity: {{embedded: {{data: ca}}}}\nas: /w\n");
    let lines = format!("{lines}bundles: {{a.example: a.pem}}\npolicy: /own\n");
    let own = endpoint(&format!("{top}{}", site(&lines)));
    assert_eq!(
        own.identity,
        Some(SourceSpec::Embedded {
            data: "etc/ca".into(),
            federated: false,
        })
    );
    assert_eq!(own.bundles, [files("a.example", "etc/a.pem"), of_top]);
    assert_eq!(own.policy.unwrap().dir, PathBuf::from("/own"));
}

#[test]
fn an_endpoint_without_mtls_needs_no_identity() {
    let lines = "listen: unix:///run/s\nforward: tcp://127.0.0.1:1\n";
    let top = "identity: unix:///run/a.sock\nbundles: x.json\n";
    let plain = endpoint(&format!("{top}{}", site(lines)));
    assert_eq!(plain.identity, None);
    assert_eq!(plain.bundles, []);
}

#[test]
fn anchors_stand_for_what_they_name() {
    let lines = "\
listen: mtls://127.0.0.1:7000
forward: mtls://127.0.0.1:7001
accept: &peers [spiffe://a.example/w]
expect: *peers
identity: unix:///run/a.sock
";
    let spec = endpoint(&site(lines)).spec;
    let peers = named(&["spiffe://a.example/w"]);
    assert_eq!(spec.lists().collect::<Vec<_>>(), [&peers, &peers]);
}
