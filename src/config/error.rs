//! What is wrong with a configuration, and where.

use std::{
    fmt::{self, Write as _},
    path::Path,
};

use sekisho_certs::id::IdError;

use super::{files::Source, location::Location};

/// More than this many are counted, not listed.
const SHOWN: usize = 100;
/// A path of keys is cut to this many characters.
const FIELD: usize = 200;
/// A source line is cut to this many characters around the place that is meant.
const EXCERPT: usize = 100;

/// One thing wrong in a file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{location}: {}{}", prefix(.field), one_line(&.problem.to_string()))]
pub(crate) struct ConfigError {
    /// File, line and column.
    pub(crate) location: Location,
    /// The key it is about, from the top, as in `endpoints.from-osaka.listen`. Empty: none.
    pub(crate) field: String,
    /// What is wrong, and what would be right.
    pub(crate) problem: Problem,
    /// The line of the file, where there is one.
    source_line: Option<String>,
}

/// `field: `, or nothing.
fn prefix(field: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!("{field}: ")
    }
}

/// What a file holds must not move the cursor of who reads the message.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Problem {
    /// A key that may stand once stands twice.
    #[error("already given at {first}")]
    Duplicate {
        /// Where it stands first.
        first: Location,
    },
    /// A value of another form or range.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What would be right.
        expected: String,
        /// What there is.
        found: String,
    },
    /// An ID, a pattern or a trust domain that is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A key or value that this version does not know yet.
    #[error("`{0}` is not in this version")]
    Later(String),
    /// A key that must be there.
    #[error("missing: expected {0}")]
    Missing(String),
    /// Right by itself, wrong together with something else.
    #[error("{0}")]
    Rule(String),
    /// Not YAML, or more of it than is read here.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// A key that is none.
    #[error("unknown key{}; expected one of: {}", did_you_mean(*.nearest), .known.join(", "))]
    UnknownKey {
        /// The key that was probably meant.
        nearest: Option<&'static str>,
        /// All there are.
        known: &'static [&'static str],
    },
    /// A file or folder that cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!(", did you mean `{key}`?"))
}

/// Everything wrong with a configuration, in the order of the files. Never empty.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", self.render(false))]
pub(crate) struct ConfigErrors {
    errors: Vec<ConfigError>,
    more: usize,
}

impl ConfigErrors {
    /// The errors that are listed, at most 100.
    pub(crate) fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// Each error with the line of the file and a mark below the place, for people.
    pub(crate) fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for error in self.errors() {
            let rendered = Rendered { error, colour };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{rendered}");
        }
        if self.more > 0 {
            let _ = writeln!(text, "… and {} more", self.more);
        }
        text
    }
}

/// One error with its excerpt.
struct Rendered<'a> {
    error: &'a ConfigError,
    colour: bool,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.error;
        let (red, off) = if self.colour {
            ("\x1b[31m", "\x1b[0m")
        } else {
            ("", "")
        };
        write!(f, "{error}")?;
        let Some(line) = &error.source_line else {
            return Ok(());
        };
        let column = error.location.column.saturating_sub(1);
        let from = if line.chars().count() > EXCERPT {
            column.saturating_sub(EXCERPT / 2)
        } else {
            0
        };
        // Control characters would move the mark, or the terminal.
        let shown: String = line
            .chars()
            .skip(from)
            .take(EXCERPT)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let number = error.location.line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(column.saturating_sub(from));
        write!(f, "\n{margin} |\n{number} | {}", shown.trim_end())?;
        write!(f, "\n{margin} | {indent}{red}^{off}")
    }
}

/// Collects what is wrong while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: Vec<ConfigError>,
}

impl Report {
    /// How many there are so far.
    pub(super) const fn count(&self) -> usize {
        self.errors.len()
    }

    /// Adds one.
    pub(super) fn push(&mut self, location: &Location, field: &str, problem: Problem) {
        let error = ConfigError {
            location: location.clone(),
            field: one_line(field).chars().take(FIELD).collect(),
            problem,
            source_line: None,
        };
        // What an alias repeats is wrong once. The line is compared first: it mostly differs.
        let repeated = |other: &ConfigError| {
            other.location.line == error.location.line
                && other.location == error.location
                && other.problem == error.problem
        };
        if !self.errors.iter().rev().take(SHOWN).any(repeated) {
            self.errors.push(error);
        }
    }

    /// The errors about the configuration at `path`, with their source lines.
    pub(super) fn finish(mut self, path: &Path, sources: &[Source]) -> ConfigErrors {
        if self.errors.is_empty() {
            // Not reached: who gives up has said why. A silent refusal would be worse.
            let problem = Problem::Rule("refused without a reason, which is a defect".into());
            self.push(&Location::whole(path), "", problem);
        }
        let mut errors = self.errors;
        errors.sort_by(|a, b| a.location.cmp(&b.location));
        let more = errors.len().saturating_sub(SHOWN);
        errors.truncate(SHOWN);
        for error in &mut errors {
            error.source_line = sources
                .iter()
                .find(|source| source.file == error.location.file)
                .and_then(|source| {
                    let index = error.location.line.checked_sub(1)?;
                    source.text.lines().nth(index).map(Into::into)
                });
        }
        ConfigErrors { errors, more }
    }
}
