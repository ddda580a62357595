//! What a directory of many members costs: on disk, to host, and to a site that follows it. Made by the editor that `sekisho
//! directory` uses.

mod made;
mod names;
mod process;
mod site;
mod sizes;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::Serialize;

use crate::{machine::Machine, say};
use made::Made;
use process::Processes;
use site::AtSite;
use sizes::Sizes;

/// How large a directory.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Members
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) members: u32,
    /// Bins: 1, 16 or 256
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) bins: usize,
    /// Members that say something new between two visits of the host: with CAs of a day, ten thousand
    /// members change seven times a minute
    #[arg(long, value_name = "N", default_value_t = 70)]
    pub(crate) changed: usize,
    /// Keep the directory in this folder, which is made, and the keys in keys/ beside it
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// The program whose authority and host are measured; without it they are left out
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) sekisho: Option<PathBuf>,
    /// Sites that ask the host
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) polls: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What something took, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    /// User and system time of this process.
    pub(crate) cpu: f64,
}

fn cpu() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros).unwrap_or_default()).as_secs_f64())
}

/// Does something, and says what it took.
pub(crate) fn cost<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, Cost)> {
    let (began, before) = (Instant::now(), cpu()?);
    let done = work()?;
    let cost = Cost {
        wall: began.elapsed().as_secs_f64(),
        cpu: cpu()? - before,
    };
    Ok((done, cost))
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Outcome {
    machine: Machine,
    members: u32,
    bins: usize,
    admitted: Cost,
    first: Cost,
    /// A timestamp alone, median of nine.
    unchanged: Cost,
    changed: usize,
    /// A snapshot and a timestamp after so many members have said something, median of five.
    changes: Cost,
    /// One member's word: proven and written.
    word: Cost,
    sizes: Sizes,
    site: AtSite,
    processes: Option<Processes>,
}

fn median(mut all: Vec<Cost>) -> anyhow::Result<Cost> {
    all.sort_by(|one, other| one.cpu.total_cmp(&other.cpu));
    let middle = all.get(all.len() / 2).copied();
    middle.context("nothing was measured")
}

/// Measures.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let machine = Machine::look()?;
    let scratch = tempfile::tempdir()?;
    let folder = match &options.keep {
        Some(folder) => folder.clone(),
        None => scratch.path().join("fed"),
    };
    let mut made = Made::begin(&folder, options.bins)?;
    let ((), admitted) = cost(|| made.admit(options.members))?;
    let ((), first) = cost(|| made.host())?;
    // Made once, hosted a few times: as it is after a while.
    let hosted = (0..9).map(|_| Ok(cost(|| made.host())?.1));
    let unchanged = median(hosted.collect::<anyhow::Result<_>>()?)?;
    let (mut words, mut changes) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let ((), word) = cost(|| made.speak(options.changed))?;
        let count = f64::from(u32::try_from(options.changed.max(1))?);
        words.push(Cost {
            wall: word.wall / count,
            cpu: word.cpu / count,
        });
        changes.push(cost(|| made.host())?.1);
    }
    let sizes = Sizes::of(&folder)?;
    let site = site::measure(&mut made, &folder, options.changed)?;
    let processes = options.sekisho.as_ref().map(|sekisho| {
        let polls = usize::try_from(options.polls)?;
        process::measure(sekisho, &mut made, &folder, options.changed, polls)
    });
    let outcome = Outcome {
        machine,
        members: options.members,
        bins: options.bins,
        admitted,
        first,
        unchanged,
        changed: options.changed,
        changes: median(changes)?,
        word: median(words)?,
        sizes,
        site,
        processes: processes.transpose()?,
    };
    if options.json {
        say(serde_json::to_string_pretty(&outcome)?);
    } else {
        for line in lines(&outcome) {
            say(line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn told(cost: &Cost) -> String {
    format!(
        "{:.1} ms ({:.1} ms with the disk)",
        cost.cpu * 1e3,
        cost.wall * 1e3
    )
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let Outcome {
        machine,
        members,
        bins,
        admitted,
        first,
        unchanged,
        changed,
        changes,
        word,
        sizes,
        site,
        processes,
    } = outcome;
    let mut all = machine.lines();
    all.extend([
        String::new(),
        format!("| {members} members in {bins} bins | |"),
        "|---|---|".into(),
        format!(
            "| admitted by two registrars, all at a time: CPU | {:.1} s ({:.1} s with the disk) |",
            admitted.cpu, admitted.wall
        ),
        format!("| the first snapshot: CPU | {} |", told(first)),
        format!(
            "| a timestamp, where nothing has changed: CPU | {} |",
            told(unchanged)
        ),
        format!(
            "| one member's word, proven and written: CPU | {} |",
            told(word)
        ),
        format!(
            "| a snapshot after {changed} of them: CPU | {} |",
            told(changes)
        ),
    ]);
    all.extend(sizes.lines());
    all.extend(site.lines());
    all.extend(processes.iter().flat_map(Processes::lines));
    all
}
