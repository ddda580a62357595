use sekisho_certs::TrustDomain;
use sekisho_testkit::Site;

use super::*;

fn domain(name: &str) -> TrustDomain {
    id::parse_trust_domain(name).unwrap()
}

fn relationship(name: &str, url: &str, origin: Origin) -> Relationship {
    Relationship {
        origin,
        domain: domain(name),
        url: url.parse().unwrap(),
        profile: EndpointProfile::Web,
    }
}

fn bundle(site: &Site, sequence: u64) -> Bundle {
    Bundle {
        x509: vec![X509Authority {
            der: site.ca().der().to_vec(),
            tainted: false,
            above: false,
        }],
        sequence,
        ..Bundle::empty(site.domain().clone())
    }
}

async fn relate(store: &Store) -> Relationship {
    let api = relationship("b.example", "https://b.example/", Origin::Api);
    let made = store.create_relationship(by(), api.clone(), None).await;
    assert!(made.unwrap());
    api
}

async fn actions(store: &Store) -> Vec<String> {
    let lines = store.audit_lines(0, 100).await.unwrap();
    lines.into_iter().map(|line| line.action).collect()
}

#[tokio::test]
async fn an_older_bundle_is_refused_until_it_is_let_in_once() {
    let Folder { store, .. } = store();
    let api = relate(&store).await;
    // Two bundles of one domain.
    let (site, other) = (Site::new("b.example"), Site::new("b.example"));
    let refresh = async |bundle| {
        let refreshed = store.refresh_bundle(by(), api.clone(), bundle).await;
        refreshed.unwrap()
    };
    assert_eq!(refresh(bundle(&site, 5)).await, Refreshed::Stored);
    assert_eq!(refresh(bundle(&site, 5)).await, Refreshed::AsBefore);
    let (domain, stored) = (domain("b.example"), 5);
    let lower = Refreshed::Refused(Rollback::Lower {
        domain: domain.clone(),
        stored,
        fetched: 4,
    });
    assert_eq!(refresh(bundle(&other, 4)).await, lower);
    assert_eq!(refresh(bundle(&site, 4)).await, lower, "whatever it holds");
    let missing = Rollback::Missing {
        domain: domain.clone(),
        stored,
    };
    assert_eq!(
        refresh(bundle(&other, 0)).await,
        Refreshed::Refused(missing)
    );
    let same = Rollback::SameSequence {
        domain: domain.clone(),
        stored,
    };
    assert_eq!(refresh(bundle(&other, 5)).await, Refreshed::Refused(same));
    // SPIRE tells another hint by the same sequence.
    let mut hint = bundle(&site, 5);
    hint.refresh_hint = Duration::from_secs(7);
    assert_eq!(refresh(hint).await, Refreshed::Stored);
    assert!(store.accept_rollback(by(), domain.clone()).await.unwrap());
    assert!(store.peers().await.unwrap()[0].rollback);
    assert_eq!(refresh(bundle(&other, 3)).await, Refreshed::Stored);
    assert!(!store.peers().await.unwrap()[0].rollback, "once");
    assert!(matches!(
        refresh(bundle(&site, 2)).await,
        Refreshed::Refused(_)
    ));
    let done = actions(&store).await;
    for action in ["federation.accept_rollback", "federation.rollback"] {
        let times = done.iter().filter(|one| *one == action).count();
        assert_eq!(times, 1, "{done:?}");
    }
}

#[tokio::test]
async fn what_was_let_in_is_not_let_in_after_a_newer_bundle() {
    let Folder { store, .. } = store();
    let (api, site) = (relate(&store).await, Site::new("b.example"));
    let refresh = async |sequence| {
        let bundle = bundle(&site, sequence);
        let refreshed = store.refresh_bundle(by(), api.clone(), bundle).await;
        refreshed.unwrap()
    };
    refresh(5).await;
    store
        .accept_rollback(by(), site.domain().clone())
        .await
        .unwrap();
    assert_eq!(refresh(6).await, Refreshed::Stored);
    assert!(matches!(refresh(4).await, Refreshed::Refused(_)));
    let unknown = store.accept_rollback(by(), domain("c.example")).await;
    assert!(!unknown.unwrap());
}

#[tokio::test]
async fn all_keys_withdrawn_counts_at_once_and_what_was_is_not_believed_again() {
    let Folder { store, .. } = store();
    let (api, site) = (relate(&store).await, Site::new("b.example"));
    let refresh = async |bundle| {
        let refreshed = store.refresh_bundle(by(), api.clone(), bundle).await;
        refreshed.unwrap()
    };
    refresh(bundle(&site, 5)).await;
    let empty = Bundle::empty(site.domain().clone());
    assert_eq!(refresh(empty).await, Refreshed::Stored);
    let stored = store.bundle(site.domain().clone()).await.unwrap().unwrap();
    assert_eq!((stored.x509.len(), stored.sequence), (0, 5));
    assert!(matches!(
        refresh(bundle(&site, 5)).await,
        Refreshed::Refused(_)
    ));
    assert_eq!(refresh(bundle(&site, 6)).await, Refreshed::Stored);
}

#[tokio::test]
async fn when_an_endpoint_was_last_heard_survives_a_restart() {
    let Folder { folder, store } = store();
    let (api, site) = (relate(&store).await, Site::new("b.example"));
    assert_eq!(store.peers().await.unwrap()[0].confirmed, None);
    let at = |seconds| By {
        at: time(seconds),
        ..by()
    };
    let fetched = store.refresh_bundle(at(1000), api.clone(), bundle(&site, 5));
    fetched.await.unwrap();
    store
        .refresh_bundle(at(2000), api.clone(), bundle(&site, 4))
        .await
        .unwrap();
    let confirmed = store.peers().await.unwrap()[0].confirmed;
    assert_eq!(confirmed, Some(time(1000)), "what is refused says nothing");
    assert!(store.confirm_bundle(at(3000), api.clone()).await.unwrap());
    let moved = Relationship {
        url: "https://c.example/".parse().unwrap(),
        ..api
    };
    assert!(!store.confirm_bundle(at(4000), moved).await.unwrap());
    drop(store);
    let store = Store::open(&folder.path().join("db")).unwrap();
    let confirmed = store.peers().await.unwrap()[0].confirmed;
    assert_eq!(confirmed, Some(time(3000)));
}

#[tokio::test]
async fn a_ca_of_one_domain_is_not_taken_from_another_whatever_its_way() {
    let Folder { folder, store } = store();
    let site = Site::new("b.example");
    let mut stolen = bundle(&site, 9);
    stolen.domain = domain("c.example");
    let api = relationship("c.example", "https://c.example/", Origin::Api);
    store
        .create_relationship(by(), api.clone(), None)
        .await
        .unwrap();
    let put = async |store: &Store, bundle: Bundle| {
        let name = bundle.domain.clone();
        let edit = move |_| Ok::<_, ()>(bundle);
        store.edit_bundle(by(), name, edit).await.map(drop)
    };
    put(&store, bundle(&site, 1)).await.unwrap();
    // A database of the version before has no names of keys.
    drop(store);
    let raw = Connection::open(folder.path().join("db")).unwrap();
    raw.execute("UPDATE x509_authorities SET spki = x''", [])
        .unwrap();
    drop(raw);
    let store = Store::open(&folder.path().join("db")).unwrap();
    let shared = StoreError::SharedKey {
        first: "b.example".into(),
        second: "c.example".into(),
    };
    let refreshed = store.refresh_bundle(by(), api, stolen.clone()).await;
    assert_eq!(refreshed, Err(shared.clone()));
    assert_eq!(put(&store, stolen).await, Err(shared));
    assert_eq!(store.bundle(domain("c.example")).await.unwrap(), None);
}

#[tokio::test]
async fn the_file_hides_what_administrators_have_made_and_gives_it_back() {
    let Folder { store, .. } = store();
    let (api, site) = (relate(&store).await, Site::new("b.example"));
    let file = relationship("b.example", "https://file.example/", Origin::File);
    let only_file = relationship("c.example", "https://c.example/", Origin::Api);
    let declared = |relationship: &Relationship, bundle| Declared {
        relationship: relationship.clone(),
        bundle,
    };
    let both = || {
        vec![
            declared(&file, Some(bundle(&site, 3))),
            declared(&only_file, Some(bundle(&Site::new("c.example"), 0))),
        ]
    };
    store.declare_peers(by(), both()).await.unwrap();
    let lines = store.verify_audit().await.unwrap().0;
    store.declare_peers(by(), both()).await.unwrap();
    let after = store.verify_audit().await.unwrap().0;
    assert_eq!(after, lines, "nothing is new");
    let counts = async || {
        let peers = store.peers().await.unwrap().into_iter();
        peers.map(|peer| peer.relationship).collect::<Vec<_>>()
    };
    let as_file = Relationship {
        origin: Origin::File,
        ..only_file.clone()
    };
    assert_eq!(counts().await, [file.clone(), as_file]);
    let page = store.relationships(0, 9).await.unwrap();
    assert_eq!(page.items, counts().await);
    // What an administrator asks does not touch it.
    let (b, c) = (domain("b.example"), domain("c.example"));
    let removed = store.remove_peer(by(), c.clone()).await.unwrap();
    assert_eq!(removed, Removal::OfFile);
    let gone = store.delete_relationship(by(), c.clone()).await.unwrap();
    assert!(!gone);
    // What was fetched since is not undone by what the first was known by.
    let fetched = store.refresh_bundle(by(), file.clone(), bundle(&site, 4));
    assert_eq!(fetched.await.unwrap(), Refreshed::Stored);
    store.declare_peers(by(), both()).await.unwrap();
    let stored = store.bundle(b.clone()).await.unwrap().unwrap();
    assert_eq!(stored.sequence, 4);
    let fetched = store.refresh_bundle(by(), api.clone(), bundle(&site, 5));
    assert_eq!(fetched.await.unwrap(), Refreshed::Unrelated);
    store.declare_peers(by(), Vec::new()).await.unwrap();
    assert_eq!(counts().await, [api]);
    assert!(store.bundle(b.clone()).await.unwrap().is_some());
    assert_eq!(store.bundle(c).await.unwrap(), None, "nobody names it");
    let removed = store.remove_peer(by(), b.clone()).await.unwrap();
    assert_eq!(removed, Removal::Done);
    assert_eq!(store.bundle(b.clone()).await.unwrap(), None);
    let removed = store.remove_peer(by(), b).await.unwrap();
    assert_eq!(removed, Removal::Missing);
}
