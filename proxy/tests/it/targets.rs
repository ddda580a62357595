//! Several targets: turns, ejection, health.

use sekisho_proxy::endpoint::spec::{Address, Balance, Forward, HealthCheck};
use sekisho_testkit::{ports, wait::wait_for};

use crate::harness::{Echo, SOON, World, ping, plain};

#[tokio::test]
async fn targets_take_turns() {
    let world = World::new().await;
    let other = Echo::start().await;
    let mut spec = world.receiving("back");
    spec.forward = plain(&[world.echo.address, other.address]);
    world.apply(&[spec], None);
    for _ in 0..6 {
        ping(&mut world.dial("/front").await.unwrap())
            .await
            .unwrap();
    }
    assert_eq!((world.echo.accepted(), other.accepted()), (3, 3));
}

#[tokio::test]
async fn the_target_with_fewer_connections_is_preferred() {
    let world = World::new().await;
    let other = Echo::start().await;
    let mut spec = world.receiving("back");
    spec.forward = plain(&[world.echo.address, other.address]);
    spec.balance = Balance::LeastConnections;
    world.apply(&[spec], None);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = world.dial("/front").await.unwrap();
        ping(&mut stream).await.unwrap();
        held.push(stream);
    }
    assert_eq!((world.echo.accepted(), other.accepted()), (2, 2));
}

#[tokio::test]
async fn a_target_that_fails_is_passed_over_without_a_connection_lost() {
    let world = World::new().await;
    let mut spec = world.receiving("back");
    spec.forward = plain(&[ports::free(), world.echo.address]);
    world.apply(&[spec], None);
    for _ in 0..8 {
        ping(&mut world.dial("/front").await.unwrap())
            .await
            .unwrap();
    }
    assert_eq!(world.echo.accepted(), 8);
    let status = world.proxy.endpoint_status();
    let available: Vec<_> = status[0]
        .targets
        .iter()
        .map(|target| target.available)
        .collect();
    assert_eq!(available, [false, true]);
}

#[tokio::test]
async fn a_health_check_takes_a_target_out_and_brings_it_back() {
    let world = World::new().await;
    let away = ports::free();
    let mut spec = world.receiving("back");
    spec.forward = plain(&[away]);
    spec.health = Some(HealthCheck {
        interval: std::time::Duration::from_millis(20),
        fall: 2,
        ..HealthCheck::default()
    });
    world.apply(&[spec], None);
    let available = || world.proxy.endpoint_status()[0].targets[0].available;
    wait_for("it is out", SOON, || !available()).await;
    let _back = tokio::net::TcpListener::bind(away).await.unwrap();
    wait_for("it is back", SOON, available).await;
}

#[tokio::test]
async fn a_name_is_resolved_and_one_that_is_not_is_said_to_be_so() {
    let world = World::new().await;
    let by_name = |name: &str| Forward::Plain {
        targets: vec![Address::Name(name.into(), world.echo.address.port())],
    };
    let mut spec = world.receiving("back");
    spec.forward = by_name("localhost");
    let mut nowhere = world.receiving("nowhere");
    nowhere.forward = by_name("no-such-name.invalid");
    world.apply(&[spec, nowhere], None);
    ping(&mut world.dial("/front").await.unwrap())
        .await
        .unwrap();
    let issued = world.a.svid("/front");
    let mut stream = world.dial_as(&issued, "nowhere.b.example").await.unwrap();
    assert!(ping(&mut stream).await.is_err());
    world.until("refused", "upstream_unreachable", 1).await;
}
