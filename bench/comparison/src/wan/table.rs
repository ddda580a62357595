//! A report in Markdown.

use super::{
    cells::Group,
    pair::WORKERS,
    report::{Found, Measured, Report, Row},
    seen::Seen,
};
use crate::table::aligned;

/// The whole report.
pub(super) fn markdown(report: &Report) -> String {
    let mut text = format!("Measured {}\n\n", report.date);
    for line in report.machine.lines() {
        text.push_str(&format!("- {line}\n"));
    }
    let [receive, send] = report.socket_limits;
    text.push_str(&format!(
        "- {}; {WORKERS} worker each, embedded identities, mTLS, a policy at both ends\n\
         - load: one stream of {}, {} s, counted by its receiver; Gb/s: the median of the seconds after \
         the first {:.1}, and the mean of all\n\
         - both namespaces: cubic, tcp_rmem 4096 131072 6291456, tcp_wmem 4096 16384 4194304 (of 64 MiB \
         where it says so); of the host rmem_max {receive}, wmem_max {send}; bbr is allowed to everybody only \
         where it says so\n\
         - CPU is user and system time, in cores: of both sekishos, and of the emulator\n",
        report.sekisho, report.load_program, report.seconds, report.warm_up
    ));
    for cell in &report.cells {
        text.push_str(&section(cell));
    }
    text.push_str(&goals(report));
    text
}

fn section(cell: &Measured) -> String {
    let line = cell.cell.line.text();
    let mut text = format!("\n### {}: {line}\n\n", cell.name);
    if let Some((rate, place)) = cell.cell.paper() {
        text.push_str(&format!(
            "The four-site paper, direct, to {place}: {rate} Gb/s.\n\n"
        ));
    }
    let columns = columns(cell);
    let mut rows = vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect()];
    let cells = |row: &Row| columns.iter().map(|(_, of)| of(row)).collect();
    rows.extend(cell.rows.iter().map(cells));
    text.push_str(&aligned(&rows));
    for row in &cell.rows {
        if let Some(why) = &row.failure {
            text.push_str(&format!(
                "\n{} was not measured: {why}\n",
                row.contender.name
            ));
        }
    }
    text
}

/// A heading, and what stands below it.
type Column = (&'static str, fn(&Row) -> String);

fn columns(cell: &Measured) -> Vec<Column> {
    let mut all: Vec<Column> = vec![
        ("through", |row| row.contender.name.clone()),
        ("Gb/s", |row| {
            of(row, |it| Some(format!("{:.3}", it.rates.steady)))
        }),
        ("mean", |row| {
            of(row, |it| Some(format!("{:.3}", it.rates.mean)))
        }),
    ];
    if cell.cell.beside {
        all.push(("beside it, Gb/s", |row| {
            of(row, |it| {
                let beside = it.beside.as_ref()?;
                Some(format!("{:.3}", beside.steady))
            })
        }));
        all.push(("share", |row| told(row.share)));
    } else {
        all.push(("× direct", |row| told(row.times_direct)));
    }
    match cell.cell.group {
        Group::Paper => all.push(("of the ceiling", |row| told(row.of_ceiling))),
        Group::Loss => all.push(("of the line", |row| told(row.of_line))),
        Group::Fair => {}
    }
    all.extend([
        (
            "connections",
            (|row| of(row, connections)) as fn(&Row) -> String,
        ),
        ("congestion, send buffer", |row| of(row, congestion)),
        ("CPU, sekisho", |row| {
            of(row, |it| Some(format!("{:.2}", it.cpu_proxies?)))
        }),
        ("CPU, emulator", |row| {
            of(row, |it| Some(format!("{:.2}", it.cpu_emulator)))
        }),
        ("emulator the limit", |row| of(row, |it| Some(limit(it)))),
        ("load before", |row| {
            of(row, |it| Some(format!("{:.1}", it.load_average)))
        }),
    ]);
    all
}

fn of(row: &Row, what: impl Fn(&Found) -> Option<String>) -> String {
    let text = row.found.as_ref().and_then(what);
    text.unwrap_or_else(|| "-".into())
}

fn told(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
}

/// Lanes, or the one connection of plain TLS.
fn connections(found: &Found) -> Option<String> {
    let lanes = found.lanes()?;
    if !found.seen.iter().any(|seen| seen.has_lanes) {
        return Some("plain TLS".into());
    }
    let (min, max) = (lanes.min, lanes.max);
    Some(if min < max {
        format!("{:.0} ({min:.0} - {max:.0})", lanes.median)
    } else {
        format!("{max:.0}")
    })
}

/// What sekisho sends with, over the line.
fn congestion(found: &Found) -> Option<String> {
    let Seen {
        congestion,
        send_buffer,
        ..
    } = found.seen.last()?;
    let name = congestion.as_deref()?;
    let buffer = send_buffer.map(|bytes| bytes as f64 / f64::from(1 << 20));
    Some(buffer.map_or_else(|| name.to_owned(), |size| format!("{name}, {size:.0} MiB")))
}

fn limit(found: &Found) -> String {
    let told = &found.emulator;
    let mut all = Vec::new();
    if told.is_limit {
        all.push(format!(
            "**yes**: {} packets not read in time, {} without memory",
            told.not_read_in_time, told.memory_full
        ));
    }
    if told.is_late {
        all.push("late".to_owned());
    }
    if all.is_empty() {
        "no".into()
    } else {
        all.join(", ")
    }
}

fn goals(report: &Report) -> String {
    let mut rows = vec![["goal", "found", "reached"].map(str::to_owned).to_vec()];
    for verdict in &report.goals {
        if let Some(reached) = verdict.reached {
            let word = if reached { "yes" } else { "**no**" };
            rows.push(vec![
                verdict.goal.clone(),
                verdict.found.clone(),
                word.to_owned(),
            ]);
        }
    }
    if rows.len() == 1 {
        return String::new();
    }
    format!("\n### Goals\n\n{}", aligned(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wan::report::sample;

    fn row<'a>(text: &'a str, section: &str, name: &str) -> Vec<&'a str> {
        let start = text.find(&format!("### {section}")).unwrap();
        let line = text[start..].lines().find(|line| {
            let mut words = line.split('|').map(str::trim);
            words.nth(1) == Some(name)
        });
        line.unwrap_or_else(|| panic!("{section}, {name}: {text}"))
            .split('|')
            .map(str::trim)
            .collect()
    }

    #[test]
    fn a_row_has_rates_ratios_and_what_was_chosen() {
        let text = markdown(&sample::report());
        let lanes = row(&text, "paper, 15.7 ms", "sekisho as nobody, lanes auto");
        let expected = [
            "3.000", "1.500", "1.88", "0.50", "6", "cubic", "1.25", "0.50", "no", "1.0",
        ];
        assert_eq!(&lanes[2..12], expected);
        let plain = row(&text, "paper, 22 ms", "sekisho as root, lanes 1");
        assert_eq!(&plain[6..8], ["plain TLS", "bbr"]);
        let direct = row(&text, "loss", "direct");
        assert_eq!(&direct[4..9], ["1.00", "0.10", "-", "-", "-"]);
        assert!(text.contains("direct, to Tokyo: 1.63 Gb/s"));
    }

    #[test]
    fn beside_another_a_row_has_the_share() {
        let text = markdown(&sample::report());
        let four = row(
            &text,
            "fair",
            "sekisho as nobody, lanes 4, cubic, bbr allowed",
        );
        assert_eq!(&four[2..6], ["1.500", "0.750", "0.500", "0.75"]);
        let limit = "**yes**: 3 packets not read in time, 1 without memory, late";
        assert_eq!(four[10], limit);
    }

    #[test]
    fn what_failed_and_what_was_reached_is_told() {
        let text = markdown(&sample::report());
        assert!(text.contains("\nsekisho as root, lanes auto was not measured: "));
        let goal = row(
            &text,
            "Goals",
            "loss, without, bbr not allowed: lanes: ≥ 0.6 of the line",
        );
        assert_eq!(&goal[2..4], ["0.55", "**no**"]);
    }
}
