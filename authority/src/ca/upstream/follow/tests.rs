use std::sync::Mutex;

use rcgen::{KeyPair, PublicKeyData as _};
use sekisho_certs::{Clock as _, id::parse_trust_domain};
use sekisho_testkit::TestClock;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    ca::{
        CaSettings,
        issue::X509Ca,
        keys::KeyFolder,
        slots::SlotError,
        upstream::{RootStep, Signed},
    },
    store::{JwtAuthority, Store, X509Authority},
};

/// An authority above that does what a test wants.
#[derive(Debug)]
struct Fake {
    root: Mutex<Arc<X509Ca>>,
    above: Mutex<Above>,
    published: Mutex<Vec<String>>,
    /// Signatures that it may give, and how many were asked for.
    turns: Semaphore,
    asked: Semaphore,
}

#[tonic::async_trait]
impl Upstream for Fake {
    async fn sign(
        &self,
        request: Vec<u8>,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Signed, UpstreamError> {
        self.asked.add_permits(1);
        self.turns.acquire().await.unwrap().forget();
        let csr = crate::ca::csr::Request::parse(&request).unwrap();
        let root = Arc::clone(&self.root.lock().unwrap());
        let domain = parse_trust_domain("a.example").unwrap();
        let issued = root.downstream(&domain, &csr.public_key, 1, now, ttl);
        Ok(Signed {
            chain: issued.unwrap().chain,
            roots: root.chain().to_vec(),
        })
    }

    async fn publish(&self, key: &JwtAuthority) -> Result<bool, UpstreamError> {
        self.published.lock().unwrap().push(key.key_id.clone());
        Ok(true)
    }

    async fn bundle(&self) -> Result<Option<Above>, UpstreamError> {
        Ok(Some(self.above.lock().unwrap().clone()))
    }
}

struct World {
    ca: Arc<Ca>,
    fake: Arc<Fake>,
    clock: Arc<TestClock>,
    folder: tempfile::TempDir,
}

async fn open(folder: &std::path::Path, fake: &Arc<Fake>, clock: &Arc<TestClock>) -> Arc<Ca> {
    let store = Arc::new(Store::open(&folder.join("db")).unwrap());
    let keys = KeyFolder::open(&folder.join("keys"), None).unwrap();
    let settings = CaSettings {
        domain: parse_trust_domain("a.example").unwrap(),
        ttl: Duration::from_secs(24 * 3600),
        announced: Duration::ZERO,
    };
    let upstream: Arc<dyn Upstream> = Arc::<Fake>::clone(fake);
    let time = Arc::<TestClock>::clone(clock);
    let ca = Ca::open_below(Some(upstream), settings, store, keys, time);
    Arc::new(ca.await.unwrap())
}

fn der(ca: &X509Ca) -> Vec<u8> {
    ca.chain()[0].to_vec()
}

fn root(now: SystemTime) -> Arc<X509Ca> {
    let domain = parse_trust_domain("a.example").unwrap();
    let key = KeyPair::generate().unwrap();
    let ttl = Duration::from_secs(48 * 3600);
    Arc::new(X509Ca::self_signed(&domain, key, now, ttl).unwrap())
}

fn authority(root: &X509Ca, tainted: bool) -> X509Authority {
    X509Authority {
        der: root.chain()[0].to_vec(),
        tainted,
        above: false,
    }
}

fn jwt(name: &str, expires_at: Option<SystemTime>) -> JwtAuthority {
    JwtAuthority {
        key_id: name.into(),
        public_key: KeyPair::generate().unwrap().subject_public_key_info(),
        expires_at,
        tainted: false,
    }
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let root = root(clock.now());
        let fake = Arc::new(Fake {
            above: Mutex::new(Above {
                x509: vec![authority(&root, false)],
                jwt: Vec::new(),
            }),
            root: Mutex::new(root),
            published: Mutex::default(),
            turns: Semaphore::new(1),
            asked: Semaphore::new(0),
        });
        Self {
            ca: open(folder.path(), &fake, &clock).await,
            fake,
            clock,
            folder,
        }
    }

    async fn restart(self) -> Self {
        drop(self.ca);
        Self {
            ca: open(self.folder.path(), &self.fake, &self.clock).await,
            ..self
        }
    }

    /// The roots of our bundle, and whether they are tainted.
    fn told(&self) -> Vec<(Vec<u8>, bool)> {
        let bundle = Arc::clone(&self.ca.bundle().borrow());
        let told = bundle.x509.iter().map(|own| (own.der.clone(), own.tainted));
        told.collect()
    }

    fn above(&self, change: impl FnOnce(&mut Above)) {
        change(&mut self.fake.above.lock().unwrap());
    }

    async fn step(&self, kind: Kind, step: Step) -> Result<String, CaError> {
        self.ca.step(self.ca.by_upstream(), kind, step).await
    }

    /// Names of the JWT keys that are not ours, those that are tainted with a star.
    fn others(&self) -> Vec<String> {
        let own = self.ca.jwt().id().to_owned();
        let bundle = Arc::clone(&self.ca.bundle().borrow());
        let others = bundle.jwt.iter().filter(|key| key.key_id != own);
        let star = |tainted| if tainted { "*" } else { "" };
        others
            .map(|key| key.key_id.clone() + star(key.tainted))
            .collect()
    }
}

#[tokio::test]
async fn while_the_one_above_is_asked_other_steps_are_taken() {
    let world = World::new().await;
    world.fake.turns.add_permits(1);
    let first = world.step(Kind::X509, Step::Prepare).await.unwrap();
    // Now it does not answer.
    world.fake.asked.forget_permits(10);
    let ca = Arc::clone(&world.ca);
    let by = ca.by_upstream();
    let waiting = tokio::spawn(async move { ca.step(by, Kind::X509, Step::Prepare).await });
    world.fake.asked.acquire().await.unwrap().forget();
    let (by, key) = (world.ca.by_upstream(), jwt("k", None));
    world.ca.append(by, Vec::new(), vec![key]).await.unwrap();
    let activated = world.step(Kind::X509, Step::Activate(first.clone()));
    assert_eq!(activated.await.unwrap(), first);
    // What was made meanwhile would put out of its slot what has just become old.
    world.fake.turns.add_permits(1);
    let late = waiting.await.unwrap().unwrap_err();
    assert!(matches!(late, CaError::Changed), "{late}");
    let slots = world.ca.slots(Kind::X509);
    assert_eq!((slots.active.id, slots.prepared), (first, None));
}

#[tokio::test]
async fn two_that_see_the_same_need_make_one() {
    let world = World::new().await;
    world.clock.advance(Duration::from_secs(13 * 3600));
    world.fake.turns.add_permits(2);
    let (one, other) = (world.ca.look_at_the_clock(), world.ca.look_at_the_clock());
    let (one, other) = tokio::join!(one, other);
    one.unwrap();
    other.unwrap();
    assert!(world.ca.slots(Kind::X509).prepared.is_some());
    // One when it was opened, and one now.
    assert_eq!(world.fake.asked.available_permits(), 2);
}

#[tokio::test]
async fn one_that_never_answers_is_waited_for_half_a_minute() {
    let world = World::new().await;
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let late = world.step(Kind::X509, Step::Prepare).await.unwrap_err();
    assert!(late.to_string().contains("no answer within 30s"), "{late}");
    assert!(begin.elapsed() >= Duration::from_secs(30));
}

#[tokio::test]
async fn keys_come_are_tainted_and_go_as_above_but_ours_stay_ours() {
    let world = World::new().await;
    let own = world.ca.jwt().id().to_owned();
    assert_eq!(
        *world.fake.published.lock().unwrap(),
        std::slice::from_ref(&own)
    );
    let now = world.clock.now();
    let later = Some(now + Duration::from_secs(60));
    world.above(|above| {
        above.jwt = vec![jwt("a", None), jwt("b", later), jwt("ended", Some(now))];
        // By the name of one of ours, another key.
        above.jwt.push(JwtAuthority {
            tainted: true,
            ..jwt(&own, None)
        });
    });
    world.ca.follow().await.unwrap();
    assert_eq!(world.others(), ["a", "b"]);
    let known = Arc::clone(&world.ca.bundle().borrow());
    let ours = known.jwt.iter().find(|key| key.key_id == own).unwrap();
    assert_eq!(
        (ours.public_key.clone(), ours.tainted),
        (world.ca.jwt().public_key(), false)
    );
    world.above(|above| above.jwt[0].tainted = true);
    world.ca.follow().await.unwrap();
    assert_eq!(world.others(), ["a*", "b"]);
    // What is not tainted goes by its end only; ours is told again where it was forgotten.
    world.above(|above| above.jwt.clear());
    world.ca.follow().await.unwrap();
    assert_eq!(world.others(), ["b"]);
    assert_eq!(*world.fake.published.lock().unwrap(), [own.clone(), own]);
}

#[tokio::test]
async fn a_bundle_that_agents_could_not_load_is_refused_whole() {
    let world = World::new().await;
    let before = Arc::clone(&world.ca.bundle().borrow());
    let leaf = {
        let key = KeyPair::generate().unwrap();
        rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap()
    };
    let bad_root = X509Authority {
        der: leaf.der().to_vec(),
        tainted: false,
        above: false,
    };
    let many = vec![jwt("many", None); MOST_KEYS + 1];
    for (x509, jwt) in [(vec![bad_root], Vec::new()), (Vec::new(), many)] {
        world.above(|above| {
            above.x509.extend(x509);
            above.jwt = jwt;
        });
        let refused = world.ca.follow().await.unwrap_err();
        let unusable = matches!(&refused, CaError::Upstream(UpstreamError::Unusable(_)));
        assert!(unusable, "{refused}");
        world.above(|above| above.x509.truncate(1));
    }
    assert_eq!(*before, **world.ca.bundle().borrow());
}

#[tokio::test]
async fn a_key_that_agents_could_not_load_is_left_out() {
    let world = World::new().await;
    world.above(|above| {
        let bad = JwtAuthority {
            public_key: vec![1, 2, 3],
            ..jwt("bad", None)
        };
        above.jwt = vec![bad, jwt("good", None), jwt("", None)];
    });
    world.ca.follow().await.unwrap();
    assert_eq!(world.others(), ["good"]);
}

#[tokio::test]
async fn a_root_that_cannot_be_left_is_not_tainted_and_the_rest_is_taken_over() {
    let world = World::new().await;
    let first = Arc::clone(&world.fake.root.lock().unwrap());
    let second = root(world.clock.now());
    world.above(|above| above.x509 = vec![authority(&first, true), authority(&second, false)]);
    // It signs below the root that it has tainted.
    world.fake.turns.add_permits(10);
    world.fake.asked.forget_permits(10);
    let mut attempts = Vec::new();
    let begin = world.clock.now();
    for _ in 0..=120 {
        match world.ca.follow().await {
            Ok(followed) => assert!(followed),
            Err(error) => {
                assert!(error.to_string().contains("has tainted"), "{error}");
                attempts.push(world.clock.now().duration_since(begin).unwrap().as_secs());
            }
        }
        world.clock.advance(EVERY);
    }
    // Each costs the one above a signature, and is none of ours: nothing is stored for it.
    assert_eq!(attempts, [0, 30, 90, 210, 450]);
    assert_eq!(world.fake.asked.available_permits(), attempts.len());
    assert_eq!(world.ca.slots(Kind::X509).prepared, None);
    let lines = world.ca.store.audit_lines(0, 100).await.unwrap();
    assert!(lines.iter().all(|line| line.action != "authority.prepare"));
    assert_eq!(world.told(), [(der(&first), false), (der(&second), false)]);
    *world.fake.root.lock().unwrap() = Arc::clone(&second);
    world.clock.advance(LONGEST);
    world.ca.follow().await.unwrap();
    assert_eq!(world.ca.x509().upstream_id(), second.id());
    assert_eq!(world.told(), [(der(&first), true), (der(&second), false)]);
    let active = world
        .ca
        .root_step(world.ca.by_upstream(), RootStep::Taint, second.id().into())
        .await
        .unwrap_err();
    assert!(matches!(active, CaError::Slot(SlotError::Active(_))));
}

#[tokio::test]
async fn a_root_that_was_tainted_and_revoked_while_we_were_away_is_left_and_goes() {
    let world = World::new().await;
    world.ca.follow().await.unwrap();
    let first = Arc::clone(&world.fake.root.lock().unwrap());
    let second = root(world.clock.now());
    *world.fake.root.lock().unwrap() = Arc::clone(&second);
    world.above(|above| above.x509 = vec![authority(&second, false)]);
    let world = world.restart().await;
    world.fake.turns.add_permits(1);
    // Once may be a server that is behind.
    world.ca.follow().await.unwrap();
    assert_eq!(world.ca.x509().upstream_id(), first.id());
    assert_eq!(world.told(), [(der(&first), false), (der(&second), false)]);
    world.ca.follow().await.unwrap();
    assert_eq!(world.ca.x509().upstream_id(), second.id());
    assert_eq!(world.told(), [(der(&first), true), (der(&second), false)]);
    world.ca.follow().await.unwrap();
    assert_eq!(world.told(), [(der(&second), false)]);
}

#[tokio::test]
async fn a_root_that_signs_nothing_here_goes_too_but_not_one_that_was_never_above() {
    let world = World::new().await;
    let first = Arc::clone(&world.fake.root.lock().unwrap());
    let (other, own) = (root(world.clock.now()), root(world.clock.now()));
    world.above(|above| above.x509.push(authority(&other, false)));
    world.ca.follow().await.unwrap();
    let (by, added) = (world.ca.by_upstream(), vec![authority(&own, false)]);
    world.ca.append(by, added, Vec::new()).await.unwrap();
    let world = world.restart().await;
    let all = |tainted| {
        [
            (der(&first), false),
            (der(&other), tainted),
            (der(&own), false),
        ]
    };
    world.above(|above| above.x509.truncate(1));
    world.ca.follow().await.unwrap();
    assert_eq!(world.told(), all(false));
    // Back again, and then gone for good.
    world.above(|above| above.x509.push(authority(&other, false)));
    world.ca.follow().await.unwrap();
    world.above(|above| above.x509.truncate(1));
    world.ca.follow().await.unwrap();
    assert_eq!(world.told(), all(false));
    world.ca.follow().await.unwrap();
    assert_eq!(world.told(), all(true));
    world.ca.follow().await.unwrap();
    assert_eq!(world.told(), [(der(&first), false), (der(&own), false)]);
    world.above(|above| above.x509.clear());
    let refused = world.ca.follow().await.unwrap_err();
    assert!(refused.to_string().contains("no root"), "{refused}");
}

#[tokio::test]
async fn one_that_was_prepared_below_a_root_that_is_gone_is_replaced() {
    let world = World::new().await;
    let first = Arc::clone(&world.fake.root.lock().unwrap());
    let second = root(world.clock.now());
    *world.fake.root.lock().unwrap() = Arc::clone(&second);
    world.fake.turns.add_permits(1);
    let spoilt = world.step(Kind::X509, Step::Prepare).await.unwrap();
    *world.fake.root.lock().unwrap() = Arc::clone(&first);
    world.fake.turns.add_permits(1);
    world.ca.follow().await.unwrap();
    world.ca.follow().await.unwrap();
    let slots = world.ca.slots(Kind::X509);
    assert_eq!(slots.active.upstream_id, first.id());
    let prepared = slots.prepared.unwrap();
    assert!(prepared.id != spoilt && prepared.upstream_id == first.id());
}

#[tokio::test]
async fn a_key_from_below_that_is_refused_here_is_not_known_above() {
    let world = World::new().await;
    let first = world.ca.jwt().id().to_owned();
    let second = world.step(Kind::Jwt, Step::Prepare).await.unwrap();
    let steps = [
        Step::Activate(second.clone()),
        Step::Taint(first.clone()),
        Step::Revoke(first.clone()),
    ];
    for step in steps {
        world.step(Kind::Jwt, step).await.unwrap();
    }
    let world = world.restart().await;
    world.fake.published.lock().unwrap().clear();
    let below = async |key| {
        world
            .ca
            .publish_from_below(world.ca.by_upstream(), key)
            .await
    };
    let refused = below(jwt(&first, None)).await.unwrap_err();
    assert!(matches!(&refused, CaError::KeyRevoked(id) if *id == first));
    let refused = below(jwt(&second, None)).await.unwrap_err();
    assert!(matches!(&refused, CaError::KeyIdTaken(id) if *id == second));
    assert!(world.fake.published.lock().unwrap().is_empty());
    below(jwt("new", None)).await.unwrap();
    assert_eq!(*world.fake.published.lock().unwrap(), ["new"]);
    assert_eq!(world.others(), ["new"]);
}

#[tokio::test]
async fn what_could_not_be_revoked_is_not_held_for_revoked() {
    let world = World::new().await;
    let (key, ca) = (world.ca.jwt().id().to_owned(), world.ca.x509());
    let second = root(world.clock.now());
    *world.fake.root.lock().unwrap() = Arc::clone(&second);
    world.fake.turns.add_permits(1);
    for kind in [Kind::Jwt, Kind::X509] {
        let next = world.step(kind, Step::Prepare).await.unwrap();
        world.step(kind, Step::Activate(next)).await.unwrap();
    }
    world
        .step(Kind::Jwt, Step::Taint(key.clone()))
        .await
        .unwrap();
    let root = async |step| {
        let (by, root) = (world.ca.by_upstream(), ca.upstream_id().to_owned());
        world.ca.root_step(by, step, root).await
    };
    root(RootStep::Taint).await.unwrap();
    let disk = rusqlite::Connection::open(world.folder.path().join("db")).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END";
    disk.execute_batch(full).unwrap();
    let revoke = async || world.step(Kind::Jwt, Step::Revoke(key.clone())).await;
    let failed = revoke().await.unwrap_err();
    assert!(matches!(failed, CaError::Store(_)), "{failed}");
    let failed = root(RootStep::Revoke).await.unwrap_err();
    assert!(matches!(failed, CaError::Store(_)), "{failed}");
    assert!(world.ca.revoked.names().is_empty());
    disk.execute_batch("DROP TRIGGER full").unwrap();
    revoke().await.unwrap();
    root(RootStep::Revoke).await.unwrap();
    let names = HashSet::from([key.clone(), ca.upstream_id().to_owned()]);
    assert_eq!(world.ca.revoked.names(), names);
}
