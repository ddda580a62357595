//! Peers of sites that are known by what a federation says of them.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{
    BundleSet, Clock as _, Material, Member, Members, StoreSpec,
    id::parse_workload_id,
    members::{Demand, Feed, Gateway, Service, Source},
    source::{FileBundles, Supply},
    store::follow,
    tls::MinVersion,
};
use sekisho_proxy::endpoint::spec::{
    Address, EndpointSpec, Forward, Listen, MtlsTarget, SiteService,
};
use sekisho_testkit::{ports, site::Site, wait::wait_for};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};

use crate::harness::{SOON, World, end, list, ping, policy};

/// What an endpoint is told of other sites, while a test runs.
pub(crate) struct Told {
    pub(crate) members: watch::Sender<Members>,
    pub(crate) demand: Arc<Demand>,
    task: JoinHandle<()>,
    _supply: watch::Sender<Arc<Supply>>,
    _extra: watch::Sender<Arc<FileBundles>>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has an endpoint follow members, with its own site's bundle as the only other one.
pub(crate) async fn told(world: &World, spec: &EndpointSpec, members: Members) -> Told {
    let id = spec.own_id.clone().unwrap();
    let own = if spec.site == *world.a.domain() {
        &world.a
    } else {
        &world.b
    };
    let mut bundles = BundleSet::default();
    bundles.insert(Arc::clone(own.bundle())).unwrap();
    let supply = Supply {
        svids: vec![Arc::new(own.svid(id.path()).svid())],
        bundles,
        ..Supply::default()
    };
    let store = StoreSpec {
        name: spec.name.clone(),
        site: spec.site.clone(),
        own_id: spec.own_id.clone(),
        lists: spec.lists().cloned().collect(),
        resumption: spec.resumption,
        listen: Some(MinVersion::Tls13),
        forward: match &spec.forward {
            Forward::Mtls { expect, .. } => Some((MinVersion::Tls13, expect.clone())),
            Forward::Plain { .. } => None,
        },
    };
    let (supplies, supplied) = watch::channel(Arc::new(supply));
    let (extra, extras) = watch::channel(Arc::default());
    let (members, known) = watch::channel(members);
    let demand = Demand::new(Arc::clone(&world.clock) as _);
    let feed = Feed {
        members: known,
        demand: Some(Arc::clone(&demand)),
        ..Feed::none()
    };
    let context = world.proxy.context().clone();
    let nothing = Arc::new(Material::empty(&context, "nothing yet"));
    let endpoint = world.endpoint(&spec.name);
    let published = Arc::clone(&endpoint);
    let publish = move |material| published.set_material(material);
    let task = tokio::spawn(follow(
        store, supplied, extras, feed, context, nothing, publish,
    ));
    wait_for("an SVID", SOON, || {
        let snapshot = endpoint.snapshot().unwrap();
        snapshot.material.latest_svid().is_some()
    })
    .await;
    Told {
        members,
        demand,
        task,
        _supply: supplies,
        _extra: extra,
    }
}

fn marks(words: &[&str]) -> BTreeSet<sekisho_certs::Mark> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

pub(crate) fn member(site: &Site, words: &[&str], at: SystemTime) -> Member {
    Member::new(site.domain().clone(), Source::Directory, at)
        .with_marks(marks(words))
        .unwrap()
        .with_bundle(Arc::clone(site.bundle()))
        .unwrap()
}

pub(crate) fn members(own: &Site, all: Vec<Member>) -> Members {
    Members::new(own.domain(), all.into_iter().map(Arc::new)).unwrap()
}

/// The gate of site b, which lets in whom a mark names.
async fn gate(world: &World, rules: Option<&str>, known: Vec<Member>) -> Told {
    let mut spec = world.receiving("back");
    if let Listen::Mtls { accept, .. } = &mut spec.listen {
        *accept = list(&["mark:hpci/front"]);
    }
    let policy = rules.map(policy);
    let desired = crate::harness::desired(std::slice::from_ref(&spec), policy.as_ref());
    world.proxy.apply(&desired, true).unwrap();
    told(world, &spec, members(&world.b, known)).await
}

#[tokio::test]
async fn a_member_is_let_in_by_its_mark_and_cut_when_it_loses_it() {
    let world = World::new().await;
    let now = world.clock.now();
    let told = gate(&world, None, vec![member(&world.a, &["hpci"], now)]).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    let mut other = world.dial("/other").await.unwrap();
    assert!(ping(&mut other).await.is_err());
    world.until("refused", "not_accepted", 1).await;
    // That it was confirmed again is no reason to decide again; that it has one mark more is, and
    // changes nothing.
    let more = member(&world.a, &["hpci", "more"], now);
    told.members.send_replace(members(&world.b, vec![more]));
    ping(&mut stream).await.unwrap();
    let less = member(&world.a, &["more"], now);
    told.members.send_replace(members(&world.b, vec![less]));
    assert!(end(&mut stream).await.is_err());
    world.until("allowed", "not_accepted", 1).await;
    let refused = match world.dial("/front").await {
        Ok(mut stream) => ping(&mut stream).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    world.until("refused", "unknown_trust_domain", 1).await;
}

#[tokio::test]
async fn a_member_that_is_expelled_is_cut() {
    let world = World::new().await;
    let now = world.clock.now();
    let told = gate(&world, None, vec![member(&world.a, &["hpci"], now)]).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    told.members.send_replace(members(&world.b, vec![]));
    assert!(end(&mut stream).await.is_err());
    world.until("allowed", "bundle_changed", 1).await;
}

#[tokio::test]
async fn a_member_that_is_not_loaded_is_refused_asked_for_and_let_in_next_time() {
    let world = World::new().await;
    let told = gate(&world, None, vec![]).await;
    for _ in 0..3 {
        let refused = match world.dial("/front").await {
            Ok(mut stream) => ping(&mut stream).await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
    world.until("refused", "unknown_trust_domain", 3).await;
    assert_eq!(told.demand.wanted(), [world.a.domain().clone()]);
    let now = world.clock.now();
    let known = members(&world.b, vec![member(&world.a, &["hpci"], now)]);
    told.demand.answered(&known, []);
    told.members.send_replace(known);
    wait_for("trust", SOON, || {
        let snapshot = world.endpoint("back").snapshot().unwrap();
        snapshot
            .material
            .trust()
            .bundles()
            .get(world.a.domain())
            .is_some()
    })
    .await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
}

#[tokio::test]
async fn a_stranger_whom_no_list_could_let_in_makes_us_ask_for_nobody() {
    let world = World::new().await;
    let spec = world.receiving("back");
    world
        .proxy
        .apply(
            &crate::harness::desired(std::slice::from_ref(&spec), None),
            true,
        )
        .unwrap();
    let told = told(&world, &spec, Members::default()).await;
    let stranger = Site::new("far.example");
    let svid = stranger.svid("/front");
    let refused = match world.dial_as(&svid, "back.b.example").await {
        Ok(mut stream) => ping(&mut stream).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    world.until("refused", "unknown_trust_domain", 1).await;
    assert!(told.demand.wanted().is_empty());
}

#[tokio::test]
async fn policy_sees_source_age_and_marks() {
    let world = World::new().await;
    let now = world.clock.now();
    let rules = "allow if {\n  input.sekisho.federation.source == \"directory\"\n  \
                 input.sekisho.federation.age < 60\n  \
                 input.sekisho.federation.marks == [\"a\", \"hpci\"]\n}";
    let known = member(&world.a, &["hpci", "a"], now);
    let told = gate(&world, Some(rules), vec![known]).await;
    let mut stream = world.dial("/front").await.unwrap();
    ping(&mut stream).await.unwrap();
    world.clock.set(now + Duration::from_secs(60));
    let mut late = world.dial("/front").await.unwrap();
    assert!(ping(&mut late).await.is_err());
    world.until("refused", "policy_undefined", 1).await;
    // Confirmed again: nothing is handed out anew, and the next decision sees it.
    let again = member(&world.a, &["hpci", "a"], world.clock.now());
    told.members.send_replace(members(&world.b, vec![again]));
    wait_for("a younger age", SOON, || {
        let snapshot = world.endpoint("back").snapshot().unwrap();
        let members = snapshot.material.members();
        let member = members.get(world.a.domain()).unwrap();
        member.age(world.clock.now()).is_zero()
    })
    .await;
    let mut fresh = world.dial("/front").await.unwrap();
    ping(&mut fresh).await.unwrap();
    ping(&mut stream).await.unwrap();
}

/// Site a, which sends to the service `back` of site b by its catalogue.
struct Sender {
    app: SocketAddr,
    told: Told,
}

async fn sender(world: &World, allow: &[&str], expect: &str, known: Vec<Member>) -> Sender {
    let app = ports::free();
    let mut spec = world.sending("out", app);
    let service = SiteService {
        domain: world.b.domain().clone(),
        service: "back".into(),
        allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
    };
    spec.forward = Forward::Mtls {
        targets: vec![MtlsTarget {
            address: Address::Site(service),
            server_name: None,
        }],
        expect: list(&[expect]),
        min_version: MinVersion::Tls13,
    };
    let back = world.receiving("back");
    let desired = crate::harness::desired(&[back.clone(), spec.clone()], None);
    world.proxy.apply(&desired, true).unwrap();
    world.supply(&back, &[world.a.bundle(), world.b.bundle()]);
    let told = told(world, &spec, members(&world.a, known)).await;
    Sender { app, told }
}

fn offering(world: &World, gateways: &[SocketAddr], id: &str) -> Member {
    let service = Service::new(
        "back",
        gateways.iter().copied().map(Gateway::Ip).collect(),
        parse_workload_id(id).unwrap(),
        BTreeSet::new(),
    );
    let member = member(&world.b, &[], world.clock.now());
    member.with_services([service.unwrap()]).unwrap()
}

/// A connection that is reset, however early.
async fn refused(app: SocketAddr) {
    if let Ok(mut stream) = TcpStream::connect(app).await {
        assert!(end(&mut stream).await.is_err());
    }
}

const HERE: &[&str] = &["127.0.0.0/8"];
const ANY_OF_B: &str = "spiffe://b.example/*";

#[tokio::test]
async fn a_service_is_asked_for_found_and_followed() {
    let world = World::new().await;
    let sender = sender(&world, HERE, ANY_OF_B, vec![]).await;
    refused(sender.app).await;
    world.until("refused", "upstream_unreachable", 1).await;
    assert_eq!(sender.told.demand.wanted(), [world.b.domain().clone()]);

    let publish = |gateways: &[SocketAddr]| {
        let known = offering(&world, gateways, "spiffe://b.example/back");
        let count = gateways.len();
        sender
            .told
            .members
            .send_replace(members(&world.a, vec![known]));
        let endpoint = world.endpoint("out");
        async move {
            wait_for("targets", SOON, || {
                endpoint.snapshot().unwrap().upstream.targets().len() == count
            })
            .await;
        }
    };
    publish(&[world.gate]).await;
    let mut stream = TcpStream::connect(sender.app).await.unwrap();
    ping(&mut stream).await.unwrap();
    let available = |world: &World| {
        let text = world.proxy.metrics_text();
        let lines = text.lines();
        lines
            .filter(|line| line.starts_with("sekisho_target_available{endpoint=\"out\""))
            .count()
    };
    assert_eq!(available(&world), 1);
    let shown = world.proxy.endpoint_status();
    let out = shown.iter().find(|row| row.name == "out").unwrap();
    let name = format!("site://b.example/back ({})", world.gate);
    assert_eq!(out.targets[0].address, name);
    assert_eq!(out.targets[0].connections, 1);

    // A second gateway, of which nobody listens at the first: the connection stays, and what is
    // known of the old target goes on.
    publish(&[world.gate, ports::free()]).await;
    ping(&mut stream).await.unwrap();
    let out = world.proxy.endpoint_status();
    let out = out.iter().find(|row| row.name == "out").unwrap();
    assert_eq!(out.targets[0].connections, 1);
    for _ in 0..4 {
        let mut another = TcpStream::connect(sender.app).await.unwrap();
        ping(&mut another).await.unwrap();
    }
    // None any more: new ones are refused, the old one stays.
    sender.told.members.send_replace(members(
        &world.a,
        vec![member(&world.b, &[], world.clock.now())],
    ));
    wait_for("no target", SOON, || {
        let snapshot = world.endpoint("out").snapshot().unwrap();
        snapshot.upstream.targets().is_empty()
    })
    .await;
    ping(&mut stream).await.unwrap();
    assert_eq!(available(&world), 0);
    refused(sender.app).await;
    world.until("refused", "upstream_unreachable", 2).await;
}

#[tokio::test]
async fn a_catalogue_sends_us_to_no_address_that_is_not_listed() {
    let world = World::new().await;
    let known = offering(&world, &[world.gate], "spiffe://b.example/back");
    let sender = sender(&world, &["10.0.0.0/8"], ANY_OF_B, vec![known]).await;
    refused(sender.app).await;
    world.until("refused", "upstream_unreachable", 1).await;
    assert_eq!(world.echo.accepted(), 0);
}

#[tokio::test]
async fn only_who_the_catalogue_names_may_answer() {
    let world = World::new().await;
    let known = offering(&world, &[world.gate], "spiffe://b.example/another");
    let sender = sender(&world, HERE, ANY_OF_B, vec![known]).await;
    refused(sender.app).await;
    world.until("refused", "not_expected", 1).await;
    // Within the handshake: the other side dialled nothing.
    world.until("refused", "refused_by_peer", 1).await;
    assert_eq!(world.echo.accepted(), 0);
}

#[tokio::test]
async fn a_list_narrows_what_a_catalogue_may_name() {
    let world = World::new().await;
    let known = offering(&world, &[world.gate], "spiffe://b.example/back");
    let only = "spiffe://b.example/gate/*";
    let sender = sender(&world, HERE, only, vec![known]).await;
    refused(sender.app).await;
    world.until("refused", "not_expected", 1).await;
    assert_eq!(world.echo.accepted(), 0);
}
