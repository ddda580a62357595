//! The attestation policy: it is asked with what was verified, and says which node that makes.

use std::{
    collections::BTreeSet,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sekisho_certs::{TrustDomain, id};
use sekisho_policy::{AskError, Limits, LoadError, Policy, Question};
use serde::Deserialize;

use super::{AttestError, Attested, TYPE, denied};
use crate::entry::Selector;

/// The rule that decides.
pub const DECISION: &str = "sekisho/attest/decision";
/// The policy of a site that has none.
pub const DEFAULT_POLICY: &str = include_str!("default.rego");
/// Most selectors that a policy may give a node.
const MOST_SELECTORS: usize = 256;
/// Most bytes of one.
const LONGEST_SELECTOR: usize = 1024;
/// Least seconds of `ttl_s` and `reattest_s`: below, agents would do nothing else.
const SHORTEST: u64 = 60;
/// Most seconds of both: sixty days.
const LONGEST: u64 = 60 * 24 * 3600;

/// Where the policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// [`DEFAULT_POLICY`].
    Default,
    /// A folder of Rego and JSON. It is looked at for each attestation: what has changed there counts from
    /// the next one on, and where it cannot be loaded, what was there before goes on.
    Folder(PathBuf),
}

struct Loaded {
    policy: Policy,
    question: Question,
}

/// A policy, ready to be asked. Clones share it.
#[derive(Clone)]
pub struct Judge {
    source: Source,
    loaded: Arc<Mutex<Loaded>>,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Judge").field(&self.source).finish()
    }
}

impl PartialEq for Judge {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Judge {}

impl Judge {
    /// Loads the policy.
    ///
    /// # Errors
    /// Whatever is wrong with it: see [`LoadError`].
    pub fn load(source: Source) -> Result<Self, LoadError> {
        let limits = Limits::default();
        let policy = match &source {
            Source::Default => Policy::from_text("default.rego", DEFAULT_POLICY, DECISION, limits)?,
            Source::Folder(folder) => Policy::load(folder, DECISION, limits)?,
        };
        let question = policy.question();
        let loaded = Arc::new(Mutex::new(Loaded { policy, question }));
        Ok(Self { source, loaded })
    }

    /// Asks it.
    pub(super) async fn decide(&self, input: serde_json::Value) -> Result<Verdict, AttestError> {
        let judge = self.clone();
        // It reads files, and may take as long as a decision may.
        let asked = tokio::task::spawn_blocking(move || judge.ask(input)).await;
        let asked = asked.map_err(|error| AttestError::Unavailable(error.to_string()))?;
        let value = asked.map_err(|error| {
            tracing::error!(%error, "attestation policy");
            unavailable("the attestation policy fails: the authority's log says how")
        })?;
        Verdict::read(value)
    }

    fn ask(&self, input: serde_json::Value) -> Result<serde_json::Value, AskError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Source::Folder(folder) = &self.source {
            match loaded.policy.changed(folder) {
                Ok(None) => {}
                Ok(Some(policy)) => {
                    tracing::info!(revision = policy.revision(), "attestation policy changed");
                    let question = policy.question();
                    *loaded = Loaded { policy, question };
                }
                Err(error) => {
                    tracing::error!(%error, "attestation policy not changed: the one before goes on");
                }
            }
        }
        loaded.question.ask(input)
    }
}

/// What a policy may answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    allow: bool,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    selectors: Option<Vec<String>>,
    #[serde(default)]
    ttl_s: Option<u64>,
    #[serde(default)]
    reattest_s: Option<u64>,
    #[serde(default)]
    reason: Option<String>,
}

/// How the node is named.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// As one of the pieces says.
    Piece(String),
    /// `/spire/agent/sekisho_evidence` and this path.
    Path(String),
}

/// A yes of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    name: Name,
    /// Those of all pieces where there is none.
    selectors: Option<BTreeSet<Selector>>,
    ttl: Option<Duration>,
    reattest_in: Option<Duration>,
}

/// Nobody comes in by a policy that fails. A denial it is not: agents obey those by dropping what they
/// have.
fn unavailable(text: impl fmt::Display) -> AttestError {
    AttestError::Unavailable(format!("{TYPE}: {text}"))
}

fn wrong(text: impl fmt::Display) -> AttestError {
    tracing::error!(problem = %text, "attestation policy");
    unavailable("the attestation policy is wrong: the authority's log says how")
}

impl Verdict {
    fn read(value: serde_json::Value) -> Result<Self, AttestError> {
        let refused = |reason: Option<String>| {
            let reason = reason.map_or_else(String::new, |reason| format!(": {}", line(&reason)));
            denied(format_args!("the attestation policy refuses{reason}"))
        };
        if value == serde_json::Value::Bool(false) {
            return Err(refused(None));
        }
        let answer: Answer = serde_json::from_value(value)
            .map_err(|error| wrong(format_args!("data.sekisho.attest.decision: {error}")))?;
        if !answer.allow {
            return Err(refused(answer.reason));
        }
        let name = match (answer.id, answer.path) {
            (Some(id), None) => Name::Piece(id),
            (None, Some(path)) if path.starts_with('/') => Name::Path(path),
            (None, Some(_)) => return Err(wrong("`path` begins with a slash")),
            _ => return Err(wrong("either `path` or `id` is expected")),
        };
        let seconds = |what, value: Option<u64>| match value {
            Some(seconds) if !(SHORTEST..=LONGEST).contains(&seconds) => Err(wrong(format_args!(
                "`{what}` is from {SHORTEST} to {LONGEST} seconds"
            ))),
            seconds => Ok(seconds.map(Duration::from_secs)),
        };
        Ok(Self {
            name,
            selectors: answer.selectors.map(selectors).transpose()?,
            ttl: seconds("ttl_s", answer.ttl_s)?,
            reattest_in: seconds("reattest_s", answer.reattest_s)?,
        })
    }

    /// The node that the policy makes of these pieces.
    pub(super) fn attested(
        self,
        pieces: Vec<Attested>,
        domain: &TrustDomain,
    ) -> Result<Attested, AttestError> {
        let can_reattest = pieces.iter().all(|piece| piece.can_reattest);
        if self.reattest_in.is_some() && !can_reattest {
            return Err(wrong(
                "`reattest_s` is given, but a join token cannot be shown again",
            ));
        }
        let own = match &self.name {
            Name::Path(path) => {
                let path = format!("/spire/agent/{TYPE}{path}");
                id::id_below(domain, &path)
                    .map_err(|error| wrong(format_args!("`path`: {error}")))?
            }
            Name::Piece(text) => {
                let named = pieces.iter().map(|piece| &piece.id);
                let named = named.into_iter().find(|id| id.to_string() == *text);
                named
                    .ok_or_else(|| wrong("`id` is that of none of the pieces; use `path`"))?
                    .clone()
            }
        };
        let mut all = BTreeSet::new();
        let mut aliases = Vec::new();
        for piece in pieces {
            all.extend(piece.selectors);
            aliases.extend(piece.aliases);
        }
        Ok(Attested {
            id: own,
            selectors: self.selectors.unwrap_or(all),
            can_reattest,
            ttl: self.ttl,
            reattest_in: self.reattest_in,
            aliases,
        })
    }
}

fn selectors(texts: Vec<String>) -> Result<BTreeSet<Selector>, AttestError> {
    if texts.len() > MOST_SELECTORS {
        return Err(wrong(format_args!("more than {MOST_SELECTORS} selectors")));
    }
    texts
        .into_iter()
        .map(|text| match text.split_once(':') {
            Some((kind, value))
                if !kind.is_empty() && !value.is_empty() && text.len() <= LONGEST_SELECTOR =>
            {
                Ok(Selector {
                    kind: kind.into(),
                    value: value.into(),
                })
            }
            _ => Err(wrong("a selector is a type, a colon and a value")),
        })
        .collect()
}

/// Fit for a log line and a status: a policy's text may carry what an agent sent.
fn line(text: &str) -> String {
    let characters = text.chars().take(512);
    characters
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
