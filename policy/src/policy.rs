//! A policy as loaded: its text checked, its decision fixed.

use std::{fmt, path::Path, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};

use crate::{
    Evaluator, Limits, LoadError, MAX_DECISION_SEGMENTS, Question,
    load::Program,
    sources::{Sources, Text},
};

/// The decision of a policy whose configuration names none: `data.sekisho.authz.allow`.
pub const DEFAULT_DECISION: &str = "sekisho/authz/allow";

/// A policy, checked and ready. Clones are cheap and share everything; each worker takes an
/// [`Evaluator`] of its own.
#[derive(Clone)]
pub struct Policy {
    program: Arc<Program>,
    decision: Arc<str>,
    rule: Arc<str>,
    limits: Limits,
    revision: Arc<str>,
}

impl Policy {
    /// Reads every `*.rego` and `*.json` at or below `dir`, but `*_test.rego`, and fixes the
    /// decision: a path such as [`DEFAULT_DECISION`] or `envoy/authz/allow`, without `data`.
    ///
    /// Rego v1 is spoken. JSON files are data, at the path of their folder.
    ///
    /// # Errors
    /// Whatever is wrong with the policy that its text can tell: see [`LoadError`].
    pub fn load(dir: &Path, decision: &str, limits: Limits) -> Result<Self, LoadError> {
        let mut sources = Sources::read(dir, &limits)?;
        sources.rego.retain(|source| !source.is_test());
        Self::of(sources, dir, decision, limits)
    }

    /// The same policy as it stands in `dir` now, where it is another than this one.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn changed(&self, dir: &Path) -> Result<Option<Self>, LoadError> {
        let mut sources = Sources::read(dir, &self.limits)?;
        sources.rego.retain(|source| !source.is_test());
        if revision(&sources, &self.decision) == *self.revision {
            return Ok(None);
        }
        Self::of(sources, dir, &self.decision, self.limits).map(Some)
    }

    /// The policy of one text, which `file` names in errors: one that comes with the program.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn from_text(
        file: &str,
        text: &str,
        decision: &str,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let sources = Sources {
            rego: vec![Text {
                file: file.into(),
                text: text.into(),
            }],
            data: Vec::new(),
        };
        Self::of(sources, Path::new(file), decision, limits)
    }

    fn of(sources: Sources, dir: &Path, decision: &str, limits: Limits) -> Result<Self, LoadError> {
        let names = segments(decision)?;
        let revision = revision(&sources, decision);
        let program = Program::check(sources)?;
        let rule = decision_rule(&program, dir, &names)?;
        Ok(Self {
            program: Arc::new(program),
            decision: decision.into(),
            rule: rule.into(),
            limits,
            revision: revision.into(),
        })
    }

    /// The path of the decision, as it was given.
    #[must_use]
    pub fn decision_path(&self) -> &str {
        &self.decision
    }

    /// Twelve hexadecimal digits that change with the policy: its Rego, its data, its decision.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// An engine for this policy, made ready here: a few milliseconds. One a worker.
    #[must_use]
    pub fn evaluator(&self) -> Evaluator {
        Evaluator::new(
            Arc::clone(&self.program),
            Arc::clone(&self.rule),
            Arc::clone(&self.revision),
            self.limits,
        )
    }

    /// An engine for questions that are not about a connection, made ready here.
    #[must_use]
    pub fn question(&self) -> Question {
        Question::new(
            Arc::clone(&self.program),
            Arc::clone(&self.rule),
            Arc::clone(&self.revision),
            self.limits,
        )
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("decision", &self.decision)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

fn segments(decision: &str) -> Result<Vec<String>, LoadError> {
    let names: Vec<String> = decision.split('/').map(str::to_owned).collect();
    let valid = |name: &String| {
        let mut characters = name.chars();
        characters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && characters.all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    };
    let count = 2..=MAX_DECISION_SEGMENTS;
    let prefixed = names.first().is_some_and(|name| name == "data");
    if prefixed || !count.contains(&names.len()) || !names.iter().all(valid) {
        return Err(LoadError::DecisionPath(decision.into()));
    }
    Ok(names)
}

/// The decision as the engine writes it, once it is sure that there is such a rule.
fn decision_rule(program: &Program, dir: &Path, names: &[String]) -> Result<String, LoadError> {
    let rules = || program.definitions.iter();
    let decision = names.join(".");
    let Some(rule) = rules().find(|rule| rule.path == names) else {
        let same_name = rules().filter(|rule| rule.path.last() == names.last());
        let mut found: Vec<String> = same_name.map(|rule| rule.path.join("/")).collect();
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            found.extend(
                program
                    .packages
                    .iter()
                    .map(|name| format!("package {name}")),
            );
        }
        found.truncate(8);
        return Err(LoadError::DecisionMissing {
            dir: dir.into(),
            decision,
            found,
        });
    };
    if rule.arguments.is_some() {
        return Err(LoadError::DecisionIsFunction {
            at: rule.at.clone(),
            decision,
        });
    }
    let is_plain = |name: &str| !name.contains(['-', '.']);
    Ok(names
        .iter()
        .fold("data".to_owned(), |path, name| match is_plain(name) {
            true => format!("{path}.{name}"),
            false => format!("{path}[\"{name}\"]"),
        }))
}

fn revision(sources: &Sources, decision: &str) -> String {
    let mut digest = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        // With its length before it, no text can pass for the end of one and the start of another.
        digest.update(&bytes.len().to_le_bytes());
        digest.update(bytes);
    };
    add(decision.as_bytes());
    for Text { file, text } in sources.rego.iter().chain(&sources.data) {
        add(file.as_bytes());
        add(text.as_bytes());
    }
    let digest = digest.finish();
    digest
        .as_ref()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
