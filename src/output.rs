//! What people read: text, tables, colours only on a terminal.

use std::{
    fmt::Display,
    io::{IsTerminal as _, Write as _},
};

/// Prints a line on standard output. A reader that went away ends the output, not the program.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line on standard error.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints JSON, indented.
pub(crate) fn json(value: &serde_json::Value) {
    line(format_args!("{value:#}"));
}

/// Whether standard output is a terminal that wants colours.
pub(crate) fn colour_out() -> bool {
    std::io::stdout().is_terminal() && wants_colour()
}

/// Whether standard error is one.
pub(crate) fn colour_err() -> bool {
    std::io::stderr().is_terminal() && wants_colour()
}

/// <https://no-color.org>.
fn wants_colour() -> bool {
    crate::config::environment("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A colour, where there are any.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    Bold,
    Green,
    Red,
    Yellow,
}

/// `text` in a colour, if `on`.
pub(crate) fn paint(text: impl Display, colour: Colour, on: bool) -> String {
    if !on {
        return text.to_string();
    }
    let code = match colour {
        Colour::Bold => 1,
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// A table with aligned columns; the first row is its head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
        if index == 0 {
            let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&rule.join("  "));
            text.push('\n');
        }
    }
    text
}
