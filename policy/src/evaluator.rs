//! Deciding, one connection at a time.

use std::{fmt, sync::Arc};

use sekisho_certs::Reason;

use crate::{
    Decision, Input, Limits,
    engine::{RunError, Runner},
    load::Program,
};

/// A policy's engine, for one worker. It keeps nothing of one decision for the next.
pub struct Evaluator {
    runner: Runner,
    rule: Arc<str>,
    revision: Arc<str>,
    input_bytes: usize,
}

impl Evaluator {
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

    /// Asks the policy about one connection. Whatever fails, denies; it never panics.
    ///
    /// It blocks for at most about [`Limits::time`]: the engine looks at its clock between
    /// statements, and what a single builtin may do is bounded.
    #[must_use]
    pub fn decide(&mut self, input: &Input) -> Decision {
        if input.weight() > self.input_bytes {
            let message = "the input is larger than a decision may read";
            return self.refused(Reason::PolicyBudget, message);
        }
        let rule = &self.rule;
        let result = self.runner.run(input.to_value(), |engine| {
            engine.eval_rule(rule.to_string())
        });
        match result {
            Ok(value) => Decision::of(&value, Arc::clone(&self.revision)),
            Err(error) => {
                let reason = match error {
                    RunError::Budget => Reason::PolicyBudget,
                    RunError::Failed(_) | RunError::Panicked => Reason::PolicyError,
                };
                self.refused(reason, &error.to_string())
            }
        }
    }

    fn refused(&self, reason: Reason, message: &str) -> Decision {
        Decision::refused(reason, Some(message), Arc::clone(&self.revision))
    }
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluator")
            .field("rule", &self.rule)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
