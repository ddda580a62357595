//! A client beside a directory that is well: what it fetches, takes, keeps and tells.

mod attacks;
mod roots;
mod web;

use sekisho_certs::id::parse_trust_domain;
use tempfile::TempDir;

use super::*;
use crate::directory::{
    fixture::{Federation, Member as Site, signers},
    key::{FileKey, Signer as _},
    repository::{RootChange, Submission},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A client, and the folder in which it keeps what it knows.
struct Here {
    client: Client,
    data: TempDir,
    root: PathBuf,
}

fn domain(name: &str) -> TrustDomain {
    parse_trust_domain(name).unwrap()
}

fn wanting(names: &[&str]) -> Wanted {
    Wanted {
        domains: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Wanted::default()
    }
}

impl Here {
    /// One that trusts the first root.
    fn new(federation: &Federation) -> Self {
        let data = tempfile::tempdir().unwrap();
        let root = data.path().join("root.json");
        std::fs::copy(federation.path().join("metadata/1.root.json"), &root).unwrap();
        let client = open(federation, &data, &root).unwrap();
        Self { client, data, root }
    }

    /// The same after a restart.
    fn again(self, federation: &Federation) -> Self {
        let Self { client, data, root } = self;
        drop(client);
        let client = open(federation, &data, &root).unwrap();
        Self { client, data, root }
    }

    async fn sync(&mut self, names: &[&str]) -> Synced {
        self.client.sync(&wanting(names)).await.unwrap()
    }

    fn bundle(&self, name: &str) -> Option<Arc<sekisho_certs::TrustBundle>> {
        let member = self.client.members().get(&domain(name))?;
        member.bundle().cloned()
    }

    fn status(&self, name: &str) -> MemberStatus {
        let status = self.client.status();
        let of_it = status
            .members
            .into_iter()
            .find(|one| one.trust_domain == name);
        of_it.unwrap()
    }

    fn reason(&self, name: &str) -> Option<String> {
        self.status(name).fault.map(|fault| fault.reason)
    }

    /// That this member's bundle has this site's CA, and no other.
    fn has(&self, site: &Site) -> bool {
        self.bundle(site.domain.as_str())
            .is_some_and(|bundle| *bundle == site.bundle())
    }
}

fn settings(federation: &Federation, data: &TempDir, root: &Path) -> Settings {
    Settings {
        own: domain("own.example"),
        source: Source::Folder(federation.path().to_owned()),
        root: root.to_owned(),
        data: data.path().join("state"),
        max_stale: None,
        rekey_wait: None,
    }
}

fn open(federation: &Federation, data: &TempDir, root: &Path) -> Result<Client, SyncError> {
    let clock = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
    Client::open(settings(federation, data, root), clock)
}

#[tokio::test]
async fn only_what_is_wanted_is_fetched_and_what_is_known_is_kept_up_to_date() {
    let federation = Federation::new(16);
    let mut tokyo = federation.join("tokyo.example");
    let mut osaka = federation.join("osaka.example");
    let mut here = Here::new(&federation);
    let first = here.sync(&["tokyo.example"]).await;
    assert_eq!(first.fetched, [tokyo.domain.clone()]);
    assert!(here.has(&tokyo));
    assert!(here.bundle("osaka.example").is_none());
    osaka.rotate_ca(&federation);
    assert_eq!(here.sync(&[]).await.fetched, []);
    tokyo.rotate_ca(&federation);
    assert_eq!(here.sync(&[]).await.fetched, [tokyo.domain.clone()]);
    assert!(here.has(&tokyo));
    // Whoever stands at the door is fetched between two syncs.
    assert_eq!(
        here.client
            .fetch(&wanting(&["osaka.example"]))
            .await
            .fetched
            .len(),
        1
    );
    assert!(here.has(&osaka));
    let stranger = here.client.fetch(&wanting(&["kyoto.example"])).await;
    assert_eq!(stranger.strangers, [domain("kyoto.example")]);
    assert_eq!(here.client.members().len(), 2);
}

#[tokio::test]
async fn a_bin_that_cannot_be_had_is_told_and_keeps_its_members() {
    let federation = Federation::new(16);
    let mut sites: Vec<Site> = (0..6)
        .map(|number| federation.join(&format!("s{number}.example")))
        .collect();
    let all = Wanted {
        all: true,
        ..Wanted::default()
    };
    let mut here = Here::new(&federation);
    here.client.sync(&all).await.unwrap();
    let bin = federation.repository.bin_of(&sites[0].domain).unwrap();
    let last = federation.join("s6.example");
    federation.mark(&sites[1], &["hpci"]);
    // What another of its members has changed makes another version of it.
    let registrars = federation.two_registrars();
    let (suspended, now) = (sites[0].domain.clone(), federation.now());
    let repository = &federation.repository;
    repository.suspend(&suspended, &registrars, now).unwrap();
    federation.publish();
    let files = std::fs::read_dir(federation.path().join("metadata")).unwrap();
    for file in files.map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        if name.contains(&format!(".{bin}.json")) {
            std::fs::remove_file(file.path()).unwrap();
        }
    }
    sites[1].rotate_ca(&federation);
    here.client.sync(&all).await.unwrap();
    assert!(here.has(&sites[0]), "it stays as it was");
    let status = here.client.status();
    let (role, fault) = &status.broken[0];
    assert_eq!((role, fault.reason.as_str()), (&bin, "missing"));
    assert!(here.has(&sites[1]) && here.has(&last), "the others go on");
}

#[tokio::test]
async fn all_and_by_mark() {
    let federation = Federation::new(16);
    let sites: Vec<Site> = (0..6)
        .map(|number| federation.join(&format!("s{number}.example")))
        .collect();
    federation.mark(&sites[1], &["hpci", "eu"]);
    federation.mark(&sites[4], &["hpci"]);
    let mut here = Here::new(&federation);
    let hpci: Mark = "hpci".parse().unwrap();
    let wanted = Wanted {
        marks: [hpci.clone()].into(),
        ..Wanted::default()
    };
    here.client.sync(&wanted).await.unwrap();
    // The marks were not known when members were looked for: they are now.
    here.client.sync(&wanted).await.unwrap();
    assert_eq!(here.client.members().with_mark(&hpci).count(), 2);
    assert_eq!(here.client.members().len(), 2);
    let all = Wanted {
        all: true,
        ..Wanted::default()
    };
    here.client.sync(&all).await.unwrap();
    assert_eq!(here.client.members().len(), 6);
    federation.mark(&sites[4], &[]);
    here.client.sync(&all).await.unwrap();
    assert_eq!(here.client.members().with_mark(&hpci).count(), 1);
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let federation = Federation::new(1);
    let tokyo = federation.join("tokyo.example");
    federation.mark(&tokyo, &["hpci"]);
    let mut here = Here::new(&federation);
    here.sync(&["tokyo.example"]).await;
    federation.pass(HOUR);
    let mut here = here.again(&federation);
    assert!(here.has(&tokyo));
    assert_eq!(here.status("tokyo.example").age, 3600);
    assert_eq!(here.status("tokyo.example").marks, ["hpci"]);
    let traffic = here.sync(&[]).await;
    assert_eq!(traffic.fetched, [], "nothing is fetched again");
    assert_eq!(here.status("tokyo.example").age, 0);
}

#[tokio::test]
async fn who_was_expelled_is_shown_as_no_member_and_stands_in_the_snapshot() {
    let federation = Federation::new(1);
    let own = federation.join("own.example");
    let mut here = Here::new(&federation);
    here.sync(&[]).await;
    let shown = here.client.status().shown.unwrap();
    assert_eq!((shown.version, shown.keys), (1, Some(own.set().id())));
    let all = federation.two_registrars();
    let out = federation
        .repository
        .expel(&own.domain, &all, federation.now());
    out.unwrap();
    federation.publish();
    here.sync(&[]).await;
    let shown = here.client.status().shown.unwrap();
    assert_eq!((shown.version, shown.keys), (1, None));
}

#[tokio::test]
async fn a_revocation_is_told_whatever_else_was_said() {
    use std::num::NonZeroU64;
    let federation = Federation::new(1);
    let tokyo = federation.join("tokyo.example");
    let mut here = Here::new(&federation);
    let vetoes: Vec<_> = (0..12)
        .map(|_| {
            let other = FileKey::generate().unwrap().public();
            let against = KeySet::new(vec![other], NonZeroU64::MIN).unwrap();
            Submission::veto(&tokyo.domain, &tokyo.set(), &against, &[&tokyo.key]).unwrap()
        })
        .collect();
    here.client.say(&vetoes);
    let told = |here: &Here| here.client.heard().cloned().collect::<Vec<_>>();
    assert_eq!(told(&here).len(), HEARD);
    assert!(told(&here).contains(&vetoes[11]), "the last of them");
    let domain = &tokyo.domain;
    let revoked = Submission::revocation(domain, &tokyo.set(), NonZeroU64::MIN, &[&tokyo.key]);
    let revoked = revoked.unwrap().statement().unwrap().clone();
    let mut all = vetoes;
    all.insert(0, revoked.clone());
    here.client.say(&all);
    assert_eq!(told(&here).len(), HEARD);
    assert!(told(&here).contains(&revoked));
}

#[tokio::test]
async fn new_keys_by_the_old_ones_are_followed() {
    let federation = Federation::new(1);
    let mut tokyo = federation.join("tokyo.example");
    let mut here = Here::new(&federation);
    here.sync(&["tokyo.example"]).await;
    let old = tokyo.set();
    let old_key = std::mem::replace(&mut tokyo.key, FileKey::generate().unwrap());
    let sent = tokyo
        .request(&federation)
        .with_rekey(&old, tokyo.set(), None, &[&old_key])
        .unwrap();
    let all = federation.two_registrars();
    federation
        .repository
        .admit(&sent, &all, federation.now())
        .unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example"), None);
    tokyo.rotate_ca(&federation);
    here.sync(&[]).await;
    assert!(here.has(&tokyo));
}

#[tokio::test]
async fn a_member_says_which_services_it_has() {
    let federation = Federation::new(1);
    let tokyo = federation.join("tokyo.example");
    let mut descriptor = tokyo.descriptor();
    let id = "spiffe://tokyo.example/mdx";
    let service = sekisho_certs::members::Service::new(
        "mdx",
        vec!["gate.tokyo.example:9443".parse().unwrap()],
        sekisho_certs::id::parse_workload_id(id).unwrap(),
        BTreeSet::new(),
    );
    descriptor.services = vec![service.unwrap()];
    tokyo.say(&federation, &descriptor);
    let mut here = Here::new(&federation);
    here.sync(&["tokyo.example"]).await;
    let member = here.client.members().get(&tokyo.domain).unwrap().clone();
    assert_eq!(member.services()["mdx"].id().to_string(), id);
}

#[tokio::test]
async fn a_bundle_goes_back_by_the_operators_word_alone_and_once() {
    let federation = Federation::new(1);
    let mut tokyo = federation.join("tokyo.example");
    tokyo.sequence = 10;
    tokyo.rotate_ca(&federation);
    let mut here = Here::new(&federation);
    here.sync(&["tokyo.example"]).await;
    // Its site was restored from a backup, and its host takes what it says: another host would.
    tokyo.sequence = 3;
    let version = federation.repository.next_version(&tokyo.domain).unwrap();
    let now = federation.now();
    let sent = Submission::new(&tokyo.descriptor(), version, &[&tokyo.key], now).unwrap();
    federation.repository.accept_unchecked(&sent).unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("rollback"));
    assert_eq!(here.status("tokyo.example").sequence, Some(11));
    assert!(here.client.accept_rollback(&tokyo.domain).unwrap());
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example"), None);
    assert_eq!(here.status("tokyo.example").sequence, Some(3));
    tokyo.sequence = 2;
    let version = federation.repository.next_version(&tokyo.domain).unwrap();
    let sent = Submission::new(&tokyo.descriptor(), version, &[&tokyo.key], now).unwrap();
    federation.repository.accept_unchecked(&sent).unwrap();
    federation.publish();
    here.sync(&[]).await;
    assert_eq!(here.reason("tokyo.example").as_deref(), Some("rollback"));
}

#[tokio::test]
async fn a_snapshot_is_built_of_what_has_changed_and_is_the_one_that_was_named() {
    let federation = Federation::new(1);
    let mut tokyo = federation.join("tokyo.example");
    let mut here = Here::new(&federation);
    here.sync(&["tokyo.example"]).await;
    let snapshot = |federation: &Federation| {
        let found = federation.repository.snapshot().unwrap().unwrap();
        (found.file, found.bytes)
    };
    // Three steps at once, and the snapshots themselves cannot be had.
    for _ in 0..3 {
        tokyo.rotate_ca(&federation);
        let (file, _) = snapshot(&federation);
        let hidden = federation.path().join(format!("{file}.hidden"));
        std::fs::copy(federation.path().join(&file), hidden).unwrap();
    }
    let (file, bytes) = snapshot(&federation);
    std::fs::remove_file(federation.path().join(&file)).unwrap();
    let _ = std::fs::remove_file(federation.path().join(format!("{file}.gz")));
    here.sync(&[]).await;
    assert!(here.has(&tokyo));
    assert_eq!(
        here.client.status().snapshot_sha256,
        crate::directory::metadata::sha256(&bytes)
    );
    std::fs::write(federation.path().join(&file), &bytes).unwrap();
    // A delta that lies changes nothing: the snapshot is fetched whole.
    tokyo.rotate_ca(&federation);
    let (file, _) = snapshot(&federation);
    let delta = file.replace("snapshot", "snapshot-delta");
    let path = federation.path().join(&delta);
    let mut lie: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    lie["roles"]["td-tokyo.example"] = 99.into();
    std::fs::write(&path, lie.to_string()).unwrap();
    let _ = std::fs::remove_file(path.with_extension("json.gz"));
    here.sync(&[]).await;
    assert!(here.has(&tokyo));
    assert_eq!(here.reason("tokyo.example"), None);
}
