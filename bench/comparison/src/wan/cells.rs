//! What is measured: lines, and who sends over each of them in turn.

mod made;

use clap::ValueEnum;
use serde::Serialize;

pub(super) use self::made::{cells, distances};

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

/// Reads a round trip of the command line.
pub(super) fn round_trip(text: &str) -> Result<f64, String> {
    let found: Option<f64> = text.trim().parse().ok();
    found
        .filter(|far| (0.1..=1000.0).contains(far))
        .ok_or_else(|| "expected milliseconds from 0.1 to 1000, such as 22".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_to_the_emulator() {
        let line = cells(&[Group::Loss], &[], false)[0].line;
        let expected = "--rtt 20ms --rate 2G --loss 0.01% --one-way";
        assert_eq!(line.arguments().join(" "), expected);
        assert_eq!(
            cells(&[Group::Paper], &[15.7], false)[0]
                .line
                .arguments()
                .join(" "),
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
