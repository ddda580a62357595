//! Against an authority that answers as it is told.

use std::{sync::Mutex, time::Duration};

use sekisho_certs::id::parse_trust_domain;
use sekisho_spire_api::federation::{
    Age, Member, Source,
    federation_server::{Federation, FederationServer},
};
use sekisho_testkit::Site;
use tokio::{net::UnixListener, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, transport::Server};

use super::*;
use crate::delegate::connect;

type Answers = dyn Fn(&GetMembersRequest) -> GetMembersResponse + Send + Sync;

/// What it was asked, and what it answers.
struct Authority {
    asked: Arc<Mutex<Vec<GetMembersRequest>>>,
    answers: Arc<Answers>,
}

#[tonic::async_trait]
impl Federation for Authority {
    async fn get_members(
        &self,
        request: Request<GetMembersRequest>,
    ) -> Result<Response<GetMembersResponse>, Status> {
        let request = request.into_inner();
        self.asked.lock().unwrap().push(request.clone());
        Ok(Response::new((self.answers)(&request)))
    }
}

struct World {
    channel: Channel,
    asked: Arc<Mutex<Vec<GetMembersRequest>>>,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const THEN: SystemTime = SystemTime::UNIX_EPOCH;

impl World {
    async fn new(answers: Option<Arc<Answers>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("authority.sock");
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let service = answers.map(|answers| {
            FederationServer::new(Authority {
                asked: Arc::clone(&asked),
                answers,
            })
        });
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder()
            .add_service(health)
            .add_optional_service(service);
        let task = tokio::spawn(async move {
            server.serve_with_incoming(listener).await.unwrap();
        });
        Self {
            channel: connect(&socket).await.unwrap(),
            asked,
            task,
            _folder: folder,
        }
    }

    async fn ask(&self, wanted: &Interest, before: &Known, asked: &mut Asked, at: u64) -> Known {
        let own = parse_trust_domain("own.example").unwrap();
        let now = THEN + Duration::from_secs(1000 + at);
        let known = ask(self.channel.clone(), &own, wanted, before, asked, now);
        known.await.unwrap()
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn wanted(names: &[&str]) -> Interest {
    Interest {
        domains: names.iter().map(ToString::to_string).collect(),
        marks: BTreeSet::new(),
    }
}

fn message(name: &str) -> Member {
    let site = Site::new(name);
    Member {
        trust_domain: name.into(),
        source: Source::Directory.into(),
        bundle: site.bundle().to_json().to_string().into_bytes(),
        ..Member::default()
    }
}

#[tokio::test]
async fn an_authority_without_the_service_knows_nobody() {
    let world = World::new(None).await;
    let mut asked = Asked::default();
    let known = world
        .ask(&wanted(&["b.example"]), &Known::default(), &mut asked, 0)
        .await;
    assert!(known.members.is_empty());
    assert_eq!(known.unknown, ["b.example".to_owned()].into());
}

#[tokio::test]
async fn the_same_question_is_asked_with_its_revision_and_only_ages_come() {
    let b = message("b.example");
    let answers = move |request: &GetMembersRequest| {
        if request.revision == 7 {
            let age = Age {
                trust_domain: "b.example".into(),
                age_seconds: 3,
            };
            return GetMembersResponse {
                revision: 7,
                unchanged: true,
                ages: vec![age],
                ..GetMembersResponse::default()
            };
        }
        GetMembersResponse {
            revision: 7,
            members: vec![b.clone()],
            unknown: vec!["x.example".into()],
            ..GetMembersResponse::default()
        }
    };
    let world = World::new(Some(Arc::new(answers))).await;
    let (wants, mut asked) = (wanted(&["b.example", "x.example"]), Asked::default());
    let first = world.ask(&wants, &Known::default(), &mut asked, 0).await;
    let second = world.ask(&wants, &first, &mut asked, 60).await;
    let (one, two) = (&first.members["b.example"], &second.members["b.example"]);
    assert!(Arc::ptr_eq(&one.facts, &two.facts));
    assert_eq!(one.confirmed, THEN + Duration::from_secs(1000));
    assert_eq!(two.confirmed, THEN + Duration::from_secs(1057));
    assert_eq!(second.unknown, first.unknown);
    // Another question has no revision yet.
    world
        .ask(&wanted(&["b.example"]), &second, &mut asked, 61)
        .await;
    let revisions: Vec<_> = world
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|one| one.revision)
        .collect();
    assert_eq!(revisions, [0, 7, 0]);
}

#[tokio::test]
async fn many_names_are_asked_in_parts_and_those_without_a_place_again() {
    let answers = |request: &GetMembersRequest| {
        let (told, left) = request
            .trust_domains
            .split_at(request.trust_domains.len().min(100));
        if request.revision == 1 {
            let ages = told.iter().map(|name| Age {
                trust_domain: name.clone(),
                age_seconds: 0,
            });
            return GetMembersResponse {
                revision: 1,
                unchanged: true,
                left_out: left.to_vec(),
                ages: ages.collect(),
                ..GetMembersResponse::default()
            };
        }
        GetMembersResponse {
            revision: 1,
            members: told
                .iter()
                .map(|name| Member {
                    trust_domain: name.clone(),
                    source: Source::Directory.into(),
                    ..Member::default()
                })
                .collect(),
            left_out: left.to_vec(),
            ..GetMembersResponse::default()
        }
    };
    let world = World::new(Some(Arc::new(answers))).await;
    let names: Vec<String> = (0..600).map(|one| format!("s{one}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut asked = Asked::default();
    let known = world
        .ask(&wanted(&names), &Known::default(), &mut asked, 0)
        .await;
    assert_eq!(known.count(), 600);
    // 256, 256 and 88; then what was left of the first two, twice.
    assert_eq!(world.count(), 7);
    let again = world.ask(&wanted(&names), &known, &mut asked, 60).await;
    assert_eq!((again.count(), world.count()), (600, 14));
    let same = |name: &str| {
        let (one, other) = (&known.members[name], &again.members[name]);
        Arc::ptr_eq(&one.facts, &other.facts)
    };
    assert!(names.iter().all(|name| same(name)));
}

#[tokio::test]
async fn one_that_never_has_a_place_is_not_asked_for_for_ever() {
    let answers = |request: &GetMembersRequest| GetMembersResponse {
        revision: 1,
        left_out: request.trust_domains.clone(),
        ..GetMembersResponse::default()
    };
    let world = World::new(Some(Arc::new(answers))).await;
    let mut asked = Asked::default();
    let wants = wanted(&["large.example", "b.example"]);
    let known = world.ask(&wants, &Known::default(), &mut asked, 0).await;
    assert_eq!((known.count(), world.count()), (0, 1));
}

#[tokio::test]
async fn what_is_broken_stays_as_it_was_and_our_own_name_is_nobody_s() {
    let good = message("b.example");
    let mut broken = good.clone();
    broken.bundle = message("c.example").bundle;
    let own = message("own.example");
    let turn = Mutex::new(0);
    let answers = move |_: &GetMembersRequest| {
        let mut turn = turn.lock().unwrap();
        *turn += 1;
        let b = if *turn == 1 { &good } else { &broken };
        GetMembersResponse {
            revision: *turn,
            members: vec![b.clone(), own.clone(), Member::default()],
            ..GetMembersResponse::default()
        }
    };
    let world = World::new(Some(Arc::new(answers))).await;
    let (wants, mut asked) = (wanted(&["b.example"]), Asked::default());
    let first = world.ask(&wants, &Known::default(), &mut asked, 0).await;
    assert_eq!(first.members.keys().collect::<Vec<_>>(), ["b.example"]);
    let second = world.ask(&wants, &first, &mut asked, 60).await;
    // Nor younger: nobody has confirmed it.
    assert_eq!(second.members, first.members);
}

#[test]
fn what_is_kept_comes_back_and_what_makes_no_sense_does_not() {
    let told = |message: Member| {
        let told = Told {
            facts: Arc::new(message),
            confirmed: THEN + Duration::from_secs(5),
        };
        (told.facts.trust_domain.clone(), told)
    };
    let nobody = Member {
        trust_domain: "Nobody".into(),
        ..Member::default()
    };
    let members: BTreeMap<_, _> = [told(message("b.example")), told(nobody)].into();
    let text = serde_json::to_string(&kept::keep(&members)).unwrap();
    let read: Vec<kept::KeptMember> = serde_json::from_str(&text).unwrap();
    let back = kept::take_up(&read, THEN);
    assert_eq!(back.len(), 1);
    assert_eq!(back["b.example"], members["b.example"]);
}
