use std::collections::BTreeMap;

use sekisho_policy::{Client, Direction, Federation, Input, Upstream};
use serde_json::json;

use crate::support::{id, inbound};

#[test]
fn inbound_input_has_the_shape_of_network_ext_authz() {
    let mut input = inbound();
    input.upstream = Some(Upstream {
        id: None,
        address: Some("127.0.0.1:9092".into()),
    });
    input.claimed = BTreeMap::from([("source".into(), "10.1.2.3".into())]);
    let expected = json!({
        "attributes": {
            "source": {
                "principal": "spiffe://osaka.example/lab/sender",
                "address": {"socketAddress": {"address": "192.0.2.7", "portValue": 40123}},
            },
            "destination": {
                "principal": "spiffe://hokkaido.example/broker/osaka",
                "address": {"socketAddress": {"address": "2001:db8::1", "portValue": 9443}},
            },
            "tlsSession": {"sni": "from-osaka.hokkaido.example"},
        },
        "parsed_path": [""],
        "parsed_query": {},
        "version": {"ext_authz": "v3", "encoding": "protojson"},
        "sekisho": {
            "site": "hokkaido.example",
            "endpoint": "from-osaka",
            "direction": "inbound",
            "service": "kafka",
            "client": {
                "spiffe_id": "spiffe://osaka.example/lab/sender",
                "trust_domain": "osaka.example",
                "path_segments": ["lab", "sender"],
            },
            "upstream": {"address": "127.0.0.1:9092"},
            "claimed": {"source": "10.1.2.3"},
        },
    });
    assert_eq!(input.to_json(), expected);
}

#[test]
fn what_is_known_of_the_other_site_is_there_where_it_is_known() {
    let mut input = inbound();
    assert_eq!(input.to_json()["sekisho"].get("federation"), None);
    input.federation = Some(Federation {
        source: "directory",
        age: 61,
        marks: vec!["hpci".into()],
    });
    let expected = json!({"source": "directory", "age": 61, "marks": ["hpci"]});
    assert_eq!(input.to_json()["sekisho"]["federation"], expected);
    input.federation = Some(Federation {
        source: "peer",
        age: 0,
        marks: Vec::new(),
    });
    let expected = json!({"source": "peer", "age": 0, "marks": []});
    assert_eq!(input.to_json()["sekisho"]["federation"], expected);
}

#[test]
fn outbound_input_swaps_principals_and_leaves_out_what_is_not_known() {
    let input = Input {
        direction: Direction::Outbound,
        source: None,
        destination: None,
        sni: None,
        client: Client::Local {
            user: Some("kafka".into()),
            uid: Some(994),
            groups: vec!["hpc".into()],
            pid: None,
        },
        upstream: Some(Upstream {
            id: Some(id("spiffe://tokyo.example/mdx")),
            address: None,
        }),
        ..inbound()
    };
    let expected = json!({
        "attributes": {
            "source": {"principal": "spiffe://hokkaido.example/broker/osaka"},
            "destination": {"principal": "spiffe://tokyo.example/mdx"},
        },
        "parsed_path": [""],
        "parsed_query": {},
        "version": {"ext_authz": "v3", "encoding": "protojson"},
        "sekisho": {
            "site": "hokkaido.example",
            "endpoint": "from-osaka",
            "direction": "outbound",
            "service": "kafka",
            "client": {"user": "kafka", "uid": 994, "groups": ["hpc"]},
            "upstream": {
                "spiffe_id": "spiffe://tokyo.example/mdx",
                "trust_domain": "tokyo.example",
                "path_segments": ["mdx"],
            },
        },
    });
    assert_eq!(input.to_json(), expected);
}

#[test]
fn local_client_is_no_principal_of_an_inbound_connection() {
    let client = Client::Local {
        user: None,
        uid: Some(0),
        groups: vec![],
        pid: Some(1),
    };
    let json = Input {
        client,
        ..inbound()
    }
    .to_json();
    assert_eq!(json["attributes"]["source"].get("principal"), None);
    assert_eq!(json["sekisho"]["client"], json!({"uid": 0, "pid": 1}));
}

#[test]
fn unknown_client_is_absent() {
    let json = Input {
        client: Client::Unknown,
        ..inbound()
    }
    .to_json();
    assert_eq!(json["sekisho"].get("client"), None);
}
