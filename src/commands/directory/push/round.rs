//! One look at a server, and what is done there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use sekisho_certs::{
    TrustDomain,
    members::{Mark, Member, Members},
};
use sekisho_federation::directory::client::{Status, SyncError, Wanted};
use sekisho_spire_api::types;
use serde_json::{Value, json};

use super::{
    memory::Memory,
    plan::{Left, Said, plan},
    server::{Became, Server},
};
use crate::{commands::bundle::sent, output};

/// The longest that a server may take for all that is asked of it in one look.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is pushed where, and what was.
#[derive(Debug)]
pub(super) struct Pushing {
    pub(super) socket: PathBuf,
    /// The trust domain of the server.
    pub(super) own: TrustDomain,
    pub(super) memory: Memory,
    pub(super) named: BTreeSet<String>,
    pub(super) marks: BTreeSet<Mark>,
    /// When this process began.
    pub(super) begun: SystemTime,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Bundles that were set, with their sequences.
    set: Vec<(String, u64)>,
    deleted: Vec<String>,
    left: BTreeMap<String, Left>,
    /// What the server has refused, or cannot be sent.
    failed: BTreeMap<String, String>,
}

impl Pushing {
    /// What is wanted of the directories: those that were asked for, and those that were pushed, of whom
    /// it has to be known whether they are members still.
    pub(super) fn wanted(&self) -> Wanted {
        let named = self.named.iter().chain(self.memory.pushed());
        Wanted {
            domains: named.cloned().collect(),
            marks: self.marks.clone(),
            ..Wanted::default()
        }
    }

    fn is_asked_for(&self, member: &Member) -> bool {
        self.named.contains(member.trust_domain().as_str())
            || member.marks().iter().any(|mark| self.marks.contains(mark))
    }

    /// Whether a directory has said something of a trust domain: now, or before this process began.
    fn is_sure(&self, domain: &str, directory: &Status) -> bool {
        let mut known = directory.members.iter();
        let begun = self.begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        let confirmed = directory.age.map(|age| directory.at.saturating_sub(age));
        known.any(|one| one.trust_domain == domain)
            || confirmed.is_some_and(|confirmed| confirmed >= begun.as_secs())
    }

    /// What the directories say; what cannot be sent is a failure of that member.
    fn said(&self, members: &Members, status: &[Status]) -> (Said, BTreeMap<String, String>) {
        let (mut bundles, mut failed) = (BTreeMap::new(), BTreeMap::new());
        for member in members.iter().filter(|member| self.is_asked_for(member)) {
            let name = member.trust_domain().to_string();
            // Without a CA it distrusts itself (Trust_Domain_and_Bundle.md §4.1.3); without a bundle it
            // is too old.
            let bundle = member.bundle();
            let Some(bundle) = bundle.filter(|bundle| !bundle.authorities().is_empty()) else {
                continue;
            };
            match sent(bundle) {
                Ok(bundle) => {
                    bundles.insert(name, bundle);
                }
                Err(error) => {
                    failed.insert(name, error.to_string());
                }
            }
        }
        let asked = self.named.iter().chain(self.memory.pushed());
        // What cannot be sent stays as it is, too.
        let unsure = asked.filter(|name| {
            let all = status.iter().all(|one| self.is_sure(name, one));
            !all || failed.contains_key(*name)
        });
        let said = Said {
            unsure: unsure.cloned().collect(),
            named: self.named.clone(),
            bundles,
        };
        (said, failed)
    }

    /// Looks at the server, and does what is to be done.
    ///
    /// # Errors
    /// When the server does not answer, is another one, or it cannot be remembered what is done.
    pub(super) async fn round(
        &mut self,
        members: &Members,
        status: &[Status],
    ) -> anyhow::Result<Round> {
        in_time(self.push(members, status)).await
    }

    async fn push(&mut self, members: &Members, status: &[Status]) -> anyhow::Result<Round> {
        let mut server = Server::connect(&self.socket).await?;
        let there = server.there().await?;
        if there.own != self.own.as_str() {
            bail!(
                "{}: the server is of {} now, and was of {}",
                self.socket.display(),
                there.own,
                self.own
            );
        }
        let (said, failed) = self.said(members, status);
        let plan = plan(&said, &there, self.memory.pushed());
        let mut round = Round {
            left: plan.left,
            failed,
            ..Round::default()
        };
        let new: BTreeSet<String> = names(&plan.set)
            .filter(|name| !self.memory.pushed().contains(*name))
            .map(ToOwned::to_owned)
            .collect();
        self.memory.begin(names(&plan.set))?;
        let sequences: BTreeMap<_, _> = plan
            .set
            .iter()
            .map(|one| (one.trust_domain.clone(), one.sequence_number))
            .collect();
        let set = server.set(plan.set).await;
        // What it has refused never was ours; what it has not answered may be.
        let not_ours = set.iter().filter_map(|(name, became)| {
            let refused = matches!(became, Became::Refused(_)) && new.contains(name);
            refused.then_some(name.as_str())
        });
        self.memory.forget(not_ours)?;
        let (set, refused) = parted(set);
        let (deleted, kept) = parted(server.delete(plan.delete).await);
        let forget = deleted.iter().chain(&plan.forget);
        self.memory.forget(forget.map(String::as_str))?;
        round.set = set
            .into_iter()
            .map(|name| {
                let sequence = sequences.get(&name).copied().unwrap_or_default();
                (name, sequence)
            })
            .collect();
        round.deleted = deleted;
        round.failed.extend(refused);
        round.failed.extend(kept);
        Ok(round)
    }
}

fn names(bundles: &[types::Bundle]) -> impl Iterator<Item = &str> {
    bundles.iter().map(|one| one.trust_domain.as_str())
}

/// Those with whom it went well, and the problems of the others.
fn parted(all: Vec<(String, Became)>) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut good, mut bad) = (Vec::new(), BTreeMap::new());
    for (name, became) in all {
        match became {
            Became::Done => good.push(name),
            Became::Refused(problem) | Became::Unknown(problem) => {
                bad.insert(name, problem);
            }
        }
    }
    (good, bad)
}

/// Within the time that a server may take.
pub(super) async fn in_time<T>(
    asked: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    answer.with_context(|| format!("no answer within {}s", PATIENCE.as_secs()))?
}

impl Round {
    /// Whether the server has refused something.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Whether somebody who was named is no member.
    pub(super) fn lacks_somebody(&self) -> bool {
        self.left.values().any(|left| *left == Left::Missing)
    }

    /// Logs what was done; what is left or has failed as in the last round was said then.
    pub(super) fn log(&self, last: &Self) {
        for (domain, sequence) in &self.set {
            tracing::info!(domain, sequence, "bundle set");
        }
        for domain in &self.deleted {
            tracing::warn!(
                domain,
                "bundle taken away: it is not to be trusted any more"
            );
        }
        for (domain, left) in &self.left {
            if last.left.get(domain) != Some(left) {
                let (reason, why) = (left.as_str(), left.told());
                tracing::warn!(domain, reason, why, "left as it is");
            }
        }
        for (domain, problem) in &self.failed {
            if last.failed.get(domain) != Some(problem) {
                tracing::error!(domain, problem, "the server has refused this");
            }
        }
    }

    /// Prints it.
    pub(super) fn tell(&self, pushing: &Pushing, problems: &[SyncError], as_json: bool) {
        if as_json {
            return output::json(&self.json(pushing, problems));
        }
        for (name, sequence) in &self.set {
            output::line(format_args!("set {name} (sequence {sequence})"));
        }
        for name in &self.deleted {
            output::line(format_args!("deleted {name}"));
        }
        if self.set.is_empty() && self.deleted.is_empty() {
            output::line("nothing to do");
        }
        for (name, left) in &self.left {
            output::complain(format_args!("{name}: {}", left.told()));
        }
        for (name, problem) in &self.failed {
            output::complain(format_args!("{name}: {problem}"));
        }
        for problem in problems {
            output::complain(problem);
        }
    }

    fn json(&self, pushing: &Pushing, problems: &[SyncError]) -> Value {
        let set = self.set.iter();
        let set = set.map(|(name, sequence)| json!({ "trust_domain": name, "sequence": sequence }));
        let left = self.left.iter();
        let left = left.map(|(name, left)| json!({ "trust_domain": name, "why": left.as_str() }));
        let failed = self.failed.iter();
        let failed =
            failed.map(|(name, problem)| json!({ "trust_domain": name, "problem": problem }));
        let directories = problems.iter();
        let directories = directories
            .map(|error| json!({ "reason": error.reason(), "problem": error.to_string() }));
        json!({
            "server": pushing.own.as_str(),
            "set": set.collect::<Vec<_>>(),
            "deleted": self.deleted,
            "left": left.collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>(),
            "not_followed": directories.collect::<Vec<_>>(),
        })
    }
}
