//! Rego decisions: what policy sees of a connection, how a policy is loaded, and what it decides.
//!
//! ```text
//! directory ──▶ Policy::load ──▶ Policy ──▶ evaluator (one a worker) ──▶ Decision
//!               syntax, builtins,                 ▲
//!               recursion, decision rule        Input
//! ```
//! Everything that can be wrong with a policy's text is said when it is loaded. What fails later
//! denies: an undefined, malformed or erroneous result, a spent budget, a bug in the engine. There
//! is no decision but `true` that lets a connection through, and no fall-back to another rule.
//!
//! A builtin that fails makes the decision [`PolicyError`](sekisho_certs::Reason::PolicyError), as
//! with OPA's `--strict-builtin-errors`: were it merely undefined, `not f(x)` would turn a failure
//! into a yes.

mod builtins;
mod calls;
pub mod commands;
mod data;
mod decision;
mod engine;
mod error;
mod evaluator;
mod graph;
mod guard;
mod input;
mod limits;
mod load;
mod policy;
mod question;
mod sources;
mod syntax;

pub use decision::Decision;
pub use error::{LoadError, Position, Refusal};
pub use evaluator::Evaluator;
pub use input::{Client, Direction, Federation, Input, Upstream};
pub use limits::{
    Limits, MAX_BRACKET_DEPTH, MAX_CALL_DEPTH, MAX_DECISION_SEGMENTS, MAX_FILE_BYTES, MAX_FILES,
    MAX_FOLDER_DEPTH, MAX_SOURCE_BYTES,
};
pub use policy::{DEFAULT_DECISION, Policy};
pub use question::{AskError, Question};
