//! All that a run found.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    cli::Options,
    goals::{self, Verdict},
    load::{Load, Metric, Sample},
    machine::Machine,
    peer::FLOORS,
    plot,
    statistics::Summary,
    table,
};

/// Who took part.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Party {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) mtls: bool,
}

/// A peer with a load and a number of workers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) load: Load,
    pub(crate) workers: u16,
    pub(crate) peer: String,
    /// Each repetition, in order.
    pub(crate) samples: BTreeMap<Metric, Vec<f64>>,
    pub(crate) summary: BTreeMap<Metric, Summary>,
    /// What was negotiated between the two proxies, where the peer says so.
    pub(crate) negotiated: String,
    pub(crate) failures: Vec<String>,
}

impl Cell {
    pub(crate) fn new(load: Load, workers: u16, peer: &str) -> Self {
        Self {
            load,
            workers,
            peer: peer.into(),
            samples: BTreeMap::new(),
            summary: BTreeMap::new(),
            negotiated: String::new(),
            failures: Vec::new(),
        }
    }

    /// A repetition that could not be measured. The same reason is told once.
    pub(crate) fn fail(&mut self, why: &str) {
        if !self.failures.iter().any(|known| known == why) {
            self.failures.push(why.into());
        }
    }

    /// Adds a repetition.
    pub(crate) fn add(&mut self, sample: &Sample, negotiated: String) {
        for (metric, value) in sample {
            let values = self.samples.entry(*metric).or_default();
            values.push(*value);
            if let Some(summary) = Summary::of(values.iter().copied()) {
                self.summary.insert(*metric, summary);
            }
        }
        self.negotiated = negotiated;
    }
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Method {
    pub(crate) load_program: String,
    pub(crate) repetitions: u32,
    pub(crate) seconds: u32,
    pub(crate) idle_connections: u32,
}

/// The whole of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) method: Method,
    pub(crate) parties: Vec<Party>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) goals: Vec<Verdict>,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        machine: Machine,
        parties: Vec<Party>,
        load_program: String,
        cells: Vec<Cell>,
    ) -> Self {
        let mut report = Self {
            date: OffsetDateTime::now_utc()
                .truncate_to_second()
                .format(&Rfc3339)
                .unwrap_or_default(),
            machine,
            method: Method {
                load_program,
                repetitions: options.repetitions(),
                seconds: options.seconds(),
                idle_connections: options.idle_connections(),
            },
            parties,
            cells,
            goals: Vec::new(),
        };
        report.goals = goals::judge(&report);
        report
    }

    /// A cell's summary.
    pub(crate) fn summary(
        &self,
        load: Load,
        workers: u16,
        peer: &str,
        metric: Metric,
    ) -> Option<Summary> {
        let cell = self
            .cells
            .iter()
            .find(|cell| (cell.load, cell.workers, cell.peer.as_str()) == (load, workers, peer))?;
        cell.summary.get(&metric).copied()
    }

    /// A cell's median.
    pub(crate) fn median(
        &self,
        load: Load,
        workers: u16,
        peer: &str,
        metric: Metric,
    ) -> Option<f64> {
        let summary = self.summary(load, workers, peer, metric)?;
        Some(summary.median)
    }

    /// The median of the best plain copy of the run.
    pub(crate) fn floor(&self, load: Load, workers: u16, metric: Metric) -> Option<f64> {
        let medians = FLOORS
            .iter()
            .filter_map(|peer| self.median(load, workers, peer, metric));
        medians.reduce(if metric.less_is_better() {
            f64::min
        } else {
            f64::max
        })
    }

    /// What could not be measured, and why.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.cells.iter().flat_map(|cell| {
            cell.failures.iter().map(|why| {
                format!(
                    "{}, {}, workers {}: {why}",
                    cell.load.name(),
                    cell.peer,
                    cell.workers
                )
            })
        })
    }

    /// Writes `result.json`, `table.md` and the plots into a folder.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        let json = serde_json::to_string_pretty(self)?;
        write("result.json", &(json + "\n"))?;
        write("table.md", &table::markdown(self))?;
        for (name, svg) in plot::plots(self) {
            write(&format!("{name}.svg"), &svg)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod sample {
    //! A small report to draw.

    use super::*;

    pub(crate) fn report() -> Report {
        let cell = |load, peer: &str, values: &[(Metric, [f64; 3])]| {
            let mut cell = Cell::new(load, 1, peer);
            for index in 0..3 {
                let sample = values.iter().map(|(metric, all)| (*metric, all[index]));
                cell.add(&sample.collect(), "TLSv1.3 X25519 <C>".into());
            }
            cell
        };
        let stream = |peer: &str, rate: [f64; 3], cpu: [f64; 3]| {
            let values = [(Metric::Rate, rate), (Metric::CpuPerGigabyte, cpu)];
            cell(Load::Stream, peer, &values)
        };
        let mut failed = Cell::new(Load::Connect, 1, "envoy");
        failed.failures.push("it ended".into());
        let machine = Machine {
            kernel: "Linux".into(),
            cpu: "A & B".into(),
            cores: 2,
            cpu_flags: vec!["vaes".into(), "avx512f".into()],
            memory_gib: 24.0,
            congestion_control: "cubic".into(),
            load_average: 0.0,
            aead: Vec::new(),
        };
        let party = |name: &str| Party {
            name: name.into(),
            version: "1".into(),
            mtls: true,
        };
        let mut report = Report {
            date: "2026-01-01T00:00:00Z".into(),
            machine,
            method: Method {
                load_program: "test".into(),
                repetitions: 3,
                seconds: 1,
                idle_connections: 1,
            },
            parties: ["floor 1 MiB", "floor 256 KiB", "sekisho", "envoy"]
                .map(party)
                .into(),
            cells: vec![
                stream("floor 1 MiB", [30.0, 31.0, 29.0], [0.30, 0.31, 0.29]),
                stream("floor 256 KiB", [28.0, 27.0, 28.0], [0.28, 0.28, 0.28]),
                stream("sekisho", [20.0, 22.0, 21.0], [0.40, 0.42, 0.41]),
                stream("envoy", [10.0, 10.0, 10.5], [0.90, 0.80, 0.82]),
                failed,
            ],
            goals: Vec::new(),
        };
        report.goals = goals::judge(&report);
        report
    }

    #[test]
    fn the_floor_is_the_best_copy_of_each_metric() {
        let report = report();
        assert_eq!(report.floor(Load::Stream, 1, Metric::Rate), Some(30.0));
        assert_eq!(
            report.floor(Load::Stream, 1, Metric::CpuPerGigabyte),
            Some(0.28)
        );
        assert_eq!(report.floor(Load::Stream, 2, Metric::Rate), None);
    }

    #[test]
    fn goals_are_judged_by_ratios_of_medians() {
        let report = report();
        let [rate, cpu, ..] = report.goals.as_slice() else {
            panic!("goals are missing")
        };
        assert_eq!(rate.goal, "stream: Gb/s ≥ 1.8 × Envoy's");
        assert_eq!((rate.found, rate.reached), (Some(2.1), Some(true)));
        assert_eq!((cpu.found, cpu.reached), (Some(0.41 / 0.82), Some(true)));
        let unmeasured = report.goals.iter().filter(|goal| goal.reached.is_none());
        assert!(unmeasured.count() > 5);
    }
}
