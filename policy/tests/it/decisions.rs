use std::{collections::BTreeMap, thread, time::Duration};

use proptest::prelude::*;
use sekisho_certs::Reason;
use sekisho_policy::{Client, Direction, Input, Limits, Policy, Upstream};

use crate::support::{authz, decide, files, id, inbound, load};

#[test]
fn policies_decide_as_their_table_says() {
    use Reason::{PolicyDenied, PolicyError, PolicyUndefined};
    let table: &[(&str, Option<Reason>)] = &[
        ("allow := true", None),
        ("allow := false", Some(PolicyDenied)),
        (
            "default allow := false\nallow if input.sekisho.endpoint == \"from-osaka\"",
            None,
        ),
        (
            "default allow := false\nallow if input.sekisho.endpoint == \"x\"",
            Some(PolicyDenied),
        ),
        (
            "allow if input.sekisho.endpoint == \"x\"",
            Some(PolicyUndefined),
        ),
        ("allow if input.no.such.thing", Some(PolicyUndefined)),
        ("allow := \"true\"", Some(PolicyError)),
        ("allow := 1", Some(PolicyError)),
        ("allow := null", Some(PolicyError)),
        ("allow := [true]", Some(PolicyError)),
        ("allow contains true", Some(PolicyError)),
        ("allow := {}", Some(PolicyError)),
        ("allow := {\"allowed\": \"yes\"}", Some(PolicyError)),
        (
            "allow := {\"allowed\": true, \"reason\": 7}",
            Some(PolicyError),
        ),
        ("allow := {\"allowed\": true}", None),
        ("allow := {\"allowed\": false}", Some(PolicyDenied)),
        (
            "allow := {\"allowed\": true, \"headers\": {\"x\": \"y\"}}",
            None,
        ),
        // Two values for one rule.
        (
            "allow := true if input.version\nallow := false if input.version",
            Some(PolicyError),
        ),
        // A builtin that fails is an error, never a yes by negation.
        (
            "allow if not to_number(input.sekisho.site)",
            Some(PolicyError),
        ),
        (
            "allow if 1 / (count(input.parsed_path) - 1) > 0",
            Some(PolicyError),
        ),
        (
            "allow if startswith(input.attributes.source.principal, \"spiffe://osaka.example/\")",
            None,
        ),
        (
            "allow if some \"lab\" in input.sekisho.client.path_segments",
            None,
        ),
        (
            "allow if every s in input.sekisho.client.path_segments { count(s) > 2 }",
            None,
        ),
        (
            "allow if net.cidr_contains(\"192.0.2.0/24\", input.attributes.source.address.socketAddress.address)",
            None,
        ),
        (
            "allow if glob.match(\"*.hokkaido.example\", [\".\"], input.attributes.tlsSession.sni)",
            None,
        ),
        (
            "allow if regex.match(`^spiffe://[a-z.]+/lab/`, input.sekisho.client.spiffe_id)",
            None,
        ),
        (
            "allow if sprintf(\"%s-%d\", [input.sekisho.service, 1]) == \"kafka-1\"",
            None,
        ),
        ("allow if time.now_ns() > 1700000000000000000", None),
        (
            "allow if json.unmarshal(json.marshal(input)).sekisho.service == \"kafka\"",
            None,
        ),
        (
            "allow if { walk(input, [path, \"kafka\"]); path == [\"sekisho\", \"service\"] }",
            None,
        ),
        (
            "allow if { walk(input, [path, value]); value == \"kafka\"; count(path) == 2 }",
            None,
        ),
        (
            "allow if { split(input.sekisho.site, \".\", parts); parts[1] == \"example\" }",
            None,
        ),
        (
            "allow if concat(\"/\", input.sekisho.client.path_segments) == \"lab/sender\"",
            None,
        ),
        ("allow if sum(numbers.range(1, 10)) == 55", None),
        (
            "allow if replace(input.sekisho.site, \"hokkaido\", \"x\") == \"x.example\"",
            None,
        ),
        (
            "allow if regex.replace(input.sekisho.service, `k(.)f`, `$1`) == \"aka\"",
            None,
        ),
        (
            "allow if strings.replace_n({\"k\": \"K\", \"f\": \"\"}, input.sekisho.service) == \"KaKa\"",
            None,
        ),
        (
            "allow if object.union({\"a\": 1}, {\"b\": 2}) == {\"a\": 1, \"b\": 2}",
            None,
        ),
        (
            "allow if count(net.cidr_expand(\"192.0.2.0/30\")) == 4",
            None,
        ),
        ("allow if bits.lsh(1, 10) == 1024", None),
        (
            "ok(x) := x == \"kafka\"\nallow if ok(input.sekisho.service)",
            None,
        ),
        (
            "default ok(_) := false\nok(x) if x == \"no\"\nallow := ok(input.sekisho.service)",
            Some(PolicyDenied),
        ),
    ];
    for (body, reason) in table {
        let decision = decide(body, &inbound());
        assert_eq!(decision.reason, *reason, "{body}: {decision:?}");
        assert_eq!(decision.allowed, reason.is_none(), "{body}");
    }
}

#[test]
fn object_carries_reason_and_ttl() {
    for (ttl, expected) in [
        ("30", Some(Duration::from_secs(30))),
        ("1.5", Some(Duration::from_millis(1500))),
        ("\"30s\"", Some(Duration::from_secs(30))),
        ("\"5m\"", Some(Duration::from_secs(300))),
        ("\"250ms\"", Some(Duration::from_millis(250))),
        ("0", None),
        ("-1", None),
        ("\"30\"", None),
        ("\"inf s\"", None),
        ("\"-5s\"", None),
        ("1e300", None),
        ("true", None),
    ] {
        let body =
            format!("allow := {{\"allowed\": true, \"reason\": \"night shift\", \"ttl\": {ttl}}}");
        let decision = decide(&body, &inbound());
        assert_eq!(decision.ttl, expected, "{ttl}: {decision:?}");
        assert_eq!(decision.allowed, expected.is_some(), "{ttl}");
        if decision.allowed {
            assert_eq!(decision.message.as_deref(), Some("night shift"));
        } else {
            assert_eq!(decision.reason, Some(Reason::PolicyError), "{ttl}");
        }
    }
}

#[test]
fn message_of_a_policy_is_one_short_line() {
    let body = r#"allow := {"allowed": false, "reason": concat("", ["a\nb\u001b[31m", input.sekisho.claimed.x])}"#;
    let claimed = BTreeMap::from([("x".into(), "é".repeat(1000))]);
    let decision = decide(
        body,
        &Input {
            claimed,
            ..inbound()
        },
    );
    let message = decision.message.unwrap();
    assert_eq!(message.chars().count(), 256);
    assert!(message.starts_with("a b [31mé"), "{message}");
}

#[test]
fn error_says_where_it_happened() {
    let decision = decide("allow if to_number(input.sekisho.site) > 1", &inbound());
    let message = decision.message.unwrap();
    assert!(message.starts_with("authz.rego:3:"), "{message}");
}

#[test]
fn evaluator_keeps_nothing_of_the_decision_before() {
    let dir = authz("allow if input.sekisho.service == \"kafka\"");
    let mut evaluator = load(dir.path()).unwrap().evaluator();
    let other = Input {
        service: "ldap".into(),
        ..inbound()
    };
    for _ in 0..3 {
        assert!(evaluator.decide(&inbound()).allowed);
        assert!(!evaluator.decide(&other).allowed);
    }
}

#[test]
fn other_packages_and_data_take_part() {
    let dir = files(&[
        (
            "authz.rego",
            "package envoy.authz\nimport data.lib.peers\nallow if peers.known(input.sekisho.client.spiffe_id)",
        ),
        (
            "lib/peers.rego",
            "package lib.peers\nknown(id) if id in data.sites.osaka.senders",
        ),
        (
            "sites/osaka/data.json",
            r#"{"senders": ["spiffe://osaka.example/lab/sender"]}"#,
        ),
        (
            "sites/more.json",
            r#"{"kyushu": {"senders": []}, "osaka": {"receivers": []}}"#,
        ),
        ("authz_test.rego", "package envoy.authz\nallow if true"),
    ]);
    let policy = Policy::load(dir.path(), "envoy/authz/allow", Limits::default()).unwrap();
    let mut evaluator = policy.evaluator();
    assert!(evaluator.decide(&inbound()).allowed);
    let client = Client::Workload(id("spiffe://osaka.example/lab/other"));
    let decision = evaluator.decide(&Input {
        client,
        ..inbound()
    });
    assert_eq!(decision.reason, Some(Reason::PolicyUndefined));
    assert_eq!(&*decision.revision, policy.revision());
}

#[test]
fn two_threads_decide_at_once() {
    fn shared<T: Clone + Send + Sync>(_: &T) {}
    fn sent<T: Send>(_: &T) {}
    let dir = authz("allow if input.sekisho.service == \"kafka\"");
    let policy = load(dir.path()).unwrap();
    shared(&policy);
    sent(&policy.evaluator());
    thread::scope(|scope| {
        for service in ["kafka", "ldap"] {
            let policy = policy.clone();
            scope.spawn(move || {
                let mut evaluator = policy.evaluator();
                let input = Input {
                    service: service.into(),
                    ..inbound()
                };
                for _ in 0..200 {
                    assert_eq!(evaluator.decide(&input).allowed, service == "kafka");
                }
            });
        }
    });
}

fn any_input() -> impl Strategy<Value = Input> {
    let ids = prop_oneof![
        Just(None),
        "[a-z]{1,8}(/[a-zA-Z0-9._-]{1,8}x){1,4}"
            .prop_map(|text| Some(id(&format!("spiffe://{text}")))),
    ];
    let client = prop_oneof![
        Just(Client::Unknown),
        ids.clone()
            .prop_map(|id| id.map_or(Client::Unknown, Client::Workload)),
        (
            any::<Option<String>>(),
            any::<Option<u32>>(),
            any::<Vec<String>>(),
            any::<Option<i32>>()
        )
            .prop_map(|(user, uid, groups, pid)| Client::Local {
                user,
                uid,
                groups,
                pid
            }),
    ];
    let upstream = proptest::option::of(
        (ids.clone(), any::<Option<String>>()).prop_map(|(id, address)| Upstream { id, address }),
    );
    let addresses = (any::<Option<std::net::IpAddr>>(), any::<u16>());
    let names = (
        any::<String>(),
        any::<String>(),
        any::<String>(),
        any::<Option<String>>(),
    );
    let claimed = any::<BTreeMap<String, String>>();
    (
        names,
        any::<bool>(),
        addresses,
        ids,
        client,
        upstream,
        claimed,
    )
        .prop_map(
            |(
                (site, endpoint, service, sni),
                inbound,
                (ip, port),
                own_id,
                client,
                upstream,
                claimed,
            )| Input {
                site,
                endpoint,
                direction: if inbound {
                    Direction::Inbound
                } else {
                    Direction::Outbound
                },
                service,
                source: ip.map(|ip| (ip, port).into()),
                destination: ip.map(|ip| (ip, port).into()),
                own_id,
                sni,
                client,
                upstream,
                federation: None,
                claimed,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics_or_passes_a_policy_that_denies_all(input in any_input()) {
        let dir = authz("default allow := false\nallow if {\n  walk(input, [_, v])\n  v == {\"never\": sprintf(\"%v\", [v])}\n}");
        let decision = load(dir.path()).unwrap().evaluator().decide(&input);
        prop_assert!(!decision.allowed);
        prop_assert!(matches!(decision.reason, Some(Reason::PolicyDenied | Reason::PolicyBudget)), "{decision:?}");
        prop_assert!(input.to_json().is_object());
    }
}
