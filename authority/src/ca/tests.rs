use std::path::Path;

use sekisho_certs::id;
use sekisho_testkit::TestClock;

use super::*;

struct World {
    folder: tempfile::TempDir,
    clock: Arc<TestClock>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: TestClock::new(),
        }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn open(&self) -> Result<Arc<Ca>, CaError> {
        let store = Arc::new(Store::open(&self.at("db")).unwrap());
        let keys = KeyFolder::open(&self.at("keys"), None).unwrap();
        let settings = CaSettings {
            domain: id::parse_trust_domain("a.example").unwrap(),
            ttl: DAY,
            announced: Duration::ZERO,
        };
        let ca = Ca::open(settings, store, keys, Arc::<TestClock>::clone(&self.clock));
        ca.await.map(Arc::new)
    }

    fn by(&self) -> By {
        By {
            caller: "test".into(),
            at: self.clock.now(),
        }
    }

    fn keys(&self) -> usize {
        let names = std::fs::read_dir(Path::new(&self.at("keys"))).unwrap();
        names.count()
    }
}

/// Names of X.509 and JWT authorities in the bundle, those that are tainted with a star.
fn bundled(ca: &Ca) -> [Vec<String>; 2] {
    let bundle = Arc::clone(&ca.bundle().borrow());
    let star = |tainted| if tainted { "*" } else { "" };
    let x509 = |own: &X509Authority| issue::authority_id(&own.der).unwrap() + star(own.tainted);
    let jwt = |own: &JwtAuthority| own.key_id.clone() + star(own.tainted);
    [
        bundle.x509.iter().map(x509).collect(),
        bundle.jwt.iter().map(jwt).collect(),
    ]
}

#[tokio::test]
async fn a_ca_is_there_again_after_a_restart() {
    let world = World::new();
    let ca = world.open().await.unwrap();
    let (x509, jwt) = (ca.x509().id().to_owned(), ca.jwt().id().to_owned());
    assert_eq!(bundled(&ca), [vec![x509.clone()], vec![jwt.clone()]]);
    let next = ca
        .step(world.by(), Kind::X509, Step::Prepare)
        .await
        .unwrap();
    assert_eq!(bundled(&ca)[0], [x509.clone(), next.clone()]);
    let (slots, before) = (ca.slots(Kind::X509), bundled(&ca));
    let sequence = ca.bundle().borrow().sequence;
    drop(ca);
    let ca = world.open().await.unwrap();
    assert_eq!((ca.x509().id(), ca.jwt().id()), (&x509[..], &jwt[..]));
    assert_eq!((ca.slots(Kind::X509), bundled(&ca)), (slots, before));
    assert_eq!(ca.bundle().borrow().sequence, sequence);
    // It can be activated by the one that has come back.
    ca.step(world.by(), Kind::X509, Step::Activate(next.clone()))
        .await
        .unwrap();
    assert_eq!(ca.x509().id(), next);
}

#[tokio::test]
async fn an_authority_is_replaced_step_by_step() {
    for kind in [Kind::X509, Kind::Jwt] {
        let world = World::new();
        let ca = world.open().await.unwrap();
        let at = usize::from(kind == Kind::Jwt);
        let first = ca.slots(kind).active.id;
        let second = ca.step(world.by(), kind, Step::Prepare).await.unwrap();
        let step = async |step| ca.step(world.by(), kind, step).await;
        assert_eq!(bundled(&ca)[at], [first.clone(), second.clone()]);
        step(Step::Activate(second.clone())).await.unwrap();
        assert_eq!(ca.slots(kind).active.id, second);
        assert_eq!(ca.slots(kind).old.unwrap().id, first);
        let early = step(Step::Revoke(first.clone())).await.unwrap_err();
        assert!(matches!(early, CaError::Slot(SlotError::NotTainted(_))));
        step(Step::Taint(first.clone())).await.unwrap();
        assert_eq!(bundled(&ca)[at], [format!("{first}*"), second.clone()]);
        assert_eq!(world.keys(), 3);
        step(Step::Revoke(first.clone())).await.unwrap();
        assert_eq!(bundled(&ca)[at], [second]);
        assert_eq!(world.keys(), 2, "the key of the revoked one is gone");
        let lines = ca.store.audit_lines(0, 100).await.unwrap();
        let actions: Vec<_> = lines.iter().map(|line| line.action.as_str()).collect();
        let steps = ["prepare", "activate", "taint", "revoke"];
        let expected: Vec<_> = steps
            .iter()
            .map(|step| format!("authority.{step}"))
            .collect();
        assert_eq!(actions[2..], expected);
    }
}

#[tokio::test]
async fn the_clock_rotates_and_what_was_signed_stays_verifiable() {
    let world = World::new();
    let ca = world.open().await.unwrap();
    let first = ca.x509().id().to_owned();
    world.clock.advance(DAY / 2 - Duration::from_secs(60));
    ca.look_at_the_clock().await.unwrap();
    assert_eq!(ca.slots(Kind::X509).prepared, None);
    world.clock.advance(Duration::from_secs(60));
    ca.look_at_the_clock().await.unwrap();
    let next = ca.slots(Kind::X509).prepared.unwrap().id;
    assert!(ca.slots(Kind::Jwt).prepared.is_some());
    assert_eq!(ca.x509().id(), first);
    world.clock.advance(DAY / 3);
    ca.look_at_the_clock().await.unwrap();
    assert_eq!(ca.x509().id(), next);
    assert_eq!(
        bundled(&ca)[0],
        [first, next],
        "the old one is still trusted"
    );
}

#[tokio::test]
async fn a_ca_that_slept_through_its_end_begins_with_a_new_authority() {
    let world = World::new();
    let ca = world.open().await.unwrap();
    let first = ca.x509().id().to_owned();
    drop(ca);
    world.clock.advance(3 * DAY);
    let ca = world.open().await.unwrap();
    // And once more, with one that was prepared before.
    ca.step(world.by(), Kind::X509, Step::Prepare)
        .await
        .unwrap();
    drop(ca);
    world.clock.advance(3 * DAY);
    let ca = world.open().await.unwrap();
    assert_ne!(ca.x509().id(), first);
    assert!(ca.x509().not_after() > world.clock.now());
    assert!(ca.jwt().not_after() > world.clock.now());
}

#[tokio::test]
async fn a_key_that_is_gone_is_told_and_nothing_else_is_made_in_its_place() {
    let world = World::new();
    let ca = world.open().await.unwrap();
    let id = ca.x509().id().to_owned();
    drop(ca);
    let path = world.at("keys").join(format!("x509-{id}.key"));
    std::fs::rename(&path, world.at("elsewhere")).unwrap();
    let error = world.open().await.unwrap_err();
    assert!(
        matches!(&error, CaError::KeyGone { kind: "x509", .. }),
        "{error}"
    );
    std::fs::rename(world.at("elsewhere"), &path).unwrap();
    assert_eq!(world.open().await.unwrap().x509().id(), id);
}

#[tokio::test]
async fn after_many_rotations_the_bundle_and_the_folder_are_no_larger() {
    let world = World::new();
    let ca = world.open().await.unwrap();
    for _ in 0..300 {
        world.clock.advance(DAY / 6);
        ca.look_at_the_clock().await.unwrap();
        ca.prune(world.by()).await.unwrap();
    }
    let [x509, jwt] = bundled(&ca);
    assert!((2..8).contains(&x509.len()) && x509.contains(&ca.x509().id().to_owned()));
    assert!((2..8).contains(&jwt.len()) && jwt.contains(&ca.jwt().id().to_owned()));
    assert!(world.keys() <= 4, "{} keys", world.keys());
}

#[tokio::test]
async fn a_key_of_another_is_added_once_and_takes_no_name() {
    let world = World::new();
    let ca = world.open().await.unwrap();
    let key = |public_key| JwtAuthority {
        key_id: "k".into(),
        public_key,
        expires_at: None,
        tainted: false,
    };
    let add = async |key| ca.append(world.by(), Vec::new(), vec![key]).await;
    let first = add(key(vec![1])).await.unwrap();
    let again = add(key(vec![1])).await.unwrap();
    assert_eq!((first.jwt.len(), again.sequence), (2, first.sequence));
    let error = add(key(vec![2])).await.unwrap_err();
    assert!(matches!(error, CaError::KeyIdTaken(_)));
}

#[tokio::test]
async fn a_tainted_jwt_key_can_be_revoked_when_it_has_lost_its_slot() {
    let world = World::new();
    let ca = world.open().await.unwrap();
    let step = async |step| ca.step(world.by(), Kind::Jwt, step).await;
    let first = ca.slots(Kind::Jwt).active.id;
    let second = step(Step::Prepare).await.unwrap();
    step(Step::Activate(second.clone())).await.unwrap();
    step(Step::Taint(first.clone())).await.unwrap();
    let third = step(Step::Prepare).await.unwrap();
    let expected = [format!("{first}*"), second.clone(), third.clone()];
    assert_eq!(bundled(&ca)[1], expected);
    step(Step::Revoke(first.clone())).await.unwrap();
    assert_eq!(bundled(&ca)[1], [second.clone(), third.clone()]);
    // Nothing else is touched by it, and neither of those that sign, or will, can be revoked.
    assert_eq!(ca.slots(Kind::Jwt).prepared.unwrap().id, third);
    for id in [first, second, third.clone()] {
        let refused = step(Step::Revoke(id)).await.unwrap_err();
        assert!(matches!(refused, CaError::Slot(slot) if slot.is_wrong_name()));
    }
    // One that was never tainted.
    let fourth = step(Step::Prepare).await.unwrap();
    let refused = step(Step::Revoke(third)).await.unwrap_err();
    assert!(matches!(refused, CaError::Slot(SlotError::NotTainted(_))));
    assert_eq!(ca.slots(Kind::Jwt).prepared.unwrap().id, fourth);
}

#[tokio::test]
async fn a_jwt_key_that_was_revoked_is_not_added_again() {
    let world = World::new();
    let ca = world.open().await.unwrap();
    let first = ca.bundle().borrow().jwt[0].clone();
    let second = ca.step(world.by(), Kind::Jwt, Step::Prepare).await.unwrap();
    let id = first.key_id.clone();
    for step in [
        Step::Activate(second),
        Step::Taint(id.clone()),
        Step::Revoke(id),
    ] {
        ca.step(world.by(), Kind::Jwt, step).await.unwrap();
    }
    drop(ca);
    let ca = world.open().await.unwrap();
    let refused = ca.append(world.by(), Vec::new(), vec![first]).await;
    assert!(matches!(refused.unwrap_err(), CaError::KeyRevoked(_)));
}

mod adopted;
