//! Drafts as people and programs read them.

use sekisho_federation::directory::repository::{Changes, DraftState};
use serde_json::{Value, json};

use crate::output;

/// The first digits of a key's ID: enough to tell a handful apart.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn line(state: &DraftState) -> String {
    let mut text = format!("{} {}: ", state.role, state.version);
    if state.is_complete() {
        text.push_str("complete");
        return text;
    }
    let lacking = state.signatures.iter().filter(|one| !one.is_enough());
    let lacking = lacking.map(|one| {
        let open: Vec<&str> = one.open.iter().map(|id| short(id)).collect();
        format!(
            "{} of {} signatures of {}; may sign yet: {}",
            one.signed.len(),
            one.threshold,
            one.by,
            open.join(", ")
        )
    });
    text.push_str(&lacking.collect::<Vec<_>>().join("; "));
    text
}

/// As JSON.
pub(super) fn value(state: &DraftState) -> Value {
    json!({
        "role": state.role,
        "version": state.version,
        "complete": state.is_complete(),
        "signatures": state.signatures,
    })
}

/// How far drafts are, in lines. A directory of 256 bins has many that say the same: those are one line.
pub(super) fn lines(states: &[DraftState]) -> String {
    let mut lines = Vec::new();
    let mut bins: Vec<(String, usize)> = Vec::new();
    for state in states {
        if !state.role.starts_with("bin-") {
            lines.push(line(state));
            continue;
        }
        let (_, what) = {
            let line = line(state);
            let (head, what) = line.split_once(": ").unwrap_or(("", ""));
            (head.to_owned(), what.to_owned())
        };
        match bins.iter_mut().find(|(one, _)| *one == what) {
            Some((_, count)) => *count += 1,
            None => bins.push((what, 1)),
        }
    }
    lines.extend(
        bins.into_iter()
            .map(|(what, count)| format!("{count} bins: {what}")),
    );
    lines.join("\n")
}

/// What drafts would change, in lines: nothing of those that are the same for longer.
pub(super) fn changes(all: &[Changes]) -> String {
    let mut lines = Vec::new();
    for one in all {
        let each = one.changes.iter();
        lines.extend(each.map(|change| format!("{}: {change}", one.role)));
    }
    lines.join("\n")
}

/// Prints how far drafts are.
pub(super) fn show(states: &[DraftState], as_json: bool) {
    if as_json {
        output::json(&Value::Array(states.iter().map(value).collect()));
    } else if states.is_empty() {
        output::line("no drafts");
    } else {
        output::line(lines(states));
    }
}
