//! A small federation, for tests: two of three institutions, two of three registrars, a host.

use std::{
    num::NonZeroU64,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sekisho_certs::{Clock as _, TrustBundle, TrustDomain, id::parse_trust_domain};
use sekisho_testkit::{TestCa, TestClock};
use tempfile::TempDir;

use super::{
    continuity::KeySet,
    descriptor::Descriptor,
    key::{FileKey, Signer},
    repository::{Hosted, Init, Lives, Repository, RootChange, Submission},
};

pub(crate) struct Federation {
    pub(crate) folder: TempDir,
    pub(crate) repository: Repository,
    pub(crate) institutions: Vec<FileKey>,
    pub(crate) registrars: Vec<FileKey>,
    pub(crate) host: FileKey,
    pub(crate) clock: Arc<TestClock>,
}

pub(crate) struct Member {
    pub(crate) domain: TrustDomain,
    pub(crate) key: FileKey,
    pub(crate) recovery: FileKey,
    pub(crate) ca: TestCa,
    /// CA certificates beside its own.
    pub(crate) more: Vec<rustls_pki_types::CertificateDer<'static>>,
    pub(crate) sequence: u64,
}

pub(crate) fn two() -> NonZeroU64 {
    NonZeroU64::new(2).unwrap()
}

pub(crate) fn set(keys: &[FileKey], threshold: NonZeroU64) -> KeySet {
    KeySet::new(keys.iter().map(Signer::public).collect(), threshold).unwrap()
}

pub(crate) fn signers(keys: &[FileKey]) -> Vec<&dyn Signer> {
    keys.iter().map(|key| key as &dyn Signer).collect()
}

pub(crate) fn keys(count: usize) -> Vec<FileKey> {
    (0..count).map(|_| FileKey::generate().unwrap()).collect()
}

impl Federation {
    pub(crate) fn new(bins: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let federation = Self {
            repository: Repository::new(folder.path()),
            folder,
            institutions: keys(3),
            registrars: keys(3),
            host: FileKey::generate().unwrap(),
            clock: TestClock::new(),
        };
        let init = Init {
            institutions: set(&federation.institutions, two()),
            registrars: set(&federation.registrars, two()),
            host: federation.host.public(),
            bins,
        };
        let mut all = signers(&federation.institutions);
        all.extend(signers(&federation.registrars));
        federation
            .repository
            .init(&init, &all, federation.now())
            .unwrap();
        federation.publish();
        federation
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    pub(crate) fn publish(&self) -> Hosted {
        let hosted = self
            .repository
            .host(&self.host, &Lives::default(), self.now())
            .unwrap();
        assert_eq!(hosted.complaints, [], "nothing to complain of");
        hosted
    }

    pub(crate) fn two_registrars(&self) -> Vec<&dyn Signer> {
        signers(self.registrars.get(..2).unwrap())
    }

    /// Admits a member, and publishes.
    pub(crate) fn join(&self, name: &str) -> Member {
        let member = Member::new(name);
        let sent = member.request(self);
        self.repository
            .admit(&sent, &self.two_registrars(), self.now())
            .unwrap();
        self.publish();
        member
    }

    /// Gives a member these marks, and publishes.
    pub(crate) fn mark(&self, member: &Member, marks: &[&str]) {
        let marks = marks.iter().map(|mark| mark.parse().unwrap()).collect();
        let signers = self.two_registrars();
        self.repository
            .set_marks(&member.domain, marks, &signers, self.now())
            .unwrap();
        self.publish();
    }

    /// The next root, by the same institutions.
    pub(crate) fn rotate_root(&self, change: &RootChange) {
        self.repository.propose_root(change, self.now()).unwrap();
        self.repository
            .sign_draft("root", &signers(&self.institutions))
            .unwrap();
        self.repository.publish_draft("root").unwrap();
    }
}

impl Member {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            domain: parse_trust_domain(name).unwrap(),
            key: FileKey::generate().unwrap(),
            recovery: FileKey::generate().unwrap(),
            ca: TestCa::new(name),
            more: Vec::new(),
            sequence: 1,
        }
    }

    pub(crate) fn set(&self) -> KeySet {
        KeySet::new(vec![self.key.public()], NonZeroU64::MIN).unwrap()
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        let all = [self.ca.der().clone()].into_iter();
        let all = all.chain(self.more.iter().cloned());
        let bundle = TrustBundle::new(self.domain.clone(), all).unwrap();
        bundle.with_hints(Some(self.sequence), None)
    }

    /// From now on it delivers the CA key of another too, in a certificate of its own making.
    pub(crate) fn copy_ca_key(&mut self, from: &Self) {
        let profile = sekisho_testkit::Profile::ca(self.domain.as_str());
        self.more = vec![self.ca.certify(&from.ca, &profile)];
        self.sequence += 1;
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::new(Arc::new(self.bundle()));
        descriptor.recovery = Some(self.recovery.public().id());
        descriptor
    }

    pub(crate) fn request(&self, federation: &Federation) -> Submission {
        let version = federation.repository.next_version(&self.domain).unwrap();
        let sent = Submission::new(&self.descriptor(), version, &[&self.key], federation.now());
        sent.unwrap().with_keys(self.set())
    }

    /// Sends a descriptor, and the host publishes it.
    pub(crate) fn say(&self, federation: &Federation, descriptor: &Descriptor) {
        let repository = &federation.repository;
        let version = repository.next_version(&self.domain).unwrap();
        let now = federation.now();
        let sent = Submission::new(descriptor, version, &[&self.key], now).unwrap();
        assert!(repository.accept(&sent, now).unwrap());
        federation.publish();
    }

    /// Another CA, published.
    pub(crate) fn rotate_ca(&mut self, federation: &Federation) {
        self.rotate_ca_quietly(federation);
        federation.publish();
    }

    /// The same, of which the host does not say anything yet.
    pub(crate) fn rotate_ca_quietly(&mut self, federation: &Federation) {
        self.ca = TestCa::new(self.domain.as_str());
        self.sequence += 1;
        let version = federation.repository.next_version(&self.domain).unwrap();
        let now = federation.now();
        let sent = Submission::new(&self.descriptor(), version, &[&self.key], now).unwrap();
        assert!(federation.repository.accept(&sent, now).unwrap());
    }
}

/// A client of a federation, which trusts its first root, with its state in that folder.
pub(crate) fn client_of(federation: &Federation, data: &Path) -> super::client::Client {
    let source = super::client::Source::Folder(federation.path().to_owned());
    client_from(federation, data, source)
}

/// The same, which asks at that address.
pub(crate) fn client_at(federation: &Federation, data: &Path, url: &str) -> super::client::Client {
    let allowed = crate::client::Allowed::with(["127.0.0.0/8".parse().unwrap()]);
    let web = super::client::Web::new(
        url,
        crate::client::WebRoots::System,
        allowed,
        Arc::new(sekisho_certs::tls::provider()),
        Arc::<TestClock>::clone(&federation.clock),
    );
    let source = super::client::Source::Web(Box::new(web.unwrap()));
    client_from(federation, data, source)
}

fn client_from(
    federation: &Federation,
    data: &Path,
    source: super::client::Source,
) -> super::client::Client {
    let root = federation.path().join("metadata/1.root.json");
    let settings = super::client::Settings {
        own: parse_trust_domain("own.example").unwrap(),
        source,
        root,
        data: data.to_owned(),
        max_stale: None,
        rekey_wait: None,
    };
    let clock = Arc::<TestClock>::clone(&federation.clock);
    super::client::Client::open(settings, clock).unwrap()
}
