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
    /// Whether bundles that others have set are replaced.
    pub(super) take_over: bool,
    /// How many directories have to say the same of a member.
    pub(super) threshold: usize,
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
        let named = self.named.iter().chain(self.memory.pushed().keys());
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

    /// Whether as many directories as have to know a trust domain as a member, and do not say the same of it
    /// yet: what one has said a moment ago the other says soon.
    fn is_disagreed_on(&self, domain: &str, members: &Members, status: &[Status]) -> bool {
        let mut told = members.iter();
        if told.any(|one| one.trust_domain().as_str() == domain && one.bundle().is_some()) {
            return false;
        }
        let knows = |one: &&Status| {
            let mut all = one.members.iter();
            all.any(|one| one.trust_domain == domain && one.standing == "member" && one.used)
        };
        status.len() > 1 && status.iter().filter(knows).count() >= self.threshold
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
        let asked = self.named.iter().chain(self.memory.pushed().keys());
        // What cannot be sent stays as it is, too.
        let unsure = asked.filter(|name| {
            let all = status.iter().all(|one| self.is_sure(name, one));
            !all || failed.contains_key(*name) || self.is_disagreed_on(name, members, status)
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
        let plan = plan(&said, &there, self.memory.pushed(), self.take_over);
        let mut round = Round {
            left: plan.left,
            failed,
            ..Round::default()
        };
        self.memory.begin(&plan.set)?;
        let became: BTreeMap<_, _> = server.set(plan.set.clone()).await.into_iter().collect();
        let of = |one: &types::Bundle| became.get(&one.trust_domain);
        let done = plan.set.iter().filter(|one| of(one) == Some(&Became::Done));
        self.memory.done(done)?;
        // What was not answered may be ours: it is seen at the next look.
        let refused = |one: &&types::Bundle| matches!(of(one), Some(Became::Refused(_)));
        let refused = plan.set.iter().filter(refused);
        self.memory.refused(refused)?;
        let deleted = server.delete(plan.delete).await;
        let set = became.into_iter().chain(deleted);
        for (name, became) in set {
            let bundle = plan.set.iter().find(|one| one.trust_domain == name);
            match (became, bundle) {
                (Became::Refused(problem) | Became::Unknown(problem), _) => {
                    round.failed.insert(name, problem);
                }
                (Became::Done, Some(bundle)) => round.set.push((name, bundle.sequence_number)),
                (Became::Done, None) => round.deleted.push(name),
            }
        }
        let forget = round.deleted.iter().chain(&plan.forget);
        self.memory.forget(forget)?;
        Ok(round)
    }
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

    /// Whether somebody who was named is no member, or has another bundle than the directory's.
    pub(super) fn lacks_somebody(&self) -> bool {
        let lacks = |left: &Left| matches!(left, Left::Missing | Left::Differs);
        self.left.values().any(lacks)
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

#[cfg(test)]
mod tests;
