//! The answer to one question, and how a policy's result becomes it.

use std::{sync::Arc, time::Duration};

use regorus::Value;
use sekisho_certs::Reason;

/// Longest message of a decision, in characters.
const MAX_MESSAGE: usize = 256;

/// What policy said about one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the connection may go on.
    pub allowed: bool,
    /// Why not: `policy_denied`, `policy_undefined`, `policy_error` or `policy_budget`. None when
    /// allowed.
    pub reason: Option<Reason>,
    /// The policy's own `reason`, or what went wrong: at most 256 characters, none of control.
    pub message: Option<String>,
    /// For how long the policy wants its answer to hold. None where it does not say.
    pub ttl: Option<Duration>,
    /// The revision of the policy that decided.
    pub revision: Arc<str>,
}

impl Decision {
    pub(crate) fn refused(reason: Reason, message: Option<&str>, revision: Arc<str>) -> Self {
        Self {
            allowed: false,
            reason: Some(reason),
            message: message.map(one_line),
            ttl: None,
            revision,
        }
    }

    /// Reads a result: a boolean, or an object with `allowed`, `reason` and `ttl`.
    pub(crate) fn of(result: &Value, revision: Arc<str>) -> Self {
        let answer = match result {
            Value::Undefined => {
                return Self::refused(Reason::PolicyUndefined, None, revision);
            }
            Value::Bool(allowed) => Ok((*allowed, None, None)),
            Value::Object(_) => object(result),
            other => Err(Malformed::Result(kind(other))),
        };
        match answer {
            Ok((allowed, message, ttl)) => Self {
                allowed,
                reason: (!allowed).then_some(Reason::PolicyDenied),
                message,
                ttl,
                revision,
            },
            Err(error) => Self::refused(Reason::PolicyError, Some(&error.to_string()), revision),
        }
    }
}

type Answer = (bool, Option<String>, Option<Duration>);

#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error("the decision has no `allowed`")]
    NoAllowed,
    #[error("`allowed` of the decision is {0}, not a boolean")]
    Allowed(&'static str),
    #[error("`reason` of the decision is {0}, not a string")]
    Reason(&'static str),
    #[error("the decision is {0}, not a boolean or an object")]
    Result(&'static str),
    #[error("`ttl` of the decision is neither seconds above 0 nor a duration such as \"30s\"")]
    Ttl,
}

fn object(result: &Value) -> Result<Answer, Malformed> {
    let allowed = match &result["allowed"] {
        Value::Bool(allowed) => *allowed,
        Value::Undefined => return Err(Malformed::NoAllowed),
        other => return Err(Malformed::Allowed(kind(other))),
    };
    let message = match &result["reason"] {
        Value::Undefined => None,
        Value::String(text) => Some(one_line(text)),
        other => return Err(Malformed::Reason(kind(other))),
    };
    let ttl = match &result["ttl"] {
        Value::Undefined => None,
        value => Some(
            ttl(value)
                .filter(|ttl| !ttl.is_zero())
                .ok_or(Malformed::Ttl)?,
        ),
    };
    Ok((allowed, message, ttl))
}

fn ttl(value: &Value) -> Option<Duration> {
    if let Value::String(text) = value {
        let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = text.split_at_checked(unit)?;
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        return Duration::try_from_secs_f64(number * seconds).ok();
    }
    Duration::try_from_secs_f64(value.as_f64().ok()?).ok()
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Undefined => "undefined",
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Set(_) => "a set",
        Value::Object(_) => "an object",
    }
}

/// Text fit for a log line: what a policy says may carry what a peer sent.
pub(crate) fn one_line(text: &str) -> String {
    let characters = text.chars().take(MAX_MESSAGE);
    characters
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
