//! The line between the two namespaces: `sekisho bench wan`.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::{
    cells::Line,
    ground::{End, Ground},
};
use crate::child::{Program, Running};

/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What all chance comes from: the same in every cell.
const SEED: &str = "1";

/// A running emulator.
#[derive(Debug)]
pub(super) struct Emulator {
    pub(super) running: Running,
}

/// What it says of itself at its end, in the stream's direction unless something else is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Told {
    /// Something was dropped that no line would have dropped.
    pub(super) is_limit: bool,
    /// One of a hundred packets left more than a millisecond late.
    pub(super) is_late: bool,
    /// Whether it ran at real-time priority.
    pub(super) real_time: bool,
    pub(super) packets: u64,
    pub(super) queue_full: u64,
    pub(super) lost: u64,
    /// Both directions.
    pub(super) not_read_in_time: u64,
    /// Both directions.
    pub(super) memory_full: u64,
}

impl Emulator {
    /// Starts it between the two.
    pub(super) fn start(
        sekisho: &Path,
        ground: &Ground,
        line: &Line,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let between = format!("{},{}", ground.name(End::Near), ground.name(End::Far));
        let mut program = Program::new(
            sekisho,
            &[
                "bench",
                "wan",
                "--json",
                "--seed",
                SEED,
                "--between",
                &between,
            ],
        );
        program.arguments.extend(line.arguments());
        let mut running = Running::start(&program, &folder.join("emulator.log"))?;
        running
            .until("a line", |running| {
                running.log().contains("\"event\":\"start\"")
            })
            .context("sekisho bench wan")?;
        Ok(Self { running })
    }

    /// Ends it, and reads what it says.
    pub(super) fn end(mut self) -> anyhow::Result<Told> {
        self.running.end(PATIENCE).context("sekisho bench wan")?;
        let log = self.running.log();
        told(&log).with_context(|| format!("sekisho bench wan says no counters: {}", log.trim()))
    }
}

/// What it says, from its last line.
fn told(log: &str) -> Option<Told> {
    let mut documents = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let is_end = |one: &Value| one.get("event").is_some_and(|event| event == "end");
    let end = documents.rfind(is_end)?;
    let flag = |name: &str| end.get(name)?.as_bool();
    let forward = |name: &str| end.pointer(&format!("/forward/{name}"))?.as_u64();
    // Of a device that is gone nothing is known.
    let both = |name: &str| {
        let back = end
            .pointer(&format!("/back/{name}"))
            .and_then(Value::as_u64);
        forward(name).unwrap_or_default() + back.unwrap_or_default()
    };
    Some(Told {
        is_limit: flag("emulator_is_limit")?,
        is_late: flag("emulator_is_late")?,
        real_time: flag("real_time")?,
        packets: forward("packets")?,
        queue_full: forward("queue_full")?,
        lost: forward("lost")?,
        not_read_in_time: both("not_read_in_time"),
        memory_full: both("memory_full"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_the_emulator_count() {
        let log = "{\"event\":\"start\"}\n{\"event\":\"counters\"}\nnot JSON\n\
            {\"event\":\"end\",\"emulator_is_limit\":true,\"emulator_is_late\":false,\
            \"real_time\":true,\
            \"forward\":{\"packets\":9,\"queue_full\":1,\"lost\":2,\"memory_full\":3,\
            \"not_read_in_time\":4},\"back\":{\"memory_full\":0,\"not_read_in_time\":5}}\n";
        let expected = Told {
            is_limit: true,
            is_late: false,
            real_time: true,
            packets: 9,
            queue_full: 1,
            lost: 2,
            not_read_in_time: 9,
            memory_full: 3,
        };
        assert_eq!(told(log), Some(expected));
        assert_eq!(told("{\"event\":\"start\"}\n"), None);
    }
}
