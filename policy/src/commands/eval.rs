//! `sekisho policy eval`: any query against a policy and an input.

use std::{path::Path, sync::Arc, time::Duration};

use regorus::{Source, unstable::Parser};
use serde_json::Value;

use crate::{
    Limits, LoadError, Position, calls,
    engine::{RunError, Runner},
    load::Program,
    syntax,
};

/// How long a query may take: it runs on somebody's terminal, not before a connection.
const TIME: Duration = Duration::from_secs(10);

/// Why a query has no result, which is other than an undefined one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// It took longer than ten seconds, or a builtin went past its bounds.
    #[error("the query went over its budget")]
    Budget,
    /// The engine gave up.
    #[error("{message}")]
    Failed {
        /// What it says, with the place.
        message: String,
    },
    /// The policy cannot be loaded, or the query calls what is refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The result has no form in JSON.
    #[error("the result cannot be written as JSON")]
    Result(#[from] serde_json::Error),
}

/// Which results fail the command, beside errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// None.
    #[default]
    Never,
    /// One that is defined and not empty: `--fail-defined`.
    Defined,
    /// An undefined or empty one: `--fail`.
    Undefined,
}

/// Evaluates `query`, such as `data.sekisho.authz.allow`, with `input`, over the policy without its
/// tests. The result has the form of `opa eval`: `{"result": [{"expressions": […]}]}`, and `{}`
/// when it is undefined.
///
/// # Errors
/// When the policy cannot be loaded, or the query is wrong or fails.
pub fn eval(dir: &Path, input: Value, query: &str) -> Result<Value, EvalError> {
    let program = Program::load(dir, &Limits::default(), false)?;
    check_query(&program, query)?;
    let mut runner = Runner::new(Arc::new(program), TIME);
    let results = runner
        .run(input.into(), |engine| {
            engine.eval_query(query.into(), false)
        })
        .map_err(|error| match error {
            RunError::Budget => EvalError::Budget,
            other => EvalError::Failed {
                message: other.to_string(),
            },
        })?;
    Ok(serde_json::to_value(results)?)
}

/// The exit code of `opa eval`: 0, or 1 when `fail` says so, or 2 after an error.
#[must_use]
pub fn eval_exit_code(result: &Result<Value, EvalError>, fail: Fail) -> u8 {
    let Ok(value) = result else { return 2 };
    let defined = value
        .get("result")
        .and_then(Value::as_array)
        .is_some_and(|r| !r.is_empty());
    match fail {
        Fail::Never => 0,
        Fail::Defined => u8::from(defined),
        Fail::Undefined => u8::from(!defined),
    }
}

/// Finds calls of refused functions before the engine runs them.
fn check_query(program: &Program, query: &str) -> Result<(), LoadError> {
    let refused = |error: &anyhow::Error| {
        let (at, message) = syntax::located(&error.to_string());
        let start = || Position {
            file: "query".into(),
            line: 1,
            column: 1,
        };
        LoadError::Syntax {
            at: at.unwrap_or_else(start),
            message,
            v0: false,
        }
    };
    let source = Source::from_contents("query".into(), query.into()).map_err(|e| refused(&e))?;
    let mut parser = Parser::new(&source).map_err(|e| refused(&e))?;
    parser.enable_rego_v1().map_err(|e| refused(&e))?;
    let query = parser.parse_user_query().map_err(|e| refused(&e))?;
    calls::check_query(&query, &program.definitions)
}
