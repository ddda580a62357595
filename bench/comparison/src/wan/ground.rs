//! Two network namespaces and the line between them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;

use super::cells::Line;
use crate::{
    child::{Program, Running},
    namespace::{CHOSEN, CONGESTION, set},
};

/// Where `ip netns` keeps names (ip-netns(8)).
const NAMES: &str = "/run/netns";
const RECEIVE: &str = "/proc/sys/net/ipv4/tcp_rmem";
const SEND: &str = "/proc/sys/net/ipv4/tcp_wmem";
/// Linux's defaults: 6 MiB to receive, 4 MiB to send.
const USUAL: [&str; 2] = ["4096 131072 6291456", "4096 16384 4194304"];
/// 64 MiB.
const LARGE: [&str; 2] = ["4096 131072 67108864", "4096 16384 67108864"];
/// nobody.
pub(super) const NOBODY: u32 = 65534;
/// How long the emulator may take to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What all chance comes from: the same in every cell.
const SEED: &str = "1";

/// The two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where the stream begins.
    Near,
    /// Where it ends.
    Far,
}

/// As whom a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    Root,
    /// nobody, who has no capability and gets none.
    Nobody,
}

/// The names of the two namespaces that the process of this number cleans up.
pub(super) fn names(pid: u32) -> [String; 2] {
    ["near", "far"].map(|end| format!("sekisho-wan-{pid}-{end}"))
}

/// Whether there is such a namespace.
pub(super) fn exists(name: &str) -> bool {
    Path::new(NAMES).join(name).exists()
}

/// Removes one.
pub(super) fn remove(name: &str) -> anyhow::Result<()> {
    ip(&["netns", "del", name])
}

/// The two namespaces, until this is dropped.
#[derive(Debug)]
pub(super) struct Ground {
    names: [String; 2],
}

impl Ground {
    /// Makes them, with cubic and the buffers given explicitly, whatever this host has.
    pub(super) fn make(names: [String; 2], large: bool) -> anyhow::Result<Self> {
        // From here on they are removed, whatever goes wrong.
        let ground = Self { names };
        for name in &ground.names {
            if exists(name) {
                remove(name)?;
            }
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            let [receive, send] = if large { LARGE } else { USUAL };
            sekisho_wan::inside(name, move || {
                for (path, value) in [(RECEIVE, receive), (SEND, send), (CHOSEN, CONGESTION)] {
                    set(path, value).map_err(|error| io::Error::other(format!("{error:#}")))?;
                }
                Ok(())
            })
            .with_context(|| format!("the namespace {name}"))?;
        }
        Ok(ground)
    }

    /// The name of one.
    pub(super) fn name(&self, end: End) -> &str {
        let [near, far] = &self.names;
        match end {
            End::Near => near,
            End::Far => far,
        }
    }

    /// A program in one of them. Its process is the one that is started: `ip` and `setpriv` become it.
    pub(super) fn program(&self, end: End, user: User, path: &Path, arguments: &[&str]) -> Program {
        let mut all = vec!["netns", "exec", self.name(end)];
        if user == User::Nobody {
            // What ends it with its parent is lost with the user, and asked for again.
            all.extend([
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
                "--pdeathsig=KILL",
                "--",
            ]);
        }
        let path = path.to_string_lossy();
        all.push(&path);
        all.extend(arguments);
        Program::new(Path::new("ip"), &all)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for name in self.names.iter().filter(|name| exists(name)) {
            // The process outside tries again.
            let _ = remove(name);
        }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("ip, of the package iproute2")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}

/// The file of a program, looked for as a shell does.
pub(super) fn find(program: &Path) -> anyhow::Result<PathBuf> {
    let has_folder = program.parent().is_some_and(|it| it != Path::new(""));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = if has_folder {
        Some(program.to_owned())
    } else {
        let all = std::env::split_paths(&path).map(|folder| folder.join(program));
        all.into_iter().find(|file| file.is_file())
    };
    let found = found.filter(|file| file.is_file());
    found.with_context(|| format!("{}: no such program; --sekisho names it", program.display()))
}

/// A running emulator.
#[derive(Debug)]
pub(super) struct Emulator {
    pub(super) running: Running,
}

/// What it says of itself at its end, in the stream's direction unless something else is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Told {
    /// Something was dropped that no line would have dropped.
    pub(super) is_limit: bool,
    /// One of a hundred packets left more than a millisecond late.
    pub(super) is_late: bool,
    /// Whether it ran at real-time priority.
    pub(super) real_time: bool,
    pub(super) packets: u64,
    pub(super) queue_full: u64,
    pub(super) lost: u64,
    /// Both directions.
    pub(super) not_read_in_time: u64,
    /// Both directions.
    pub(super) memory_full: u64,
}

impl Emulator {
    /// Starts it between the two.
    pub(super) fn start(
        sekisho: &Path,
        ground: &Ground,
        line: &Line,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let between = format!("{},{}", ground.name(End::Near), ground.name(End::Far));
        let mut program = Program::new(
            sekisho,
            &[
                "bench",
                "wan",
                "--json",
                "--seed",
                SEED,
                "--between",
                &between,
            ],
        );
        program.arguments.extend(line.arguments());
        let mut running = Running::start(&program, &folder.join("emulator.log"))?;
        running
            .until("a line", |running| {
                running.log().contains("\"event\":\"start\"")
            })
            .context("sekisho bench wan")?;
        Ok(Self { running })
    }

    /// Ends it, and reads what it says.
    pub(super) fn end(mut self) -> anyhow::Result<Told> {
        self.running.end(PATIENCE).context("sekisho bench wan")?;
        let log = self.running.log();
        told(&log).with_context(|| format!("sekisho bench wan says no counters: {}", log.trim()))
    }
}

/// What it says, from its last line.
fn told(log: &str) -> Option<Told> {
    let mut documents = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let is_end = |one: &Value| one.get("event").is_some_and(|event| event == "end");
    let end = documents.rfind(is_end)?;
    let flag = |name: &str| end.get(name)?.as_bool();
    let forward = |name: &str| end.pointer(&format!("/forward/{name}"))?.as_u64();
    // Of a device that is gone nothing is known.
    let both = |name: &str| {
        let back = end
            .pointer(&format!("/back/{name}"))
            .and_then(Value::as_u64);
        forward(name).unwrap_or_default() + back.unwrap_or_default()
    };
    Some(Told {
        is_limit: flag("emulator_is_limit")?,
        is_late: flag("emulator_is_late")?,
        real_time: flag("real_time")?,
        packets: forward("packets")?,
        queue_full: forward("queue_full")?,
        lost: forward("lost")?,
        not_read_in_time: both("not_read_in_time"),
        memory_full: both("memory_full"),
    })
}

/// What a socket may have without privileges, of receiving and of sending, in bytes.
pub(super) fn socket_limits() -> anyhow::Result<[u64; 2]> {
    let read = |name: &str| {
        let path = format!("/proc/sys/net/core/{name}");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        text.trim().parse().with_context(|| path)
    };
    Ok([read("rmem_max")?, read("wmem_max")?])
}

/// The load average of the last minute.
pub(super) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_the_emulator_count() {
        let log = "{\"event\":\"start\"}\n{\"event\":\"counters\"}\nnot JSON\n\
            {\"event\":\"end\",\"emulator_is_limit\":true,\"emulator_is_late\":false,\
            \"real_time\":true,\
            \"forward\":{\"packets\":9,\"queue_full\":1,\"lost\":2,\"memory_full\":3,\
            \"not_read_in_time\":4},\"back\":{\"memory_full\":0,\"not_read_in_time\":5}}\n";
        let expected = Told {
            is_limit: true,
            is_late: false,
            real_time: true,
            packets: 9,
            queue_full: 1,
            lost: 2,
            not_read_in_time: 9,
            memory_full: 3,
        };
        assert_eq!(told(log), Some(expected));
        assert_eq!(told("{\"event\":\"start\"}\n"), None);
    }

    #[test]
    fn a_program_of_nobody_has_no_capability_left() {
        let ground = Ground {
            names: names(u32::MAX),
        };
        let program = ground.program(End::Far, User::Nobody, Path::new("/x/sekisho"), &["run"]);
        let line = program.arguments.join(" ");
        assert!(line.starts_with("netns exec sekisho-wan-4294967295-far setpriv "));
        assert!(line.ends_with("--bounding-set=-all --pdeathsig=KILL -- /x/sekisho run"));
        let root = ground.program(End::Near, User::Root, Path::new("x"), &[]);
        assert_eq!(
            root.arguments.join(" "),
            "netns exec sekisho-wan-4294967295-near x"
        );
    }

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        assert!(find(Path::new("sh")).unwrap().is_file());
        assert!(find(Path::new("no-such-program")).is_err());
        assert!(find(Path::new("/no/such/program")).is_err());
    }
}
