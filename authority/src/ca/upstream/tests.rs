use std::path::{Path, PathBuf};

use sekisho_certs::id::parse_trust_domain;
use sekisho_testkit::{KeyKind, Profile, TestCa, TestClock};

use super::*;
use crate::{
    ca::{Step, keys::KeyFolder},
    store::{Kind, Store},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    folder: tempfile::TempDir,
    clock: Arc<TestClock>,
}

/// A key in PEM, and the certificate of the CA that has it, signed by itself or by another.
fn write(folder: &Path, key: &KeyPair, certificates: &[&rcgen::Certificate]) -> (PathBuf, PathBuf) {
    let (chain, file) = (folder.join("upper.pem"), folder.join("upper.key"));
    let pem: String = certificates.iter().map(|one| one.pem()).collect();
    std::fs::write(&chain, pem).unwrap();
    std::fs::write(&file, key.serialize_pem()).unwrap();
    (chain, file)
}

fn upper(name: &str) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: TestClock::new(),
        }
    }

    /// A root on disk, and its certificate.
    fn root(&self) -> (Disk, rcgen::Certificate) {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let certificate = upper("root").self_signed(&key).unwrap();
        (self.disk(&key, &[&certificate], None), certificate)
    }

    fn disk(
        &self,
        key: &KeyPair,
        certificates: &[&rcgen::Certificate],
        roots: Option<PathBuf>,
    ) -> Disk {
        let (certificates, key) = write(self.folder.path(), key, certificates);
        Disk {
            domain: parse_trust_domain("a.example").unwrap(),
            certificates,
            key,
            roots,
        }
    }

    async fn open(&self, upstream: &Disk) -> Result<Arc<Ca>, CaError> {
        let store = Arc::new(Store::open(&self.folder.path().join("db")).unwrap());
        let keys = KeyFolder::open(&self.folder.path().join("keys"), None).unwrap();
        let settings = CaSettings {
            domain: parse_trust_domain("a.example").unwrap(),
            ttl: DAY,
            announced: Duration::ZERO,
        };
        let clock = Arc::<TestClock>::clone(&self.clock);
        let upstream: Arc<dyn Upstream> = Arc::new(upstream.clone());
        let ca = Ca::open_below(Some(upstream), settings, store, keys, clock);
        ca.await.map(Arc::new)
    }

    fn by(&self) -> By {
        By {
            caller: "test".into(),
            at: sekisho_certs::Clock::now(&*self.clock),
        }
    }

    /// A workload's chain by the CA, verified by its bundle.
    fn chain(&self, ca: &Ca) -> Vec<CertificateDer<'static>> {
        let key = KeyPair::generate().unwrap();
        let leaf = Leaf {
            id: &id::parse_workload_id("spiffe://a.example/w").unwrap(),
            dns_names: &[],
            public_key: &rcgen::PublicKeyData::subject_public_key_info(&key),
            ttl: Duration::from_secs(60),
        };
        let now = self.by().at;
        let chain = ca.x509().leaf(&leaf, now).unwrap().chain;
        let roots = crate::ca::certificates(&ca.bundle().borrow());
        let domain = parse_trust_domain("a.example").unwrap();
        let mut set = BundleSet::default();
        let bundle = TrustBundle::new(domain, roots).unwrap();
        set.insert(Arc::new(bundle)).unwrap();
        let trust = Trust::new(set, tls::provider().signature_verification_algorithms);
        trust.verify(&chain, now).unwrap();
        chain
    }
}

fn ders(ca: &Ca) -> Vec<Vec<u8>> {
    let bundle = Arc::clone(&ca.bundle().borrow());
    bundle.x509.iter().map(|own| own.der.clone()).collect()
}

#[tokio::test]
async fn below_a_root_the_chain_is_leaf_and_intermediate_and_the_bundle_has_the_root() {
    let world = World::new();
    let (disk, root) = world.root();
    let ca = world.open(&disk).await.unwrap();
    let chain = world.chain(&ca);
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[1..], *ca.x509().chain());
    assert_eq!(ders(&ca), [root.der().to_vec()]);
    let told = ca.slots(Kind::X509).active;
    assert_eq!(Some(told.upstream_id), root_id(root.der()));
    // The next is below the same root, which is not there twice; and it is so after a restart.
    let next = ca
        .step(world.by(), Kind::X509, Step::Prepare)
        .await
        .unwrap();
    ca.step(world.by(), Kind::X509, Step::Activate(next))
        .await
        .unwrap();
    world.chain(&ca);
    assert_eq!(ders(&ca).len(), 1);
    let before = ca.slots(Kind::X509);
    drop(ca);
    let ca = world.open(&disk).await.unwrap();
    assert_eq!(ca.slots(Kind::X509), before);
    world.chain(&ca);
}

#[tokio::test]
async fn what_stands_between_it_and_the_root_goes_along() {
    let world = World::new();
    let root_key = KeyPair::generate().unwrap();
    let root = upper("root").self_signed(&root_key).unwrap();
    let issuer = rcgen::Issuer::new(upper("root"), root_key);
    let key = KeyPair::generate().unwrap();
    let middle = upper("middle").signed_by(&key, &issuer).unwrap();
    let roots = world.folder.path().join("roots.pem");
    std::fs::write(&roots, root.pem()).unwrap();
    let ca = world
        .open(&world.disk(&key, &[&middle], Some(roots)))
        .await
        .unwrap();
    let chain = world.chain(&ca);
    assert_eq!(chain.len(), 3);
    assert_eq!(chain[2], *middle.der());
    assert_eq!(ders(&ca), [root.der().to_vec()]);
}

#[tokio::test]
async fn an_authority_above_that_cannot_be_used_is_told_and_nothing_is_made() {
    let world = World::new();
    let (disk, _) = world.root();
    let stranger = world.folder.path().join("stranger.pem");
    let other = TestCa::root(&Profile::ca("a.example"), KeyKind::default(), world.by().at);
    std::fs::write(&stranger, other.pem()).unwrap();
    let with_foreign_roots = Disk {
        roots: Some(stranger),
        ..disk.clone()
    };
    let failed = world.open(&with_foreign_roots).await.unwrap_err();
    assert!(matches!(
        failed,
        CaError::Upstream(UpstreamError::Unusable(_))
    ));
    std::fs::write(&disk.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let failed = world.open(&disk).await.unwrap_err();
    assert!(matches!(
        failed,
        CaError::Upstream(UpstreamError::Refused(_))
    ));
    let store = Store::open(&world.folder.path().join("db")).unwrap();
    assert_eq!(store.authorities(Kind::X509).await.unwrap(), []);
}

#[tokio::test]
async fn a_root_above_is_tainted_and_revoked_once_none_that_signs_is_below_it() {
    let world = World::new();
    let (disk, first) = world.root();
    let ca = world.open(&disk).await.unwrap();
    let first = root_id(first.der()).unwrap();
    let own = ca.x509().id().to_owned();
    let step = async |step| ca.step(world.by(), Kind::X509, step).await;
    let root = async |step, id: &str| ca.root_step(world.by(), step, id.into()).await;
    let active = root(RootStep::Taint, &first).await.unwrap_err();
    assert!(matches!(active, CaError::Slot(SlotError::Active(_))));
    // Another root takes its place.
    let (_, second) = world.root();
    let next = step(Step::Prepare).await.unwrap();
    step(Step::Activate(next)).await.unwrap();
    assert_eq!(ders(&ca).len(), 2);
    for refused in [Step::Taint(own.clone()), Step::Revoke(own)] {
        let refused = step(refused).await.unwrap_err();
        assert!(matches!(refused, CaError::HasUpstream));
    }
    let unknown = root(RootStep::Taint, "00").await.unwrap_err();
    assert!(matches!(unknown, CaError::Slot(SlotError::Unknown(_))));
    let early = root(RootStep::Revoke, &first).await.unwrap_err();
    assert!(matches!(early, CaError::Slot(SlotError::NotTainted(_))));
    root(RootStep::Taint, &first).await.unwrap();
    let twice = root(RootStep::Taint, &first).await.unwrap_err();
    assert!(matches!(twice, CaError::Slot(SlotError::Tainted(_))));
    let tainted: Vec<_> = ca
        .bundle()
        .borrow()
        .x509
        .iter()
        .map(|own| own.tainted)
        .collect();
    assert_eq!(tainted, [true, false]);
    root(RootStep::Revoke, &first).await.unwrap();
    assert_eq!(ders(&ca), [second.der().to_vec()]);
    world.chain(&ca);
}
