//! What members send: read, proven to be theirs, written. Everything before the proof is bounded by where
//! it comes from, everything after it by whose it is.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hyper::{StatusCode, body::Body};
use sekisho_certs::{Clock, TrustDomain};
use tokio::{sync::watch, task::spawn_blocking, time::Instant};

use super::{
    Answer, answer_with,
    reading::{self, Unread},
};
use crate::{
    directory::{
        repository::{Repository, RepositoryError, Submission},
        submit::Taken,
    },
    places::Places,
    rate::Rate,
};

/// From one network: so many a second, and at once. Behind one may be a campus.
const A_SECOND: u32 = 1;
const AT_ONCE: u32 = 30;
/// Of one member: so many at once, and one more in so long.
const OF_ONE: u32 = 8;
const AGAIN: Duration = Duration::from_secs(60);
/// How many are read at a time, as many mebibytes, of one network, and of one /48 of IPv6 addresses.
const READ: usize = 64;
const READ_OF_ONE: usize = 4;
const READ_OF_SITE: usize = 8;

/// Takes what members send.
#[derive(Debug)]
pub(super) struct Submissions {
    repository: Repository,
    clock: Arc<dyn Clock>,
    changed: Arc<watch::Sender<()>>,
    networks: Rate,
    members: Arc<Members>,
    reading: Arc<Places>,
}

/// How often members have spoken: for each the time at which all that it may say is there again. Only
/// those stand here who have proven themselves, so they are no more than there are members.
#[derive(Debug, Default)]
struct Members(Mutex<HashMap<TrustDomain, Instant>>);

impl Members {
    fn take(&self, member: &TrustDomain) -> bool {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, full| *full > now);
        let full = known.get(member).copied().unwrap_or(now) + AGAIN;
        let may = full - now <= AGAIN * OF_ONE;
        if may {
            known.insert(member.clone(), full);
        }
        may
    }
}

/// Why something is not taken.
struct Refusal {
    status: StatusCode,
    reason: &'static str,
    problem: String,
    /// The version of the member that is there.
    known: Option<u64>,
}

fn refusal(status: StatusCode, reason: &'static str, problem: impl ToString) -> Refusal {
    Refusal {
        status,
        reason,
        problem: problem.to_string(),
        known: None,
    }
}

impl From<Unread> for Refusal {
    fn from(error: Unread) -> Self {
        let (status, reason) = match &error {
            Unread::Broken(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Unread::Late => (StatusCode::REQUEST_TIMEOUT, "late"),
            Unread::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        };
        refusal(status, reason, error)
    }
}

impl From<RepositoryError> for Refusal {
    fn from(error: RepositoryError) -> Self {
        let reason = match &error {
            RepositoryError::Submission(error) => error.reason(),
            RepositoryError::Metadata(error) => error.reason(),
            _ => {
                tracing::error!(%error, "a submission cannot be taken");
                let problem = "it cannot be taken now";
                return refusal(StatusCode::INTERNAL_SERVER_ERROR, "failed", problem);
            }
        };
        let status = match reason {
            "rollback" => StatusCode::CONFLICT,
            "not_a_member" | "signatures" => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            known: error.known(),
            ..refusal(status, reason, error)
        }
    }
}

impl Submissions {
    pub(super) fn new(
        repository: Repository,
        clock: Arc<dyn Clock>,
        changed: Arc<watch::Sender<()>>,
    ) -> Self {
        Self {
            repository,
            clock,
            changed,
            networks: Rate::new(A_SECOND, AT_ONCE),
            members: Arc::default(),
            reading: Places::with_sites(READ, READ_OF_ONE, READ_OF_SITE),
        }
    }

    /// Takes one, or says why not.
    pub(super) async fn take<B>(&self, from: IpAddr, body: B) -> Answer
    where
        B: Body<Data = Bytes> + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (status, taken) = match self.taken(from, body).await {
            Ok(member) => {
                tracing::info!(%member, "a member has spoken");
                (StatusCode::OK, Taken::yes())
            }
            Err(Refusal {
                status,
                reason,
                problem,
                known,
            }) => {
                tracing::info!(%from, reason, problem, "a submission is refused");
                (status, Taken::no(reason, problem, known))
            }
        };
        // Two words, a bool and a number: nothing that could not be written.
        let body = serde_json::to_vec(&taken).unwrap_or_default();
        answer_with(status, "application/json", body.into())
    }

    async fn taken<B>(&self, from: IpAddr, body: B) -> Result<TrustDomain, Refusal>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        if !self.networks.take(from) {
            let problem = "too many from this network: try again in a minute";
            return Err(refusal(StatusCode::TOO_MANY_REQUESTS, "rate", problem));
        }
        let Some(reading) = self.reading.take(from) else {
            let problem = "too many at a time: try again";
            return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "busy", problem));
        };
        let bytes = reading::read(body).await?;
        let (repository, members) = (self.repository.clone(), Arc::clone(&self.members));
        let now = self.clock.now();
        let done = spawn_blocking(move || -> Result<(TrustDomain, bool), Refusal> {
            let sent = Submission::read(&bytes).map_err(RepositoryError::from)?;
            // Who is nobody does not wait for the folder, nor use up what a member may say. Nor does
            // whoever sends again what was published, which everybody can.
            let checked = repository.proven(&sent, now)?;
            let member = checked.domain;
            let known = repository.said(&member)?.map_or(0, |said| said.version);
            if checked.version > known && !members.take(&member) {
                let problem = "too many of this member: try again in a minute";
                return Err(refusal(StatusCode::TOO_MANY_REQUESTS, "rate", problem));
            }
            let _locked = repository.lock()?;
            let is_new = repository.accept(&sent, now)?;
            Ok((member, is_new))
        });
        let done = done.await;
        // What was read is gone by now.
        drop(reading);
        let done = done.map_err(|error| {
            tracing::error!(%error, "a submission cannot be taken");
            let problem = "it cannot be taken now";
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "failed", problem)
        })?;
        let (member, is_new) = done?;
        if is_new {
            self.changed.send_replace(());
        }
        Ok(member)
    }
}
