//! Ends that the clock brings.

use std::time::Duration;

use sekisho_testkit::profile::Profile;
use tokio::time::Instant;

use crate::harness::{World, end, ping};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn an_idle_connection_ends_and_one_that_moves_does_not() {
    let world = World::with_gate(|spec| spec.timeouts.idle = Some(SHORT)).await;
    let mut idle = world.dial("/front").await.unwrap();
    let mut busy = world.dial("/front").await.unwrap();
    ping(&mut idle).await.unwrap();
    let since = Instant::now();
    let mut ended = tokio::spawn(async move { end(&mut idle).await });
    loop {
        ping(&mut busy).await.unwrap();
        if ended.is_finished() && since.elapsed() > SHORT * 2 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(
        (&mut ended).await.unwrap().is_err(),
        "an idle end is no orderly one"
    );
    ping(&mut busy).await.unwrap();
    world.until("allowed", "idle_timeout", 1).await;
}

#[tokio::test]
async fn a_connection_ends_at_its_max_age() {
    let world = World::with_gate(|spec| spec.max_age = Some(SHORT)).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    assert!(end(&mut stream).await.is_err());
    world.until("allowed", "max_age", 1).await;
}

#[tokio::test]
async fn cut_at_expiry_ends_a_connection_with_the_peers_svid() {
    let world = World::with_gate(|spec| spec.cut_at_expiry = true).await;
    // Two seconds of life left: certificates count in seconds.
    let brief = Profile {
        ends: 2,
        ..world.a.leaf("/front")
    };
    let issued = world.a.ca().issue(&brief);
    let mut stream = world.dial_as(&issued, "back.b.example").await.unwrap();
    ping(&mut stream).await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    assert!(end(&mut stream).await.is_err());
    world.until("allowed", "expired", 1).await;
}

#[tokio::test]
async fn draining_waits_for_connections_and_then_closes_them() {
    let world = World::with_gate(|_| {}).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let proxy = std::sync::Arc::clone(&world.proxy);
    let drained = tokio::spawn(async move { proxy.drain(Duration::from_secs(30)).await });
    while !world.proxy.is_draining() {
        tokio::task::yield_now().await;
    }
    ping(&mut stream).await.unwrap();
    drop(stream);
    assert_eq!(drained.await.unwrap(), 0);
    assert!(
        world.dial("/front").await.is_err(),
        "nothing new is accepted"
    );

    let world = World::with_gate(|_| {}).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    assert_eq!(world.proxy.drain(Duration::ZERO).await, 1);
    assert!(end(&mut stream).await.is_err());
    world.until("allowed", "drained", 1).await;
}
