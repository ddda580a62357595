//! Asking a policy about something else than a connection: any JSON in, the rule's value out.

use std::{fmt, sync::Arc};

use regorus::Value;

use crate::{
    Limits,
    engine::{RunError, Runner},
    load::Program,
};

/// Why a rule has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It took longer than [`Limits::time`](crate::Limits::time), a builtin went past its bounds, or the
    /// input is larger than [`Limits::input_bytes`](crate::Limits::input_bytes).
    #[error("the decision went over its budget")]
    Budget,
    /// The engine gave up.
    #[error("{0}")]
    Failed(String),
    /// The value has no form in JSON.
    #[error("the result cannot be written as JSON: {0}")]
    Result(#[from] serde_json::Error),
    /// No part of the rule holds.
    #[error("the decision is undefined")]
    Undefined,
}

/// The engine of a policy, for whoever asks with an input of their own. It keeps nothing of one question
/// for the next.
pub struct Question {
    runner: Runner,
    rule: Arc<str>,
    revision: Arc<str>,
    input_bytes: usize,
}

impl Question {
    pub(crate) fn new(
        program: Arc<Program>,
        rule: Arc<str>,
        revision: Arc<str>,
        limits: Limits,
    ) -> Self {
        let mut runner = Runner::new(program, limits.time);
        runner.warm();
        Self {
            runner,
            rule,
            revision,
            input_bytes: limits.input_bytes,
        }
    }

    /// The revision of the policy that answers.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The value of the policy's rule with this input. It never panics, and blocks for at most about
    /// [`Limits::time`](crate::Limits::time).
    ///
    /// # Errors
    /// Each of [`AskError`]'s variants.
    pub fn ask(&mut self, input: serde_json::Value) -> Result<serde_json::Value, AskError> {
        if input.to_string().len() > self.input_bytes {
            return Err(AskError::Budget);
        }
        let rule = &self.rule;
        let answer = self
            .runner
            .run(input.into(), |engine| engine.eval_rule(rule.to_string()));
        match answer {
            Ok(Value::Undefined) => Err(AskError::Undefined),
            Ok(value) => Ok(serde_json::to_value(value)?),
            Err(RunError::Budget) => Err(AskError::Budget),
            Err(other) => Err(AskError::Failed(other.to_string())),
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("rule", &self.rule)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Policy;

    fn question(text: &str) -> Question {
        let policy = Policy::from_text("a.rego", text, "a/answer", Limits::default());
        policy.unwrap().question()
    }

    #[test]
    fn the_value_of_the_rule_comes_back_whatever_it_is() {
        let mut question = question("package a\nanswer := {\"n\": input.n + 1} if input.n > 0\n");
        let answer = question.ask(json!({ "n": 1 })).unwrap();
        assert_eq!(answer, json!({ "n": 2 }));
        let undefined = question.ask(json!({ "n": 0 }));
        assert!(matches!(undefined, Err(AskError::Undefined)));
        let failed = question.ask(json!({ "n": "x" }));
        assert!(matches!(failed, Err(AskError::Failed(_))), "{failed:?}");
        let large = question.ask(json!({ "n": "x".repeat(100_000) }));
        assert!(matches!(large, Err(AskError::Budget)));
    }

    #[test]
    fn a_policy_from_text_is_checked_as_one_from_a_folder() {
        let load = |text| Policy::from_text("a.rego", text, "a/answer", Limits::default());
        assert!(load("package a\nanswer := 1\n").is_ok());
        assert!(load("package a\nother := 1\n").is_err());
        assert!(load("package a\nanswer := http.send({})\n").is_err());
        assert!(load("nonsense").is_err());
    }
}
