mod bundles;
mod nodes;
mod peers;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, time::Duration};

use sekisho_certs::id;

use super::*;
use crate::entry::{Draft, Federated, Selector};

fn by() -> By {
    By {
        caller: "test".into(),
        at: time(1_800_000_000),
    }
}

fn draft(name: &str) -> Draft {
    let domain = id::parse_trust_domain("a.example").unwrap();
    Draft {
        id: Some(name.into()),
        spiffe_id: id::id_below(&domain, &format!("/{name}")).unwrap(),
        parent_id: id::id_below(&domain, "/spire/agent/x").unwrap(),
        selectors: BTreeSet::from(["uid:0", "gid:0"].map(|value| Selector {
            kind: "unix".into(),
            value: value.into(),
        })),
        x509_ttl: Duration::from_secs(60),
        jwt_ttl: Duration::ZERO,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: vec!["b.a.example".into(), "a.a.example".into()],
        store_svid: false,
        hint: "h".into(),
        no_prefetch: true,
        jwt_id: false,
    }
}

struct Folder {
    folder: tempfile::TempDir,
    store: Store,
}

fn store() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    Folder { folder, store }
}

async fn create(store: &Store, draft: Draft) -> Creation {
    let mut all = store.create_entries(by(), vec![draft]).await.unwrap();
    all.pop().unwrap()
}

async fn created(store: &Store, draft: Draft) -> crate::entry::Entry {
    match create(store, draft).await {
        Creation::Created(entry) => *entry,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_entry_comes_back_as_it_was_stored_also_after_opening_again() {
    let Folder { folder, store } = store();
    let mut wanted = draft("w");
    wanted.federates_with = vec![Federated::All];
    wanted.expires_at = Some(time(1_900_000_000));
    let made = created(&store, wanted.clone()).await;
    assert_eq!((made.revision, made.created_at), (0, by().at));
    drop(store);
    let store = Store::open(&folder.path().join("db")).unwrap();
    let found = store.entry("w".into()).await.unwrap().unwrap();
    wanted.id = None;
    assert_eq!(found.draft, wanted);
    assert_eq!(store.entry("x".into()).await.unwrap(), None);
    let mode = |name| {
        let path = folder.path().join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("db"), mode("db-wal")), (0o600, 0o600));
}

#[tokio::test]
async fn an_entry_is_not_there_twice() {
    let Folder { store, .. } = store();
    let first = created(&store, draft("w")).await;
    let mut same = draft("w");
    same.id = Some("other".into());
    let Creation::Exists(found) = create(&store, same.clone()).await else {
        panic!("it exists");
    };
    assert_eq!(found.id, first.id);
    let mut taken = draft("w2");
    taken.id = Some("w".into());
    assert_eq!(create(&store, taken).await, Creation::IdTaken("w".into()));
    // A selector that only looks the same: "a" + "b:c" and "a:b" + "c" have different lengths.
    same.selectors.insert(Selector {
        kind: "unix".into(),
        value: "uid:1".into(),
    });
    created(&store, same).await;
}

#[tokio::test]
async fn an_entry_is_federated_with_known_domains_only() {
    let Folder { store, .. } = store();
    let domain = id::parse_trust_domain("b.example").unwrap();
    let mut wanted = draft("w");
    wanted.federates_with = vec![Federated::Domain(domain.clone())];
    assert_eq!(
        create(&store, wanted).await,
        Creation::NoBundle(domain.clone())
    );
    created(&store, draft("w")).await;
    let edit = move |draft: &mut Draft| {
        draft.federates_with = vec![Federated::Domain(domain)];
        Ok::<_, ()>(())
    };
    let update = store.update_entry(by(), "w".into(), edit).await.unwrap();
    assert!(matches!(update, Update::NoBundle(_)));
    assert_eq!(store.entry("w".into()).await.unwrap().unwrap().revision, 0);
}

#[tokio::test]
async fn a_change_raises_the_revision_and_a_refused_one_changes_nothing() {
    let Folder { store, .. } = store();
    created(&store, draft("w")).await;
    created(&store, draft("v")).await;
    let nothing = |_: &mut Draft| Ok::<_, ()>(());
    let update = store.update_entry(by(), "w".into(), nothing).await.unwrap();
    assert!(matches!(&update, Update::Updated(entry) if entry.revision == 1));
    let refused = |draft: &mut Draft| {
        draft.hint = "never".into();
        Err("no")
    };
    let update = store.update_entry(by(), "w".into(), refused).await.unwrap();
    assert_eq!(update, Update::Refused("no"));
    let other = draft("v").spiffe_id;
    let repeats = move |draft: &mut Draft| {
        draft.spiffe_id = other;
        Ok::<_, ()>(())
    };
    let update = store.update_entry(by(), "w".into(), repeats).await.unwrap();
    assert!(matches!(&update, Update::Repeats(entry) if entry.id == "v"));
    let update = store.update_entry(by(), "x".into(), nothing).await.unwrap();
    assert_eq!(update, Update::Missing);
    let entry = store.entry("w".into()).await.unwrap().unwrap();
    assert_eq!((entry.revision, entry.draft.hint.as_str()), (1, "h"));
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages_in_the_order_of_insertion() {
    let Folder { store, .. } = store();
    let drafts: Vec<_> = (0..1200).map(|at| draft(&format!("w{at}"))).collect();
    store.create_entries(by(), drafts).await.unwrap();
    let mut after = 0;
    let mut names = Vec::new();
    loop {
        let page = store
            .entries(EntryFilter::default(), after, 500)
            .await
            .unwrap();
        if page.items.is_empty() {
            break;
        }
        after = page.next;
        names.extend(page.items.into_iter().map(|entry| entry.id));
    }
    let expected: Vec<_> = (0..1200).map(|at| format!("w{at}")).collect();
    assert_eq!(names, expected);
    let one = EntryFilter {
        spiffe_id: Some(draft("w1100").spiffe_id),
        ..EntryFilter::default()
    };
    let page = store.entries(one, 0, 10).await.unwrap();
    assert_eq!(page.items.len(), 1);
    for (how, given, found) in [
        (SetMatch::Superset, "unix:uid:0", 1200),
        (SetMatch::Exact, "unix:uid:0", 0),
        (SetMatch::Subset, "unix:uid:0", 0),
        (SetMatch::Any, "unix:uid:0", 1200),
        (SetMatch::Any, "unix:uid:1", 0),
    ] {
        let (kind, value) = given.split_once(':').unwrap();
        let selector = Selector {
            kind: kind.into(),
            value: value.into(),
        };
        let filter = EntryFilter {
            selectors: Some((BTreeSet::from([selector]), how)),
            ..EntryFilter::default()
        };
        let page = store.entries(filter, 0, usize::MAX).await.unwrap();
        assert_eq!(page.items.len(), found, "{how:?} {given}");
    }
}

#[tokio::test]
async fn entries_end() {
    let Folder { store, .. } = store();
    let mut ends = draft("ends");
    ends.expires_at = Some(by().at);
    created(&store, ends).await;
    created(&store, draft("stays")).await;
    assert_eq!(store.prune_entries(by()).await.unwrap(), [""; 0]);
    let later = By {
        at: by().at + Duration::from_secs(1),
        ..by()
    };
    assert_eq!(store.prune_entries(later).await.unwrap(), ["ends"]);
    assert!(store.delete_entry(by(), "stays".into()).await.unwrap());
    assert!(!store.delete_entry(by(), "stays".into()).await.unwrap());
}

#[tokio::test]
async fn a_name_that_comes_back_begins_above_its_last_revision() {
    let Folder { store, .. } = store();
    created(&store, draft("w")).await;
    store
        .update_entry(by(), "w".into(), |_| Ok::<_, ()>(()))
        .await
        .unwrap();
    let version = store.version();
    store.delete_entry(by(), "w".into()).await.unwrap();
    assert!(store.version() > version);
    assert_eq!(created(&store, draft("w")).await.revision, 2);
}

#[tokio::test]
async fn every_change_has_its_line_and_none_can_be_altered() {
    let Folder { folder, store } = store();
    created(&store, draft("w")).await;
    store
        .update_entry(by(), "w".into(), |_| Ok::<_, ()>(()))
        .await
        .unwrap();
    store.delete_entry(by(), "w".into()).await.unwrap();
    let lines = store.audit_lines(0, 10).await.unwrap();
    let actions: Vec<_> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(actions, ["entry.create", "entry.update", "entry.delete"]);
    assert!(lines[0].detail.contains("spiffe://a.example/w"));
    let (count, _) = store.verify_audit().await.unwrap();
    assert_eq!(count, 3);
    drop(store);
    for (sql, error) in [
        (
            "UPDATE audit SET caller = 'nobody' WHERE number = 2",
            AuditError::Altered(2),
        ),
        ("DELETE FROM audit WHERE number = 2", AuditError::Missing(2)),
    ] {
        let copy = folder.path().join("copy");
        fs::copy(folder.path().join("db"), &copy).unwrap();
        Connection::open(&copy).unwrap().execute(sql, []).unwrap();
        let store = Store::open(&copy).unwrap();
        assert_eq!(store.verify_audit().await.unwrap_err(), error);
    }
}

#[tokio::test]
async fn a_backup_is_whole_and_overwrites_nothing() {
    let Folder { folder, store } = store();
    created(&store, draft("w")).await;
    let copy = folder.path().join("copy");
    store.backup(copy.clone()).await.unwrap();
    created(&store, draft("later")).await;
    store.backup(copy.clone()).await.unwrap_err();
    let restored = Store::open(&copy).unwrap();
    assert!(restored.entry("w".into()).await.unwrap().is_some());
    assert!(restored.entry("later".into()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_look_at_a_database_in_use_changes_nothing() {
    let Folder { folder, store } = store();
    let path = folder.path().join("db");
    created(&store, draft("w")).await;
    let reader = Store::open_read_only(&path).unwrap();
    assert_eq!(reader.verify_audit().await.unwrap().0, 1);
    reader.backup(folder.path().join("copy")).await.unwrap();
    reader
        .create_entries(by(), vec![draft("x")])
        .await
        .unwrap_err();
    created(&store, draft("y")).await;
    assert_eq!(reader.verify_audit().await.unwrap().0, 2);
    let copy = Store::open(&folder.path().join("copy")).unwrap();
    assert!(copy.entry("w".into()).await.unwrap().is_some());
    // One that is not in use.
    drop((store, reader));
    drop(Store::open_read_only(&path).unwrap());
    for (version, older) in [(0, true), (99, false)] {
        let raw = Connection::open(&path).unwrap();
        raw.pragma_update(None, "user_version", version).unwrap();
        drop(raw);
        let error = Store::open_read_only(&path).unwrap_err();
        assert_eq!(matches!(error, OpenError::Older { .. }), older, "{error}");
        assert_eq!(matches!(error, OpenError::Newer { .. }), !older, "{error}");
        let raw = Connection::open(&path).unwrap();
        let left: i64 = raw
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap();
        assert_eq!(left, version);
    }
    Store::open_read_only(&folder.path().join("none")).unwrap_err();
    assert!(!folder.path().join("none").exists());
}

#[test]
fn what_is_damaged_or_newer_is_told_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(Store::open(&path).unwrap());
    let good = fs::read(&path).unwrap();
    for (what, bytes) in [
        (
            "text",
            b"not a database at all, but long enough to be looked at".to_vec(),
        ),
        ("a page", {
            let mut bytes = good.clone();
            bytes[4096..6000].fill(0xff);
            bytes
        }),
    ] {
        fs::write(&path, &bytes).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{what}: {error}"
        );
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}");
    }
    fs::write(&path, &good).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Store::open(&path).unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 99, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn another_programs_lock_is_told_as_such() {
    let Folder { folder, store } = store();
    let other = Connection::open(folder.path().join("db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Without the patience of five seconds.
    store
        .job(|connection| Ok(connection.busy_timeout(Duration::ZERO)?))
        .await
        .unwrap();
    let error = store
        .create_entries(by(), vec![draft("w")])
        .await
        .unwrap_err();
    assert_eq!(error, StoreError::Busy);
    other.execute_batch("COMMIT").unwrap();
    created(&store, draft("w")).await;
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_stored() {
    let Folder { store, .. } = store();
    created(&store, draft("w")).await;
    store
        .job(|connection| {
            let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            // What SQLite says then is what it says of a full disk.
            connection.pragma_update(None, "max_page_count", pages)?;
            Ok(())
        })
        .await
        .unwrap();
    let many = (0..500).map(|at| draft(&format!("w{at}"))).collect();
    let error = store.create_entries(by(), many).await.unwrap_err();
    assert_eq!(error, StoreError::Full);
    let page = store
        .entries(EntryFilter::default(), 0, 1000)
        .await
        .unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(store.verify_audit().await.unwrap().0, 1);
}
