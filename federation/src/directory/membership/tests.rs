//! A member beside a directory that is served.

use std::{fs, io::Write as _, sync::Arc};

use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;
use crate::{
    client::WebRoots,
    directory::{
        fixture::{Federation, Member},
        repository::Submission,
        serve::{Door, Served, serve},
        submit::Hosting,
    },
};

/// The folder of a directory, as a backup has it.
fn copy(from: &Path, to: &Path) {
    for name in ["metadata", "targets", "continuity"] {
        let _ = fs::remove_dir_all(to.join(name));
        fs::create_dir_all(to.join(name)).unwrap();
        for file in fs::read_dir(from.join(name)).into_iter().flatten() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(name).join(file.file_name())).unwrap();
        }
    }
}

struct World {
    here: Federation,
    site: Member,
    folder: TempDir,
    hosting: Hosting,
    serving: JoinHandle<Result<(), rustls::Error>>,
}

async fn hosted(here: &Federation) -> (Hosting, JoinHandle<Result<(), rustls::Error>>) {
    let served = Served::new(here.repository.clone(), here.clock.clone()).accepting();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let crypto = Arc::new(sekisho_certs::tls::provider());
    let door = Door::Plain(listener);
    let serving = tokio::spawn(serve(door, Arc::new(served), Arc::clone(&crypto)));
    let hosting = Hosting::new(&url, WebRoots::System, crypto, here.clock.clone());
    (hosting.unwrap(), serving)
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl World {
    async fn new() -> Self {
        let here = Federation::new(1);
        let site = here.join("tokyo.example");
        let folder = tempfile::tempdir().unwrap();
        site.key.write(&folder.path().join(MEMBER)).unwrap();
        let recovery = site.recovery.public().to_json();
        fs::write(folder.path().join(RECOVERY), recovery).unwrap();
        let own = OwnFolder::new(folder.path());
        own.keep(1, &site.descriptor(), None).unwrap();
        let (hosting, serving) = hosted(&here).await;
        Self {
            here,
            site,
            folder,
            hosting,
            serving,
        }
    }

    async fn speak(&self) -> Result<Spoken, MembershipError> {
        let member = Membership::open(self.folder.path()).unwrap();
        let (bundle, says) = (self.site.bundle(), Says::default());
        member
            .speak(&bundle, &says, &Desk::Asked(&self.hosting), self.here.now())
            .await
    }

    fn own(&self) -> OwnFolder {
        OwnFolder::new(self.folder.path())
    }
}

#[tokio::test]
async fn what_was_said_is_waited_for_and_then_said_again() {
    let mut world = World::new().await;
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
    world.site.sequence = 2;
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(2));
    // The host has not signed since.
    assert_eq!(world.speak().await.unwrap(), Spoken::OnItsWay(2));
    let member = Membership::open(world.folder.path()).unwrap();
    let word = member.word(world.hosting.address()).unwrap().unwrap();
    assert_eq!(word.version, 2);
    // News are said at once.
    world.site.sequence = 3;
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(3));
    world.here.pass(PATIENCE);
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(4));
    world.here.publish();
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
}

#[tokio::test]
async fn the_next_key_is_the_members_once_the_directory_has_it() {
    let mut world = World::new().await;
    let next = FileKey::generate().unwrap();
    next.write(&world.folder.path().join(NEXT)).unwrap();
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
    let kept = || FileKey::read(&world.folder.path().join(MEMBER)).unwrap();
    assert_eq!(kept().public(), world.site.key.public(), "not before");
    let before = world.site.set();
    let again = FileKey::read(&world.folder.path().join(NEXT)).unwrap();
    let old = std::mem::replace(&mut world.site.key, again);
    world.site.sequence = 2;
    let sent = world
        .site
        .request(&world.here)
        .with_rekey(&before, world.site.set(), None, &[&old])
        .unwrap();
    let all = world.here.two_registrars();
    let now = world.here.now();
    world.here.repository.admit(&sent, &all, now).unwrap();
    world.here.publish();
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
    let kept = FileKey::read(&world.folder.path().join(MEMBER)).unwrap();
    assert_eq!(kept.public(), next.public());
    assert!(world.own().next().unwrap().is_none());
    let previous = FileKey::read(&world.folder.path().join("previous.key")).unwrap();
    assert_eq!(previous.public(), old.public());
    world.site.sequence = 3;
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(3));
    // Neither key: somebody else has the name.
    FileKey::generate()
        .unwrap()
        .write(&world.folder.path().join("other"))
        .unwrap();
    let (other, member) = (
        world.folder.path().join("other"),
        world.folder.path().join(MEMBER),
    );
    fs::rename(other, member).unwrap();
    let error = world.speak().await.unwrap_err();
    assert!(matches!(error, MembershipError::NotAdmitted(_)), "{error}");
}

#[tokio::test]
async fn one_speaks_for_a_member_at_a_time() {
    let world = World::new().await;
    let locked = world.own().lock().unwrap();
    let error = world.speak().await.unwrap_err();
    assert!(matches!(error, MembershipError::Locked(_)), "{error}");
    drop(locked);
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
}

#[tokio::test]
async fn the_large_file_is_asked_for_in_its_small_form_or_not_at_all() {
    let world = World::new().await;
    let (domain, keys) = (&world.site.domain, world.site.set());
    let said = async |shown| world.hosting.said(domain, &keys, shown).await;
    assert_eq!(said(None).await.unwrap().unwrap().version, 1);
    let number = world.here.repository.timestamp().unwrap().unwrap();
    let number = number.signed.signed.meta["snapshot.json"].version;
    let file = format!("metadata/{number}.snapshot.json");
    let plain = world.here.path().join(&file);
    let small = fs::File::create(world.here.path().join(format!("{file}.gz"))).unwrap();
    let mut small = flate2::write::GzEncoder::new(small, flate2::Compression::default());
    small.write_all(&fs::read(&plain).unwrap()).unwrap();
    small.finish().unwrap();
    fs::remove_file(plain).unwrap();
    assert_eq!(said(None).await.unwrap().unwrap().version, 1);
    fs::remove_file(world.here.path().join(format!("{file}.gz"))).unwrap();
    assert!(said(None).await.is_err());
    assert_eq!(said(Some(1)).await.unwrap().unwrap().version, 1);
}

#[tokio::test]
async fn a_host_restored_from_a_backup_is_followed_and_brought_to_what_was_said() {
    let mut world = World::new().await;
    let backup = tempfile::tempdir().unwrap();
    copy(world.here.path(), backup.path());
    for version in 2..=3 {
        world.site.sequence = version;
        assert_eq!(world.speak().await.unwrap(), Spoken::Taken(version));
        world.here.publish();
    }
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
    copy(backup.path(), world.here.path());
    // It may be that its host hides what it has.
    world.site.sequence = 4;
    let error = world.speak().await.unwrap_err();
    assert!(
        matches!(error, MembershipError::Back { there: 1, said: 3 }),
        "{error}"
    );
    world.here.pass(PATIENCE);
    // Sites may have seen version 3.
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(4));
    world.here.publish();
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
    let said = world.here.repository.said(&world.site.domain).unwrap();
    assert_eq!(said.unwrap().version, 4);
}

#[tokio::test]
async fn a_directory_founded_anew_is_spoken_to_from_its_beginning() {
    let world = World::new().await;
    let own = world.own();
    let descriptor = world.site.descriptor();
    let now = world.here.now();
    let word = Word::new(&descriptor, 500, 500, &world.site.set(), now);
    own.keep(500, &descriptor, Some((world.hosting.address(), word)))
        .unwrap();
    world.here.pass(PATIENCE);
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(2));
    world.here.publish();
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
}

/// Another directory with the same member, and its place.
async fn another(world: &World) -> (Federation, Hosting, tokio::task::AbortHandle) {
    let mut there = Federation::new(1);
    there.clock = Arc::clone(&world.here.clock);
    let request = world.site.request(&there);
    let all = there.two_registrars();
    there.repository.admit(&request, &all, there.now()).unwrap();
    there.publish();
    let (hosting, serving) = hosted(&there).await;
    (there, hosting, serving.abort_handle())
}

fn rekey(there: &Federation, site: &Member, old: &FileKey) {
    let before = KeySet::new(vec![old.public()], NonZeroU64::MIN).unwrap();
    let sent = site.request(there);
    let sent = sent.with_rekey(&before, site.set(), None, &[old]).unwrap();
    let all = there.two_registrars();
    there.repository.admit(&sent, &all, there.now()).unwrap();
    there.publish();
}

#[tokio::test]
async fn two_directories_take_new_keys_each_in_its_own_time() {
    let mut world = World::new().await;
    let (there, other, serving) = another(&world).await;
    let speak_there = async |world: &World| {
        let member = Membership::open(world.folder.path()).unwrap();
        let (bundle, says) = (world.site.bundle(), Says::default());
        let desk = Desk::Asked(&other);
        member.speak(&bundle, &says, &desk, world.here.now()).await
    };
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
    assert_eq!(speak_there(&world).await.unwrap(), Spoken::AsBefore);
    let next = world.folder.path().join(NEXT);
    FileKey::generate().unwrap().write(&next).unwrap();
    let old = std::mem::replace(&mut world.site.key, FileKey::read(&next).unwrap());
    rekey(&world.here, &world.site, &old);
    world.site.sequence = 2;
    // By the next key here, and by the old one there.
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(3));
    assert_eq!(speak_there(&world).await.unwrap(), Spoken::Taken(2));
    assert!(next.exists(), "the other directory has not taken it");
    there.publish();
    rekey(&there, &world.site, &old);
    assert_eq!(speak_there(&world).await.unwrap(), Spoken::AsBefore);
    assert!(!next.exists(), "both have it");
    world.site.sequence = 3;
    assert_eq!(speak_there(&world).await.unwrap(), Spoken::Taken(4));
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(4));
    serving.abort();
}

#[tokio::test]
async fn by_the_key_before_where_a_directory_has_missed_the_next() {
    let mut world = World::new().await;
    let (member, previous) = (
        world.folder.path().join(MEMBER),
        world.folder.path().join(PREVIOUS),
    );
    fs::rename(&member, previous).unwrap();
    FileKey::generate().unwrap().write(&member).unwrap();
    world.site.sequence = 2;
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(2));
}

#[tokio::test]
async fn a_host_alone_makes_nobody_take_up_the_next_key() {
    let mut world = World::new().await;
    let next = world.folder.path().join(NEXT);
    FileKey::generate().unwrap().write(&next).unwrap();
    let admitted = Some(world.site.set().id());
    let old = std::mem::replace(&mut world.site.key, FileKey::read(&next).unwrap());
    // The host has seen rotate.json, and shows it: the bin that registrars have signed has the old key.
    rekey(&world.here, &world.site, &old);
    let desk = |keys: &Option<String>| {
        let keys = keys.clone();
        Desk::Web(&world.hosting, Some(Shown { version: 2, keys }))
    };
    let open = Membership::open(world.folder.path()).unwrap();
    let (domain, now) = (&world.site.domain, world.here.now());
    let found = open.found(domain, &desk(&admitted), now).await.unwrap();
    assert_eq!(found.key.public(), old.public());
    assert!(next.exists());
    for unknown in [Desk::Web(&world.hosting, None), desk(&None)] {
        let error = open.found(domain, &unknown, now).await.unwrap_err();
        assert!(matches!(error, MembershipError::NotAdmitted(_)), "{error}");
        assert!(next.exists());
    }
    let taken = Some(world.site.set().id());
    let found = open.found(domain, &desk(&taken), now).await.unwrap();
    assert_eq!(found.key.public(), world.site.key.public());
    assert!(!next.exists());
}

#[tokio::test]
async fn nobody_speaks_by_a_key_that_was_revoked() {
    let mut world = World::new().await;
    let revoked = Submission::revocation(
        &world.site.domain,
        &world.site.set(),
        NonZeroU64::MIN,
        &[&world.site.key],
    );
    let revoked = revoked.unwrap();
    statements::keep(world.folder.path(), revoked.statement().unwrap()).unwrap();
    world.site.sequence = 2;
    let error = world.speak().await.unwrap_err();
    assert!(matches!(error, MembershipError::Revoked(_)), "{error}");
    assert!(error.to_string().contains("--recovery-key"), "{error}");
    let said = world.here.repository.said(&world.site.domain).unwrap();
    assert_eq!(said.unwrap().version, 1);
}

#[tokio::test]
async fn what_can_wait_waits_for_new_keys_that_were_asked_for() {
    let mut world = World::new().await;
    let next = world.folder.path().join(NEXT);
    FileKey::generate().unwrap().write(&next).unwrap();
    world.here.pass(LIFE / 2);
    world.here.publish();
    let others = Says {
        endpoints: vec![Endpoint {
            url: "https://tokyo.example/".into(),
            profile: "https_web".into(),
            endpoint_spiffe_id: None,
        }],
        ..Says::default()
    };
    let open = Membership::open(world.folder.path()).unwrap();
    let desk = Desk::Asked(&world.hosting);
    let bundle = world.site.bundle();
    let spoken = open.speak(&bundle, &others, &desk, world.here.now()).await;
    assert_eq!(spoken.unwrap(), Spoken::Waits);
    // A bundle does not.
    world.site.sequence = 2;
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(2));
}

#[tokio::test]
async fn what_ends_is_said_again_in_time() {
    let world = World::new().await;
    world.here.pass(LIFE / 3 - Duration::from_secs(60));
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
    world.here.pass(Duration::from_secs(120));
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(2));
}

#[tokio::test]
async fn a_directory_that_we_have_left_holds_no_key_up() {
    let mut world = World::new().await;
    let (descriptor, now) = (world.site.descriptor(), world.here.now());
    let word = Word::new(&descriptor, 1, 0, &world.site.set(), now);
    let kept = world
        .own()
        .keep(1, &descriptor, Some(("https://left.example/", word)));
    kept.unwrap();
    let next = world.folder.path().join(NEXT);
    FileKey::generate().unwrap().write(&next).unwrap();
    let old = std::mem::replace(&mut world.site.key, FileKey::read(&next).unwrap());
    rekey(&world.here, &world.site, &old);
    assert_eq!(world.speak().await.unwrap(), Spoken::AsBefore);
    assert!(next.exists(), "it may be that it speaks there still");
    world.here.pass(LIFE + Duration::from_secs(1));
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(3));
    assert!(!next.exists());
}

#[tokio::test]
async fn an_older_word_of_ours_is_not_taken_for_the_last() {
    let mut world = World::new().await;
    world.site.sequence = 2;
    assert_eq!(world.speak().await.unwrap(), Spoken::Taken(2));
    world.here.publish();
    let metadata = world.here.path().join("metadata");
    let file = |version: u64| metadata.join(format!("{version}.td-tokyo.example.json"));
    fs::copy(file(1), file(2)).unwrap();
    let error = world.speak().await.unwrap_err();
    let is_refused_here = matches!(error, MembershipError::Submit(SubmitError::Metadata(_)));
    assert!(is_refused_here, "{error}");
}
