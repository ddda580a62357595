//! The Workload API as a source.

use std::{path::PathBuf, sync::Arc};

use sekisho_certs::{
    BundleSet, IdList, Material, StoreSpec, SystemClock, TlsContext, TrustDomain,
    source::{Supply, watch_workload_api},
    tls::provider,
};
use sekisho_testkit::{
    FakeWorkloadApi, Issued, Site, wait_until,
    workload_api::{Code, Entry, Malformed},
};
use tempfile::TempDir;
use tokio::sync::watch;

struct World {
    a: Site,
    b: Site,
    api: FakeWorkloadApi,
    supply: watch::Receiver<Arc<Supply>>,
    _folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket: PathBuf = folder.path().join("api.sock");
        Self {
            a: Site::new("a.example"),
            b: Site::new("b.example"),
            api: FakeWorkloadApi::start(&socket),
            supply: watch_workload_api(socket, Arc::new(provider())),
            _folder: folder,
        }
    }

    fn publish(&self, issued: &[&Issued]) {
        let entries: Vec<_> = issued.iter().map(|issued| entry(issued)).collect();
        self.api
            .publish(&entries, self.a.bundle(), &[self.b.bundle()]);
    }

    /// Waits for exactly these SVIDs, without a problem.
    async fn delivered(&mut self, what: &str, issued: &[&Issued]) -> Arc<Supply> {
        let serials: Vec<_> = issued
            .iter()
            .map(|issued| issued.svid().serial().to_owned())
            .collect();
        wait_until(&mut self.supply, what, |supply| {
            let delivered = supply.svids.iter().map(|svid| svid.serial());
            supply.problem.is_none() && delivered.eq(serials.iter())
        })
        .await
    }

    /// Waits for a problem with this text.
    async fn complains(&mut self, text: &str) -> Arc<Supply> {
        wait_until(&mut self.supply, text, |supply| {
            let problem = supply.problem.as_deref();
            problem.is_some_and(|problem| problem.contains(text))
        })
        .await
    }
}

const fn entry(issued: &Issued) -> Entry<'_> {
    Entry { issued, hint: "" }
}

fn domains(bundles: &BundleSet) -> Vec<&str> {
    bundles
        .iter()
        .map(|bundle| bundle.trust_domain().as_str())
        .collect()
}

#[tokio::test]
async fn what_spire_answered_is_understood() {
    let mut world = World::new();
    world.api.replay_spire();
    let supply = wait_until(&mut world.supply, "the recorded answer", |supply| {
        supply.problem.is_none()
    })
    .await;
    let svids: Vec<_> = supply
        .svids
        .iter()
        .map(|svid| (svid.hint().unwrap(), svid.id().to_string()))
        .collect();
    let expected = ["from-kyushu", "from-osaka", "to-tokyo"]
        .map(|hint| (hint, format!("spiffe://hokkaido.example/broker/{hint}")));
    assert_eq!(svids, expected);
    assert_eq!(
        domains(&supply.bundles),
        ["hokkaido.example", "osaka.example"]
    );
}

#[tokio::test]
async fn each_of_spires_hints_chooses_for_the_endpoint_of_its_name() {
    let mut world = World::new();
    world.api.replay_spire();
    let supply = wait_until(&mut world.supply, "the recorded answer", |supply| {
        supply.problem.is_none()
    })
    .await;
    let context = TlsContext {
        provider: Arc::new(provider()),
        clock: Arc::new(SystemClock),
    };
    let (nothing, none) = (Material::empty(&context, ""), BundleSet::default());
    for (index, name) in ["from-kyushu", "from-osaka", "to-tokyo"]
        .into_iter()
        .enumerate()
    {
        let spec = StoreSpec {
            name: name.into(),
            site: TrustDomain::new("hokkaido.example").unwrap(),
            own_id: None,
            lists: vec![IdList::Federated],
            resumption: false,
            listen: None,
            forward: None,
        };
        let material = Material::derive(&spec, &supply, &none, &nothing, &context);
        assert_eq!(material.latest_svid(), Some(&supply.svids[index]));
    }
}

/// The other call of the test kit's server, which our source does not use.
#[tokio::test]
async fn the_recorded_bundles_are_those_of_the_recorded_svids() {
    let mut world = World::new();
    world.api.replay_spire();
    let endpoint = format!("unix://{}", world.api.socket().display());
    let client = spiffe::WorkloadApiClient::connect_to(endpoint)
        .await
        .unwrap();
    let bundles = client.fetch_x509_bundles().await.unwrap();
    let supply = wait_until(&mut world.supply, "the recorded answer", |supply| {
        supply.problem.is_none()
    })
    .await;
    assert_eq!(bundles.len(), supply.bundles.len());
    for (domain, bundle) in bundles.iter() {
        let ours = supply.bundles.get(domain).unwrap().authorities();
        let ours = ours.iter().map(|ca| ca.der().as_ref());
        assert!(ours.eq(bundle.authorities().iter().map(|ca| ca.as_bytes())));
    }
}

#[tokio::test]
async fn the_api_is_waited_for() {
    let mut world = World::new();
    let supply = world.complains("not ready").await;
    assert!(supply.svids.is_empty());
    let x = world.a.svid("/x");
    world.publish(&[&x]);
    let supply = world.delivered("the first answer", &[&x]).await;
    assert_eq!(domains(&supply.bundles), ["a.example", "b.example"]);
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let mut supply = watch_workload_api(socket.clone(), Arc::new(provider()));
    assert!(
        supply
            .borrow()
            .problem
            .as_deref()
            .unwrap()
            .contains("has not answered yet")
    );
    supply.changed().await.unwrap();
    assert!(supply.borrow().problem.is_some());
    let api = FakeWorkloadApi::start(socket);
    api.replay_spire();
    wait_until(&mut supply, "the first answer", |supply| {
        supply.svids.len() == 3
    })
    .await;
}

#[tokio::test]
async fn each_answer_takes_the_place_of_the_one_before() {
    let mut world = World::new();
    let (x, y) = (world.a.svid("/x"), world.a.svid("/y"));
    world.publish(&[&x, &y]);
    world.delivered("two", &[&x, &y]).await;
    let new_x = world.a.svid("/x");
    world.publish(&[&new_x, &y]);
    world.delivered("a rotation", &[&new_x, &y]).await;
    // What is not there any more was taken back (Workload_API.md §4.4).
    world.api.publish(&[entry(&y)], world.a.bundle(), &[]);
    let supply = world.delivered("a redaction", &[&y]).await;
    assert_eq!(domains(&supply.bundles), ["a.example"]);
}

#[tokio::test]
async fn a_withdrawn_identity_is_given_up_and_its_bundles_stay() {
    let mut world = World::new();
    let x = world.a.svid("/x");
    world.publish(&[&x]);
    world.delivered("an identity", &[&x]).await;
    world.api.withdraw();
    let supply = wait_until(&mut world.supply, "the withdrawal", |supply| {
        supply.svids.is_empty()
    })
    .await;
    assert!(supply.problem.is_some());
    assert_eq!(domains(&supply.bundles), ["a.example", "b.example"]);
    world.publish(&[&x]);
    world.delivered("an identity again", &[&x]).await;
}

#[tokio::test]
async fn an_api_that_is_away_takes_nothing_with_it() {
    let mut world = World::new();
    let x = world.a.svid("/x");
    world.publish(&[&x]);
    world.delivered("an identity", &[&x]).await;
    world.api.stop();
    let away = wait_until(&mut world.supply, "the loss", |supply| {
        supply.problem.is_some()
    })
    .await;
    assert_eq!(away.svids.len(), 1);
    assert_eq!(domains(&away.bundles), ["a.example", "b.example"]);
    let new_x = world.a.svid("/x");
    world.publish(&[&new_x]);
    world.api.restart();
    world.delivered("its return", &[&new_x]).await;
}

#[tokio::test]
async fn another_refusal_takes_nothing_back() {
    let mut world = World::new();
    let x = world.a.svid("/x");
    world.publish(&[&x]);
    world.delivered("an identity", &[&x]).await;
    for code in [Code::Unavailable, Code::Internal, Code::InvalidArgument] {
        world.api.refuse(code, "a refusal");
        let supply = world.complains("a refusal").await;
        assert_eq!(supply.svids.len(), 1, "{code}");
        world.publish(&[&x]);
        world.delivered("its return", &[&x]).await;
    }
}

async fn is_discarded_whole(how: Malformed) {
    let mut world = World::new();
    let (x, y) = (world.a.svid("/x"), world.a.svid("/y"));
    world.publish(&[&x, &y]);
    world.delivered("two", &[&x, &y]).await;
    let (new_x, new_y) = (world.a.svid("/x"), world.a.svid("/y"));
    let entries = [entry(&new_x), entry(&new_y)];
    world.api.publish_malformed(how, &entries, world.a.bundle());
    let supply = wait_until(&mut world.supply, "a complaint", |supply| {
        supply.problem.is_some()
    })
    .await;
    let serials: Vec<_> = supply.svids.iter().map(|svid| svid.serial()).collect();
    assert_eq!(serials, [x.svid().serial(), y.svid().serial()]);
    assert_eq!(domains(&supply.bundles), ["a.example", "b.example"]);
    world.publish(&[&new_x, &new_y]);
    world.delivered("a better answer", &[&new_x, &new_y]).await;
}

#[tokio::test]
async fn an_answer_of_garbage_is_discarded() {
    is_discarded_whole(Malformed::Garbage).await;
}

#[tokio::test]
async fn an_answer_without_svids_is_discarded() {
    is_discarded_whole(Malformed::NoSvid).await;
}

#[tokio::test]
async fn an_answer_with_an_svid_without_bundle_is_discarded_whole() {
    is_discarded_whole(Malformed::WithoutBundle).await;
}

#[tokio::test]
async fn an_answer_with_the_key_of_another_svid_is_discarded_whole() {
    is_discarded_whole(Malformed::KeyOfAnother).await;
}

#[tokio::test]
async fn an_answer_with_one_ca_for_two_trust_domains_is_discarded_whole() {
    let mut world = World::new();
    let x = world.a.svid("/x");
    world.publish(&[&x]);
    world.delivered("an identity", &[&x]).await;
    let nameless = sekisho_testkit::Profile::ca("c.example").with_uris([]);
    let shared = world.a.ca().renewed(&nameless).bundle("c.example");
    let new_x = world.a.svid("/x");
    world
        .api
        .publish(&[entry(&new_x)], world.a.bundle(), &[&shared]);
    let supply = world.complains("already belongs to").await;
    assert_eq!(supply.svids[0].serial(), x.svid().serial());
    assert_eq!(domains(&supply.bundles), ["a.example", "b.example"]);
}

#[tokio::test]
async fn the_watch_ends_with_its_last_reader() {
    let world = World::new();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    assert!(tasks() > 0);
    drop(world.supply);
    let bound = std::time::Duration::from_secs(5);
    sekisho_testkit::wait_for("the end of the watch", bound, || tasks() == 0).await;
}
