//! What a long path should give, and whether it did in this run.

use serde::Serialize;

use super::{
    cells::{CEILING, Group, Setting, Through},
    report::{Measured, Row},
};

/// How far a direct stream may be from what it should be.
const NEAR: f64 = 0.15;
/// As many times as much as the direct stream.
const TIMES: f64 = 3.0;
/// Or so much of what one TCP stream gets here without a proxy.
const CEILING_PART: f64 = 0.95;
/// What a direct stream with Linux's default buffers should get: milliseconds and Gb/s.
const DIRECT_SHOULD: [(f64, f64); 3] = [(15.7, 1.6), (22.0, 1.2), (31.2, 0.9)];

/// A goal, and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    pub(super) goal: String,
    /// In words; empty where it was not measured.
    pub(super) found: String,
    /// `None`: it was not measured.
    pub(super) reached: Option<bool>,
}

/// Judges all that these cells can tell.
pub(super) fn judge(cells: &[Measured]) -> Vec<Verdict> {
    let mut all = Vec::new();
    for cell in cells {
        match cell.cell.group {
            Group::Paper => all.extend(paper(cell)),
            Group::Loss => all.extend(loss(cell)),
            // Shares are told; there is no goal.
            Group::Fair => {}
        }
    }
    all
}

fn paper(cell: &Measured) -> Vec<Verdict> {
    let mut all = Vec::new();
    let far = cell.cell.line.round_trip;
    let should = DIRECT_SHOULD.iter().find(|(at, _)| (at - far).abs() < 0.05);
    if let Some((_, should)) = should {
        let found = cell.steady(super::cells::DIRECT);
        all.push(Verdict {
            goal: format!("{far} ms, direct: {should} Gb/s within 15 %"),
            found: found.map_or_else(String::new, |found| format!("{found:.2} Gb/s")),
            reached: found.map(|found| (found / should - 1.0).abs() <= NEAR),
        });
    }
    let ways = [
        ("with privileges, no lanes", true, "1"),
        ("without, lanes", false, "auto"),
    ];
    for (who, privileged, lanes) in ways {
        let row = row(cell, privileged, lanes, false);
        let ratio = row.and_then(|row| row.times_direct);
        let part = row.and_then(|row| row.of_ceiling);
        let parts = part.map_or_else(String::new, |part| format!(", {part:.2} of the ceiling"));
        all.push(Verdict {
            goal: format!(
                "{far} ms, {who}: ≥ {TIMES} × direct, or ≥ {CEILING_PART} of \"{CEILING}\""
            ),
            found: ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} ×{parts}")),
            reached: ratio
                .map(|ratio| ratio >= TIMES || part.is_some_and(|part| part >= CEILING_PART)),
        });
    }
    all
}

fn loss(cell: &Measured) -> Vec<Verdict> {
    let ways = [
        ("with privileges: bbr", true, false, 0.9),
        ("without, bbr allowed", false, true, 0.9),
        ("without, bbr not allowed: lanes", false, false, 0.6),
    ];
    let judged = ways.map(|(who, privileged, bbr_allowed, least)| {
        let found = row(cell, privileged, "auto", bbr_allowed).and_then(|row| row.of_line);
        Verdict {
            goal: format!("loss, {who}: ≥ {least} of the line"),
            found: found.map_or_else(String::new, |found| format!("{found:.2}")),
            reached: found.map(|found| found >= least),
        }
    });
    judged.into()
}

fn row<'a>(
    cell: &'a Measured,
    privileged: bool,
    lanes: &str,
    bbr_allowed: bool,
) -> Option<&'a Row> {
    let is_it = |row: &&Row| match row.contender.through {
        Through::Sekisho(Setting {
            privileged: is,
            lanes: has,
            congestion: "auto",
        }) => is == privileged && has == lanes && row.contender.bbr_allowed == bbr_allowed,
        _ => false,
    };
    cell.rows.iter().find(is_it)
}

#[cfg(test)]
mod tests {
    use crate::wan::report::sample;

    #[test]
    fn each_goal_is_judged_by_its_own_row() {
        let goals = sample::report().goals;
        let found: Vec<_> = goals
            .iter()
            .map(|goal| (goal.found.as_str(), goal.reached))
            .collect();
        assert_eq!(
            found,
            [
                ("1.60 Gb/s", Some(true)),
                ("3.12 ×, 0.83 of the ceiling", Some(true)),
                ("1.88 ×, 0.50 of the ceiling", Some(false)),
                ("1.20 Gb/s", Some(true)),
                ("4.17 ×, 0.83 of the ceiling", Some(true)),
                ("2.50 ×, 0.50 of the ceiling", Some(false)),
                ("0.95", Some(true)),
                ("", None),
                ("0.55", Some(false)),
            ]
        );
    }
}
