//! What a site costs beside its traffic: syncs of many entries, a change of one, signing, memory.
//!
//! Only real processes are measured. What asks them is the agent's own library, so that a figure holds
//! what an agent does with an answer too.

mod authority;
mod memory;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use serde::Serialize;

use crate::{machine::Machine, say};

/// How large a site, and how long.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Entries of the authority
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) entries: u32,
    /// Of them, entries of one agent
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) of_agent: u32,
    /// SVIDs asked for in a second; an address gets no more than 500 of an authority
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=500))]
    pub(crate) rate: u32,
    /// Seconds of that
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// Connections through the proxy before memory is read
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) connections: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The program sekisho
    #[arg(long, value_name = "FILE", default_value = "sekisho")]
    pub(crate) sekisho: PathBuf,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Outcome {
    machine: Machine,
    sync: authority::Sync,
    agent: authority::Agent,
    sign: authority::Sign,
    memory: memory::Site,
}

/// Measures.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let machine = Machine::look()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let authority::Outcome { sync, agent, sign } = authority::run(options, &runtime)?;
    let memory = memory::run(options)?;
    let outcome = Outcome {
        machine,
        sync,
        agent,
        sign,
        memory,
    };
    if options.json {
        say(serde_json::to_string_pretty(&outcome)?);
    } else {
        for line in lines(options, &outcome) {
            say(line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

fn lines(options: &Options, outcome: &Outcome) -> Vec<String> {
    let Outcome {
        machine,
        sync,
        agent,
        sign,
        memory,
    } = outcome;
    let mut all = machine.lines();
    let mebibytes = |bytes: u64| Duration::from_millis(bytes * 1000 / (1 << 20)).as_secs_f64();
    all.extend([
        String::new(),
        "| | |".into(),
        "|---|---|".into(),
        format!(
            "| full sync of {} of {} entries: first (the authority reads all), then median of {} | {}, {} |",
            options.of_agent,
            options.entries,
            sync.seconds.len(),
            milliseconds(sync.first),
            milliseconds(sync.median),
        ),
        format!(
            "| of that, CPU of the authority | {} |",
            milliseconds(sync.cpu)
        ),
        format!("| sync where nothing has changed | {} |", milliseconds(sync.unchanged)),
        format!(
            "| an agent starts, syncs and has {} SVIDs signed, of which an address gets 500 a second | {:.2} s (CPU: agent {:.2} s, authority {:.2} s) |",
            options.of_agent, agent.started, agent.cpu_of_agent, agent.cpu_of_authority
        ),
        format!(
            "| one changed entry, from the call to the new SVID, mean of ten: CPU | agent {}, authority {} |",
            milliseconds(agent.change_of_agent),
            milliseconds(agent.change_of_authority)
        ),
        format!(
            "| {} SVIDs/s for {} s | {:.0}/s, {:.3} cores of the authority |",
            options.rate, options.seconds, sign.rate, sign.cores
        ),
    ]);
    for process in &memory.processes {
        all.push(format!(
            "| memory of {} after {} connections | {:.1} MiB (anonymous {:.1}, proportional {:.1}) |",
            process.name,
            options.connections,
            mebibytes(process.resident),
            mebibytes(process.anonymous),
            mebibytes(process.proportional)
        ));
    }
    all.push(format!(
        "| authority, agent and proxy together | {:.1} MiB resident, {:.1} MiB proportional |",
        mebibytes(memory.resident),
        mebibytes(memory.proportional)
    ));
    all
}
