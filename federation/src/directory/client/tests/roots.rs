//! Roots: those that are followed, and those that do not belong here.

use super::*;

#[tokio::test]
async fn roots_are_followed_and_another_directory_is_not() {
    let mut federation = Federation::new(1);
    let tokyo = federation.join("tokyo.example");
    let mut here = Here::new(&federation);
    here.sync(&["tokyo.example"]).await;
    federation.rotate_root(&RootChange::default());
    federation.host = FileKey::generate().unwrap();
    let change = RootChange {
        host: Some(federation.host.public()),
        ..RootChange::default()
    };
    federation.rotate_root(&change);
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.client.status().root, 3);
    assert!(here.has(&tokyo));
    let other = Federation::new(1);
    std::fs::copy(other.path().join("metadata/1.root.json"), &here.root).unwrap();
    let error = open(&federation, &here.data, &here.root).unwrap_err();
    assert_eq!(error.reason(), "other_directory", "{error}");
    // A later root of the same directory, by the operator, is one.
    let file = federation.path().join("metadata/3.root.json");
    std::fs::copy(file, &here.root).unwrap();
    let here = here.again(&federation);
    assert_eq!(here.client.status().root, 3);
}

#[tokio::test]
async fn a_root_before_what_is_known_has_to_lead_there() {
    let federation = Federation::new(1);
    let tokyo = federation.join("tokyo.example");
    for _ in 0..3 {
        federation.rotate_root(&RootChange::default());
    }
    let root =
        |of: &Federation, version: u64| of.path().join(format!("metadata/{version}.root.json"));
    let mut here = Here::new(&federation);
    std::fs::remove_dir_all(here.data.path().join("state")).unwrap();
    std::fs::copy(root(&federation, 3), &here.root).unwrap();
    here = here.again(&federation);
    here.sync(&["tokyo.example"]).await;
    // The first root, of which nothing is kept here.
    std::fs::copy(root(&federation, 1), &here.root).unwrap();
    here = here.again(&federation);
    here.sync(&[]).await;
    assert!(here.has(&tokyo));
    std::fs::remove_file(root(&federation, 2)).unwrap();
    here = here.again(&federation);
    here.sync(&[]).await;
    // The same of another directory, at a client that knows none before the third.
    let other = Federation::new(1);
    for version in [1, 2] {
        let kept = here.data.path().join(format!("state/roots/{version}.json"));
        std::fs::remove_file(kept).unwrap();
    }
    std::fs::copy(root(&other, 1), &here.root).unwrap();
    other.rotate_root(&RootChange::default());
    std::fs::copy(root(&other, 2), root(&federation, 2)).unwrap();
    // A mirror that shows something else in between says nothing of the directory.
    let between = std::fs::read(root(&federation, 2)).unwrap();
    std::fs::copy(root(&federation, 3), root(&federation, 2)).unwrap();
    here = here.again(&federation);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "version", "{error}");
    assert!(here.has(&tokyo), "until it can be asked");
    std::fs::write(root(&federation, 2), between).unwrap();
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "other_directory", "{error}");
    assert!(here.client.members().is_empty());
}

#[tokio::test]
async fn a_root_ahead_of_what_is_known_has_to_be_met() {
    let federation = Federation::new(1);
    let mut here = Here::new(&federation);
    here.sync(&[]).await;
    federation.rotate_root(&RootChange::default());
    federation.rotate_root(&RootChange::default());
    let file = federation.path().join("metadata/3.root.json");
    std::fs::copy(file, &here.root).unwrap();
    let mut here = here.again(&federation);
    here.sync(&[]).await;
    assert_eq!(here.client.status().root, 3);
    let other = Federation::new(1);
    for _ in 0..3 {
        other.rotate_root(&RootChange::default());
    }
    let file = other.path().join("metadata/4.root.json");
    std::fs::copy(file, &here.root).unwrap();
    federation.rotate_root(&RootChange::default());
    let mut here = here.again(&federation);
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "other_directory", "{error}");
}

#[tokio::test]
async fn what_is_remembered_counts_a_day_while_the_operators_root_is_not_met() {
    const HOUR: Duration = Duration::from_secs(3600);
    let federation = Federation::new(1);
    let mut tokyo = federation.join("tokyo.example");
    federation.join("osaka.example");
    let mut here = Here::new(&federation);
    here.sync(&["tokyo.example"]).await;
    // A root ahead, which the host does not show.
    let ahead = federation.path().join("metadata/2.root.json");
    federation.rotate_root(&RootChange::default());
    std::fs::copy(&ahead, &here.root).unwrap();
    std::fs::remove_file(&ahead).unwrap();
    let before = tokyo.bundle();
    tokyo.rotate_ca(&federation);
    let mut here = here.again(&federation);
    for _ in 0..3 {
        let door = wanting(&["tokyo.example", "osaka.example"]);
        here.client.fetch(&door).await;
        assert!(here.bundle("osaka.example").is_none(), "nobody new");
        let error = here.client.sync(&wanting(&[])).await.unwrap_err();
        assert_eq!(error.reason(), "missing", "{error}");
        let bundle = here.bundle("tokyo.example");
        assert_eq!(bundle.as_deref(), Some(&before), "no new word");
        federation.pass(8 * HOUR);
        // Whatever is started again.
        here = here.again(&federation);
    }
    assert!(here.client.members().is_empty());
    let error = here.client.sync(&wanting(&[])).await.unwrap_err();
    assert_eq!(error.reason(), "missing", "{error}");
    assert!(here.client.members().is_empty());
    // Once it is met, all is as it was.
    std::fs::copy(&here.root, &ahead).unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert!(here.has(&tokyo));
    let again = here.again(&federation);
    assert!(again.has(&tokyo));
}

#[tokio::test]
async fn institutions_who_all_changed_are_followed() {
    let mut federation = Federation::new(1);
    let tokyo = federation.join("tokyo.example");
    let mut here = Here::new(&federation);
    here.sync(&["tokyo.example"]).await;
    let next = crate::directory::fixture::keys(3);
    let change = RootChange {
        institutions: Some(crate::directory::fixture::set(
            &next,
            crate::directory::fixture::two(),
        )),
        ..RootChange::default()
    };
    let repository = &federation.repository;
    repository.propose_root(&change, federation.now()).unwrap();
    repository
        .sign_draft("root", &signers(&federation.institutions))
        .unwrap();
    repository.sign_draft("root", &signers(&next)).unwrap();
    repository.publish_draft("root").unwrap();
    federation.institutions = next;
    federation
        .repository
        .propose_targets(&RootChange::default(), federation.now())
        .unwrap();
    federation
        .repository
        .sign_draft("targets", &signers(&federation.institutions))
        .unwrap();
    federation.repository.publish_draft("targets").unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert!(here.has(&tokyo));
    assert_eq!(here.client.status().fault, None);
}
