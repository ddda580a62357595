//! Other sites as a third source of trust, and as what lines by a mark are about.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sekisho_certs::{
    BundleSet, Clock as _, IdList, Material, Member, Members, StoreSpec, TlsContext, VerifyError,
    members::{Demand, Feed, Source, Wish},
    source::{FileBundles, Supply},
    store::follow,
    tls::{MinVersion, provider},
};
use sekisho_testkit::{Profile, Site, TestClock, wait_until};
use tokio::sync::watch;

struct World {
    own: Site,
    clock: Arc<TestClock>,
}

impl World {
    fn new() -> Self {
        let own = Site::new("own.example");
        Self {
            clock: TestClock::at(own.ca().present()),
            own,
        }
    }

    fn context(&self) -> TlsContext {
        TlsContext {
            provider: Arc::new(provider()),
            clock: Arc::clone(&self.clock) as _,
        }
    }

    fn spec(&self, lines: &[&str]) -> StoreSpec {
        let lines = lines.iter().map(|line| line.parse().unwrap());
        let list = IdList::Named(lines.collect());
        StoreSpec {
            name: "gate".into(),
            site: self.own.domain().clone(),
            own_id: None,
            lists: vec![list.clone()],
            resumption: false,
            listen: Some(MinVersion::Tls13),
            forward: Some((MinVersion::Tls13, list)),
        }
    }

    fn supply(&self, bundles: BundleSet) -> Supply {
        Supply {
            svids: vec![Arc::new(self.own.svid("/x").svid())],
            bundles,
            ..Supply::default()
        }
    }

    fn members(&self, all: impl IntoIterator<Item = Member>) -> Members {
        Members::new(self.own.domain(), all.into_iter().map(Arc::new)).unwrap()
    }

    fn derive(&self, spec: &StoreSpec, supply: &BundleSet, members: &Members) -> Material {
        let context = self.context();
        let nothing = Material::empty(&context, "nothing yet");
        let (supply, none) = (self.supply(supply.clone()), BundleSet::default());
        Material::derive_among(spec, &supply, &none, members, &nothing, &context)
    }
}

fn member(site: &Site, marks: &[&str]) -> Member {
    let marks = marks.iter().map(|mark| mark.parse().unwrap());
    Member::new(
        site.domain().clone(),
        Source::Directory,
        SystemTime::UNIX_EPOCH,
    )
    .with_marks(marks.collect())
    .unwrap()
    .with_bundle(Arc::clone(site.bundle()))
    .unwrap()
}

fn set(sites: &[&Site]) -> BundleSet {
    let mut set = BundleSet::default();
    for site in sites {
        set.insert(Arc::clone(site.bundle())).unwrap();
    }
    set
}

fn trusted(material: &Material) -> Vec<String> {
    let bundles = material.trust().bundles();
    let names = bundles
        .iter()
        .map(|bundle| bundle.trust_domain().to_string());
    names.collect()
}

#[test]
fn a_member_is_trusted_where_a_line_names_it_or_its_mark() {
    let world = World::new();
    let (b, c) = (Site::new("b.example"), Site::new("c.example"));
    let members = world.members([member(&b, &["hpci"]), member(&c, &[])]);
    let trusts = |lines: &[&str]| {
        let spec = world.spec(lines);
        trusted(&world.derive(&spec, &BundleSet::default(), &members))
    };
    assert_eq!(trusts(&["mark:hpci"]), ["b.example"]);
    assert_eq!(trusts(&["spiffe://c.example/a"]), ["c.example"]);
    assert_eq!(trusts(&["mark:other"]), [""; 0]);
}

#[test]
fn a_bundle_that_is_ours_or_supplied_is_never_replaced_by_a_member_s() {
    let world = World::new();
    let (b, false_b) = (Site::new("b.example"), Site::new("b.example"));
    let members = world.members([member(&false_b, &["hpci"])]);
    let spec = world.spec(&["mark:hpci", "spiffe://b.example/*"]);
    let material = world.derive(&spec, &set(&[&b]), &members);
    let bundle = material.trust().bundles().get(b.domain()).unwrap();
    assert_eq!(bundle.authorities()[0].der(), b.ca().der());
    assert_eq!(bundle.authorities().len(), 1, "never merged");
}

#[test]
fn a_member_with_the_key_of_another_is_refused_alone() {
    let world = World::new();
    let (b, d) = (Site::new("b.example"), Site::new("d.example"));
    let nameless = Profile::ca("c.example").with_uris([]);
    let thief = Site::with_ca("c.example", b.ca().renewed(&nameless));
    let members = world.members([
        member(&b, &["hpci"]),
        member(&thief, &["hpci"]),
        member(&d, &["hpci"]),
    ]);
    let material = world.derive(&world.spec(&["mark:hpci"]), &BundleSet::default(), &members);
    assert_eq!(trusted(&material), ["b.example", "d.example"]);
    let problem = material.problem().unwrap();
    assert!(problem.contains("c.example") && problem.contains("b.example"));
}

#[test]
fn who_is_wanted_is_who_a_list_could_let_in() {
    let world = World::new();
    let (context, demand) = (world.context(), Demand::new(Arc::clone(&world.clock) as _));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let spec = world.spec(&["mark:hpci", "spiffe://b.example/a"]);
    let (_supply, supplied) = watch::channel(Arc::new(world.supply(BundleSet::default())));
    let (_extra, extras) = watch::channel(Arc::new(FileBundles::default()));
    let feed = Feed {
        demand: Some(Arc::clone(&demand)),
        ..Feed::none()
    };
    let nothing = Arc::new(Material::empty(&context, "nothing yet"));
    let (sender, receiver) = watch::channel(None);
    let publish = move |material: Arc<Material>| drop(sender.send_replace(Some(material)));
    let material = runtime.block_on(async {
        let mut receiver = receiver;
        tokio::spawn(follow(
            spec, supplied, extras, feed, context, nothing, publish,
        ));
        wait_until(&mut receiver, "material", Option::is_some).await;
        receiver.borrow().clone().unwrap()
    });
    let far = Site::new("far.example");
    let by_mark = IdList::Named(vec!["mark:hpci".parse().unwrap()]);
    let by_name = IdList::Named(vec!["spiffe://b.example/a".parse().unwrap()]);
    assert_eq!(material.want(&by_mark, far.domain()), Some(Wish::Asked));
    assert_eq!(material.want(&by_name, far.domain()), None);
    assert_eq!(material.want(&by_mark, world.own.domain()), None);
    assert_eq!(demand.wanted(), [far.domain().clone()]);
}

#[tokio::test]
async fn a_change_of_marks_is_published_and_a_confirmation_is_not() {
    let world = World::new();
    let b = Site::new("b.example");
    let spec = world.spec(&["mark:hpci"]);
    let (_supply, supplied) = watch::channel(Arc::new(world.supply(BundleSet::default())));
    let (_extra, extras) = watch::channel(Arc::new(FileBundles::default()));
    let (members, known) = watch::channel(world.members([member(&b, &["hpci"])]));
    let feed = Feed {
        members: known,
        ..Feed::none()
    };
    let context = world.context();
    let nothing = Arc::new(Material::empty(&context, "nothing yet"));
    let (sender, mut published) = watch::channel((0, None));
    let publish = move |material: Arc<Material>| {
        sender.send_modify(|(count, last)| {
            *count += 1;
            *last = Some(material);
        });
    };
    let task = tokio::spawn(follow(
        spec, supplied, extras, feed, context, nothing, publish,
    ));
    wait_until(&mut published, "the first", |(count, _)| *count == 1).await;
    let first = published.borrow().1.clone().unwrap();
    assert_eq!(trusted(&first), ["b.example"]);
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(300);
    members.send_replace(world.members([member(&b, &["hpci"]).confirmed_at(later)]));
    members.send_replace(world.members([member(&b, &["other"])]));
    wait_until(&mut published, "the second", |(_, last)| {
        last.as_ref().is_some_and(|last| trusted(last).is_empty())
    })
    .await;
    assert_eq!(published.borrow().0, 2);
    task.abort();
}

#[test]
fn an_age_is_brought_forward_in_what_was_handed_out() {
    let world = World::new();
    let b = Site::new("b.example");
    let spec = world.spec(&["mark:hpci"]);
    let early = world.members([member(&b, &["hpci"])]);
    let first = world.derive(&spec, &BundleSet::default(), &early);
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(300);
    let late = world.members([member(&b, &["hpci"]).confirmed_at(later)]);
    let (supply, none) = (world.supply(BundleSet::default()), BundleSet::default());
    let context = world.context();
    let second = Material::derive_among(&spec, &supply, &none, &late, &first, &context);
    assert_eq!(second.trust_revision(), first.trust_revision());
    let held = first.members().get(b.domain()).unwrap();
    assert_eq!(held.confirmed(), later);
}

#[test]
fn chains_are_remembered_over_a_change_of_others_and_forgotten_with_their_own() {
    let world = World::new();
    let (b, c) = (Site::new("b.example"), Site::new("c.example"));
    let spec = world.spec(&["mark:hpci"]);
    let (supply, none) = (world.supply(BundleSet::default()), BundleSet::default());
    let context = world.context();
    let now = world.clock.now();
    let first = world.derive(&spec, &none, &world.members([member(&b, &["hpci"])]));
    let svid = b.svid("/a");
    let peer = first.trust().verify(&svid.chain, now).unwrap();
    let derive = |members: Members, previous: &Material| {
        Material::derive_among(&spec, &supply, &none, &members, previous, &context)
    };
    let both = derive(
        world.members([member(&b, &["hpci"]), member(&c, &["hpci"])]),
        &first,
    );
    assert!(both.trust().still_trusts(&peer));
    // Another CA under the same name: nothing that was remembered may count.
    let other = Site::new("b.example");
    let changed = derive(world.members([member(&other, &["hpci"])]), &both);
    assert!(!changed.trust().still_trusts(&peer));
    assert!(matches!(
        changed.trust().verify(&svid.chain, now),
        Err(VerifyError::BadChain { .. })
    ));
    let gone = derive(world.members([]), &both);
    assert!(matches!(
        gone.trust().verify(&svid.chain, now),
        Err(VerifyError::UnknownTrustDomain { .. })
    ));
}

/// Figures for docs/federation.md: `cargo test --release -p sekisho-certs -- --ignored figures --nocapture`.
#[test]
#[ignore = "ten thousand CAs take a while to make"]
fn figures_of_ten_thousand_members() {
    let world = World::new();
    let sites: Vec<Site> = (0..10_000)
        .map(|number| Site::new(&format!("s{number}.example")))
        .collect();
    let spec = world.spec(&["mark:hpci"]);
    let (supply, none) = (world.supply(BundleSet::default()), BundleSet::default());
    let context = world.context();
    let now = world.clock.now();
    let svids: Vec<_> = (0..500).map(|_| sites[0].svid("/a")).collect();
    let mut per_chain = Vec::new();
    for count in [4, 10_000] {
        let members = world.members(sites.iter().take(count).map(|site| member(site, &["hpci"])));
        let begun = Instant::now();
        let material = world.derive(&spec, &none, &members);
        let built = begun.elapsed();
        let changed_site = Site::new("s1.example");
        let changed = Arc::new(member(&changed_site, &["hpci"]));
        let begun = Instant::now();
        let members = members.with(world.own.domain(), changed).unwrap();
        let rebuilt = Material::derive_among(&spec, &supply, &none, &members, &material, &context);
        let change = begun.elapsed();
        assert_eq!(rebuilt.trust_revision(), material.trust_revision() + 1);
        let begun = Instant::now();
        // Each is a new one: its path is built and its signatures are verified.
        for svid in &svids {
            material.trust().verify(&svid.chain, now).unwrap();
        }
        let verified = begun.elapsed() / 500;
        per_chain.push(verified);
        println!(
            "{count} members: built in {built:?}, one changed in {change:?}, a chain in {verified:?}"
        );
    }
    let [few, many] = per_chain[..] else {
        panic!("two figures")
    };
    assert!(many < few * 2, "{few:?} and {many:?}");
}
