//! Keeping in step with what a directory says, out of a set of members made by hand.

mod told;

use std::collections::BTreeSet;

use sekisho_certs::{
    Member, Members,
    id::{parse_trust_domain, parse_workload_id},
    members::Source as Vouches,
};
use sekisho_testkit::{Site, TestClock};

use super::{keep::take, *};
use crate::{
    api::fetched,
    ca::{Ca, CaSettings, keys::KeyFolder},
    core::Settings as CoreSettings,
    entry::{Draft, Selector},
    store::{Bundle, Creation, EndpointProfile, Origin, Relationship, Store},
};

struct World {
    core: Core,
    clock: Arc<TestClock>,
    stored: keep::Stored,
    _folder: tempfile::TempDir,
}

fn domain(name: &str) -> TrustDomain {
    parse_trust_domain(name).unwrap()
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let own = domain("a.example");
        let store = Arc::new(Store::open(&folder.path().join("db")).unwrap());
        let keys = KeyFolder::open(&folder.path().join("keys"), None).unwrap();
        let settings = CaSettings {
            domain: own.clone(),
            ttl: Duration::from_secs(24 * 3600),
            announced: Duration::ZERO,
        };
        let time = || Arc::<TestClock>::clone(&clock);
        let ca = Ca::open(settings, Arc::clone(&store), keys, time()).await;
        let core = Core::new(CoreSettings::new(own), store, Arc::new(ca.unwrap()), time());
        Self {
            core,
            clock,
            stored: keep::Stored::default(),
            _folder: folder,
        }
    }

    /// The directory says that these are members, with these bundles.
    async fn says(&mut self, sites: &[&Site]) {
        let now = self.clock.now();
        let members = sites.iter().map(|site| {
            let member = Member::new(site.domain().clone(), Vouches::Directory, now);
            Arc::new(member.with_bundle(Arc::clone(site.bundle())).unwrap())
        });
        let members = Members::new(&domain("a.example"), members).unwrap();
        take(&self.core, &members, &mut self.stored).await.unwrap();
    }

    async fn bundle(&self, name: &str) -> Option<Bundle> {
        self.core.store.bundle(domain(name)).await.unwrap()
    }

    async fn keys(&self, name: &str) -> Option<usize> {
        Some(self.bundle(name).await?.x509.len())
    }

    async fn entry(&self, federated: &str) -> Creation {
        let draft = Draft {
            id: None,
            spiffe_id: parse_workload_id("spiffe://a.example/w").unwrap(),
            parent_id: parse_workload_id("spiffe://a.example/spire/agent/x").unwrap(),
            selectors: BTreeSet::from([Selector {
                kind: "unix".into(),
                value: "uid:1".into(),
            }]),
            x509_ttl: Duration::ZERO,
            jwt_ttl: Duration::ZERO,
            federates_with: vec![Federated::Domain(domain(federated))],
            admin: false,
            downstream: false,
            expires_at: None,
            dns_names: Vec::new(),
            store_svid: false,
            hint: String::new(),
            no_prefetch: false,
            jwt_id: false,
        };
        let by = self.core.by("test");
        let mut made = self
            .core
            .store
            .create_entries(by, vec![draft])
            .await
            .unwrap();
        made.remove(0)
    }
}

#[tokio::test]
async fn what_a_directory_says_is_stored_and_goes_with_its_word_and_entries_stay() {
    let mut world = World::new().await;
    let (b, c) = (Site::new("b.example"), Site::new("c.example"));
    world.says(&[&b, &c]).await;
    assert_eq!(world.keys("b.example").await, Some(1));
    assert!(matches!(
        world.entry("b.example").await,
        Creation::Created(_)
    ));
    let names = keep::wanted(&world.core).await.unwrap().domains;
    assert_eq!(names, BTreeSet::from(["b.example".to_owned()]));
    world.says(&[&c]).await;
    assert_eq!(
        world.keys("b.example").await,
        Some(0),
        "nobody of it is trusted"
    );
    assert_eq!(world.keys("c.example").await, Some(1));
    let names = keep::wanted(&world.core).await.unwrap().domains;
    assert!(names.contains("b.example"), "the entry stays");
    world.says(&[&b, &c]).await;
    assert_eq!(world.keys("b.example").await, Some(1));
    // A new process, which remembers nothing of what it has stored.
    world.stored = keep::Stored::default();
    world.says(&[]).await;
    assert_eq!(world.keys("b.example").await, Some(0));
}

#[tokio::test]
async fn a_peer_and_what_was_set_by_hand_win_over_the_directory() {
    let mut world = World::new().await;
    let (b, c) = (Site::new("b.example"), Site::new("c.example"));
    let by = || world.core.by("test");
    let relationship = Relationship {
        origin: Origin::Api,
        domain: b.domain().clone(),
        url: "https://b.example/".parse().unwrap(),
        profile: EndpointProfile::Web,
    };
    world
        .core
        .store
        .create_relationship(by(), relationship, None)
        .await
        .unwrap();
    let by_hand = |old: Option<Bundle>| {
        Ok::<_, ()>(old.unwrap_or_else(|| Bundle::empty(domain("c.example"))))
    };
    let stored = world
        .core
        .store
        .edit_bundle(by(), domain("c.example"), by_hand);
    stored.await.unwrap().unwrap();
    world.says(&[&b, &c]).await;
    assert_eq!(world.keys("b.example").await, None);
    assert_eq!(world.keys("c.example").await, Some(0));
    world.says(&[]).await;
    assert_eq!(world.core.store.directory_domains().await.unwrap(), []);
}

#[tokio::test]
async fn a_ca_key_of_another_domain_is_not_taken_and_the_others_are() {
    let mut world = World::new().await;
    let (b, d) = (Site::new("b.example"), Site::new("d.example"));
    world.says(&[&b]).await;
    let thief = sekisho_certs::TrustBundle::new(
        domain("c.example"),
        [b.ca()
            .renewed(&sekisho_testkit::Profile::ca("c.example"))
            .der()
            .clone()],
    );
    let now = world.clock.now();
    let member = |domain: TrustDomain, bundle| {
        let member = Member::new(domain, Vouches::Directory, now);
        Arc::new(member.with_bundle(bundle).unwrap())
    };
    let members = [
        member(domain("b.example"), Arc::clone(b.bundle())),
        member(domain("c.example"), Arc::new(thief.unwrap())),
        member(domain("d.example"), Arc::clone(d.bundle())),
    ];
    let members = Members::new(&domain("a.example"), members).unwrap();
    take(&world.core, &members, &mut world.stored)
        .await
        .unwrap();
    assert_eq!(world.keys("c.example").await, None);
    assert_eq!(world.keys("b.example").await, Some(1));
    assert_eq!(world.keys("d.example").await, Some(1));
    // It is not tried each time that somebody looks, and changes nothing for anybody.
    let version = world.core.store.version();
    for _ in 0..3 {
        take(&world.core, &members, &mut world.stored)
            .await
            .unwrap();
        assert!(world.stored.is_refused("c.example"));
    }
    assert_eq!(world.core.store.version(), version);
    assert_eq!(world.stored.tried(), 1, "once");
    // Once the owner has given up the key, it is.
    let without = members.without(&domain("b.example"));
    for _ in 0..2 {
        take(&world.core, &without, &mut world.stored)
            .await
            .unwrap();
    }
    assert_eq!(world.keys("c.example").await, Some(1));
    assert!(!world.stored.is_refused("c.example"));
}

#[tokio::test]
async fn a_member_that_has_copied_a_ca_key_gives_it_up_and_nobody_else_does() {
    let mut world = World::new().await;
    let (b, c) = (Site::new("b.example"), Site::new("c.example"));
    let copy = |of: &Site, name: &str| {
        let profile = sekisho_testkit::Profile::ca(name);
        let copied = Site::new(name).ca().certify(of.ca(), &profile);
        let bundle = sekisho_certs::TrustBundle::new(domain(name), [copied]);
        Arc::new(bundle.unwrap())
    };
    let now = world.clock.now();
    let member = |name: &str, bundle| {
        let member = Member::new(domain(name), Vouches::Directory, now);
        Arc::new(member.with_bundle(bundle).unwrap())
    };
    let thief = member("thief.example", copy(&b, "thief.example"));
    let all = |more: Vec<Arc<Member>>| {
        let members = more.into_iter().chain([Arc::clone(&thief)]);
        Members::new(&domain("a.example"), members).unwrap()
    };
    take(&world.core, &all(Vec::new()), &mut world.stored)
        .await
        .unwrap();
    assert_eq!(world.keys("thief.example").await, Some(1));
    // One who shows no more than the thief does changes nothing, for nobody.
    let version = world.core.store.version();
    let second = member("second.example", copy(&b, "second.example"));
    let both = all(vec![second]);
    take(&world.core, &both, &mut world.stored).await.unwrap();
    assert_eq!(world.keys("thief.example").await, Some(1));
    assert_eq!(world.keys("second.example").await, None);
    assert_eq!(world.core.store.version(), version);
    let owner = member("b.example", Arc::clone(b.bundle()));
    for _ in 0..2 {
        let both = all(vec![Arc::clone(&owner)]);
        take(&world.core, &both, &mut world.stored).await.unwrap();
        assert_eq!(world.keys("b.example").await, Some(1));
        assert_eq!(world.keys("thief.example").await, Some(0));
    }
    // What was set by hand, or came from a peer, gives way to nobody.
    let held = fetched(&copy(&c, "peer.example")).unwrap();
    let by_hand = move |_: Option<Bundle>| Ok::<_, ()>(held);
    let by = world.core.by("test");
    let stored = world
        .core
        .store
        .edit_bundle(by, domain("peer.example"), by_hand);
    stored.await.unwrap().unwrap();
    let late = all(vec![owner, member("c.example", Arc::clone(c.bundle()))]);
    take(&world.core, &late, &mut world.stored).await.unwrap();
    assert_eq!(world.keys("c.example").await, None);
    assert_eq!(world.keys("peer.example").await, Some(1));
    assert_eq!(world.keys("b.example").await, Some(1));
    // Once the owner has gone, the key is nobody's.
    for _ in 0..2 {
        let left = all(Vec::new());
        take(&world.core, &left, &mut world.stored).await.unwrap();
    }
    assert_eq!(world.keys("thief.example").await, Some(1));
}

#[tokio::test]
async fn an_entry_may_name_a_member_that_is_not_loaded() {
    let world = World::new().await;
    assert!(matches!(
        world.entry("b.example").await,
        Creation::NoBundle(_)
    ));
    let by = world.core.by("test");
    let expected = world
        .core
        .store
        .expect_of_directory(by, vec![domain("b.example")]);
    expected.await.unwrap();
    assert!(matches!(
        world.entry("b.example").await,
        Creation::Created(_)
    ));
    assert_eq!(
        world.keys("b.example").await,
        Some(0),
        "and trusts nobody of it"
    );
}
