//! A member beside a directory that is served.

use std::{fs, io::Write as _, sync::Arc};

use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;
use crate::{
    client::WebRoots,
    directory::{
        fixture::{Federation, Member},
        serve::{Door, Served, serve},
    },
};

struct World {
    here: Federation,
    site: Member,
    folder: TempDir,
    hosting: Hosting,
    serving: JoinHandle<Result<(), rustls::Error>>,
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
        own.keep(1, &site.descriptor(), None, false).unwrap();
        let served = Served::new(here.repository.clone(), here.clock.clone()).accepting();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let crypto = Arc::new(sekisho_certs::tls::provider());
        let door = Door::Plain(listener);
        let serving = tokio::spawn(serve(door, Arc::new(served), Arc::clone(&crypto)));
        let hosting = Hosting::new(&url, WebRoots::System, crypto, here.clock.clone());
        Self {
            here,
            site,
            folder,
            hosting: hosting.unwrap(),
            serving,
        }
    }

    async fn speak(&self) -> Result<Spoken, MembershipError> {
        let member = Membership::open(self.folder.path()).unwrap();
        let (bundle, says) = (self.site.bundle(), Says::default());
        member
            .speak(&bundle, &says, &self.hosting, None, self.here.now())
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
