//! What is shown of it all: lines, tables, one JSON document.

use serde_json::{Value, json};

use super::{rotation::Rotation, sites::prototype_lines};
use crate::output::{self, Colour, paint};

/// One flow that was tried.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) what: String,
    pub(super) expected: &'static str,
    pub(super) outcome: &'static str,
    /// By the access log of the side that decided.
    pub(super) reason: Option<String>,
    pub(super) wanted_reason: Option<&'static str>,
    /// Who it was, verified or claimed.
    pub(super) peer: Option<String>,
    pub(super) bits_per_second: Option<f64>,
    pub(super) direct_bits_per_second: Option<f64>,
    pub(super) congestion: Option<String>,
    /// Connections that the refused attempt made the service accept.
    pub(super) upstream_connections: Option<usize>,
    /// What came of the same client with only that defect removed.
    pub(super) without_defect: Option<&'static str>,
}

impl Flow {
    /// Whether all that was expected of it is so.
    pub(super) fn held(&self) -> bool {
        self.outcome == self.expected
            && self.reason.as_deref() == self.wanted_reason
            && self.upstream_connections.is_none_or(|count| count == 0)
            && self
                .without_defect
                .is_none_or(|outcome| outcome == "allowed")
    }

    /// What was not as expected.
    fn complaints(&self) -> Vec<String> {
        let mut list = Vec::new();
        if self.outcome != self.expected {
            list.push(format!("was {}", self.outcome));
        }
        if self.reason.as_deref() != self.wanted_reason {
            let wanted = self.wanted_reason.unwrap_or("none");
            let found = self.reason.as_deref().unwrap_or("none");
            list.push(format!("reason {found}, not {wanted}"));
        }
        if let Some(count @ 1..) = self.upstream_connections {
            list.push(format!("the service accepted {count} connections"));
        }
        if let Some(outcome) = self.without_defect
            && outcome != "allowed"
        {
            list.push(format!("{outcome} without the defect too"));
        }
        list
    }

    fn json(&self) -> Value {
        json!({
            "from": self.from,
            "to": self.to,
            "what": self.what,
            "expected": self.expected,
            "outcome": self.outcome,
            "reason": self.reason,
            "peer": self.peer,
            "bits_per_second": self.bits_per_second,
            "direct_bits_per_second": self.direct_bits_per_second,
            "congestion_control": self.congestion,
            "upstream_connections": self.upstream_connections,
            "without_defect": self.without_defect,
        })
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ok: bool,
    pub(super) flows: Vec<Flow>,
    pub(super) rotation: Rotation,
    pub(super) lines: Vec<(&'static str, usize)>,
}

fn gigabits(bits: Option<f64>) -> String {
    bits.map_or_else(|| "-".into(), |bits| format!("{:.2}", bits / 1e9))
}

/// A flow's line while the scenario plays.
pub(super) fn flow_line(flow: &Flow) -> String {
    let colour = output::colour_out();
    let mark = if flow.held() {
        paint("ok", Colour::Green, colour)
    } else {
        let complaints = format!("NOT AS EXPECTED: {};", flow.complaints().join(", "));
        paint(complaints, Colour::Red, colour)
    };
    let way = format!("{} -> {}", flow.from, flow.to);
    if flow.expected == "allowed" {
        return format!(
            "  {mark}  {way:<20} {} Gb/s, as {}",
            gigabits(flow.bits_per_second),
            flow.peer.as_deref().unwrap_or("nobody")
        );
    }
    let reason = flow.reason.as_deref().unwrap_or("no reason");
    format!("  {mark}  {way:<20} {reason:<21} {}", flow.what)
}

/// The rotation's line.
pub(super) fn rotation_line(rotation: &Rotation) -> String {
    let mark = if rotation.held() {
        paint("ok", Colour::Green, output::colour_out())
    } else {
        let complaints = format!("NOT AS EXPECTED: {};", rotation.complaints.join(", "));
        paint(complaints, Colour::Red, output::colour_out())
    };
    format!(
        "  {mark}  {} connections held and {} new ones, {} SVIDs rotated, {} policies reloaded, \
         {} broken; {} cut by a policy that denies",
        rotation.connections,
        rotation.new_connections,
        rotation.rotations,
        rotation.reloads,
        rotation.broken,
        rotation.cut_by_policy
    )
}

impl Outcome {
    /// The document of `--json`.
    pub(super) fn json(&self) -> Value {
        let lines: serde_json::Map<String, Value> = self
            .lines
            .iter()
            .map(|(site, lines)| ((*site).to_owned(), (*lines).into()))
            .collect();
        json!({
            "ok": self.ok,
            "flows": self.flows.iter().map(Flow::json).collect::<Vec<_>>(),
            "rotation": {
                "connections": self.rotation.connections,
                "rotations": self.rotation.rotations,
                "reloads": self.rotation.reloads,
                "broken": self.rotation.broken,
                "new_connections": self.rotation.new_connections,
                "cut_by_policy": self.rotation.cut_by_policy,
                "complaints": self.rotation.complaints,
            },
            "configuration_lines": lines,
        })
    }

    /// The two tables of the paper.
    pub(super) fn tables(&self) -> String {
        let mut text = String::from("\nThroughput of one stream (the paper's Table 2), Gb/s\n\n");
        let head = ["flow", "direct", "sekisho", "paper: direct", "paper: Envoy"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        // Loopback here, 10 to 40 Gb/s links and default TCP windows there.
        let paper = |flow: &Flow| match (flow.from.as_str(), flow.to.as_str()) {
            ("hokkaido", "tokyo") => ("1.63", "1.60"),
            ("osaka", "hokkaido") => ("1.16", "1.13"),
            _ => ("0.817", "0.812"),
        };
        for flow in self.flows.iter().filter(|flow| flow.expected == "allowed") {
            let (direct, envoy) = paper(flow);
            rows.push(vec![
                format!("{} -> {}", flow.from, flow.to),
                gigabits(flow.direct_bits_per_second),
                gigabits(flow.bits_per_second),
                direct.into(),
                envoy.into(),
            ]);
        }
        text.push_str(&output::table(&rows));
        let congestion = self.flows.iter().find_map(|flow| flow.congestion.clone());
        if let Some(congestion) = congestion {
            text.push_str(&format!(
                "(loopback, congestion control {congestion}; the paper's links were limited by the TCP window)\n"
            ));
        }
        text.push_str("\nConfiguration lines (the paper's Table 3), policy included\n\n");
        let head = ["site", "sekisho", "prototype"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let mut sum = (0, 0);
        for (site, lines) in &self.lines {
            let theirs = prototype_lines(site);
            sum = (sum.0 + lines, sum.1 + theirs);
            rows.push(vec![(*site).into(), lines.to_string(), theirs.to_string()]);
        }
        rows.push(vec!["all".into(), sum.0.to_string(), sum.1.to_string()]);
        text.push_str(&output::table(&rows));
        let verdict = if self.ok {
            "\nEverything was as expected."
        } else {
            "\nNOT everything was as expected."
        };
        let tint = if self.ok { Colour::Green } else { Colour::Red };
        text.push_str(&paint(verdict, tint, output::colour_out()));
        text
    }
}
