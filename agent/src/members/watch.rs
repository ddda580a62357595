//! The agent's service as a client: what a proxy is told of other sites.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sekisho_certs::{
    Clock, Mark, Member, Members, TrustDomain, id,
    members::{Demand, Feed},
};
use sekisho_spire_api::federation::{
    WatchMembersRequest, WatchMembersResponse, node_federation_client::NodeFederationClient,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::wire;
use crate::delegate::connect;

/// Back-off after a failure: doubles from here to the maximum.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// An agent without the service may be replaced by one that has it.
const MISSING_WAIT: Duration = Duration::from_secs(300);
/// What an answer may have: the agent keeps to 2 MiB and a large bundle.
const LARGEST: usize = 16 << 20;
/// Members that are held: a directory has ten thousand.
const MOST: usize = 50_000;

/// What the endpoints of a proxy want whoever comes: domains and marks of their lists, and sites of
/// their services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// By name.
    pub domains: BTreeSet<TrustDomain>,
    /// By mark.
    pub marks: BTreeSet<Mark>,
    /// Whether an endpoint is of no use without: it has a mark or `site://`. Otherwise only ages are
    /// missing where the agent knows nothing.
    pub needed: bool,
}

/// Follows what the agent at `socket` knows of other sites, for a proxy of the site `own`. While it is
/// unreachable, what it told last stays. `wants` may change while it runs.
///
/// Must be called inside a tokio runtime; ends with the last receiver.
#[must_use]
pub fn watch_members(
    socket: PathBuf,
    own: TrustDomain,
    wants: watch::Receiver<Wants>,
    clock: Arc<dyn Clock>,
) -> Feed {
    let (members, known) = watch::channel(Members::default());
    let waiting: Arc<str> = format!("{} has not answered yet", socket.display()).into();
    let (problem, problems) = watch::channel(Some(waiting));
    let demand = Demand::new(Arc::clone(&clock));
    let feed = Feed {
        members: known,
        demand: Some(Arc::clone(&demand)),
        problem: problems,
    };
    tokio::spawn(async move {
        let gone = members.clone();
        let mut follower = Follower {
            own,
            wants,
            clock,
            demand,
            members,
            problem,
            held: BTreeMap::new(),
        };
        tokio::select! {
            () = follower.run(&socket) => {}
            () = gone.closed() => {}
        }
    });
    feed
}

struct Follower {
    own: TrustDomain,
    wants: watch::Receiver<Wants>,
    clock: Arc<dyn Clock>,
    demand: Arc<Demand>,
    members: watch::Sender<Members>,
    problem: watch::Sender<Option<Arc<str>>>,
    held: BTreeMap<TrustDomain, Arc<Member>>,
}

impl Follower {
    async fn run(&mut self, socket: &Path) {
        let mut wait = FIRST_WAIT;
        loop {
            let status = self.session(socket, &mut wait).await;
            let missing = status.code() == Code::Unimplemented;
            let problem = if missing {
                let socket = socket.display();
                format!(
                    "{socket}: this agent knows no members of a federation: marks and site:// need sekisho's own"
                )
            } else {
                format!("{}: {}", socket.display(), status.message())
            };
            self.complain(problem);
            if missing {
                self.nobody_to_ask().await;
            } else {
                tokio::time::sleep(wait).await;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// For a while, whoever is wanted is nobody.
    async fn nobody_to_ask(&self) {
        let answer = async {
            loop {
                let wanted = self.demand.wanted();
                self.demand.answered(&Members::default(), &wanted);
                self.demand.changed().await;
            }
        };
        // It never ends by itself.
        let _ = tokio::time::timeout(MISSING_WAIT, answer).await;
    }

    fn complain(&self, problem: String) {
        let problem: Arc<str> = problem.into();
        self.problem.send_if_modified(|told| {
            let news = told.as_ref() != Some(&problem);
            if news {
                if self.wants.borrow().needed {
                    tracing::warn!(problem = &*problem, "members of the federation");
                } else {
                    tracing::info!(problem = &*problem, "members of the federation");
                }
                *told = Some(problem);
            }
            news
        });
    }

    /// One stream to its end; how it ended.
    async fn session(&mut self, socket: &Path, wait: &mut Duration) -> Status {
        let (ask, asked) = mpsc::channel(4);
        let mut wanted = Wanted::default();
        let first = wanted.change(&self.wants.borrow_and_update(), &self.demand.wanted());
        let opened = async {
            let channel = connect(socket).await?;
            let mut client = NodeFederationClient::new(channel).max_decoding_message_size(LARGEST);
            let _ = ask.send(first.unwrap_or_default()).await;
            let answers = client.watch_members(ReceiverStream::new(asked)).await?;
            Ok::<_, Status>(answers.into_inner())
        };
        let mut answers: Streaming<WatchMembersResponse> = match opened.await {
            Ok(answers) => answers,
            Err(status) => return status,
        };
        // Who was told on this stream; until it is complete, who was told before stays.
        let mut mentioned = Some(HashSet::new());
        loop {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => {
                        *wait = FIRST_WAIT;
                        self.problem.send_if_modified(|told| told.take().is_some());
                        self.take(answer, &mut mentioned);
                    }
                    Ok(None) => return Status::unavailable("the stream has ended"),
                    Err(status) => return status,
                },
                () = self.demand.changed() => {}
                changed = self.wants.changed() => if changed.is_err() {
                    return Status::cancelled("nothing is wanted any more");
                },
            }
            let change = wanted.change(&self.wants.borrow_and_update(), &self.demand.wanted());
            if let Some(change) = change
                && ask.send(change).await.is_err()
            {
                return Status::unavailable("the stream has ended");
            }
        }
    }

    fn take(&mut self, answer: WatchMembersResponse, mentioned: &mut Option<HashSet<TrustDomain>>) {
        let now = self.clock.now();
        let mut changed = false;
        for message in &answer.members {
            match wire::member(message, now) {
                Ok(member) if *member.trust_domain() == self.own => {}
                Ok(member) => {
                    let domain = member.trust_domain().clone();
                    if let Some(mentioned) = mentioned {
                        mentioned.insert(domain.clone());
                    }
                    let there = self.held.get(&domain);
                    if let Some(same) = there.filter(|held| held.same_facts(&member)) {
                        same.confirm(member.confirmed());
                    } else if self.held.len() < MOST || there.is_some() {
                        changed = true;
                        self.held.insert(domain, Arc::new(member));
                    }
                }
                Err(error) => {
                    let domain = &message.trust_domain;
                    tracing::warn!(domain, %error, "what is said of a site is not taken");
                }
            }
        }
        for age in &answer.ages {
            let domain = id::parse_trust_domain(&age.trust_domain).ok();
            if let Some(member) = domain.and_then(|domain| self.held.get(&domain)) {
                member.confirm(wire::confirmed(now, age.age_seconds));
            }
        }
        for name in &answer.removed {
            let domain = id::parse_trust_domain(name).ok();
            changed |= domain.is_some_and(|domain| self.held.remove(&domain).is_some());
        }
        if answer.complete
            && let Some(mentioned) = mentioned.take()
        {
            let before = self.held.len();
            self.held.retain(|domain, _| mentioned.contains(domain));
            changed |= self.held.len() != before;
        }
        let unknown = answer.unknown.iter();
        let unknown: Vec<_> = unknown
            .filter_map(|name| id::parse_trust_domain(name).ok())
            .collect();
        if !changed {
            return self.demand.answered(&self.members.borrow(), &unknown);
        }
        match Members::new(&self.own, self.held.values().cloned()) {
            Ok(members) => {
                self.demand.answered(&members, &unknown);
                self.members.send_replace(members);
            }
            Err(error) => tracing::error!(%error, "members are not taken"),
        }
    }
}

/// What the agent was told that is wanted.
#[derive(Debug, Default)]
struct Wanted {
    domains: BTreeSet<TrustDomain>,
    marks: BTreeSet<Mark>,
    begun: bool,
}

impl Wanted {
    /// What it has to be told so that it knows; `None`: nothing.
    fn change(&mut self, wants: &Wants, demanded: &[TrustDomain]) -> Option<WatchMembersRequest> {
        let now: BTreeSet<_> = wants.domains.iter().chain(demanded).cloned().collect();
        let names = |some: &mut dyn Iterator<Item = &TrustDomain>| -> Vec<String> {
            some.map(ToString::to_string).collect()
        };
        let request = WatchMembersRequest {
            trust_domains: names(&mut now.difference(&self.domains)),
            forget: names(&mut self.domains.difference(&now)),
            // A mark that no list has any more is asked for until the next stream.
            marks: wants
                .marks
                .difference(&self.marks)
                .map(ToString::to_string)
                .collect(),
        };
        self.domains = now;
        self.marks.extend(wants.marks.iter().cloned());
        let news = request != WatchMembersRequest::default();
        (news || !std::mem::replace(&mut self.begun, true)).then_some(request)
    }
}
