use super::*;
use crate::attest::join_token;

fn node(name: &str) -> Node {
    let domain = id::parse_trust_domain("a.example").unwrap();
    Node {
        id: id::id_below(&domain, &format!("/spire/agent/{name}")).unwrap(),
        attestation_type: "join_token".into(),
        selectors: BTreeSet::from([Selector {
            kind: "k8s_psat".into(),
            value: "cluster:campus".into(),
        }]),
        active: Some(Certificate {
            serial: "12345678901234567890123".into(),
            not_after: time(1_800_003_600),
        }),
        next: None,
        can_reattest: false,
        reattest_at: None,
        svid_ttl: None,
        banned: false,
        version: String::new(),
    }
}

async fn attested(store: &Store, node: Node) {
    store
        .attest_node(by(), node, Vec::new())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_node_comes_back_as_it_was_stored_and_its_selectors_are_replaced() {
    let Folder { store, .. } = store();
    let mut wanted = node("x");
    attested(&store, wanted.clone()).await;
    assert_eq!(
        store.node(wanted.id.clone()).await.unwrap(),
        Some(wanted.clone())
    );
    wanted.selectors.clear();
    wanted.reattest_at = Some(time(1_800_000_300));
    wanted.next = wanted.active.clone();
    attested(&store, wanted.clone()).await;
    assert_eq!(store.node(wanted.id.clone()).await.unwrap(), Some(wanted));
}

#[tokio::test]
async fn a_banned_node_does_not_come_back_before_it_is_evicted() {
    let Folder { store, .. } = store();
    let id = node("x").id;
    attested(&store, node("x")).await;
    let ban = |node: &mut Node| {
        node.banned = true;
        node.active = None;
    };
    let banned = store.update_node(by(), id.clone(), "node.ban", ban).await;
    assert!(banned.unwrap().unwrap().banned);
    assert_eq!(
        store
            .attest_node(by(), node("x"), Vec::new())
            .await
            .unwrap(),
        None
    );
    assert!(
        store
            .node(id.clone())
            .await
            .unwrap()
            .unwrap()
            .active
            .is_none()
    );
    assert!(store.delete_node(by(), id.clone()).await.unwrap());
    assert!(!store.delete_node(by(), id).await.unwrap());
    attested(&store, node("x")).await;
}

#[tokio::test]
async fn with_a_node_of_a_token_goes_the_entry_of_that_token_and_no_other() {
    let Folder { store, .. } = store();
    attested(&store, node("x")).await;
    let mut of_token = draft("of-token");
    of_token.parent_id = node("x").id;
    of_token.selectors = BTreeSet::from([Selector {
        kind: "spiffe_id".into(),
        value: node("x").id.to_string(),
    }]);
    let mut other = draft("other");
    other.parent_id = node("x").id;
    created(&store, of_token).await;
    created(&store, other).await;
    store.delete_node(by(), node("x").id).await.unwrap();
    assert!(store.entry("of-token".into()).await.unwrap().is_none());
    assert!(store.entry("other".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn nodes_are_listed_by_what_is_asked() {
    let Folder { store, .. } = store();
    attested(&store, node("x")).await;
    let mut other = node("y");
    other.attestation_type = "x509pop".into();
    other.can_reattest = true;
    attested(&store, other).await;
    let names = async |filter| {
        let page = store.nodes(filter, 0, 10).await.unwrap();
        let name = |node: Node| node.id.path().rsplit('/').next().unwrap().to_owned();
        page.items.into_iter().map(name).collect::<Vec<_>>()
    };
    let all = NodeFilter::default;
    assert_eq!(names(all()).await, ["x", "y"]);
    let token = NodeFilter {
        attestation_type: Some("join_token".into()),
        ..all()
    };
    assert_eq!(names(token).await, ["x"]);
    let can = NodeFilter {
        can_reattest: Some(true),
        ..all()
    };
    assert_eq!(names(can).await, ["y"]);
    let banned = NodeFilter {
        banned: Some(true),
        ..all()
    };
    assert_eq!(names(banned).await, [""; 0]);
    let ends = |at| NodeFilter {
        expires_before: Some(time(at)),
        ..all()
    };
    assert_eq!(names(ends(1_800_003_600)).await, [""; 0]);
    assert_eq!(names(ends(1_800_003_601)).await, ["x", "y"]);
    let first = store.nodes(all(), 0, 1).await.unwrap();
    assert_eq!(
        store.nodes(all(), first.next, 9).await.unwrap().items.len(),
        1
    );
}

#[tokio::test]
async fn a_token_is_taken_once() {
    let Folder { store, .. } = store();
    let token = |first: u8| Token {
        lookup: [first; 32],
        evidence_key: [9; 32],
        agent_id: Some(node("x").id),
        expires_at: time(1_800_000_600),
    };
    assert!(store.add_token(by(), token(1), None).await.unwrap());
    assert!(!store.add_token(by(), token(1), None).await.unwrap());
    let take = async || store.take_token(by(), [1; 32]).await.unwrap();
    assert_eq!(take().await, Some(token(1)));
    assert_eq!(take().await, None);
    store.add_token(by(), token(2), None).await.unwrap();
    let prune = async |at| {
        let by = By {
            at: time(at),
            ..by()
        };
        store.prune_tokens(by).await.unwrap()
    };
    assert_eq!(prune(1_800_000_600).await, 0);
    assert_eq!(prune(1_800_000_601).await, 1);
    let expected = ["token.create", "token.take", "token.create", "token.prune"];
    assert_eq!(actions(&store).await, expected);
    let text = format!("{:?}", token(1));
    assert!(!text.contains("[9") && !text.contains("[1"), "{text}");
}

/// What the audit log tells of.
async fn actions(store: &Store) -> Vec<String> {
    let lines = store.audit_lines(0, 100).await.unwrap();
    lines.into_iter().map(|line| line.action).collect()
}

#[tokio::test]
async fn a_token_and_its_entry_are_there_together_or_not_at_all() {
    let Folder { store, .. } = store();
    let token = Token {
        lookup: [1; 32],
        evidence_key: [9; 32],
        agent_id: None,
        expires_at: time(1_800_000_600),
    };
    let add = async |entry| store.add_token(by(), token.clone(), Some(entry)).await;
    // The entry cannot be written: the token is not there either.
    store
        .change(|transaction| Ok(transaction.execute_batch("DROP TABLE entry_dns_names")?))
        .await
        .unwrap();
    add(draft("w")).await.unwrap_err();
    assert_eq!(store.take_token(by(), [1; 32]).await.unwrap(), None);
    let Folder { store, .. } = super::store();
    let version = store.version();
    let add = async |entry| store.add_token(by(), token.clone(), Some(entry)).await;
    assert!(add(draft("w")).await.unwrap());
    assert!(store.entry("w".into()).await.unwrap().is_some());
    assert!(store.version() > version, "agents are to see it");
    // One that is there already makes no entry.
    assert!(!add(draft("x")).await.unwrap());
    assert!(store.entry("x".into()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_that_ends_unused_takes_its_entry_with_it() {
    let Folder { store, .. } = store();
    let alias = node("nodes/hpc").id;
    // Each with an entry as `CreateJoinToken` makes one, ending at once or later.
    let add = async |name: &str, ends| {
        let parent = join_token::agent_id(alias.trust_domain(), name).unwrap();
        let entry = Draft {
            spiffe_id: alias.clone(),
            selectors: [Selector {
                kind: "spiffe_id".into(),
                value: parent.to_string(),
            }]
            .into(),
            parent_id: parent,
            ..draft(name)
        };
        let token = Token {
            lookup: join_token::token_lookup(name),
            evidence_key: [9; 32],
            agent_id: Some(alias.clone()),
            expires_at: time(ends),
        };
        assert!(store.add_token(by(), token, Some(entry)).await.unwrap());
    };
    let there = async |name: &str| store.entry(name.into()).await.unwrap().is_some();
    let at = |at| By {
        at: time(at),
        ..by()
    };
    let soon = 1_800_000_600;
    for name in ["used", "ended", "late"] {
        add(name, soon).await;
    }
    add("open", soon + 600).await;
    // The same ID by the hand of an administrator.
    let other = Draft {
        spiffe_id: alias.clone(),
        ..draft("by-hand")
    };
    store.create_entries(by(), vec![other]).await.unwrap();
    let take = async |name: &str, at| {
        let taken = store.take_token(at, join_token::token_lookup(name)).await;
        assert!(taken.unwrap().is_some());
    };
    take("used", at(soon)).await;
    let version = store.version();
    take("late", at(soon + 1)).await;
    assert!(!there("late").await, "taken when it had ended");
    assert!(store.version() > version, "agents are to see it");
    assert_eq!(store.prune_tokens(at(soon + 1)).await.unwrap(), 1);
    assert!(!there("ended").await);
    for name in ["used", "open", "by-hand"] {
        assert!(there(name).await, "{name}");
    }
    let (_, changed) = store.changes_since(version);
    assert_eq!(changed.unwrap(), ["ended".into(), "late".into()].into());
}

#[tokio::test]
async fn what_a_node_becomes_is_told_once() {
    let Folder { store, .. } = store();
    attested(&store, node("x")).await;
    let update = async |action, edit: fn(&mut Node)| {
        let updated = store.update_node(by(), node("x").id, action, edit).await;
        updated.unwrap().unwrap();
    };
    for _ in 0..3 {
        update("node.version", |node| node.version = "1.2".into()).await;
    }
    update("node.renew", |node| node.next = node.active.clone()).await;
    for _ in 0..2 {
        update("node.promote", |node| {
            if let Some(next) = node.next.take() {
                node.active = Some(Certificate {
                    serial: "7".into(),
                    ..next
                });
            }
        })
        .await;
    }
    let expected = ["node.attest", "node.version", "node.renew", "node.promote"];
    assert_eq!(actions(&store).await, expected);
    let lines = store.audit_lines(1, 100).await.unwrap();
    assert_eq!(lines[0].detail, r#"{"version":"1.2"}"#);
    assert_eq!(lines[2].detail, r#"{"serial":"7"}"#);
}
