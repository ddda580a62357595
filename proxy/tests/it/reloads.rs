//! A reload is all or nothing.

use sekisho_proxy::{
    ApplyError,
    endpoint::spec::{Address, Forward, Listen, MtlsTarget},
};
use sekisho_testkit::ports;

use crate::harness::{World, desired, end, list, ping, policy};

#[tokio::test]
async fn a_port_in_use_refuses_the_reload_and_changes_nothing() {
    let world = World::with_gate(|_| {}).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let mut other = world.receiving("other");
    if let Listen::Mtls { address, .. } = &mut other.listen {
        *address = taken.local_addr().unwrap();
    }
    let mut changed = world.receiving("back");
    if let Listen::Mtls { accept, .. } = &mut changed.listen {
        *accept = list(&["spiffe://a.example/nobody"]);
    }
    let refused = world.proxy.apply(&desired(&[changed, other], None), true);
    assert!(matches!(refused, Err(ApplyError::Bind { .. })));
    ping(&mut stream).await.unwrap();
    assert!(world.proxy.endpoint("other").is_none());
    let mut again = world.dial("/front").await.unwrap();
    ping(&mut again).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_at_start_leaves_that_endpoint_not_ready_until_it_is_free() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind(world.gate).unwrap();
    let free = ports::free();
    let mut other = world.receiving("other");
    if let Listen::Mtls { address, .. } = &mut other.listen {
        *address = free;
    }
    let specs = [world.receiving("back"), other];
    world.proxy.apply(&desired(&specs, None), false).unwrap();
    for spec in &specs {
        world.supply(spec, &[world.a.bundle(), world.b.bundle()]);
    }
    let status = world.proxy.endpoint_status();
    let ready: Vec<_> = status
        .iter()
        .map(|row| (row.name.as_str(), row.ready))
        .collect();
    assert_eq!(ready, [("back", false), ("other", true)]);
    assert!(
        status[0]
            .problem
            .as_ref()
            .unwrap()
            .contains("cannot listen")
    );
    assert_eq!(world.proxy.retry(), 1);
    drop(taken);
    assert_eq!(world.proxy.retry(), 0);
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn a_changed_endpoint_decides_its_connections_again_and_an_unchanged_one_is_not_touched() {
    let world = World::new().await;
    let (one, mut two) = (world.receiving("one"), world.receiving("two"));
    world.apply(&[one.clone(), two.clone()], None);
    let issued = world.a.svid("/front");
    let mut at_one = world.dial_as(&issued, "one.b.example").await.unwrap();
    let mut at_two = world.dial_as(&issued, "two.b.example").await.unwrap();
    ping(&mut at_one).await.unwrap();
    ping(&mut at_two).await.unwrap();
    if let Listen::Mtls { accept, .. } = &mut two.listen {
        *accept = list(&["spiffe://a.example/other"]);
    }
    world.apply(&[one, two], None);
    assert!(end(&mut at_two).await.is_err());
    ping(&mut at_one).await.unwrap();
    world.until("allowed", "not_accepted", 1).await;
}

#[tokio::test]
async fn a_removed_endpoint_ends_its_connections_and_its_metrics() {
    let world = World::new().await;
    let (one, two) = (world.receiving("one"), world.receiving("two"));
    world.apply(&[one.clone(), two], None);
    let issued = world.a.svid("/front");
    let mut at_two = world.dial_as(&issued, "two.b.example").await.unwrap();
    ping(&mut at_two).await.unwrap();
    assert!(world.proxy.metrics_text().contains("endpoint=\"two\""));
    world.apply(&[one], None);
    assert!(end(&mut at_two).await.is_err());
    assert!(
        !world
            .proxy
            .metrics_text()
            .contains("endpoint_ready{endpoint=\"two\"")
    );
    assert!(world.dial_as(&issued, "two.b.example").await.is_err());
}

#[tokio::test]
async fn an_added_policy_decides_what_was_open_before() {
    let world = World::with_gate(|_| {}).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let only_others =
        policy("default allow := false\nallow if input.sekisho.client.path_segments == [\"x\"]");
    world.apply(&[world.receiving("back")], Some(&only_others));
    assert!(end(&mut stream).await.is_err());
    world.until("allowed", "policy_denied", 1).await;
}

#[tokio::test]
async fn a_port_that_was_taken_before_does_not_stand_in_the_way_of_other_changes() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut other = world.receiving("other");
    if let Listen::Mtls { address, .. } = &mut other.listen {
        *address = taken.local_addr().unwrap();
    }
    let back = world.receiving("back");
    let specs = [back.clone(), other];
    world.proxy.apply(&desired(&specs, None), false).unwrap();
    world.supply(&back, &[world.a.bundle(), world.b.bundle()]);
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let deny = policy("default allow := false");
    world
        .proxy
        .apply(&desired(&specs, Some(&deny)), true)
        .unwrap();
    assert!(end(&mut stream).await.is_err());
    world.until("allowed", "policy_denied", 1).await;
}

#[tokio::test]
async fn a_connection_to_an_unverified_target_ends_when_the_endpoint_comes_to_expect_somebody() {
    let world = World::with_gate(|_| {}).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let mut spec = world.receiving("back");
    spec.forward = Forward::Mtls {
        targets: vec![MtlsTarget {
            address: Address::Ip(world.echo.address),
            server_name: None,
        }],
        expect: list(&["spiffe://b.example/service"]),
        min_version: sekisho_certs::tls::MinVersion::Tls13,
    };
    world.apply(&[spec], None);
    assert!(end(&mut stream).await.is_err());
    world.until("allowed", "not_expected", 1).await;
}
