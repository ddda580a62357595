//! What proxies of a node are told of other sites: from the authority, by the agent, over the wire.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use sekisho_agent::members::{Wants, watch_members};
use sekisho_authority::members::Followed;
use sekisho_certs::{
    Member, Members, TrustDomain,
    id::parse_trust_domain,
    members::{Feed, Source, Wish},
};
use sekisho_spire_api::federation::{
    WatchMembersRequest, node_federation_client::NodeFederationClient,
};
use sekisho_testkit::{Site as Foreign, wait_until};
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Code;

use crate::harness::{Running, Site, channel, domain, entry};

/// A site whose authority has a directory, and an agent of it on which this process has an identity.
struct World {
    site: Site,
    agent: Running,
    directory: watch::Sender<Members>,
    /// What the directory was asked for and did not have.
    asked: Arc<Mutex<Vec<String>>>,
}

fn member(site: &Foreign, marks: &[&str], confirmed: SystemTime) -> Arc<Member> {
    let marks = marks.iter().map(|mark| mark.parse().unwrap());
    let member = Member::new(site.domain().clone(), Source::Directory, confirmed)
        .with_marks(marks.collect())
        .unwrap()
        .with_bundle(Arc::clone(site.bundle()))
        .unwrap();
    Arc::new(member)
}

fn set(members: impl IntoIterator<Item = Arc<Member>>) -> Members {
    Members::new(&domain(), members).unwrap()
}

fn name(text: &str) -> TrustDomain {
    parse_trust_domain(text).unwrap()
}

impl World {
    async fn start(members: Members) -> Self {
        let mut site = Site::start().await;
        site.stop_authority().await;
        let (directory, known) = watch::channel(members);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let source = Followed::new(known, move |domain| {
            noted.lock().unwrap().push(domain.to_string());
            domain.as_str().starts_with("coming")
        });
        site.directory = Some(Arc::new(source));
        site.start_authority().await;
        let mut agent = site.agent().await;
        site.create(vec![entry("/proxy", &agent.path())]).await;
        agent.turn().await;
        Self {
            site,
            agent,
            directory,
            asked,
        }
    }

    fn watch(&self, wants: Wants) -> (watch::Sender<Wants>, Feed) {
        let (keep, wants) = watch::channel(wants);
        let clock = Arc::<sekisho_testkit::TestClock>::clone(&self.site.clock);
        let watched = watch_members(self.agent.socket.clone(), domain(), wants, clock);
        (keep, watched)
    }
}

fn by_mark(mark: &str) -> Wants {
    Wants {
        marks: [mark.parse().unwrap()].into(),
        ..Wants::default()
    }
}

async fn until(watched: &mut Feed, what: &str, passes: impl Fn(&Members) -> bool) -> Members {
    wait_until(&mut watched.members, what, passes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_follows_members_by_mark_and_by_demand() {
    let (b, c) = (Foreign::new("b.example"), Foreign::new("c.example"));
    let now = sekisho_testkit::clock::present();
    let mut world = World::start(set([member(&b, &["hpci"], now), member(&c, &[], now)])).await;
    let (_keep, mut watched) = world.watch(by_mark("hpci"));
    let members = until(&mut watched, "b by its mark", |all| all.len() == 1).await;
    let known = members.get(b.domain()).unwrap();
    assert_eq!(known.source(), Source::Directory);
    let bundle = known.bundle().unwrap();
    assert_eq!(bundle.authorities()[0].der(), b.ca().der());
    assert_eq!(*watched.problem.borrow(), None);

    // Somebody of c has come: asked for at once, without waiting for a turn.
    let demand = watched.demand.clone().unwrap();
    assert_eq!(demand.want(c.domain()), Wish::Asked);
    until(&mut watched, "c by demand", |all| all.len() == 2).await;
    assert_eq!(demand.want(c.domain()), Wish::Kept);

    // A stranger: the directory says that there is nobody of that name.
    demand.want(&name("stranger.example"));
    sekisho_testkit::wait_for("a word", Duration::from_secs(10), || {
        demand.want(&name("stranger.example")) == Wish::Unknown
    })
    .await;
    assert!(!demand.wanted().contains(&name("stranger.example")));
    // One that may come is waited for.
    demand.want(&name("coming.example"));
    sekisho_testkit::wait_for("a question", Duration::from_secs(10), || {
        let asked = world.asked.lock().unwrap();
        asked.iter().any(|asked| asked == "coming.example")
    })
    .await;
    assert_eq!(demand.want(&name("coming.example")), Wish::Pending);

    // b loses its mark, c is expelled.
    world.directory.send_replace(set([member(&b, &[], now)]));
    world.agent.turn().await;
    until(&mut watched, "nobody", Members::is_empty).await;
    assert_eq!(demand.want(c.domain()), Wish::Unknown);
    world.agent.stop().await;
    world.site.stop_authority().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ages_come_with_the_turns_and_change_nothing_else() {
    let b = Foreign::new("b.example");
    let now = sekisho_testkit::clock::present();
    let mut world = World::start(set([member(&b, &["hpci"], now)])).await;
    let (_keep, mut watched) = world.watch(by_mark("hpci"));
    let members = until(&mut watched, "b", |all| all.len() == 1).await;
    let held = Arc::clone(members.get(b.domain()).unwrap());
    world.site.clock.advance(Duration::from_secs(120));
    let late = sekisho_certs::Clock::now(&*world.site.clock);
    assert_eq!(held.age(late), Duration::from_secs(120));
    world
        .directory
        .borrow()
        .get(b.domain())
        .unwrap()
        .confirm(late);
    world.agent.turn().await;
    sekisho_testkit::wait_for("a younger age", Duration::from_secs(10), || {
        held.age(late) < Duration::from_secs(2)
    })
    .await;
    assert!(!watched.members.has_changed().unwrap());
    world.agent.stop().await;
    world.site.stop_authority().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_outlives_the_agent_while_the_authority_is_away() {
    let (b, c) = (Foreign::new("b.example"), Foreign::new("c.example"));
    let now = sekisho_testkit::clock::present();
    let mut world = World::start(set([member(&b, &["hpci"], now), member(&c, &[], now)])).await;
    let (_keep, mut watched) = world.watch(by_mark("hpci"));
    watched.demand.as_ref().unwrap().want(c.domain());
    until(&mut watched, "both", |all| all.len() == 2).await;
    let token = world.site.token().await;
    let settings = world.site.agent_settings(&token).await;
    world.site.stop_authority().await;
    world.agent.stop().await;
    // A proxy that goes on keeps what it had.
    wait_until(&mut watched.problem, "a problem", Option::is_some).await;
    assert_eq!(watched.members.borrow().len(), 2);

    let agent = world.site.run(settings).await;
    let (_keep, wants) = watch::channel(by_mark("hpci"));
    let clock = Arc::<sekisho_testkit::TestClock>::clone(&world.site.clock);
    let mut fresh = watch_members(agent.socket.clone(), domain(), wants, clock);
    let members = until(&mut fresh, "b, out of the cache", |all| all.len() == 1).await;
    assert!(members.get(b.domain()).unwrap().bundle().is_some());
    fresh.demand.as_ref().unwrap().want(c.domain());
    until(&mut fresh, "c, out of the cache", |all| all.len() == 2).await;
    // The proxy that went on comes back and loses nothing.
    wait_until(&mut watched.problem, "no problem", Option::is_none).await;
    assert_eq!(watched.members.borrow().len(), 2);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_expelled_meanwhile_is_gone_once_the_authority_has_said_so() {
    let (b, c) = (Foreign::new("b.example"), Foreign::new("c.example"));
    let now = sekisho_testkit::clock::present();
    let all = [member(&b, &["hpci"], now), member(&c, &["hpci"], now)];
    let mut world = World::start(set(all)).await;
    let (_keep, mut watched) = world.watch(by_mark("hpci"));
    until(&mut watched, "both", |all| all.len() == 2).await;
    let token = world.site.token().await;
    let settings = world.site.agent_settings(&token).await;
    world.site.stop_authority().await;
    world.agent.stop().await;
    world
        .directory
        .send_replace(set([member(&b, &["hpci"], now)]));
    world.site.start_authority().await;
    let agent = world.site.run(settings).await;
    let members = until(&mut watched, "only b", |all| all.len() == 1).await;
    assert!(members.get(b.domain()).is_some());
    agent.stop().await;
    world.site.stop_authority().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_identity_is_told_nothing() {
    let site = Site::start().await;
    let agent = site.agent().await;
    let mut client = NodeFederationClient::new(channel(&agent.socket).await);
    let asked = tokio_stream::once(WatchMembersRequest::default());
    let refused = client.watch_members(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_the_service_is_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("spire.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health);
    let server = server.serve_with_incoming(UnixListenerStream::new(listener));
    let server = tokio::spawn(server);
    let (_keep, wants) = watch::channel(by_mark("hpci"));
    let clock = sekisho_testkit::TestClock::new();
    let mut watched = watch_members(socket, domain(), wants, clock);
    let demand = watched.demand.clone().unwrap();
    demand.want(&name("b.example"));
    let says = |problem: &Option<Arc<str>>| {
        let text = problem.as_deref().unwrap_or_default();
        text.contains("marks and site:// need sekisho's own")
    };
    wait_until(&mut watched.problem, "a word", says).await;
    // One more, once that is known.
    demand.want(&name("c.example"));
    sekisho_testkit::wait_for("an answer", Duration::from_secs(10), || {
        let asked = ["b.example", "c.example"].map(|site| demand.want(&name(site)));
        asked == [Wish::Unknown; 2]
    })
    .await;
    assert!(watched.members.borrow().is_empty());
    server.abort();
}
