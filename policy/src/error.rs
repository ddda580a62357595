//! Why a policy cannot be loaded, and where in it.

use std::{fmt, io, path::PathBuf};

/// A place in a policy's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// The file, relative to the policy's directory.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// The column of the line, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Why a policy was refused when it was loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The text is Rego, but means nothing: an unsafe variable, rules that contradict each other.
    #[error("{at}: {message}")]
    Analysis {
        /// Where.
        at: Position,
        /// What the engine says.
        message: String,
    },
    /// Brackets stand within one another too deep.
    #[error("{at}: more than {limit} brackets within one another")]
    Brackets {
        /// The first too many.
        at: Position,
        /// The bound.
        limit: usize,
    },
    /// A function is called that is refused, or that nobody knows.
    #[error("{at}: {refusal}")]
    Call {
        /// Where it is called.
        at: Position,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// A data document is not JSON.
    #[error("{file}: not a JSON document")]
    Data {
        /// The file, relative to the policy's directory.
        file: String,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// Two data documents give different values to one path, or a rule stands at the path of one.
    #[error("{file}: data.{path} is given twice")]
    DataConflict {
        /// The file that comes second, relative to the policy's directory.
        file: String,
        /// The path below `data`.
        path: String,
    },
    /// A data document that would go to a folder's path is not an object.
    #[error("{file}: a data document must be a JSON object")]
    DataNotObject {
        /// The file, relative to the policy's directory.
        file: String,
    },
    /// Data in YAML, which OPA would load: left out, it would change decisions silently.
    #[error("{file}: data documents must be JSON here")]
    DataYaml {
        /// The file, relative to the policy's directory.
        file: String,
    },
    /// The decision is a function, which has no value of its own.
    #[error("{at}: data.{decision} is a function; a decision is a rule without arguments")]
    DecisionIsFunction {
        /// Where it is defined.
        at: Position,
        /// Its path below `data`, with dots.
        decision: String,
    },
    /// No rule stands at the decision's path.
    #[error(
        "{}: no rule data.{decision}; add it, or name another decision{}",
        dir.display(), also(found)
    )]
    DecisionMissing {
        /// The policy's directory.
        dir: PathBuf,
        /// The path below `data`, with dots.
        decision: String,
        /// Rules of that name elsewhere, or else the packages found.
        found: Vec<String>,
    },
    /// The decision's path is not one.
    #[error("{0:?} is not a decision: write a path such as sekisho/authz/allow")]
    DecisionPath(String),
    /// Rules nest and need one another deeper than [`MAX_CALL_DEPTH`](crate::MAX_CALL_DEPTH).
    #[error("{at}: {name} nests more than {limit} deep, with the rules that it needs")]
    Depth {
        /// The first rule of the chain.
        at: Position,
        /// Its path.
        name: String,
        /// The bound.
        limit: usize,
    },
    /// There is no Rego file.
    #[error("{}: no .rego file here or below", dir.display())]
    Empty {
        /// The policy's directory.
        dir: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A function calls itself.
    #[error("{at}: {name} is recursive: {cycle}")]
    Recursion {
        /// Where it is defined.
        at: Position,
        /// Its path.
        name: String,
        /// The calls that lead back to it.
        cycle: String,
    },
    /// The text is not Rego.
    #[error("{at}: {message}{}", if *v0 { V0 } else { "" })]
    Syntax {
        /// Where.
        at: Position,
        /// What the parser says.
        message: String,
        /// Whether it would be Rego v0.
        v0: bool,
    },
    /// A bound of the loader was passed.
    #[error("{}: more than {limit} {what}", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
}

const V0: &str = "; as Rego v0 it would parse, but v1 is spoken here: `import rego.v1` in it and \
                  write `if` and `contains`, or run `opa fmt --v0-v1`";

impl LoadError {
    /// Where the error is, if it is at one place of a file.
    #[must_use]
    pub const fn position(&self) -> Option<&Position> {
        match self {
            Self::Analysis { at, .. }
            | Self::Brackets { at, .. }
            | Self::Call { at, .. }
            | Self::DecisionIsFunction { at, .. }
            | Self::Depth { at, .. }
            | Self::Recursion { at, .. }
            | Self::Syntax { at, .. } => Some(at),
            _ => None,
        }
    }
}

/// What is wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Wrong number of arguments.
    #[error("{name} takes {takes} arguments, {given} given")]
    Arguments {
        /// The function.
        name: String,
        /// How many it takes.
        takes: usize,
        /// How many are given.
        given: usize,
    },
    /// A builtin of OPA that is refused.
    #[error("{name} is refused: {why}")]
    Forbidden {
        /// The builtin.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A builtin of OPA that is not here yet.
    #[error("{name} is a builtin of OPA that sekisho does not have yet")]
    Missing {
        /// The builtin.
        name: String,
    },
    /// A function outside tests that only tests may call.
    #[error("{name} may only be called by tests (*_test.rego)")]
    TestOnly {
        /// The builtin.
        name: String,
    },
    /// Neither a builtin nor defined in the policy.
    #[error("{name} is neither a builtin nor a function of this policy")]
    Unknown {
        /// The function as written.
        name: String,
    },
}

fn also(found: &[String]) -> String {
    if found.is_empty() {
        return String::new();
    }
    format!(" (there is: {})", found.join(", "))
}
