use std::{collections::BTreeSet, num::NonZeroU64};

use sekisho_certs::id::parse_trust_domain;
use tempfile::TempDir;

use super::*;
use crate::directory::{
    continuity::KeySet,
    fixture::{Federation, Member as Site, client_of},
    key::FileKey,
    repository::Submission,
};

const LONGEST: Duration = Duration::from_secs(10);

/// Two directories, which have the same clock, and a site that asks both.
struct Two {
    japan: Federation,
    europe: Federation,
    data: TempDir,
    directories: Directories,
}

impl Two {
    fn new(threshold: usize) -> Self {
        let (japan, mut europe) = (Federation::new(1), Federation::new(1));
        europe.clock = Arc::clone(&japan.clock);
        let data = tempfile::tempdir().unwrap();
        let clients = vec![
            client_of(&japan, &data.path().join("japan")),
            client_of(&europe, &data.path().join("europe")),
        ];
        let clock: Arc<dyn Clock> = Arc::<sekisho_testkit::TestClock>::clone(&japan.clock);
        let own = parse_trust_domain("own.example").unwrap();
        let directories = Directories::new(own, clients, threshold, clock);
        let directories = directories.keeping(&data.path().join("agreed.json"));
        Self {
            japan,
            europe,
            data,
            directories,
        }
    }

    /// The same after a restart.
    fn again(self) -> Self {
        let Self {
            japan,
            europe,
            data,
            directories,
        } = self;
        let clients = vec![
            client_of(&japan, &data.path().join("japan")),
            client_of(&europe, &data.path().join("europe")),
        ];
        let clock: Arc<dyn Clock> = Arc::<sekisho_testkit::TestClock>::clone(&japan.clock);
        let own = parse_trust_domain("own.example").unwrap();
        let again = Directories::new(own, clients, directories.threshold, clock);
        Self {
            directories: again.keeping(&data.path().join("agreed.json")),
            japan,
            europe,
            data,
        }
    }

    /// A member of both, with the same keys.
    fn join(&self, name: &str) -> Site {
        let site = self.japan.join(name);
        self.admit(&self.europe, &site);
        site
    }

    fn admit(&self, federation: &Federation, site: &Site) {
        let all = federation.two_registrars();
        let sent = site.request(federation);
        federation
            .repository
            .admit(&sent, &all, federation.now())
            .unwrap();
        federation.publish();
    }

    async fn sync(&mut self, name: &str) -> usize {
        let wanted = Wanted {
            domains: BTreeSet::from([name.to_owned()]),
            ..Wanted::default()
        };
        let all = self.directories.sync(&wanted, LONGEST).await;
        all.iter().filter(|one| one.is_ok()).count()
    }

    fn has(&self, site: &Site) -> bool {
        let member = self.directories.members().get(&site.domain);
        member
            .and_then(|member| member.bundle())
            .is_some_and(|bundle| **bundle == site.bundle())
    }
}

#[tokio::test]
async fn both_have_to_say_the_same() {
    let mut two = Two::new(2);
    let mut tokyo = two.join("tokyo.example");
    assert_eq!(two.sync("tokyo.example").await, 2);
    assert!(two.has(&tokyo));
    let before = tokyo.bundle();
    // What is new is on its way to the second.
    tokyo.rotate_ca(&two.japan);
    two.sync("tokyo.example").await;
    assert!(!two.has(&tokyo));
    let member = two.directories.members().get(&tokyo.domain).unwrap();
    assert_eq!(
        member.bundle().map(|bundle| (**bundle).clone()),
        Some(before)
    );
    tokyo.say(&two.europe, &tokyo.descriptor());
    two.sync("tokyo.example").await;
    assert!(two.has(&tokyo));
    // One of them is not enough.
    let osaka = two.japan.join("osaka.example");
    two.sync("osaka.example").await;
    assert!(two.directories.members().get(&osaka.domain).is_none());
}

#[tokio::test]
async fn what_was_agreed_outlives_a_restart() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut two = Two::new(2);
    let mut tokyo = two.join("tokyo.example");
    two.sync("tokyo.example").await;
    let before = tokyo.bundle();
    tokyo.rotate_ca(&two.japan);
    two.sync("tokyo.example").await;
    let bundle = |two: &Two| {
        let member = two.directories.members().get(&tokyo.domain).unwrap();
        member.bundle().map(|bundle| (**bundle).clone())
    };
    let mut two = two.again();
    assert_eq!(bundle(&two).as_ref(), Some(&before), "at once");
    two.sync("tokyo.example").await;
    assert_eq!(bundle(&two).as_ref(), Some(&before));
    let file = two.data.path().join("agreed.json");
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // For no longer than without a restart.
    two.japan.pass(Duration::from_secs(8 * 24 * 3600));
    let two = two.again();
    assert_eq!(bundle(&two), None);
    // Without it, it is a member still, of which nothing is believed.
    std::fs::write(file, "[").unwrap();
    let two = two.again();
    assert_eq!(bundle(&two), None);
}

#[tokio::test(start_paused = true)]
async fn a_slow_directory_keeps_nobody_from_the_other() {
    let mut two = Two::new(1);
    let osaka = two.japan.join("osaka.example");
    let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", slow.local_addr().unwrap());
    let slow = super::super::fixture::client_at(&two.europe, &two.data.path().join("slow"), &url);
    two.directories.clients.insert(0, slow);
    assert_eq!(two.sync("osaka.example").await, 2, "without the slow one");
    assert!(two.has(&osaka));
    let status = two.directories.status();
    let fault = status.first().unwrap().fault.as_ref().unwrap();
    assert_eq!(fault.reason, "unreachable");
    assert!(fault.problem.contains("not followed within"), "{fault:?}");
}

#[tokio::test]
async fn registrars_of_one_directory_make_no_member_and_end_one() {
    let mut two = Two::new(2);
    let tokyo = two.join("tokyo.example");
    two.sync("tokyo.example").await;
    let all = two.europe.two_registrars();
    two.europe
        .repository
        .expel(&tokyo.domain, &all, two.europe.now())
        .unwrap();
    two.europe.publish();
    two.sync("tokyo.example").await;
    assert!(two.directories.members().get(&tokyo.domain).is_none());
}

#[tokio::test]
async fn what_was_agreed_serves_until_it_is_too_old() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut two = Two::new(2);
    let mut tokyo = two.join("tokyo.example");
    two.sync("tokyo.example").await;
    let before = tokyo.bundle();
    tokyo.rotate_ca(&two.japan);
    let bundle = |two: &Two| {
        let member = two.directories.members().get(&tokyo.domain).unwrap();
        member.bundle().map(|bundle| (**bundle).clone())
    };
    for _ in 0..7 {
        two.japan.pass(DAY);
        two.japan.publish();
        two.europe.publish();
        two.sync("tokyo.example").await;
        assert_eq!(bundle(&two).as_ref(), Some(&before));
    }
    two.japan.pass(DAY);
    two.sync("tokyo.example").await;
    assert_eq!(bundle(&two), None);
    let _ = two.data.path();
}

#[tokio::test]
async fn with_a_threshold_of_one_either_is_enough() {
    let mut two = Two::new(1);
    let osaka = two.japan.join("osaka.example");
    two.sync("osaka.example").await;
    assert!(two.has(&osaka));
    std::fs::remove_dir_all(two.europe.path().join("metadata")).unwrap();
    assert_eq!(two.sync("osaka.example").await, 1);
    assert!(two.has(&osaka));
}

#[tokio::test]
async fn what_members_say_travels_from_site_to_site() {
    let federation = Federation::new(1);
    let tokyo = federation.join("tokyo.example");
    let site = || {
        let data = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::<sekisho_testkit::TestClock>::clone(&federation.clock);
        let own = parse_trust_domain("own.example").unwrap();
        let client = client_of(&federation, data.path());
        (Directories::new(own, vec![client], 1, clock), data)
    };
    let ((mut one, _one), (mut other, _other)) = (site(), site());
    let wanted = Wanted {
        domains: BTreeSet::from(["tokyo.example".to_owned()]),
        ..Wanted::default()
    };
    one.sync(&wanted, LONGEST).await;
    other.sync(&wanted, LONGEST).await;
    let thief = FileKey::generate().unwrap();
    let by = |key: &FileKey| {
        let domain = &tokyo.domain;
        let sent = Submission::revocation(domain, &tokyo.set(), NonZeroU64::MIN, &[key]).unwrap();
        sent.statement().unwrap().clone()
    };
    // Told by who has not signed it: nothing.
    let lie = Gossip {
        statements: vec![by(&thief)],
        ..Gossip::default()
    };
    assert!(!one.hear(&lie));
    let truth = Gossip {
        statements: vec![by(&tokyo.key)],
        ..Gossip::default()
    };
    let heard = Gossip::read(&truth.to_json()).unwrap();
    assert!(one.hear(&heard));
    assert!(!one.hear(&heard), "once is enough");
    assert!(one.members().get(&tokyo.domain).is_none());
    // And on.
    let told = Gossip::read(&one.gossip().to_json()).unwrap();
    assert_eq!(told.timestamps.len(), 1);
    assert!(other.hear(&told));
    assert!(other.members().get(&tokyo.domain).is_none());
    assert!(Gossip::read(b"{\"more\":1}").is_err());
    let keys = KeySet::new(vec![], NonZeroU64::MIN);
    assert!(keys.is_err());
}

#[tokio::test]
async fn a_ca_key_goes_to_the_member_that_shows_it_whichever_directory_has_the_other() {
    // Whichever comes first by its name.
    for name in ["a-thief.example", "z-thief.example"] {
        let mut two = Two::new(1);
        let tokyo = two.japan.join("tokyo.example");
        let mut thief = Site::new(name);
        thief.copy_ca_key(&tokyo);
        two.admit(&two.europe, &thief);
        assert_eq!(two.sync(name).await, 2);
        assert!(two.has(&thief), "nobody else was seen with it");
        assert_eq!(two.sync("tokyo.example").await, 2);
        assert!(two.has(&tokyo));
        let thief = two.directories.members().get(&thief.domain).unwrap();
        assert!(thief.bundle().is_none(), "{name}");
    }
}

#[tokio::test]
async fn registrars_of_one_directory_give_no_mark() {
    let mut two = Two::new(2);
    let tokyo = two.join("tokyo.example");
    two.japan.mark(&tokyo, &["hpci"]);
    two.sync("tokyo.example").await;
    let marks = |two: &Two| {
        let member = two.directories.members().get(&tokyo.domain).unwrap();
        member.marks().len()
    };
    assert_eq!(marks(&two), 0);
    two.europe.mark(&tokyo, &["hpci"]);
    two.sync("tokyo.example").await;
    assert_eq!(marks(&two), 1);
}

#[tokio::test]
async fn who_distrusts_itself_in_one_directory_is_heard() {
    let mut two = Two::new(2);
    let tokyo = two.join("tokyo.example");
    two.sync("tokyo.example").await;
    assert!(two.has(&tokyo));
    let (repository, now) = (&two.europe.repository, two.europe.now());
    let version = repository.next_version(&tokyo.domain).unwrap();
    let nobody = br#"{"trust_domain":"tokyo.example","bundle":{"keys":[],"spiffe_sequence":9}}"#;
    let said = repository.accept_text(&tokyo.domain, version, nobody, &[&tokyo.key], now);
    said.unwrap();
    two.europe.publish();
    two.sync("tokyo.example").await;
    let member = two.directories.members().get(&tokyo.domain).unwrap();
    assert_eq!(member.bundle().unwrap().authorities().len(), 0);
}

#[tokio::test]
async fn a_directory_that_is_away_says_nothing_against_the_other() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for (threshold, days) in [(1, 8), (2, 3)] {
        let mut two = Two::new(threshold);
        let tokyo = two.join("tokyo.example");
        two.sync("tokyo.example").await;
        let japan = two.japan.path();
        std::fs::rename(japan.join("metadata"), japan.join("away")).unwrap();
        two.japan.pass(DAY * days);
        two.europe.publish();
        assert_eq!(two.sync("tokyo.example").await, 1);
        assert!(two.has(&tokyo), "{threshold}");
        // Where both have to say it, it is as old as the older word.
        let member = two.directories.members().get(&tokyo.domain).unwrap();
        let age = member.age(two.japan.now());
        assert_eq!(
            age,
            if threshold == 1 {
                Duration::ZERO
            } else {
                DAY * days
            }
        );
    }
}

#[tokio::test]
async fn what_one_directory_has_taken_of_us_is_asked_of_that_one_alone() {
    let mut two = Two::new(2);
    two.join("own.example");
    two.sync("tokyo.example").await;
    let now = two.japan.now().duration_since(SystemTime::UNIX_EPOCH);
    let address = two.europe.path().display().to_string();
    two.directories
        .own_word(&address, 9, now.unwrap().as_secs());
    two.japan.pass(crate::directory::membership::PATIENCE);
    let all = two.directories.status();
    let behind = all.iter().map(|one| {
        let mut broken = one.broken.iter();
        broken.any(|(_, fault)| fault.reason == "behind")
    });
    assert_eq!(behind.collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn services_are_those_that_both_have() {
    let mut two = Two::new(2);
    let tokyo = two.join("tokyo.example");
    two.sync("tokyo.example").await;
    let id = "spiffe://tokyo.example/mdx".parse().unwrap();
    let gateways = vec!["gate.tokyo.example:9443".parse().unwrap()];
    let service = sekisho_certs::members::Service::new("mdx", gateways, id, BTreeSet::new());
    let mut descriptor = tokyo.descriptor();
    descriptor.services = vec![service.unwrap()];
    let services = |two: &Two| {
        let member = two.directories.members().get(&tokyo.domain).unwrap();
        member.services().len()
    };
    tokyo.say(&two.japan, &descriptor);
    two.sync("tokyo.example").await;
    assert_eq!(services(&two), 0);
    assert!(two.has(&tokyo));
    tokyo.say(&two.europe, &descriptor);
    two.sync("tokyo.example").await;
    assert_eq!(services(&two), 1);
}

#[tokio::test]
async fn what_was_agreed_grows_old_over_restarts_and_by_no_clock_that_was_wrong() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for ahead in [false, true] {
        let mut two = Two::new(2);
        let mut tokyo = two.join("tokyo.example");
        two.sync("tokyo.example").await;
        let before = tokyo.bundle();
        tokyo.rotate_ca(&two.japan);
        two.sync("tokyo.example").await;
        let bundle = |two: &Two| {
            let member = two.directories.members().get(&tokyo.domain).unwrap();
            member.bundle().map(|bundle| (**bundle).clone())
        };
        if ahead {
            // As one would have kept it whose clock was a year ahead.
            let file = two.data.path().join("agreed.json");
            let kept = std::fs::read(&file).unwrap();
            let mut kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
            let confirmed = kept[0]["confirmed"].as_u64().unwrap();
            kept[0]["confirmed"] = (confirmed + 365 * DAY.as_secs()).into();
            std::fs::write(file, kept.to_string()).unwrap();
        }
        two = two.again();
        for _ in 0..7 {
            two.japan.pass(DAY);
            two.japan.publish();
            two.europe.publish();
            assert_eq!(two.sync("tokyo.example").await, 2);
            assert_eq!(bundle(&two).as_ref(), Some(&before));
            if !ahead {
                two = two.again();
            }
        }
        two.japan.pass(DAY);
        two.sync("tokyo.example").await;
        assert_eq!(bundle(&two), None, "{ahead}");
    }
}

#[tokio::test]
async fn of_whom_both_know_and_never_agreed_nothing_is_believed() {
    let mut two = Two::new(2);
    let mut tokyo = two.join("tokyo.example");
    tokyo.rotate_ca(&two.japan);
    assert_eq!(two.sync("tokyo.example").await, 2);
    let member = two.directories.members().get(&tokyo.domain).unwrap();
    assert!(member.bundle().is_none() && member.marks().is_empty());
    tokyo.say(&two.europe, &tokyo.descriptor());
    two.sync("tokyo.example").await;
    assert!(two.has(&tokyo));
}
