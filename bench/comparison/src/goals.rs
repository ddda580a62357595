//! What sekisho must reach, and whether this run shows it.

use serde::Serialize;

use crate::{
    aead,
    load::{Load, Metric},
    peer::{ENVOY, SEKISHO},
    report::Report,
    statistics::ratio,
};

/// AES-GCM of one core from which on crypto is no excuse, in GB/s.
const FAST: f64 = 15.0;

/// What a goal is held against.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// The number itself.
    Absolute,
    /// Envoy with a load, which may be another one.
    Envoy(Load),
    /// The best plain copy.
    Floor,
}

/// A goal, and what the run says of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) goal: String,
    /// The ratio of medians, or the number itself.
    pub(crate) found: Option<f64>,
    /// `None` where it was not measured.
    pub(crate) reached: Option<bool>,
}

struct Goal {
    load: Load,
    metric: Metric,
    against: Against,
    bound: f64,
}

/// Judges a report, with one worker.
pub(crate) fn judge(report: &Report) -> Vec<Verdict> {
    let goals = goals(report);
    goals.iter().map(|goal| goal.judge(report)).collect()
}

fn goals(report: &Report) -> Vec<Goal> {
    use Against::{Absolute, Envoy, Floor};
    let (rate, cpu) = if report.machine.is_wide() {
        (1.8, 0.5)
    } else {
        (1.6, 0.55)
    };
    let goal = |load, metric, against, bound| Goal {
        load,
        metric,
        against,
        bound,
    };
    let mut goals = Vec::new();
    for load in [Load::Stream, Load::Streams8, Load::Reverse, Load::Bidir] {
        goals.push(goal(load, Metric::Rate, Envoy(load), rate));
        goals.push(goal(load, Metric::CpuPerGigabyte, Envoy(load), cpu));
        if aead::best(&report.machine.aead) >= FAST {
            goals.push(goal(load, Metric::Rate, Floor, 0.75));
            goals.push(goal(load, Metric::CpuPerGigabyte, Floor, 1.5));
        }
    }
    for (load, bound) in [(Load::Connect, 0.6), (Load::Resume, 0.4)] {
        // Both against full handshakes.
        goals.push(goal(
            load,
            Metric::CpuPerConnection,
            Envoy(Load::Connect),
            bound,
        ));
    }
    for load in [Load::Rr16, Load::Rr128] {
        goals.push(goal(load, Metric::RequestsPerCpu, Envoy(load), 1.5));
        goals.push(goal(load, Metric::P99, Envoy(load), 1.0));
    }
    goals.push(goal(Load::Idle, Metric::IdleFront, Absolute, 8.0));
    goals.push(goal(Load::Idle, Metric::IdleBack, Absolute, 8.0));
    goals.push(goal(Load::Startup, Metric::EmptyFront, Absolute, 12.0));
    goals.push(goal(Load::Startup, Metric::EmptyBack, Absolute, 12.0));
    goals.push(goal(Load::Startup, Metric::StartUp, Absolute, 100.0));
    goals
}

impl Goal {
    fn judge(&self, report: &Report) -> Verdict {
        let own = report.median(self.load, 1, SEKISHO, self.metric);
        let (found, against) = match self.against {
            Against::Absolute => (own, String::new()),
            Against::Envoy(load) => {
                let other = report.median(load, 1, ENVOY, self.metric);
                let name = if load == self.load {
                    " × Envoy's".to_owned()
                } else {
                    format!(" × Envoy's with {}", load.name())
                };
                (
                    own.zip(other).and_then(|(one, other)| ratio(one, other)),
                    name,
                )
            }
            Against::Floor => {
                let other = report.floor(self.load, 1, self.metric);
                let found = own.zip(other).and_then(|(one, other)| ratio(one, other));
                (found, " × the floor's".to_owned())
            }
        };
        let (sign, holds) = if self.metric.less_is_better() {
            ('≤', found.map(|found| found <= self.bound))
        } else {
            ('≥', found.map(|found| found >= self.bound))
        };
        Verdict {
            goal: format!(
                "{}: {} {sign} {}{against}",
                self.load.name(),
                self.metric.title(),
                self.bound
            ),
            found,
            reached: holds,
        }
    }
}
