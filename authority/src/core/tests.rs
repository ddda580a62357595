use std::collections::BTreeSet;

use sekisho_certs::id;
use sekisho_testkit::TestClock;

use super::*;
use crate::{
    ca::{CaSettings, keys::KeyFolder},
    entry::{Draft, Federated, Selector},
    store::{Bundle, Deletion, Node, Spent, Token},
};

fn domain() -> TrustDomain {
    id::parse_trust_domain("a.example").unwrap()
}

fn draft(name: &str, parent: &str) -> Draft {
    Draft {
        id: Some(name.into()),
        spiffe_id: id::id_below(&domain(), &format!("/{name}")).unwrap(),
        parent_id: id::id_below(&domain(), parent).unwrap(),
        selectors: BTreeSet::from([Selector {
            kind: "unix".into(),
            value: format!("uid:{name}"),
        }]),
        x509_ttl: Duration::ZERO,
        jwt_ttl: Duration::ZERO,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint: String::new(),
        no_prefetch: false,
        jwt_id: false,
    }
}

fn node(name: &str) -> Node {
    Node {
        id: id::id_below(&domain(), &format!("/spire/agent/join_token/{name}")).unwrap(),
        attestation_type: "join_token".into(),
        selectors: BTreeSet::new(),
        active: None,
        next: None,
        can_reattest: false,
        reattest_at: None,
        svid_ttl: None,
        banned: false,
        version: String::new(),
    }
}

struct World {
    core: Core,
    clock: Arc<TestClock>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let store = Arc::new(Store::open(&folder.path().join("db")).unwrap());
        let keys = KeyFolder::open(&folder.path().join("keys"), None).unwrap();
        let settings = CaSettings {
            domain: domain(),
            ttl: Duration::from_secs(24 * 3600),
            announced: Duration::ZERO,
        };
        let ca = Ca::open(settings, Arc::clone(&store), keys, clock.clone());
        let ca = Arc::new(ca.await.unwrap());
        Self {
            core: Core::new(Settings::new(domain()), store, ca, clock.clone()),
            clock,
            _folder: folder,
        }
    }

    /// What is arranged now is what a new reading of everything would be.
    async fn same(&self, after: &str) {
        let kept = self.core.arranged().await.unwrap();
        let fresh = Arrangement::new(self.core.all_entries().await.unwrap(), &domain());
        assert_eq!(*kept, fresh, "after {after}");
    }
}

/// Whatever changes entries says so: a change that nobody noted would be served as it was before.
#[tokio::test]
async fn what_is_arranged_follows_every_change_of_the_store() {
    let world = World::start().await;
    let (core, store) = (&world.core, &world.core.store);
    let by = || core.by("test");
    world.same("the start").await;
    let osaka = id::parse_trust_domain("osaka.example").unwrap();
    let put = Bundle {
        domain: osaka.clone(),
        x509: Vec::new(),
        jwt: Vec::new(),
        refresh_hint: Duration::ZERO,
        sequence: 1,
    };
    let set = store.edit_bundle(by(), osaka.clone(), |_| Ok::<_, ()>(put));
    set.await.unwrap().unwrap();
    let federated = |name: &str, with| Draft {
        federates_with: vec![with],
        ..draft(name, "/spire/agent/x509pop/1f")
    };
    let ends = Draft {
        expires_at: Some(core.now() + Duration::from_secs(60)),
        ..draft("ends", "/spire/agent/x509pop/1f")
    };
    let drafts = vec![
        draft("a", "/spire/agent/x509pop/1f"),
        draft("b", "/a"),
        federated("named", Federated::Domain(osaka.clone())),
        federated("all", Federated::All),
        ends,
    ];
    store.create_entries(by(), drafts).await.unwrap();
    world.same("a creation").await;
    let again = vec![draft("a", "/spire/agent/x509pop/1f")];
    store.create_entries(by(), again).await.unwrap();
    world.same("a repetition").await;
    let moved = |draft: &mut Draft| {
        draft.parent_id = id::id_below(&domain(), "/spire/agent/x509pop/2f").unwrap();
        Ok::<_, ()>(())
    };
    store.update_entry(by(), "a".into(), moved).await.unwrap();
    world.same("an update").await;
    store
        .update_entry(by(), "a".into(), |_| Err(()))
        .await
        .unwrap();
    world.same("an update that was refused").await;
    store.delete_entry(by(), "b".into()).await.unwrap();
    store.delete_entry(by(), "b".into()).await.unwrap();
    world.same("a deletion").await;
    let again = vec![draft("b", "/a")];
    store.create_entries(by(), again).await.unwrap();
    world.same("a name that comes back").await;
    world.clock.advance(Duration::from_secs(61));
    core.prune().await;
    world.same("an entry that has ended").await;
    // Revisions rise with what entries are federated with.
    let more = Bundle {
        domain: id::parse_trust_domain("tokyo.example").unwrap(),
        x509: Vec::new(),
        jwt: Vec::new(),
        refresh_hint: Duration::ZERO,
        sequence: 1,
    };
    let tokyo = more.domain.clone();
    let set = store.edit_bundle(by(), tokyo, |_| Ok::<_, ()>(more));
    set.await.unwrap().unwrap();
    world.same("another bundle").await;
    let gone = store.delete_bundle(by(), osaka, Deletion::Dissociate);
    gone.await.unwrap().unwrap().unwrap();
    world.same("a bundle that is gone").await;
    // What tokens and nodes make.
    let token = |name: &str, seconds| Token {
        lookup: crate::attest::join_token::token_lookup(name),
        evidence_key: [9; 32],
        agent_id: Some(id::id_below(&domain(), "/host").unwrap()),
        expires_at: core.now() + Duration::from_secs(seconds),
    };
    let alias = |name: &str| {
        let parent = node(name).id;
        Draft {
            selectors: BTreeSet::from([Selector {
                kind: "spiffe_id".into(),
                value: parent.to_string(),
            }]),
            id: None,
            ..draft("host", parent.path())
        }
    };
    for (name, seconds) in [("shown", 600), ("proven", 600), ("unused", 1)] {
        let added = store.add_token(by(), token(name, seconds), Some(alias(name)));
        assert!(added.await.unwrap());
        world.same("a token").await;
    }
    let lookup = |name: &str| token(name, 0).lookup;
    for (name, spent) in [("shown", Spent::Shown), ("proven", Spent::Proven)] {
        let taken = store.take_token(by(), lookup(name), spent).await.unwrap();
        assert!(taken.is_some());
        world.same("a token that was used").await;
    }
    let with = vec![alias("evidence")];
    let attested = store.attest_node(by(), node("evidence"), with).await;
    attested.unwrap().unwrap();
    world.same("a node").await;
    world.clock.advance(Duration::from_secs(61));
    core.prune().await;
    world.same("a token that has ended").await;
    assert!(store.delete_node(by(), node("evidence").id).await.unwrap());
    world.same("an eviction").await;
    let left: Vec<_> = core.all_entries().await.unwrap();
    let left: BTreeSet<_> = left.iter().map(|one| one.draft.spiffe_id.path()).collect();
    assert_eq!(
        left,
        BTreeSet::from(["/a", "/all", "/b", "/host", "/named"])
    );
}
