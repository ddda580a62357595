//! The same load through sekisho, its peers and a plain copy, in turn, on one machine.
//!
//! `bench/compare` runs it; `bench/README.md` says how to read what it writes.

mod aead;
mod certificates;
mod child;
mod cli;
mod directory;
mod floor;
mod goals;
mod iperf3;
mod load;
mod machine;
mod namespace;
mod peer;
mod plot;
mod readme;
mod report;
mod run;
mod site;
mod statistics;
mod table;
mod wan;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().go() {
        Ok(code) => code,
        Err(error) => {
            complain(format_args!("compare: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line on standard output; a reader that went away ends the output, not the program.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line on standard error.
fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
