//! `sekisho status` and `sekisho connections`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sekisho_certs::{Clock as _, SystemClock};
use serde_json::Value;

use crate::{
    cli::{self, AdminArgs},
    fetch,
    output::{self, Colour, paint},
};

/// `sekisho status`.
pub(crate) fn status(args: &AdminArgs, json: bool) -> u8 {
    show(args, "/status", json, |document| {
        let colour = output::colour_out();
        let text = |name: &str| words(document.get(name));
        output::line(format_args!(
            "site {}, sekisho {}, pid {}, {} connections, {} reloads ({} refused)",
            text("site"),
            text("version"),
            text("pid"),
            text("connections"),
            words(document.pointer("/reloads/applied")),
            words(document.pointer("/reloads/refused")),
        ));
        if let Some(problem) = document.pointer("/reloads/problem").and_then(Value::as_str) {
            let problem = format!("the last reload was refused: {problem}");
            output::line(paint(problem, Colour::Red, colour));
        }
        let head = [
            "endpoint",
            "ready",
            "svid",
            "expires in",
            "rotations",
            "policy",
            "connections",
            "targets",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let endpoints = document.get("endpoints").and_then(Value::as_array);
        for endpoint in endpoints.into_iter().flatten() {
            rows.push(vec![
                words(endpoint.get("name")),
                words(endpoint.get("ready")),
                words(endpoint.pointer("/svid/id")),
                endpoint
                    .pointer("/svid/not_after")
                    .and_then(Value::as_u64)
                    .map_or_else(|| "-".into(), remaining),
                words(endpoint.pointer("/svid/rotations")),
                words(endpoint.get("policy_revision")),
                words(endpoint.get("connections")),
                targets(endpoint),
            ]);
        }
        output::line(output::table(&rows).trim_end());
        if let Some(federation) = document.get("federation").filter(|known| known.is_object()) {
            output::line(format_args!(
                "federation: {} other sites known, {} with their bundle here",
                words(federation.get("known")),
                words(federation.get("loaded")),
            ));
            if let Some(problem) = federation.get("problem").and_then(Value::as_str) {
                output::line(paint(problem, Colour::Yellow, colour));
            }
        }
        for endpoint in endpoints.into_iter().flatten() {
            if let Some(problem) = endpoint.get("problem").and_then(Value::as_str) {
                let line = format!("{}: {problem}", words(endpoint.get("name")));
                output::line(paint(line, Colour::Yellow, colour));
            }
        }
    })
}

/// `sekisho connections`.
pub(crate) fn connections(args: &AdminArgs, json: bool) -> u8 {
    show(args, "/connections", json, |document| {
        let head = [
            "id",
            "endpoint",
            "client",
            "upstream",
            "age",
            "to upstream",
            "to client",
            "state",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let list = document.get("connections").and_then(Value::as_array);
        for connection in list.into_iter().flatten() {
            let either = |first: &str, second: &str| {
                let first = connection.get(first).filter(|value| !value.is_null());
                words(first.or_else(|| connection.get(second)))
            };
            let age = connection.get("age_seconds").and_then(Value::as_f64);
            let relaying = connection.get("relaying").and_then(Value::as_bool);
            rows.push(vec![
                words(connection.get("id")),
                words(connection.get("endpoint")),
                either("client_id", "client_user"),
                either("upstream_id", "upstream"),
                age.map_or_else(|| "-".into(), |age| format!("{age:.1}s")),
                bytes(connection.get("bytes_to_upstream")),
                bytes(connection.get("bytes_to_client")),
                if relaying == Some(true) {
                    "relaying"
                } else {
                    "deciding"
                }
                .into(),
            ]);
        }
        output::line(output::table(&rows).trim_end());
    })
}

fn show(args: &AdminArgs, path: &str, json: bool, render: impl FnOnce(&Value)) -> u8 {
    match fetch::json(args, path) {
        Ok(document) => {
            if json {
                output::json(&document);
            } else {
                render(&document);
            }
            cli::OK
        }
        Err(error) => {
            output::complain(format_args!("{error:#}"));
            cli::FAILED
        }
    }
}

fn words(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn targets(endpoint: &Value) -> String {
    let targets = endpoint.get("targets").and_then(Value::as_array);
    let names = targets.into_iter().flatten().map(|target| {
        let available = target.get("available").and_then(Value::as_bool);
        let mark = if available == Some(false) {
            " (out)"
        } else {
            ""
        };
        format!("{}{mark}", words(target.get("address")))
    });
    names.collect::<Vec<_>>().join(", ")
}

fn remaining(not_after: u64) -> String {
    let end: SystemTime = UNIX_EPOCH + Duration::from_secs(not_after);
    match end.duration_since(SystemClock.now()) {
        Ok(rest) if rest.as_secs() >= 3600 => {
            format!("{}h{:02}m", rest.as_secs() / 3600, rest.as_secs() / 60 % 60)
        }
        Ok(rest) => format!("{}m{:02}s", rest.as_secs() / 60, rest.as_secs() % 60),
        Err(_) => "expired".into(),
    }
}

fn bytes(value: Option<&Value>) -> String {
    let Some(count) = value.and_then(Value::as_u64) else {
        return "-".into();
    };
    let mut rest = count;
    let mut unit = 0;
    while rest >= 10_240 && unit < 4 {
        rest /= 1024;
        unit += 1;
    }
    let unit = ["B", "KiB", "MiB", "GiB", "TiB"].get(unit).unwrap_or(&"");
    format!("{rest} {unit}")
}
