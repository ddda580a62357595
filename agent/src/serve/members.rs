//! `sekisho.federation.v1.NodeFederation`: members for the proxies of this node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use prost::Message as _;
use sekisho_spire_api::federation::{
    Age, Member, WatchMembersRequest, WatchMembersResponse, node_federation_server::NodeFederation,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    caller::{Callers, Selectors},
    delegated::Delegates,
    view::{Messages, nobody},
};
use crate::{
    members::{Desk, Interest, Known, Seat, Told},
    state::State,
};

/// An age that is younger by less is not told by itself.
const YOUNGER: Duration = Duration::from_secs(30);
/// Bytes of members in one message.
const LARGEST: usize = 2 << 20;
/// Messages that wait for a slow proxy.
const WAITING: usize = 1;

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    callers: Arc<Callers>,
    /// Only they may ask; without: whoever has an identity.
    delegates: Option<Delegates>,
}

impl Service {
    /// For the door of workloads.
    pub(super) const fn new(callers: Arc<Callers>) -> Self {
        Self {
            callers,
            delegates: None,
        }
    }

    /// For the door of those who ask in another's name.
    pub(super) const fn of_delegates(callers: Arc<Callers>, delegates: Delegates) -> Self {
        Self {
            callers,
            delegates: Some(delegates),
        }
    }
}

/// Whether a process of which these are true may ask.
fn may(delegates: Option<&Delegates>, state: &State, selectors: &Selectors) -> Result<(), Status> {
    match delegates {
        Some(delegates) => delegates.may(state, selectors).map(drop),
        None => state.of(selectors).next().map(drop).ok_or_else(nobody),
    }
}

#[tonic::async_trait]
impl NodeFederation for Service {
    type WatchMembersStream = Messages<WatchMembersResponse>;

    async fn watch_members(
        &self,
        request: Request<Streaming<WatchMembersRequest>>,
    ) -> Result<Response<Self::WatchMembersStream>, Status> {
        let selectors = self.callers.attest(request.extensions()).await?;
        let delegates = self.delegates.clone();
        may(delegates.as_ref(), &*self.callers.state()?, &selectors)?;
        let shared = self.callers.shared().clone();
        let desk = Arc::clone(&shared.desk);
        let seat = desk.join();
        let seat = seat.map_err(|error| Status::resource_exhausted(error.0))?;
        let (send, messages) = mpsc::channel(WAITING);
        let mut state = shared.state.clone();
        let clock = Arc::clone(&shared.clock);
        let asked = request.into_inner();
        tokio::spawn(async move {
            let watching = async {
                let identity = async {
                    while state.changed().await.is_ok() {
                        if let Err(no) = may(delegates.as_ref(), &state.borrow(), &selectors) {
                            return no;
                        }
                    }
                    Status::unavailable("the agent has ended")
                };
                let now = move || clock.now();
                tokio::select! {
                    status = identity => status,
                    status = tell(&desk, seat, asked, &send, now) => status,
                }
            };
            let status = tokio::select! {
                status = watching => status,
                () = send.closed() => return,
            };
            // Whoever has gone does not need to know.
            let _ = send.send(Err(status)).await;
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// Tells one proxy what it wants to know until it goes; returns why the stream ends.
async fn tell(
    desk: &Desk,
    mut seat: Seat,
    mut asked: Streaming<WatchMembersRequest>,
    send: &mpsc::Sender<Result<WatchMembersResponse, Status>>,
    now: impl Fn() -> SystemTime,
) -> Status {
    let mut known = desk.known();
    let mut said = Said::default();
    let mut listens = false;
    loop {
        tokio::select! {
            changed = known.changed(), if said.covered.is_some() => if changed.is_err() {
                return Status::unavailable("the agent has ended");
            },
            message = asked.message(), if !listens => match message {
                Ok(Some(message)) => match seat.update(message) {
                    Ok(generation) => _ = said.covered.get_or_insert(generation),
                    Err(error) => return Status::resource_exhausted(error.0),
                },
                // It wants nothing more than it has said, and listens on.
                Ok(None) => listens = true,
                Err(status) => return status,
            },
        }
        let latest = Arc::clone(&known.borrow_and_update());
        for message in said.news(&latest, seat.interest(), now()) {
            if send.send(Ok(message)).await.is_err() {
                return Status::cancelled("the caller has gone");
            }
        }
    }
}

/// What one proxy was told.
#[derive(Debug, Default)]
struct Said {
    members: BTreeMap<String, Told>,
    unknown: BTreeSet<String>,
    /// The number up to which an answer has to be to cover what was wanted at first.
    covered: Option<u64>,
    complete: bool,
}

fn is_wanted(name: &str, told: &Told, interest: &Interest) -> bool {
    let mut marks = told.facts.marks.iter();
    interest.domains.contains(name) || marks.any(|mark| interest.marks.contains(mark))
}

impl Said {
    /// What it has to be told now.
    fn news(
        &mut self,
        known: &Known,
        interest: &Interest,
        now: SystemTime,
    ) -> Vec<WatchMembersResponse> {
        let mut last = WatchMembersResponse::default();
        let wanted = known.members.iter();
        let wanted: BTreeMap<&String, &Told> = wanted
            .filter(|(name, told)| is_wanted(name, told, interest))
            .collect();
        self.members.retain(|name, _| {
            let stays = wanted.contains_key(name);
            if !stays {
                last.removed.push(name.clone());
            }
            stays
        });
        let mut changed = Vec::new();
        for (name, told) in wanted {
            let age = age(told, now);
            match self.members.get(name) {
                Some(before) if before.facts == told.facts => {
                    let younger = told.confirmed.duration_since(before.confirmed);
                    if !younger.is_ok_and(|younger| younger >= YOUNGER) {
                        continue;
                    }
                    last.ages.push(Age {
                        trust_domain: name.clone(),
                        age_seconds: age,
                    });
                }
                _ => {
                    let mut message = Member::clone(&told.facts);
                    message.age_seconds = age;
                    changed.push(message);
                }
            }
            self.members.insert(name.clone(), told.clone());
        }
        let unknown: BTreeSet<String> = known
            .unknown
            .intersection(&interest.domains)
            .cloned()
            .collect();
        last.unknown = unknown.difference(&self.unknown).cloned().collect();
        self.unknown = unknown;
        if !self.complete
            && self
                .covered
                .is_some_and(|covered| known.answered >= covered)
        {
            self.complete = true;
            last.complete = true;
        }
        let mut messages = parts(changed);
        if last != WatchMembersResponse::default() {
            messages.push(last);
        }
        messages
    }
}

fn age(told: &Told, now: SystemTime) -> u64 {
    now.duration_since(told.confirmed)
        .map_or(0, |age| age.as_secs())
}

/// Members in messages that a client takes.
fn parts(members: Vec<Member>) -> Vec<WatchMembersResponse> {
    let mut parts: Vec<WatchMembersResponse> = Vec::new();
    let mut room = 0;
    for member in members {
        let size = member.encoded_len();
        if parts.is_empty() || size > room {
            parts.push(WatchMembersResponse::default());
            room = LARGEST;
        }
        room = room.saturating_sub(size);
        if let Some(part) = parts.last_mut() {
            part.members.push(member);
        }
    }
    parts
}

#[cfg(test)]
mod tests;
