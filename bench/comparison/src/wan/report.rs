//! All that a run found.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    cells::{CEILING, Cell, Contender, DIRECT},
    distance,
    emulator::Told,
    goals::{self, Verdict},
    seen::Seen,
    stream::Rates,
    table,
};
use crate::{
    machine::Machine,
    statistics::{Summary, ratio},
};

/// What came of one contender.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Found {
    pub(super) rates: Rates,
    /// Of the direct stream at the same time.
    pub(super) beside: Option<Rates>,
    /// Cores, of both sekishos together; none of a direct stream.
    pub(super) cpu_proxies: Option<f64>,
    /// Cores.
    pub(super) cpu_emulator: f64,
    pub(super) emulator: Told,
    /// Each second, after the warm-up.
    pub(super) seen: Vec<Seen>,
    /// Programs that ran or waited in the minute before.
    pub(super) load_average: f64,
}

impl Found {
    /// Of all that went over the line, this stream's part.
    pub(super) fn share(&self) -> Option<f64> {
        let beside = self.beside.as_ref()?;
        ratio(self.rates.steady, self.rates.steady + beside.steady)
    }

    /// The median of the connections that it had, and the most.
    pub(super) fn lanes(&self) -> Option<Summary> {
        Summary::of(self.seen.iter().map(|seen| seen.open as f64))
    }
}

/// A contender, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) contender: Contender,
    pub(super) found: Option<Found>,
    /// Of the steady rates: to the direct stream of the same run.
    pub(super) times_direct: Option<f64>,
    /// To one TCP stream with large buffers and no proxy: what the emulator carries here.
    pub(super) of_ceiling: Option<f64>,
    /// To the rate of the line.
    pub(super) of_line: Option<f64>,
    /// Of all that went over it at the same time.
    pub(super) share: Option<f64>,
    /// Why it was not measured.
    pub(super) failure: Option<String>,
}

/// A cell, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Measured {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) cell: Cell,
    /// What the paper has of this distance, in Gb/s.
    pub(super) paper: Option<f64>,
    pub(super) rows: Vec<Row>,
}

impl Measured {
    /// Puts the ratios to what was found.
    pub(super) fn new(cell: &Cell, outcomes: Vec<anyhow::Result<Found>>) -> Self {
        let rows = cell.contenders.iter().cloned().zip(outcomes);
        let mut measured = Self {
            name: cell.name(),
            paper: cell.paper().map(|(rate, _)| rate),
            cell: cell.clone(),
            rows: rows
                .map(|(contender, outcome)| {
                    let (found, failure) = match outcome {
                        Ok(found) => (Some(found), None),
                        Err(error) => (None, Some(format!("{error:#}"))),
                    };
                    Row {
                        share: found.as_ref().and_then(Found::share),
                        contender,
                        found,
                        times_direct: None,
                        of_ceiling: None,
                        of_line: None,
                        failure,
                    }
                })
                .collect(),
        };
        let (direct, ceiling) = (measured.steady(DIRECT), measured.steady(CEILING));
        let line = Some(f64::from(cell.line.rate));
        for row in &mut measured.rows {
            let own = row.found.as_ref().map(|found| found.rates.steady);
            let to = |other: Option<f64>| own.zip(other).and_then(|(own, other)| ratio(own, other));
            row.times_direct = to(direct);
            row.of_ceiling = to(ceiling);
            row.of_line = to(line);
        }
        measured
    }

    /// What a contender got, in Gb/s.
    pub(super) fn steady(&self, name: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.contender.name == name)?;
        Some(row.found.as_ref()?.rates.steady)
    }
}

/// The whole of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) date: String,
    pub(super) machine: Machine,
    /// What a socket may have without privileges, in bytes: `net.core.rmem_max` and `wmem_max`.
    pub(super) socket_limits: [u64; 2],
    pub(super) sekisho: String,
    pub(super) load_program: String,
    /// Of each cell.
    pub(super) seconds: u32,
    /// Of them, those that do not count for the steady rate.
    pub(super) warm_up: f64,
    pub(super) cells: Vec<Measured>,
    pub(super) goals: Vec<Verdict>,
}

impl Report {
    /// Adds a cell, and judges anew.
    pub(super) fn add(&mut self, cell: Measured) {
        self.cells.push(cell);
        self.goals = goals::judge(&self.cells);
    }

    /// What could not be measured, and why.
    pub(super) fn failures(&self) -> impl Iterator<Item = String> {
        self.cells.iter().flat_map(|cell| {
            cell.rows.iter().filter_map(|row| {
                let why = row.failure.as_ref()?;
                Some(format!("{}, {}: {why}", cell.name, row.contender.name))
            })
        })
    }

    /// Writes `wan.json`, `wan.md` and, of the distances, `wan.svg` into a folder.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        let json = serde_json::to_string_pretty(self)?;
        write("wan.json", &(json + "\n"))?;
        write("wan.md", &table::markdown(self))?;
        if let Some(svg) = distance::plot(self) {
            write("wan.svg", &svg)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod sample;
