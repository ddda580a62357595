//! `sekisho policy test`: the `test_…` rules of a policy.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use regorus::Value;

use crate::{
    Limits, LoadError, Position,
    calls::Definition,
    engine::{RunError, Runner},
    load::Program,
};

/// How long one test may take, as with `opa test`.
const TIME: Duration = Duration::from_secs(5);

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It could not be evaluated.
    Error {
        /// Why.
        message: String,
    },
    /// It is false, undefined, or not a boolean.
    Fail,
    /// It is true.
    Pass,
    /// Its name begins with `todo_test_`.
    Skip,
}

/// One test and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TestResult {
    /// The package, as `data.…`.
    pub package: String,
    /// The rule.
    pub name: String,
    /// Where it is.
    pub location: Position,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took, in nanoseconds in JSON, as OPA has it.
    #[serde(serialize_with = "nanoseconds")]
    pub duration: Duration,
}

/// What came of all tests, in the order of files and lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct TestReport {
    /// Each test.
    pub results: Vec<TestResult>,
}

/// Runs every rule whose name begins with `test_`, in all files. With `filter`, only those with
/// that text in `data.<package>.<name>`.
///
/// # Errors
/// When the policy or its tests cannot be loaded; the command then ends with 1.
pub fn test(dir: &Path, filter: Option<&str>) -> Result<TestReport, LoadError> {
    let program = Arc::new(Program::load(dir, &Limits::default(), true)?);
    let mut runner = Runner::new(Arc::clone(&program), TIME);
    let mut report = TestReport::default();
    for rule in &program.definitions {
        let Some((name, package)) = test_name(rule) else {
            continue;
        };
        let package = format!("data.{}", package.join("."));
        let known = |result: &TestResult| result.name == *name && result.package == package;
        let wanted = filter.is_none_or(|text| format!("{package}.{name}").contains(text));
        // A rule in several parts is one test.
        if !wanted || report.results.iter().any(known) {
            continue;
        }
        let started = Instant::now();
        let outcome = match name.starts_with("todo_") {
            true => Outcome::Skip,
            false => run(&mut runner, &rule.path),
        };
        report.results.push(TestResult {
            package,
            name: name.clone(),
            location: rule.at.clone(),
            outcome,
            duration: started.elapsed(),
        });
    }
    Ok(report)
}

fn test_name(rule: &Definition) -> Option<(&String, &[String])> {
    let (name, package) = rule.path.split_last()?;
    let is_test = name.starts_with("test_") || name.starts_with("todo_test_");
    (is_test && rule.arguments.is_none()).then_some((name, package))
}

fn run(runner: &mut Runner, path: &[String]) -> Outcome {
    let path = path
        .iter()
        .fold("data".to_owned(), |path, name| format!("{path}[{name:?}]"));
    match runner.run(Value::Undefined, |engine| engine.eval_rule(path)) {
        Ok(Value::Bool(true)) => Outcome::Pass,
        // Cases of one test, by name: `test_x[case] if …`.
        Ok(Value::Object(cases))
            if !cases.is_empty()
                && cases
                    .iter_sorted()
                    .all(|(_, value)| *value == Value::Bool(true)) =>
        {
            Outcome::Pass
        }
        Ok(_) => Outcome::Fail,
        Err(error @ (RunError::Budget | RunError::Failed(_) | RunError::Panicked)) => {
            Outcome::Error {
                message: error.to_string(),
            }
        }
    }
}

impl TestReport {
    /// The exit code of `opa test`: 0 when every test passed, else 2. Skipped tests count as not
    /// passed unless `skip_is_zero` (`-z`). A policy that cannot be loaded is the caller's 1.
    #[must_use]
    pub fn exit_code(&self, skip_is_zero: bool) -> u8 {
        let fine = |result: &TestResult| match result.outcome {
            Outcome::Pass => true,
            Outcome::Skip => skip_is_zero,
            Outcome::Error { .. } | Outcome::Fail => false,
        };
        if self.results.iter().all(fine) { 0 } else { 2 }
    }

    /// The report for people: what did not pass, or with `verbose` every test, and a summary.
    #[must_use]
    pub fn text(&self, verbose: bool) -> String {
        let shown = |r: &&TestResult| verbose || r.outcome != Outcome::Pass;
        let mut text = String::new();
        for result in self.results.iter().filter(shown) {
            text += &format!("{result}\n");
        }
        for word in ["PASS", "FAIL", "ERROR", "SKIPPED"] {
            let number = self
                .results
                .iter()
                .filter(|r| r.outcome.word() == word)
                .count();
            if number > 0 || word == "PASS" {
                text += &format!("{word}: {number}/{}\n", self.results.len());
            }
        }
        text
    }
}

impl Outcome {
    const fn word(&self) -> &'static str {
        match self {
            Self::Error { .. } => "ERROR",
            Self::Fail => "FAIL",
            Self::Pass => "PASS",
            Self::Skip => "SKIPPED",
        }
    }
}

impl fmt::Display for TestResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            package,
            name,
            location,
            outcome,
            duration,
        } = self;
        write!(
            f,
            "{package}.{name}: {} ({duration:.1?}) at {location}",
            outcome.word()
        )?;
        match outcome {
            Outcome::Error { message } => write!(f, "\n  {message}"),
            Outcome::Fail | Outcome::Pass | Outcome::Skip => Ok(()),
        }
    }
}

fn nanoseconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u128(duration.as_nanos())
}
