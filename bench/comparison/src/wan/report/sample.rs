//! A small report to draw and to judge.

use super::*;
use crate::wan::cells::{Group, cells};

pub(crate) fn found(steady: f64) -> Found {
    Found {
        rates: Rates {
            steady,
            mean: steady / 2.0,
            seconds: vec![steady],
        },
        beside: None,
        cpu_proxies: None,
        cpu_emulator: 0.5,
        emulator: Told::default(),
        seen: Vec::new(),
        load_average: 1.0,
    }
}

fn through(steady: f64, open: u64, congestion: &str) -> Found {
    Found {
        cpu_proxies: Some(1.25),
        seen: vec![Seen {
            open,
            has_lanes: open > 1,
            congestion: Some(congestion.into()),
            ..Seen::default()
        }],
        ..found(steady)
    }
}

pub(crate) fn report() -> Report {
    let all = cells(&Group::ALL, &[15.7, 22.0], true);
    let measured = all.iter().enumerate().map(|(index, cell)| {
        let outcomes = cell.contenders.iter().enumerate();
        let outcomes = outcomes.map(|(place, contender)| match (cell.group, place) {
            (Group::Paper, 0) => Ok(found([1.6, 1.2][index])),
            (Group::Paper, 1) => Ok(found(6.0)),
            (Group::Paper, 2) => Ok(through(5.0, 1, "bbr")),
            (Group::Paper, 4) => Ok(through(3.0, 6, "cubic")),
            (Group::Loss, 0) => Ok(found(0.2)),
            (Group::Loss, 2) => Ok(through(1.9, 1, "bbr")),
            (Group::Loss, 3) => Ok(through(1.1, 8, "cubic")),
            (Group::Fair, place) => {
                let mut found = match place {
                    0 => found(0.9),
                    _ => through(1.5, 4, "cubic"),
                };
                found.beside = Some(Rates {
                    steady: 0.5,
                    mean: 0.5,
                    seconds: Vec::new(),
                });
                found.emulator = Told {
                    is_limit: true,
                    is_late: true,
                    not_read_in_time: 3,
                    memory_full: 1,
                    ..Told::default()
                };
                Ok(found)
            }
            _ => Err(anyhow::anyhow!("{} & it <ended>", contender.name)),
        });
        Measured::new(cell, outcomes.collect())
    });
    let mut report = Report {
        date: "2026-01-01T00:00:00Z".into(),
        machine: Machine {
            kernel: "Linux".into(),
            cpu: "A & B".into(),
            cores: 2,
            cpu_flags: Vec::new(),
            memory_gib: 24.0,
            congestion_control: "cubic".into(),
            load_average: 0.0,
            aead: Vec::new(),
        },
        socket_limits: [212_992, 4_194_304],
        sekisho: "sekisho 1".into(),
        load_program: "iperf 3".into(),
        seconds: 60,
        warm_up: 5.0,
        cells: Vec::new(),
        goals: Vec::new(),
    };
    measured.for_each(|cell| report.add(cell));
    report
}

#[test]
fn ratios_are_of_the_same_cell() {
    let report = report();
    let [far, farther, loss, fair] = report.cells.as_slice() else {
        panic!("four cells")
    };
    let row = |cell: &Measured, place: usize| cell.rows[place].clone();
    assert_eq!(row(far, 2).times_direct, Some(5.0 / 1.6));
    assert_eq!(row(farther, 2).times_direct, Some(5.0 / 1.2));
    assert_eq!(row(far, 2).of_ceiling, Some(5.0 / 6.0));
    assert_eq!(row(loss, 2).of_line, Some(0.95));
    assert_eq!(row(loss, 2).of_ceiling, None);
    assert_eq!(row(fair, 1).share, Some(0.75));
    assert_eq!(row(far, 2).share, None);
    let failed = row(far, 3);
    assert!(failed.found.is_none() && failed.times_direct.is_none());
    // Of each distance three, and of the loss two.
    assert_eq!(report.failures().count(), 8);
    assert_eq!((far.paper, loss.paper), (Some(1.63), None));
}

#[test]
fn the_document_has_rates_ratios_and_reasons() {
    let value = serde_json::to_value(report()).unwrap();
    let text = |at: &str| value.pointer(at).unwrap_or_else(|| panic!("{at}")).clone();
    assert_eq!(text("/cells/0/name"), "paper, 15.7 ms");
    assert_eq!(text("/cells/0/line/round_trip"), 15.7);
    assert_eq!(text("/cells/0/rows/0/found/rates/steady"), 1.6);
    assert_eq!(text("/cells/3/rows/1/share"), 0.75);
    assert!(
        text("/cells/0/rows/3/failure")
            .as_str()
            .unwrap()
            .contains("ended")
    );
}
