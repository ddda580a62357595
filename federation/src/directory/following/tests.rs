use std::path::Path;

use sekisho_certs::{Clock, id::parse_trust_domain};
use tokio::task::JoinHandle;

use super::*;
use crate::directory::fixture::{Federation, Member as Site, client_of};

fn domain(name: &str) -> TrustDomain {
    parse_trust_domain(name).unwrap()
}

fn follow(federation: &Federation, data: &Path) -> (Handle, JoinHandle<()>) {
    let clock: Arc<dyn Clock> = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
    let client = client_of(federation, data);
    let directories = Directories::new(domain("own.example"), vec![client], 1, clock);
    let (following, handle) = Following::new(directories);
    (handle, tokio::spawn(following.run()))
}

async fn until(handle: &Handle, is: impl FnMut(&Members) -> bool) {
    handle.members().wait_for(is).await.unwrap();
}

fn has<'a>(site: &'a Site) -> impl FnMut(&Members) -> bool + 'a {
    |members| {
        members
            .get(&site.domain)
            .and_then(|member| member.bundle())
            .is_some_and(|bundle| **bundle == site.bundle())
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_found_at_the_next_poll_and_an_expelled_member_is_cut_off() {
    let federation = Federation::new(1);
    let mut tokyo = federation.join("tokyo.example");
    let data = tempfile::tempdir().unwrap();
    let (handle, _task) = follow(&federation, data.path());
    handle.set_wanted(Wanted {
        domains: BTreeSet::from(["tokyo.example".to_owned()]),
        ..Wanted::default()
    });
    until(&handle, has(&tokyo)).await;
    tokyo.rotate_ca(&federation);
    let before = Instant::now();
    until(&handle, has(&tokyo)).await;
    assert!(before.elapsed() <= POLL.mul_f64(1.1) + Duration::from_secs(1));
    let all = federation.two_registrars();
    federation
        .repository
        .expel(&tokyo.domain, &all, federation.now())
        .unwrap();
    // The host signs again within ten minutes, and we ask every four.
    tokio::time::advance(Duration::from_secs(600)).await;
    federation.publish();
    let before = Instant::now();
    until(&handle, Members::is_empty).await;
    let took = Duration::from_secs(600) + before.elapsed();
    assert!(took <= Duration::from_secs(900), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_stands_at_the_door_is_fetched_at_a_bounded_rate() {
    let federation = Federation::new(1);
    let sites: Vec<Site> = (0..40)
        .map(|n| federation.join(&format!("s{n}.example")))
        .collect();
    let data = tempfile::tempdir().unwrap();
    let (handle, _task) = follow(&federation, data.path());
    handle.refresh().await.unwrap().remove(0).unwrap();
    assert!(handle.members().borrow().is_empty());
    for site in &sites {
        handle.want(site.domain.clone());
    }
    handle.want(domain("stranger.example"));
    until(&handle, |members| members.len() >= 32).await;
    handle.refresh().await.unwrap().remove(0).unwrap();
    let count = handle.members().borrow().len();
    assert!((32..40).contains(&count), "{count}");
    tokio::time::advance(Duration::from_secs(3)).await;
    for site in &sites {
        handle.want(site.domain.clone());
    }
    until(&handle, |members| members.len() == 40).await;
    let status = handle.status();
    assert_eq!(status[0].members.len(), 40);
    assert_eq!(handle.gossip().timestamps.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_away_is_asked_again_soon() {
    let federation = Federation::new(1);
    let tokyo = federation.join("tokyo.example");
    let data = tempfile::tempdir().unwrap();
    let (at, away) = (
        federation.path().join("metadata"),
        federation.path().join("away"),
    );
    let (handle, task) = follow(&federation, data.path());
    std::fs::rename(&at, &away).unwrap();
    let failed = handle.refresh().await.unwrap().remove(0).unwrap_err();
    assert!(failed.contains("missing"), "{failed}");
    assert_eq!(handle.status()[0].fault.as_ref().unwrap().reason, "missing");
    std::fs::rename(&away, &at).unwrap();
    handle.set_wanted(Wanted {
        domains: BTreeSet::from(["tokyo.example".to_owned()]),
        ..Wanted::default()
    });
    let before = Instant::now();
    until(&handle, has(&tokyo)).await;
    assert!(
        before.elapsed() < Duration::from_secs(60),
        "{:?}",
        before.elapsed()
    );
    drop(handle);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_operators_word_is_taken_at_once() {
    let federation = Federation::new(1);
    federation.join("tokyo.example");
    let data = tempfile::tempdir().unwrap();
    let (handle, _task) = follow(&federation, data.path());
    let tokyo = domain("tokyo.example");
    assert!(
        !handle
            .accept_rekey(tokyo.clone(), "00".into())
            .await
            .unwrap()
            .unwrap()
    );
    assert!(
        !handle
            .accept_rollback(tokyo.clone())
            .await
            .unwrap()
            .unwrap()
    );
    handle.want(tokyo.clone());
    until(&handle, |members| members.len() == 1).await;
    assert!(handle.accept_rollback(tokyo).await.unwrap().unwrap());
    handle.quiet().await;
    handle.hear(Gossip::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_at_the_door_is_looked_for_but_not_at_every_knock() {
    let federation = Federation::new(1);
    let data = tempfile::tempdir().unwrap();
    let (handle, _task) = follow(&federation, data.path());
    handle.refresh().await.unwrap().remove(0).unwrap();
    let tokyo = federation.join("tokyo.example");
    handle.want(tokyo.domain.clone());
    handle.quiet().await;
    assert!(handle.is_stranger(&tokyo.domain) || handle.members().borrow().is_empty());
    tokio::time::advance(NEWCOMERS).await;
    handle.want(tokyo.domain.clone());
    until(&handle, has(&tokyo)).await;
    assert!(!handle.is_stranger(&tokyo.domain));
}

#[tokio::test(start_paused = true)]
async fn who_knocks_makes_nobody_ask_twice_a_minute() {
    let federation = Federation::new(1);
    let data = tempfile::tempdir().unwrap();
    let (handle, _task) = follow(&federation, data.path());
    handle.refresh().await.unwrap().remove(0).unwrap();
    let shown = || handle.status()[0].snapshot;
    let before = shown();
    federation.join("tokyo.example");
    let stranger = domain("stranger.example");
    for _ in 0..3 {
        handle.want(stranger.clone());
    }
    let known = async {
        while !handle.is_stranger(&stranger) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(50), known).await;
    waited.unwrap();
    assert_eq!(shown(), before, "nobody was asked");
    tokio::time::advance(NEWCOMERS).await;
    handle.want(stranger);
    let is_asked = async {
        while shown() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(5), is_asked).await;
    waited.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_not_followed_just_now_shows_nothing_of_us() {
    let federation = Federation::new(1);
    let own = federation.join("own.example");
    let data = tempfile::tempdir().unwrap();
    let (handle, _task) = follow(&federation, data.path());
    let address = federation.path().display().to_string();
    handle.refresh().await.unwrap().remove(0).unwrap();
    let shown = handle.shown(&address).unwrap();
    assert_eq!((shown.version, shown.keys), (1, Some(own.set().id())));
    std::fs::remove_file(federation.path().join("metadata/timestamp.json")).unwrap();
    assert!(handle.refresh().await.unwrap().remove(0).is_err());
    assert_eq!(handle.shown(&address), None);
}
