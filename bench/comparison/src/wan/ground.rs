//! Two network namespaces, and programs in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    child::Program,
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
