//! Running one thing in the engine, so that nothing it does gets out of hand.

use std::{
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};

use crate::{
    guard::{self, Meter},
    load::Program,
    syntax,
};

/// How many steps of the interpreter pass between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(16).unwrap();

/// An engine with its policies loaded, its clock and its meter.
pub(crate) struct Runner {
    program: Arc<Program>,
    time: Duration,
    /// None after a panic, which may have left it in any state.
    engine: Option<Engine>,
    meter: Arc<Meter>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("the decision went over its budget")]
    Budget,
    #[error("{0}")]
    Failed(String),
    #[error("the policy engine panicked")]
    Panicked,
}

impl Runner {
    pub(crate) fn new(program: Arc<Program>, time: Duration) -> Self {
        Self {
            program,
            time,
            engine: None,
            meter: Arc::default(),
        }
    }

    /// Makes the engine ready, so that the first question need not wait for it.
    pub(crate) fn warm(&mut self) {
        // What goes wrong here goes wrong again, and is told, when there is a question.
        let _ = self.run(Value::Undefined, |engine| {
            engine.eval_query("true".into(), false)
        });
    }

    /// Lets `work` use the engine with `input`, within the time.
    pub(crate) fn run<T>(
        &mut self,
        input: Value,
        work: impl FnOnce(&mut Engine) -> anyhow::Result<T>,
    ) -> Result<T, RunError> {
        let engine = match &mut self.engine {
            Some(engine) => engine,
            None => self
                .engine
                .insert(build(&self.program, &self.meter).map_err(|e| failed(&e))?),
        };
        engine.set_execution_timer_config(ExecutionTimerConfig {
            limit: self.time,
            check_interval: CHECK_INTERVAL,
        });
        self.meter.reset();
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            engine.set_input(input);
            let result = work(engine);
            // What a query or a test printed is nobody's here.
            let _ = engine.take_prints();
            result
        }));
        let Ok(result) = result else {
            self.engine = None;
            return Err(RunError::Panicked);
        };
        // The engine wraps errors of functions into text, so the clock itself is asked.
        if self.meter.is_over() || started.elapsed() > self.time {
            return Err(RunError::Budget);
        }
        result.map_err(|error| match error.is::<regorus::LimitError>() {
            true => RunError::Budget,
            false => failed(&error),
        })
    }
}

fn failed(error: &anyhow::Error) -> RunError {
    let (at, message) = syntax::located(&error.to_string());
    RunError::Failed(match at {
        Some(at) => format!("{at}: {message}"),
        None => message,
    })
}

/// An engine of its own for each runner, not a clone: clones share their syntax trees, and the
/// workers would count references to them on the same cache lines.
pub(crate) fn build(program: &Program, meter: &Arc<Meter>) -> anyhow::Result<Engine> {
    let mut engine = Engine::new();
    engine.set_gather_prints(true);
    for source in &program.rego {
        engine.add_policy(source.file.clone(), source.text.clone())?;
    }
    engine.add_data(program.data.clone())?;
    guard::install(&mut engine, meter)?;
    Ok(engine)
}
