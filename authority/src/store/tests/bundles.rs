use super::*;

fn domain(name: &str) -> sekisho_certs::TrustDomain {
    id::parse_trust_domain(name).unwrap()
}

fn bundle(name: &str) -> Bundle {
    Bundle {
        x509: vec![X509Authority {
            der: vec![1, 2, 3],
            tainted: false,
            above: true,
        }],
        jwt: vec![JwtAuthority {
            key_id: "k".into(),
            public_key: vec![4],
            expires_at: Some(time(1_900_000_000)),
            tainted: true,
        }],
        refresh_hint: Duration::from_secs(300),
        sequence: 7,
        ..Bundle::empty(domain(name))
    }
}

async fn put(store: &Store, bundle: Bundle) {
    let domain = bundle.domain.clone();
    let edit = move |_| Ok::<_, ()>(bundle);
    store
        .edit_bundle(by(), domain, edit)
        .await
        .unwrap()
        .unwrap();
}

async fn linked(store: &Store) -> crate::entry::Entry {
    let mut wanted = draft("linked");
    wanted.federates_with = vec![Federated::Domain(domain("b.example"))];
    created(store, wanted).await
}

#[tokio::test]
async fn a_bundle_comes_back_as_it_was_stored_and_an_edit_may_refuse() {
    let Folder { store, .. } = store();
    put(&store, bundle("b.example")).await;
    let found = store.bundle(domain("b.example")).await.unwrap();
    assert_eq!(found, Some(bundle("b.example")));
    let refuse = |before: Option<Bundle>| Err::<Bundle, _>(before.unwrap().sequence);
    let refused = store.edit_bundle(by(), domain("b.example"), refuse).await;
    assert_eq!(refused.unwrap(), Err(7));
    let lines = store.verify_audit().await.unwrap().0;
    put(&store, bundle("b.example")).await;
    assert_eq!(
        store.verify_audit().await.unwrap().0,
        lines,
        "nothing has changed"
    );
    put(&store, bundle("c.example")).await;
    let page = store.bundles(0, 1).await.unwrap();
    let rest = store.bundles(page.next, 9).await.unwrap();
    let names = [&page.items[0].domain, &rest.items[0].domain];
    assert_eq!(names, [&domain("b.example"), &domain("c.example")]);
}

#[tokio::test]
async fn a_bundle_that_entries_name_goes_as_it_is_asked_to() {
    for (deletion, stays) in [(Deletion::Delete, false), (Deletion::Dissociate, true)] {
        let Folder { store, .. } = store();
        put(&store, bundle("b.example")).await;
        let entry = linked(&store).await;
        let restrict = store.delete_bundle(by(), domain("b.example"), Deletion::Restrict);
        assert_eq!(restrict.await.unwrap(), Some(Err(vec![entry.id.clone()])));
        let gone = store.delete_bundle(by(), domain("b.example"), deletion);
        assert_eq!(gone.await.unwrap(), Some(Ok(())));
        assert_eq!(store.bundle(domain("b.example")).await.unwrap(), None);
        let after = store.entry(entry.id).await.unwrap();
        assert_eq!(after.is_some(), stays);
        if let Some(after) = after {
            assert_eq!(after.draft.federates_with, []);
            assert!(
                after.revision > entry.revision,
                "its agent has to ask again"
            );
        }
        let again = store.delete_bundle(by(), domain("b.example"), deletion);
        assert_eq!(again.await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_entry_for_all_domains_changes_with_their_number() {
    let Folder { store, .. } = store();
    let mut wanted = draft("all");
    wanted.federates_with = vec![Federated::All];
    created(&store, wanted).await;
    created(&store, draft("none")).await;
    let mut revisions = Vec::new();
    put(&store, bundle("b.example")).await;
    revisions.push(store.entry("all".into()).await.unwrap().unwrap().revision);
    let mut changed = bundle("b.example");
    changed.x509.clear();
    put(&store, changed).await;
    revisions.push(store.entry("all".into()).await.unwrap().unwrap().revision);
    let gone = store.delete_bundle(by(), domain("b.example"), Deletion::Restrict);
    gone.await.unwrap().unwrap().unwrap();
    revisions.push(store.entry("all".into()).await.unwrap().unwrap().revision);
    assert_eq!(revisions, [1, 1, 2]);
    let other = store.entry("none".into()).await.unwrap().unwrap();
    assert_eq!(other.revision, 0);
}

#[tokio::test]
async fn revisions_that_rise_by_a_change_of_federation_are_told_in_one_line() {
    let Folder { store, .. } = store();
    for name in ["all", "all-too"] {
        let mut wanted = draft(name);
        wanted.federates_with = vec![Federated::All];
        created(&store, wanted).await;
    }
    put(&store, bundle("b.example")).await;
    put(&store, bundle("b.example")).await;
    let deleted = store.delete_bundle(by(), domain("b.example"), Deletion::Restrict);
    deleted.await.unwrap().unwrap().unwrap();
    let revision = store.entry("all".into()).await.unwrap().unwrap().revision;
    assert_eq!(revision, 2);
    let lines = store.audit_lines(0, 100).await.unwrap();
    let raised: Vec<_> = lines
        .iter()
        .filter(|line| line.action == "entry.federation")
        .map(|line| (line.object.as_str(), line.detail.as_str()))
        .collect();
    assert_eq!(raised, [("b.example", r#"{"entries":2}"#); 2]);
}
