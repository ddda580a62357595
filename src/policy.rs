//! `sekisho policy check|eval|test`, with OPA's exit codes.

use std::{io::Read as _, path::PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use sekisho_policy::{
    DEFAULT_DECISION,
    commands::{self, Fail},
};

use crate::{cli, output};

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Would the proxy load this policy?
    #[command(
        after_help = "Exit codes, as of `opa check`: 0, 1 the policy is wrong.\n\nExample:\n  \
        sekisho policy check policy/ --decision envoy/authz/allow"
    )]
    Check {
        /// The folder of *.rego files
        dir: PathBuf,
        /// The rule that decides, without `data.`
        #[arg(long, default_value = DEFAULT_DECISION)]
        decision: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Evaluate a query, as `opa eval` does
    #[command(
        after_help = "Exit codes: 0, 1 with --fail or --fail-defined, 2 error.\n\n\
        Example:\n  sekisho policy eval policy/ --input input.json data.sekisho.authz.allow"
    )]
    Eval {
        /// The folder of *.rego files
        dir: PathBuf,
        /// The query
        query: String,
        /// The input document; `-` reads it from standard input
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// Exit with 1 when the result is undefined
        #[arg(long, conflicts_with = "fail_defined")]
        fail: bool,
        /// Exit with 1 when the result is defined
        #[arg(long)]
        fail_defined: bool,
    },
    /// Run the test_ rules, as `opa test` does
    #[command(
        after_help = "Exit codes: 0 all passed, 1 error, 2 a test failed or was skipped.\n\n\
        Example:\n  sekisho policy test policy/ -v"
    )]
    Test {
        /// The folder of *.rego files
        dir: PathBuf,
        /// Only tests whose name contains this
        #[arg(short, long, value_name = "TEXT")]
        run: Option<String>,
        /// Name the tests that passed too
        #[arg(short, long)]
        verbose: bool,
        /// Skipped tests (todo_) do not fail the run
        #[arg(short = 'z', long)]
        exit_zero_on_skipped: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub(crate) fn policy(command: PolicyCommand) -> u8 {
    match command {
        PolicyCommand::Check {
            dir,
            decision,
            json,
        } => match commands::check(&dir, &decision) {
            Ok(report) => {
                if json {
                    output::json(&serde_json::to_value(&report).unwrap_or_default());
                } else {
                    output::line(report.to_string().trim_end());
                }
                cli::OK
            }
            Err(error) => {
                output::complain(error);
                cli::FAILED
            }
        },
        PolicyCommand::Eval {
            dir,
            query,
            input,
            fail,
            fail_defined,
        } => {
            let input = match read_input(input) {
                Ok(input) => input,
                Err(error) => {
                    output::complain(format_args!("{error:#}"));
                    return cli::INVALID;
                }
            };
            let result = commands::eval(&dir, input, &query);
            match &result {
                Ok(value) => output::json(value),
                Err(error) => output::complain(error),
            }
            let fail = match (fail, fail_defined) {
                (true, _) => Fail::Undefined,
                (_, true) => Fail::Defined,
                _ => Fail::Never,
            };
            commands::eval_exit_code(&result, fail)
        }
        PolicyCommand::Test {
            dir,
            run,
            verbose,
            exit_zero_on_skipped,
            json,
        } => match commands::test(&dir, run.as_deref()) {
            Ok(report) => {
                if json {
                    output::json(&serde_json::to_value(&report).unwrap_or_default());
                } else {
                    output::line(report.text(verbose).trim_end());
                }
                report.exit_code(exit_zero_on_skipped)
            }
            Err(error) => {
                output::complain(error);
                cli::FAILED
            }
        },
    }
}

fn read_input(path: Option<PathBuf>) -> anyhow::Result<serde_json::Value> {
    let Some(path) = path else {
        return Ok(serde_json::Value::Null);
    };
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    }
    serde_json::from_str(&text).with_context(|| format!("{}: not JSON", path.display()))
}
