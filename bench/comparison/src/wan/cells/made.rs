//! The cells, group by group.

use super::{CEILING, Cell, Contender, DIRECT, Group, Line, PAPER, Setting, Through};

/// The cells of these groups, in order.
pub(in crate::wan) fn cells(groups: &[Group], distances: &[f64], quick: bool) -> Vec<Cell> {
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
pub(in crate::wan) fn distances(given: &[f64], quick: bool) -> Vec<f64> {
    match (given.is_empty(), quick) {
        (false, _) => given.to_vec(),
        (true, true) => vec![22.0],
        (true, false) => PAPER.iter().map(|(far, ..)| *far).collect(),
    }
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
}
