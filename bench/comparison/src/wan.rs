//! `--wan`: one stream over a long path, directly and through sekisho, with privileges and without,
//! by distance, with loss, and beside another stream.
//!
//! The path is `sekisho bench wan` between two network namespaces; both, and every program in them,
//! are new for each contender.

mod bench;
mod cells;
mod congestion;
mod distance;
mod emulator;
mod goals;
mod ground;
mod outside;
mod pair;
mod report;
mod run;
mod seen;
mod stream;
mod table;

use std::path::PathBuf;

use clap::Args;

pub(crate) use self::{outside::supervise, run::run};
use cells::Group;

/// What of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Far {
    /// With --wan: what is measured
    #[arg(long, value_delimiter = ',', value_enum, requires = "wan",
        default_values_t = Group::ALL)]
    cells: Vec<Group>,
    /// With --wan: round trips of `paper`, in milliseconds [default: 15.7,22,31.2; quick 22]
    #[arg(long, value_name = "MS", value_delimiter = ',', requires = "wan",
        value_parser = cells::round_trip)]
    distances: Vec<f64>,
    /// Set by the process that cleans up
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
}
