//! The command line.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{child, directory, floor, load::Load, namespace, peer::Builtin, run, site, wan};

/// The same load through sekisho, its peers and a plain copy, in turn
#[derive(Debug, Parser)]
#[command(
    name = "bench/compare",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Needs root, for a network namespace of its own with cubic as congestion control; \
    what it changes outside of it is put back.\n\nExit codes: 0 every cell was measured, 1 some \
    were not, or nothing could be.\n\nExamples:\n  \
    bench/compare --quick                                  does everything work?\n  \
    bench/compare --out results                            the whole comparison\n  \
    bench/compare --peers sekisho,envoy,floor --loads stream,rr16 --repetitions 5\n  \
    bench/compare --pair bench/comparison/pairs/stunnel.toml --loads stream\n  \
    bench/compare --load-program iperf3 --loads stream,reverse\n  \
    bench/compare --wan --quick                            does the long path work?\n  \
    bench/compare --wan --out results                      one stream over a long path"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    options: Options,
}

/// What sends the streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadProgram {
    /// Our own
    #[default]
    Sekisho,
    /// Real iperf3, for streams
    Iperf3,
}

/// What to compare, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// A second a cell, once, with few idle connections: whether everything works. With --wan:
    /// three, one distance, and fewer settings
    #[arg(long)]
    pub(crate) quick: bool,
    /// One stream over a long path instead: directly and through sekisho, by distance, with loss,
    /// and beside another stream
    #[arg(long, conflicts_with_all = [
        "peers", "pair", "loads", "repetitions", "workers", "idle_connections", "load_program",
        "group", "readme",
    ])]
    pub(crate) wan: bool,
    #[command(flatten)]
    pub(crate) far: wan::Far,
    /// Who is compared
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Builtin::ALL)]
    pub(crate) peers: Vec<Builtin>,
    /// A further pair, described by a file; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) pair: Vec<PathBuf>,
    /// What is measured [default: all]
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Load::DEFAULT)]
    pub(crate) loads: Vec<Load>,
    /// Times each is measured, in turn: A B A B [default: 3, quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repetitions: Option<u32>,
    /// Seconds of each cell [default: 5, quick 1; --wan 60, quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: Option<u32>,
    /// Worker threads of each proxy; with several numbers, loads of many connections are measured
    /// with each of them, single streams with the first [default: 1,2; quick 1]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: Vec<u16>,
    /// Idle connections [default: 4000, quick 200]
    #[arg(long, value_name = "N")]
    pub(crate) idle_connections: Option<u32>,
    /// What sends the streams
    #[arg(long, value_enum, default_value_t)]
    pub(crate) load_program: LoadProgram,
    /// The key exchange group of both sides of Envoy: the one that sekisho prefers, by its name in
    /// BoringSSL
    #[arg(long, value_name = "NAME", default_value = "X25519MLKEM768")]
    pub(crate) group: String,
    /// Print the JSON document on standard output instead of the tables
    #[arg(long)]
    pub(crate) json: bool,
    /// A folder for result.json, table.md and the plots; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Put the tables, and links to the plots of --out, between the markers of this file
    #[arg(long, value_name = "FILE", requires = "out")]
    pub(crate) readme: Option<PathBuf>,
    /// Keep configurations and logs of the proxies in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// The program sekisho
    #[arg(long, value_name = "FILE", default_value = "sekisho")]
    pub(crate) sekisho: PathBuf,
    /// The program envoy
    #[arg(long, value_name = "FILE", default_value = "envoy")]
    pub(crate) envoy: PathBuf,
    /// The program haproxy
    #[arg(long, value_name = "FILE", default_value = "haproxy")]
    pub(crate) haproxy: PathBuf,
    /// Set by the process that made the network namespace
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

/// Something else than a comparison; and what this program starts itself again for.
#[derive(Debug, Subcommand)]
enum Other {
    /// What a site costs beside its traffic: syncs, a changed entry, signing, memory
    #[command(
        after_help = "Examples:\n  bench/site\n  bench/site --entries 1000 --of-agent 100 --seconds 1\n  \
        bench/site --json > site.json"
    )]
    Site(site::Options),
    /// What a directory of many members costs: on disk, and to host
    #[command(
        after_help = "Examples:\n  bench/directory\n  bench/directory --members 500 --bins 16\n  \
        bench/directory --keep /tmp/fed --json > directory.json"
    )]
    Directory(directory::Options),
    /// Copies bytes, each direction of a connection in a thread of its own
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        connect: SocketAddr,
        /// Bytes of the buffer, or of the pipe
        #[arg(long)]
        buffer: usize,
        /// By splice(2)
        #[arg(long)]
        splice: bool,
    },
    /// Becomes a program that is killed when its parent ends
    #[command(hide = true)]
    Hop {
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

impl Options {
    /// Times each cell is measured.
    pub(crate) fn repetitions(&self) -> u32 {
        self.repetitions.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// Seconds of each cell.
    pub(crate) fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// Worker threads to measure with, in order.
    pub(crate) fn workers(&self) -> Vec<u16> {
        match (self.workers.is_empty(), self.quick) {
            (false, _) => self.workers.clone(),
            (true, true) => vec![1],
            (true, false) => vec![1, 2],
        }
    }

    /// Idle connections.
    pub(crate) fn idle_connections(&self) -> u32 {
        self.idle_connections
            .unwrap_or(if self.quick { 200 } else { 4000 })
    }
}

impl Cli {
    pub(crate) fn go(self) -> anyhow::Result<ExitCode> {
        match self.other {
            Some(Other::Floor {
                listen,
                connect,
                buffer,
                splice,
            }) => floor::run(listen, connect, buffer, splice).map(|()| ExitCode::SUCCESS),
            Some(Other::Hop { command }) => child::hop(&command),
            Some(Other::Site(options)) => site::run(&options),
            Some(Other::Directory(options)) => directory::run(&options),
            None if self.options.wan && self.options.inside => wan::run(&self.options),
            None if self.options.wan => wan::supervise(),
            None if self.options.inside => {
                namespace::enter()?;
                run::run(&self.options)
            }
            None => namespace::supervise(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_long_path_has_options_of_its_own() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.options);
        assert!(!parse("compare --quick").unwrap().wan);
        let line = "compare --envoy x --wan --cells loss,fair --distances 5,22 --seconds 2";
        let options = parse(line).unwrap();
        assert!(options.wan && options.seconds == Some(2));
        for wrong in [
            "compare --cells loss",
            "compare --distances 22",
            "compare --wan --distances 0",
            "compare --wan --cells other",
            "compare --wan --peers direct",
            "compare --wan --repetitions 2",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
