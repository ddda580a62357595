//! What an endpoint holds, derived from its sources: the choice of SVID and the trust.

use std::sync::Arc;

use rustls::version::TLS13;
use sekisho_certs::{
    BundleSet, Clock as _, IdList, Material, NotReady, StoreSpec, Svid, TlsContext, TrustDomain,
    members::Feed,
    source::FileBundles,
    source::Supply,
    store::follow,
    tls::{MinVersion, provider},
};
use sekisho_testkit::{Site, TestClock, danger, handshake::in_memory, wait_until};
use tokio::sync::watch;

struct World {
    a: Site,
    b: Site,
    c: Site,
    clock: Arc<TestClock>,
}

impl World {
    fn new() -> Self {
        let a = Site::new("a.example");
        Self {
            clock: TestClock::at(a.ca().present()),
            a,
            b: Site::new("b.example"),
            c: Site::new("c.example"),
        }
    }

    fn context(&self) -> TlsContext {
        TlsContext {
            provider: Arc::new(provider()),
            clock: Arc::clone(&self.clock) as _,
        }
    }

    fn spec(&self) -> StoreSpec {
        let list = list(&["spiffe://b.example/*"]);
        StoreSpec {
            name: "gate".into(),
            site: self.a.domain().clone(),
            own_id: None,
            lists: vec![list.clone()],
            resumption: false,
            listen: Some(MinVersion::Tls13),
            forward: Some((MinVersion::Tls13, list)),
        }
    }

    fn supply(&self, svids: impl IntoIterator<Item = Svid>) -> Supply {
        Supply {
            svids: svids.into_iter().map(Arc::new).collect(),
            bundles: set(&[&self.a, &self.b, &self.c]),
            ..Supply::default()
        }
    }

    fn derive(&self, spec: &StoreSpec, supply: &Supply) -> Material {
        self.derive_from(spec, supply, &BundleSet::default())
    }

    fn derive_from(&self, spec: &StoreSpec, supply: &Supply, extra: &BundleSet) -> Material {
        let context = self.context();
        let nothing = Material::empty(&context, "nothing yet");
        Material::derive(spec, supply, extra, &nothing, &context)
    }

    /// The ID chosen of `svids`, or why there is none.
    fn chosen(&self, spec: &StoreSpec, svids: Vec<Svid>) -> Result<String, NotReady> {
        let material = self.derive(spec, &self.supply(svids));
        let svid = material.svid(self.clock.now())?;
        Ok(svid.id().to_string())
    }
}

fn list(patterns: &[&str]) -> IdList {
    IdList::Named(patterns.iter().map(|text| text.parse().unwrap()).collect())
}

fn set(sites: &[&Site]) -> BundleSet {
    let mut set = BundleSet::default();
    for site in sites {
        set.insert(Arc::clone(site.bundle())).unwrap();
    }
    set
}

fn trusted(material: &Material) -> Vec<String> {
    let bundles = material.trust().bundles().iter();
    bundles
        .map(|bundle| bundle.trust_domain().to_string())
        .collect()
}

#[test]
fn as_chooses_exactly_that_svid() {
    let world = World::new();
    let mut spec = world.spec();
    let svids = || vec![world.a.svid("/x").svid(), world.a.svid("/y").svid()];
    spec.own_id = Some(world.a.id("/y"));
    assert_eq!(
        world.chosen(&spec, svids()).unwrap(),
        "spiffe://a.example/y"
    );
    spec.own_id = Some(world.a.id("/z"));
    let Err(NotReady::NoMatch { wanted, available }) = world.chosen(&spec, svids()) else {
        panic!("an SVID that nobody asked for");
    };
    assert_eq!(wanted, world.a.id("/z"));
    assert_eq!(available, "spiffe://a.example/x, spiffe://a.example/y");
}

#[test]
fn as_wins_over_a_hint() {
    let world = World::new();
    let mut spec = world.spec();
    spec.own_id = Some(world.a.id("/x"));
    let hinted = world.a.svid("/y").svid().with_hint(Some("gate".into()));
    let svids = vec![hinted, world.a.svid("/x").svid()];
    assert_eq!(world.chosen(&spec, svids).unwrap(), "spiffe://a.example/x");
}

#[test]
fn as_is_not_set_aside_for_an_only_svid() {
    let world = World::new();
    let mut spec = world.spec();
    spec.own_id = Some(world.a.id("/y"));
    let refused = world.chosen(&spec, vec![world.a.svid("/x").svid()]);
    assert!(matches!(refused, Err(NotReady::NoMatch { .. })));
}

#[test]
fn without_as_the_hint_that_is_the_endpoints_name_chooses() {
    let world = World::new();
    let svid = |path, hint: &str| world.a.svid(path).svid().with_hint(Some(hint.into()));
    let svids = vec![svid("/x", "other"), svid("/y", "gate"), svid("/z", "")];
    let chosen = world.chosen(&world.spec(), svids);
    assert_eq!(chosen.unwrap(), "spiffe://a.example/y");
}

#[test]
fn without_as_and_hint_an_only_svid_is_chosen_and_of_several_none() {
    let world = World::new();
    let svid = |path| world.a.svid(path).svid();
    let chosen = world.chosen(&world.spec(), vec![svid("/x")]);
    assert_eq!(chosen.unwrap(), "spiffe://a.example/x");
    let refused = world.chosen(&world.spec(), vec![svid("/x"), svid("/y")]);
    assert!(matches!(refused, Err(NotReady::Ambiguous { name, .. }) if name == "gate"));
}

#[test]
fn without_svids_there_is_none_and_the_sources_problem_says_why() {
    let world = World::new();
    let mut supply = world.supply([]);
    supply.problem = Some("away".into());
    let material = world.derive(&world.spec(), &supply);
    let refused = material.svid(world.clock.now());
    assert_eq!(refused, Err(NotReady::NoSvid("away".into())));
    assert_eq!(material.problem(), Some("away"));
    assert!(material.server(world.clock.now()).is_err());
    assert!(material.client(world.clock.now()).is_err());
    assert_eq!(trusted(&material), ["b.example"]);
}

#[test]
fn an_svid_of_another_trust_domain_is_not_ours() {
    let world = World::new();
    let foreign = || world.b.svid("/x").svid();
    let refused = world.chosen(&world.spec(), vec![foreign()]);
    assert!(matches!(refused, Err(NotReady::ForeignDomain { .. })));
    let mut spec = world.spec();
    spec.own_id = Some(world.b.id("/x"));
    let refused = world.chosen(&spec, vec![foreign(), world.a.svid("/x").svid()]);
    assert!(matches!(refused, Err(NotReady::ForeignDomain { .. })));
}

#[test]
fn an_svid_serves_in_its_time_only() {
    let world = World::new();
    let material = world.derive(&world.spec(), &world.supply([world.a.svid("/x").svid()]));
    let svid = Arc::clone(material.latest_svid().unwrap());
    let second = std::time::Duration::from_secs(1);
    assert!(material.server(svid.not_after()).is_ok());
    let late = material.client(svid.not_after() + second).unwrap_err();
    assert!(matches!(late, NotReady::Expired { id } if id == world.a.id("/x")));
    let early = material.server(svid.not_before() - second).unwrap_err();
    assert!(matches!(early, NotReady::NotYetValid { .. }));
    assert!(material.latest_svid().is_some());
}

#[test]
fn trust_is_the_bundles_of_the_domains_named_in_the_lists() {
    let world = World::new();
    let supply = world.supply([world.a.svid("/x").svid()]);
    let mut spec = world.spec();
    assert_eq!(trusted(&world.derive(&spec, &supply)), ["b.example"]);
    spec.lists = vec![
        list(&["spiffe://c.example/x"]),
        list(&["spiffe://a.example/*", "spiffe://nowhere.example/*"]),
    ];
    assert_eq!(
        trusted(&world.derive(&spec, &supply)),
        ["a.example", "c.example"]
    );
    spec.lists = vec![IdList::Federated];
    let all = ["a.example", "b.example", "c.example"];
    assert_eq!(trusted(&world.derive(&spec, &supply)), all);
    spec.lists = Vec::new();
    assert!(trusted(&world.derive(&spec, &supply)).is_empty());
}

#[test]
fn a_bundle_from_a_file_takes_the_place_of_the_sources() {
    let world = World::new();
    let supply = world.supply([world.a.svid("/x").svid()]);
    let other = Site::new("b.example");
    let material = world.derive_from(&world.spec(), &supply, &set(&[&other]));
    let bundle = material.trust().bundles().get(other.domain()).unwrap();
    assert_eq!(bundle.authorities().len(), 1);
    assert_eq!(bundle.authorities()[0].der(), other.ca().der());
}

#[test]
fn a_bundle_of_our_own_domain_from_a_file_does_not_take_the_place_of_the_sources() {
    let world = World::new();
    let mut spec = world.spec();
    spec.lists = vec![IdList::Federated];
    let supply = world.supply([world.a.svid("/x").svid()]);
    let false_a = Site::new("a.example");
    let material = world.derive_from(&spec, &supply, &set(&[&false_a]));
    let bundle = material.trust().bundles().get(world.a.domain()).unwrap();
    assert_eq!(bundle.authorities()[0].der(), world.a.ca().der());
    // A source that has no bundles (files) leaves it to them.
    let supply = Supply {
        bundles: BundleSet::default(),
        ..supply
    };
    let material = world.derive_from(&spec, &supply, &set(&[&world.a]));
    assert_eq!(trusted(&material), ["a.example"]);
}

#[test]
fn a_bundle_from_a_file_with_another_domains_key_is_left_out_and_told() {
    let world = World::new();
    let mut spec = world.spec();
    spec.lists = vec![IdList::Federated];
    let nameless = sekisho_testkit::Profile::ca("b.example").with_uris([]);
    let again = Site::with_ca("d.example", world.b.ca().renewed(&nameless));
    let supply = world.supply([world.a.svid("/x").svid()]);
    let material = world.derive_from(&spec, &supply, &set(&[&again]));
    assert_eq!(trusted(&material), ["a.example", "b.example", "c.example"]);
    assert!(
        material
            .problem()
            .unwrap()
            .contains("already belongs to b.example")
    );
}

#[test]
fn what_did_not_change_is_shared_with_what_was_before() {
    let world = World::new();
    let (spec, context, now) = (world.spec(), world.context(), world.clock.now());
    let none = BundleSet::default();
    let one = world.supply([world.a.svid("/x").svid()]);
    let first = world.derive(&spec, &one);
    assert_eq!((first.rotations(), first.trust_revision()), (1, 1));

    let same = Material::derive(&spec, &one, &none, &first, &context);
    assert!(Arc::ptr_eq(same.trust(), first.trust()));
    assert!(Arc::ptr_eq(
        same.server(now).unwrap(),
        first.server(now).unwrap()
    ));
    assert!(Arc::ptr_eq(
        same.client(now).unwrap(),
        first.client(now).unwrap()
    ));
    assert_eq!((same.rotations(), same.trust_revision()), (1, 1));

    // A new SVID: the same trust, new configurations.
    let two = Supply {
        svids: vec![Arc::new(world.a.svid("/x").svid())],
        ..one
    };
    let rotated = Material::derive(&spec, &two, &none, &same, &context);
    assert!(Arc::ptr_eq(rotated.trust(), first.trust()));
    assert!(!Arc::ptr_eq(
        rotated.server(now).unwrap(),
        first.server(now).unwrap()
    ));
    assert_eq!((rotated.rotations(), rotated.trust_revision()), (2, 1));

    // A bundle that the lists do not name: nothing changes.
    let three = Supply {
        bundles: set(&[&world.a, &world.b]),
        ..two
    };
    let other = Material::derive(&spec, &three, &none, &rotated, &context);
    assert!(Arc::ptr_eq(other.trust(), first.trust()));
    assert!(Arc::ptr_eq(
        other.server(now).unwrap(),
        rotated.server(now).unwrap()
    ));

    // A bundle that they name: new trust, the same SVID.
    let four = Supply {
        bundles: set(&[&world.a, &Site::new("b.example")]),
        ..three
    };
    let changed = Material::derive(&spec, &four, &none, &other, &context);
    assert!(!Arc::ptr_eq(changed.trust(), first.trust()));
    assert!(Arc::ptr_eq(changed.svid(now).unwrap(), &four.svids[0]));
    assert!(!Arc::ptr_eq(
        changed.server(now).unwrap(),
        other.server(now).unwrap()
    ));
    assert_eq!((changed.rotations(), changed.trust_revision()), (2, 2));
}

#[test]
fn configurations_are_built_for_the_sides_that_are_mtls() {
    let world = World::new();
    let (mut spec, now) = (world.spec(), world.clock.now());
    let supply = world.supply([world.a.svid("/x").svid()]);
    spec.forward = None;
    let material = world.derive(&spec, &supply);
    assert!(material.server(now).is_ok());
    assert!(matches!(material.client(now), Err(NotReady::Tls(_))));
}

#[test]
fn tls_1_2_is_spoken_where_it_is_allowed_only() {
    let world = World::new();
    let (mut spec, now) = (world.spec(), world.clock.now());
    let supply = world.supply([world.a.svid("/x").svid()]);
    let peer = world.b.svid("/x");
    let comes = |material: &Material| {
        let client = danger::client_config(Some(&peer), &[&rustls::version::TLS12]);
        in_memory(Arc::new(client), Arc::clone(material.server(now).unwrap())).is_ok()
    };
    assert!(!comes(&world.derive(&spec, &supply)));
    spec.listen = Some(MinVersion::Tls12);
    assert!(comes(&world.derive(&spec, &supply)));
}

#[test]
fn nothing_is_resumed() {
    let world = World::new();
    let mut spec = world.spec();
    spec.lists = vec![IdList::Federated];
    spec.forward = Some((MinVersion::Tls13, IdList::Federated));
    let material = world.derive(&spec, &world.supply([world.a.svid("/x").svid()]));
    let now = world.clock.now();
    let (peer, versions) = (world.b.svid("/x"), [&TLS13]);
    let client = Arc::new(danger::client_config(Some(&peer), &versions));
    for _ in 0..2 {
        let server = Arc::clone(material.server(now).unwrap());
        let (client, _) = in_memory(Arc::clone(&client), server).unwrap();
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    let server = Arc::new(danger::server_config(&peer, &versions));
    for _ in 0..2 {
        let client = Arc::clone(material.client(now).unwrap());
        let (client, _) = in_memory(client, Arc::clone(&server)).unwrap();
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_store_follows_its_sources_until_they_are_gone() {
    let world = World::new();
    let now = world.clock.now();
    let (supply, supplied) = watch::channel(Arc::new(Supply::default()));
    let (extra, extras) = watch::channel(Arc::new(FileBundles::default()));
    let (sender, mut material) = watch::channel(None);
    let (spec, context) = (world.spec(), world.context());
    let empty = Arc::new(Material::empty(&context, "nothing yet"));
    let publish = move |material| {
        sender.send_replace(Some(material));
    };
    let task = tokio::spawn(follow(
        spec,
        supplied,
        extras,
        Feed::none(),
        context,
        empty,
        publish,
    ));
    let is = |test: fn(&Material) -> bool| {
        move |material: &Option<Arc<Material>>| material.as_deref().is_some_and(test)
    };
    wait_until(&mut material, "nothing", is(|m| m.rotations() == 0)).await;
    supply.send_replace(Arc::new(world.supply([world.a.svid("/x").svid()])));
    let first = wait_until(&mut material, "an SVID", is(|m| m.rotations() == 1)).await;
    let mut grown = FileBundles::default();
    grown.set = set(&[&Site::new("b.example")]);
    extra.send_replace(Arc::new(grown));
    let second = wait_until(&mut material, "trust", is(|m| m.trust_revision() == 2)).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(Arc::ptr_eq(
        first.svid(now).unwrap(),
        second.svid(now).unwrap()
    ));
    // Bundles from files may end (there are none); the source may not.
    drop(extra);
    supply.send_replace(Arc::new(world.supply([world.a.svid("/x").svid()])));
    wait_until(&mut material, "rotation", is(|m| m.rotations() == 2)).await;
    drop(supply);
    task.await.unwrap();
}

#[test]
fn a_site_is_told_by_its_whole_name() {
    let world = World::new();
    let mut spec = world.spec();
    spec.site = TrustDomain::new("example").unwrap();
    let refused = world.chosen(&spec, vec![world.a.svid("/x").svid()]);
    assert!(matches!(refused, Err(NotReady::ForeignDomain { .. })));
}

#[test]
fn a_source_that_has_not_spoken_takes_nothing_away() {
    let world = World::new();
    let now = world.clock.now();
    let (spec, context) = (world.spec(), world.context());
    let none = BundleSet::default();
    let before = world.derive(&spec, &world.supply([world.a.svid("/x").svid()]));
    let pending = Supply::pending("not yet".into());
    let after = Material::derive(&spec, &pending, &none, &before, &context);
    assert!(Arc::ptr_eq(
        before.svid(now).unwrap(),
        after.svid(now).unwrap()
    ));
    assert_eq!(before.trust_revision(), after.trust_revision());
    assert_eq!(after.problem(), Some("not yet"));
    // But nobody speaks under a name that the configuration does not give any more.
    let mut renamed = spec.clone();
    renamed.own_id = Some(world.a.id("/y"));
    let after = Material::derive(&renamed, &pending, &none, &before, &context);
    assert!(matches!(after.svid(now), Err(NotReady::NoMatch { .. })));
    // And one that has spoken, and has nothing, has withdrawn it.
    let after = Material::derive(&spec, &Supply::default(), &none, &before, &context);
    assert!(matches!(after.svid(now), Err(NotReady::NoSvid(_))));
}

#[test]
fn revisions_of_trust_go_on_where_a_reload_left_them() {
    let world = World::new();
    let (spec, context) = (world.spec(), world.context());
    let none = BundleSet::default();
    let supply = world.supply([world.a.svid("/x").svid()]);
    let before = world.derive(&spec, &supply);
    let mut changed = spec;
    changed.lists = vec![IdList::Federated];
    let mut other = supply;
    other.bundles = set(&[&world.a, &Site::new("b.example")]);
    let after = Material::derive(&changed, &other, &none, &before, &context);
    assert!(after.trust_revision() > before.trust_revision());
}
