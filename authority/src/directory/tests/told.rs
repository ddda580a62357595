//! What one authority tells another at its bundle endpoint, over the wire.

use std::{num::NonZeroU64, path::Path, time::SystemTime};

use sekisho_certs::{SpiffeId, TrustBundle, tls};
use sekisho_federation::directory::{
    client::Wanted,
    continuity::KeySet,
    descriptor::Descriptor,
    key::{FileKey, Signer},
    membership::statements,
    repository::{Init, Lives, Repository, Submission},
};
use sekisho_testkit::wait_for;
use tempfile::TempDir;

use super::*;
use crate::{
    directory::neighbours,
    federation::{EndpointSettings, Shown, trust_bundle},
    serve::{Doors, Serving},
};

fn alone(key: &FileKey) -> KeySet {
    KeySet::new(vec![key.public()], NonZeroU64::MIN).unwrap()
}

/// A directory of one institution, one registrar and one host.
struct Keepers {
    registrar: FileKey,
    host: FileKey,
    now: SystemTime,
}

impl Keepers {
    fn begin(folder: &Path, now: SystemTime) -> Self {
        let institution = FileKey::generate().unwrap();
        let keepers = Self {
            registrar: FileKey::generate().unwrap(),
            host: FileKey::generate().unwrap(),
            now,
        };
        let init = Init {
            institutions: alone(&institution),
            registrars: alone(&keepers.registrar),
            host: keepers.host.public(),
            bins: 1,
        };
        let signers: [&dyn Signer; 2] = [&institution, &keepers.registrar];
        let repository = Repository::new(folder);
        repository.init(&init, &signers, now).unwrap();
        keepers.publish(folder);
        keepers
    }

    fn publish(&self, folder: &Path) {
        let hosted = Repository::new(folder).host(&self.host, &Lives::default(), self.now);
        assert_eq!(hosted.unwrap().complaints, []);
    }

    fn admit(&self, folder: &Path, bundle: TrustBundle, key: &FileKey) {
        let repository = Repository::new(folder);
        let descriptor = Descriptor::new(Arc::new(bundle));
        let sent = Submission::new(&descriptor, NonZeroU64::MIN, &[key], self.now);
        let sent = sent.unwrap().with_keys(alone(key));
        let admitted = repository.admit(&sent, &[&self.registrar], self.now);
        admitted.unwrap();
        self.publish(folder);
    }
}

/// An authority with a bundle endpoint, which follows what the directory shows to it.
struct Authority {
    core: Arc<Core>,
    handle: Handle,
    own: TrustBundle,
    folder: TempDir,
}

impl Authority {
    async fn new(name: &str, directory: &Path, clock: &Arc<TestClock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let time = || Arc::<TestClock>::clone(clock);
        let store = Arc::new(Store::open(&folder.path().join("db")).unwrap());
        let keys = KeyFolder::open(&folder.path().join("keys"), None).unwrap();
        let of_ca = CaSettings {
            domain: domain(name),
            ttl: Duration::from_secs(24 * 3600),
            announced: Duration::ZERO,
        };
        let ca = Ca::open(of_ca, Arc::clone(&store), keys, time()).await;
        let ca = Arc::new(ca.unwrap());
        let own = trust_bundle(&ca.bundle().borrow()).unwrap();
        let mut settings = CoreSettings::new(domain(name));
        settings.federation.allowed =
            Allowed::with(["127.0.0.0/8", "::1/128"].map(|one| one.parse().unwrap()));
        settings.federation.endpoint = Some(EndpointSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            refresh: Duration::from_secs(300),
            shown: Shown::Own,
        });
        settings.member = Some(MemberSettings {
            places: vec![Place::Folder(directory.to_owned())],
            data: folder.path().join("member"),
            services: Vec::new(),
            endpoints: Vec::new(),
        });
        let follows = Settings {
            own: domain(name),
            source: Source::Folder(directory.to_owned()),
            root: directory.join("metadata/1.root.json"),
            data: folder.path().join("directory"),
            max_stale: None,
            rekey_wait: None,
        };
        let client = Client::open(follows, time()).unwrap();
        let all = Directories::new(domain(name), vec![client], 1, time());
        let (core, following) = Core::new(settings, store, ca, time()).following(all);
        tokio::spawn(following.run());
        let handle = core.followed().unwrap().clone();
        Self {
            core: Arc::new(core),
            handle,
            own,
            folder,
        }
    }

    async fn refresh(&self) {
        self.handle.refresh().await.unwrap().remove(0).unwrap();
    }

    async fn serve(&self) -> Serving {
        let doors = Doors {
            tcp: None,
            socket: None,
            owner_only: false,
        };
        let provider = Arc::new(tls::provider());
        Serving::start(Arc::clone(&self.core), &doors, provider)
            .await
            .unwrap()
    }

    /// Asks another what it has heard.
    async fn ask(&self, other: &Self, serving: &Serving) {
        let name = other.own.trust_domain();
        let bundle = fetched(&other.own).unwrap();
        let by = self.core.by("test");
        let edit = move |_: Option<Bundle>| Ok::<_, ()>(bundle);
        let put = self.core.store.edit_bundle(by, name.clone(), edit);
        put.await.unwrap().unwrap();
        let port = serving.bundles().unwrap().port();
        let id: SpiffeId = format!("spiffe://{name}/spire/server").parse().unwrap();
        let relationship = Relationship {
            origin: Origin::Api,
            domain: name.clone(),
            url: format!("https://localhost:{port}/").parse().unwrap(),
            profile: EndpointProfile::Spiffe(id),
        };
        neighbours::ask(&self.core, &self.handle, &relationship)
            .await
            .unwrap();
        // What was heard is taken in its turn.
        self.refresh().await;
    }
}

fn copy(from: &Path, to: &Path) {
    for folder in ["metadata", "targets", "continuity"] {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        let Ok(entries) = std::fs::read_dir(from.join(folder)) else {
            continue;
        };
        for entry in entries.map(Result::unwrap) {
            let copy = to.join(folder).join(entry.file_name());
            std::fs::copy(entry.path(), copy).unwrap();
        }
    }
}

#[tokio::test]
async fn a_member_tells_its_own_revocation_where_the_directory_shows_none() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let keepers = Keepers::begin(folder.path(), clock.now());
    let a = Authority::new("a.example", folder.path(), &clock).await;
    let key = FileKey::generate().unwrap();
    keepers.admit(folder.path(), a.own.clone(), &key);
    let c = Authority::new("c.example", folder.path(), &clock).await;
    c.handle.set_wanted(Wanted {
        domains: BTreeSet::from(["a.example".to_owned()]),
        ..Wanted::default()
    });
    c.refresh().await;
    let trusts = |members: &Members| {
        let member = members.get(&domain("a.example"));
        member.is_some_and(|member| member.bundle().is_some())
    };
    assert!(trusts(&c.handle.members().borrow()));
    // As `sekisho directory self-revoke` leaves it.
    let member = a.folder.path().join("member");
    std::fs::create_dir(&member).unwrap();
    for file in ["member.key", "said.json"] {
        std::fs::write(member.join(file), "").unwrap();
    }
    let two = NonZeroU64::new(2).unwrap();
    let own = alone(&key);
    let revoked = Submission::revocation(&domain("a.example"), &own, two, &[&key]).unwrap();
    statements::keep(&member, revoked.statement().unwrap()).unwrap();
    let serving = a.serve().await;
    let is_told = || !a.handle.gossip().statements.is_empty();
    wait_for("a statement to tell", Duration::from_secs(10), is_told).await;
    c.ask(&a, &serving).await;
    assert!(!trusts(&c.handle.members().borrow()));
    serving.stop().await;
}

#[tokio::test]
async fn two_authorities_find_out_a_host_that_was_never_seen_with_one_number_at_both() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [here, there] = folders.each_ref().map(TempDir::path);
    let clock = TestClock::new();
    let keepers = Keepers::begin(here, clock.now());
    copy(here, there);
    let join = |folder: &Path, name: &str| {
        let key = FileKey::generate().unwrap();
        keepers.admit(folder, (**Site::new(name).bundle()).clone(), &key);
    };
    let a = Authority::new("a.example", here, &clock).await;
    let c = Authority::new("c.example", there, &clock).await;
    join(here, "b.example");
    a.refresh().await;
    for name in ["d.example", "e.example"] {
        join(there, name);
        c.refresh().await;
    }
    let shown = |one: &Authority| one.handle.status()[0].snapshot;
    assert!(shown(&c) > shown(&a));
    // Who is ahead knows the number that the other shows; who is behind has to ask for the proof.
    for (asks, told) in [(&c, &a), (&a, &c)] {
        let serving = told.serve().await;
        asks.ask(told, &serving).await;
        let alarm = asks.handle.status()[0].alarm.clone();
        assert_eq!(alarm.unwrap().reason, "split_view");
        serving.stop().await;
    }
}
