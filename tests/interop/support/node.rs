//! A running `sekisho`.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Process, World, http, wait::until};

/// The program under test.
pub(crate) const SEKISHO: &str = env!("CARGO_BIN_EXE_sekisho");

/// A node with its log and its admin socket.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) process: Process,
    admin: PathBuf,
    /// Lines of the log that were looked at.
    seen: Cell<usize>,
}

impl Node {
    /// Starts a node of `site` with these endpoints (YAML, two spaces deep), and waits until it is
    /// ready.
    pub(crate) fn start(world: &World, site: &str, endpoints: &str) -> Self {
        let node = Self::start_unready(world, site, endpoints);
        node.wait_ready();
        node
    }

    /// Starts a node and does not wait for more than its admin socket.
    pub(crate) fn start_unready(world: &World, site: &str, endpoints: &str) -> Self {
        Self::start_by(world, site, endpoints, &[SEKISHO.as_ref()])
    }

    /// Starts a node by another program, such as `ip netns exec`.
    pub(crate) fn start_by(world: &World, site: &str, endpoints: &str, by: &[&OsStr]) -> Self {
        let admin = world.file(&format!("{site}.sock"));
        let file = format!("{site}.yaml");
        let text = format!(
            "site: {site}\nadmin: unix://{}\nworkers: 1\nlog: {{format: json}}\nendpoints:\n{endpoints}",
            admin.display()
        );
        world.write(&file, &text);
        let (program, before) = by.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(before).arg("run").arg("-c");
        let node = Self {
            process: Process::start(command.arg(world.file(&file))),
            admin,
            seen: Cell::new(0),
        };
        node.process.wait_for("admin address open");
        node
    }

    /// Its admin socket.
    pub(crate) fn admin(&self) -> &Path {
        &self.admin
    }

    /// Waits until `/ready` says so.
    pub(crate) fn wait_ready(&self) {
        until("a node that is ready", || {
            (self.get("/ready").0 == 200).then_some(())
        });
    }

    /// Status and body of a page of the admin socket.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        http::get_unix(&self.admin, path).unwrap()
    }

    /// The next line of the access log. A connection is counted before it is logged.
    pub(crate) fn access(&self) -> Value {
        let what = "the next line of the access log";
        let (line, next) = self.process.line(what, self.seen.get(), |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["target"] == "access").then_some(line)
        });
        self.seen.set(next);
        line
    }

    /// The next line of the access log, which must be a refusal for this reason.
    pub(crate) fn refused(&self, reason: &str) -> Value {
        let line = self.access();
        assert_eq!(line["decision"], "refused", "{line:#}");
        assert_eq!(line["reason"], reason, "{line:#}");
        line
    }

    /// The next line of the access log, which must be an ordinary end.
    pub(crate) fn closed(&self) -> Value {
        let line = self.access();
        assert_eq!(line["decision"], "allowed", "{line:#}");
        assert_eq!(line["end"], "closed", "{line:#}");
        line
    }

    /// Connections that ended, by their labels.
    pub(crate) fn ended(&self) -> BTreeMap<String, u64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        text.lines()
            .filter_map(|line| {
                let (labels, count) = line
                    .strip_prefix("sekisho_connections_total")?
                    .rsplit_once(' ')?;
                Some((labels.to_owned(), count.parse().ok()?))
            })
            .collect()
    }
}

/// The labels of a connection that `endpoint` refused.
pub(crate) fn refused_labels(endpoint: &str, reason: &str) -> String {
    format!("{{endpoint=\"{endpoint}\",decision=\"refused\",reason=\"{reason}\"}}")
}
