//! What is measured: lines, and who sends over each of them in turn.

use clap::ValueEnum;
use serde::Serialize;

/// The prototype's round trips in milliseconds, and what one stream got there on lines of 10 to 40
/// Gb/s (Table 2 of the four-site paper, direct).
pub(super) const PAPER: [(f64, f64, &str); 3] = [
    (15.7, 1.63, "Tokyo"),
    (22.0, 1.16, "Osaka"),
    (31.2, 0.82, "Kyushu"),
];

/// Several cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Group {
    /// Three distances without loss
    Paper,
    /// A loss of 0.01 %
    Loss,
    /// Beside a direct stream
    Fair,
}

impl Group {
    pub(super) const ALL: [Self; 3] = [Self::Paper, Self::Loss, Self::Fair];
}

/// What the emulator is asked for, the same for all contenders of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    /// Milliseconds, both ways together.
    pub(super) round_trip: f64,
    /// Gb/s, each way. The queue is what `sekisho bench wan` takes: what comes in a round trip.
    pub(super) rate: u32,
    /// Per cent of the packets in the stream's direction.
    pub(super) loss: f64,
}

impl Line {
    /// For `sekisho bench wan`.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut all = vec![
            "--rtt".to_owned(),
            format!("{}ms", self.round_trip),
            "--rate".to_owned(),
            format!("{}G", self.rate),
        ];
        if self.loss > 0.0 {
            all.extend([
                "--loss".into(),
                format!("{}%", self.loss),
                "--one-way".into(),
            ]);
        }
        all
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let loss = if self.loss > 0.0 {
            format!(
                "{} % of the packets lost in the stream's direction",
                self.loss
            )
        } else {
            "no loss".to_owned()
        };
        format!(
            "round trip {} ms, {} Gb/s, {loss}, MTU 1500",
            self.round_trip, self.rate
        )
    }
}

/// What sekisho's `path` says, and as whom it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    /// As root; else as nobody, without any capability.
    pub(super) privileged: bool,
    pub(super) lanes: &'static str,
    pub(super) congestion: &'static str,
}

/// What the stream goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Through {
    /// Nothing; with Linux's default buffers, or of 64 MiB.
    Direct {
        large: bool,
        congestion: &'static str,
    },
    /// Two sekishos.
    Sekisho(Setting),
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Contender {
    pub(super) name: String,
    pub(super) through: Through,
    /// Whether everybody may choose bbr.
    pub(super) bbr_allowed: bool,
}

impl Contender {
    /// Whether it matters what every process may choose: not to root, nor to a sender that asks for
    /// nothing.
    pub(super) fn is_restricted(&self) -> bool {
        matches!(self.through, Through::Sekisho(Setting { privileged, .. }) if !privileged)
    }
}

/// A line, and who sends over it in turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Cell {
    pub(super) group: Group,
    pub(super) line: Line,
    /// A direct stream, with cubic and default buffers, runs beside each of them.
    pub(super) beside: bool,
    pub(super) contenders: Vec<Contender>,
}

/// The name of the one that the others are compared with.
pub(super) const DIRECT: &str = "direct";
/// The name of the one that shows what one TCP stream can get here.
pub(super) const CEILING: &str = "direct, 64 MiB buffers";

impl Cell {
    /// For people.
    pub(super) fn name(&self) -> String {
        match self.group {
            Group::Paper => format!("paper, {} ms", self.line.round_trip),
            Group::Loss => "loss".to_owned(),
            Group::Fair => "fair".to_owned(),
        }
    }

    /// Of its logs.
    pub(super) fn folder(&self) -> String {
        self.name().replace(", ", "-").replace(' ', "")
    }

    /// What the paper has of this distance: Gb/s, and where.
    pub(super) fn paper(&self) -> Option<(f64, &'static str)> {
        let found = PAPER
            .iter()
            .find(|(far, ..)| (far - self.line.round_trip).abs() < 0.05)?;
        (self.group == Group::Paper).then_some((found.1, found.2))
    }
}

/// The cells of these groups, in order.
pub(super) fn cells(groups: &[Group], distances: &[f64], quick: bool) -> Vec<Cell> {
    let mut all = Vec::new();
    for group in groups {
        match group {
            Group::Paper => all.extend(distances.iter().map(|far| paper(*far))),
            Group::Loss => all.push(loss()),
            Group::Fair => all.push(fair(quick)),
        }
    }
    all
}

/// The distances where none are given.
pub(super) fn distances(given: &[f64], quick: bool) -> Vec<f64> {
    match (given.is_empty(), quick) {
        (false, _) => given.to_vec(),
        (true, true) => vec![22.0],
        (true, false) => PAPER.iter().map(|(far, ..)| *far).collect(),
    }
}

/// Reads a round trip of the command line.
pub(super) fn round_trip(text: &str) -> Result<f64, String> {
    let found: Option<f64> = text.trim().parse().ok();
    found
        .filter(|far| (0.1..=1000.0).contains(far))
        .ok_or_else(|| "expected milliseconds from 0.1 to 1000, such as 22".to_owned())
}

fn direct(name: &str, large: bool, congestion: &'static str) -> Contender {
    Contender {
        name: name.to_owned(),
        through: Through::Direct { large, congestion },
        bbr_allowed: false,
    }
}

fn sekisho(
    privileged: bool,
    lanes: &'static str,
    congestion: &'static str,
    bbr_allowed: bool,
) -> Contender {
    let who = if privileged { "root" } else { "nobody" };
    let allowed = match (privileged, bbr_allowed) {
        (false, true) => ", bbr allowed",
        _ => "",
    };
    let congestion_word = match congestion {
        "auto" => String::new(),
        name => format!(", {name}"),
    };
    Contender {
        name: format!("sekisho as {who}, lanes {lanes}{congestion_word}{allowed}"),
        through: Through::Sekisho(Setting {
            privileged,
            lanes,
            congestion,
        }),
        bbr_allowed,
    }
}

fn paper(round_trip: f64) -> Cell {
    Cell {
        group: Group::Paper,
        line: Line {
            round_trip,
            rate: 10,
            loss: 0.0,
        },
        beside: false,
        contenders: vec![
            direct(DIRECT, false, "cubic"),
            direct(CEILING, true, "cubic"),
            sekisho(true, "1", "auto", false),
            sekisho(true, "auto", "auto", false),
            sekisho(false, "auto", "auto", false),
            sekisho(false, "4", "auto", false),
            sekisho(false, "1", "auto", false),
        ],
    }
}

fn loss() -> Cell {
    Cell {
        group: Group::Loss,
        line: Line {
            round_trip: 20.0,
            rate: 2,
            loss: 0.01,
        },
        beside: false,
        contenders: vec![
            direct(DIRECT, false, "cubic"),
            direct("direct, bbr, 64 MiB buffers", true, "bbr"),
            sekisho(true, "auto", "auto", false),
            sekisho(false, "auto", "auto", false),
            sekisho(false, "auto", "auto", true),
        ],
    }
}

fn fair(quick: bool) -> Cell {
    let mut contenders = vec![direct(DIRECT, false, "cubic")];
    for congestion in ["cubic", "bbr"] {
        let lanes: &[&'static str] = if quick {
            &["4"]
        } else {
            &["1", "4", "16", "auto"]
        };
        let with = |lanes: &&'static str| sekisho(false, lanes, congestion, true);
        contenders.extend(lanes.iter().map(with));
    }
    contenders.push(sekisho(true, "auto", "auto", false));
    Cell {
        group: Group::Fair,
        line: Line {
            round_trip: 20.0,
            rate: 2,
            loss: 0.0,
        },
        beside: true,
        contenders,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_its_cells_and_a_direct_stream_first() {
        let all = cells(&Group::ALL, &distances(&[], false), false);
        let names: Vec<_> = all.iter().map(Cell::name).collect();
        let far = ["paper, 15.7 ms", "paper, 22 ms", "paper, 31.2 ms"];
        assert_eq!(names, [&far[..], &["loss", "fair"]].concat());
        assert_eq!(all[0].folder(), "paper-15.7ms");
        for cell in &all {
            assert_eq!(cell.contenders[0].name, DIRECT);
            let mut names: Vec<_> = cell.contenders.iter().map(|one| &one.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), cell.contenders.len(), "{}", cell.name());
        }
        let paper: Vec<_> = all.iter().filter_map(Cell::paper).collect();
        assert_eq!(paper, [(1.63, "Tokyo"), (1.16, "Osaka"), (0.82, "Kyushu")]);
        assert_eq!(all[4].contenders.len(), 10);
    }

    #[test]
    fn quick_is_one_distance() {
        let all = cells(&Group::ALL, &distances(&[], true), true);
        assert_eq!(all.len(), 3);
        assert_eq!(all[2].contenders.len(), 4);
        assert_eq!(distances(&[5.0], true), [5.0]);
    }

    #[test]
    fn a_line_is_told_to_the_emulator() {
        let line = loss().line;
        let expected = "--rtt 20ms --rate 2G --loss 0.01% --one-way";
        assert_eq!(line.arguments().join(" "), expected);
        assert_eq!(
            paper(15.7).line.arguments().join(" "),
            "--rtt 15.7ms --rate 10G"
        );
    }

    #[test]
    fn a_round_trip_is_bounded() {
        assert_eq!(round_trip(" 15.7"), Ok(15.7));
        for wrong in ["", "0", "-1", "NaN", "inf", "22ms", "1001"] {
            assert!(round_trip(wrong).is_err(), "{wrong}");
        }
    }
}
