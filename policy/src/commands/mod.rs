//! What `sekisho policy check|eval|test` does, without the command line.

mod check;
mod eval;
mod test;

pub use check::{Report, check};
pub use eval::{EvalError, Fail, eval, eval_exit_code};
pub use test::{Outcome, TestReport, TestResult, test};
