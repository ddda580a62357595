//! `sekisho policy check`: whether a policy would be loaded.

use std::{fmt, path::Path};

use crate::{Limits, LoadError, Policy, load::Program};

/// What was found of a policy that is in order.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The Rego files that decide, relative to the directory.
    pub files: Vec<String>,
    /// The Rego files of tests, relative to the directory.
    pub test_files: Vec<String>,
    /// How many rules and functions there are, tests not counted. A rule in several parts counts
    /// as often.
    pub rules: usize,
    /// The decision, which is there.
    pub decision: String,
    /// The revision it would have.
    pub revision: String,
}

/// Loads the policy as the proxy would, and its tests.
///
/// # Errors
/// Whatever [`Policy::load`] would refuse, in the policy or in its tests.
pub fn check(dir: &Path, decision: &str) -> Result<Report, LoadError> {
    let limits = Limits::default();
    let policy = Policy::load(dir, decision, limits)?;
    let all = Program::load(dir, &limits, true)?;
    let (tests, files): (Vec<_>, Vec<_>) = all.rego.iter().partition(|source| source.is_test());
    let names = |sources: Vec<&crate::sources::Text>| {
        sources
            .into_iter()
            .map(|source| source.file.clone())
            .collect()
    };
    Ok(Report {
        files: names(files),
        test_files: names(tests),
        rules: policy.program().definitions.len(),
        decision: policy.decision_path().into(),
        revision: policy.revision().into(),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{file}")?;
        }
        for file in &self.test_files {
            writeln!(f, "{file} (tests)")?;
        }
        let Self {
            rules,
            decision,
            revision,
            ..
        } = self;
        writeln!(f, "{rules} rules, decision {decision}, revision {revision}")
    }
}
