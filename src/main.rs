//! The `sekisho` binary: command line, configuration, wiring, supervision; no logic of its own.

use std::process::ExitCode;

mod admin;
mod agent;
mod api;
mod apply;
mod authority;
mod bench;
mod bundle;
mod check;
mod child;
mod cli;
mod commands;
mod completions;
mod config;
mod demo;
mod explain;
mod fetch;
mod logging;
mod node;
mod oidc;
mod output;
mod policy;
mod run;
mod status;
mod supervise;

fn main() -> ExitCode {
    cli::main()
}
