//! The run: cell after cell.

use std::process::ExitCode;

use anyhow::Context as _;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    bench::Bench,
    cells::{cells, distances},
    ground,
    report::Report,
    stream, table,
};
use crate::{child::Program, cli::Options, complain, iperf3, machine::Machine, namespace, say};

/// Measures all that was asked for, writes and prints it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    namespace::obey()?;
    let scratch = options.far.folder.as_deref();
    let scratch = scratch.context("--inside and --folder are set by this program alone")?;
    let bench = Bench::new(options, scratch)?;
    let mut machine = Machine::look()?;
    // In every namespace of the run, where it is read back.
    machine.congestion_control = namespace::CONGESTION.to_owned();
    machine.announce();
    let Bench { seconds, .. } = bench;
    let far = distances(&options.far.distances, options.quick);
    let all = cells(&options.far.cells, &far, options.quick);
    let mut report = Report {
        date: OffsetDateTime::now_utc()
            .truncate_to_second()
            .format(&Rfc3339)
            .unwrap_or_default(),
        machine,
        socket_limits: ground::socket_limits()?,
        sekisho: Program::new(&bench.sekisho, &["--version"]).first_line()?,
        load_program: iperf3::version()?,
        seconds,
        warm_up: stream::warm_up(seconds),
        cells: Vec::new(),
        goals: Vec::new(),
    };
    for cell in &all {
        report.add(bench.cell(cell));
        if let Some(out) = &options.out {
            // After each: of a run that is ended, what was measured stays.
            report.write(out)?;
        }
    }
    if let Some(out) = &options.out {
        complain(format_args!("written to {}", out.display()));
    }
    if options.json {
        say(format_args!("{:#}", serde_json::to_value(&report)?));
    } else {
        say(table::markdown(&report));
    }
    let failures: Vec<_> = report.failures().collect();
    for failure in &failures {
        complain(format_args!("not measured: {failure}"));
    }
    Ok(ExitCode::from(u8::from(!failures.is_empty())))
}
