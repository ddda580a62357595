//! A network namespace of its own, with cubic.
//!
//! A new namespace inherits the host's congestion control (often bbr, which paces loopback) and may
//! choose another only if the *initial* namespace allows it to everybody. So one process stays
//! outside, allows cubic, starts itself again inside, waits, and puts back what it changed, however
//! the other one ends.

use std::{
    ffi::OsStr,
    fs,
    process::{Command, ExitCode, ExitStatus},
    thread,
};

use anyhow::{Context as _, bail};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal, kill},
    },
    unistd::{Pid, geteuid},
};

use crate::complain;

/// The congestion control of every cell.
pub(crate) const CONGESTION: &str = "cubic";

/// What every process may choose; of all namespaces, and writable in the initial one only.
pub(crate) const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
/// What the kernel has.
pub(crate) const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
/// What a namespace uses where nothing else is chosen.
pub(crate) const CHOSEN: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Above every port that a peer listens on, and enough for some thousand new connections a second.
const PORT_RANGE: &str = "10000 65535";

/// The signals that end a run.
pub(crate) fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}

/// Allows cubic, runs this program again with the same arguments inside, and cleans up.
pub(crate) fn supervise() -> anyhow::Result<ExitCode> {
    root()?;
    // Before anything is changed: from here on a signal ends the part inside, and then this one.
    let signals = signals();
    signals.thread_block()?;
    let restore = allow()?;
    let status = inside(signals, &[]);
    // In any case.
    restore()?;
    let code = status?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Whether this may make namespaces at all.
pub(crate) fn root() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        bail!(
            "not root: a network namespace (CAP_SYS_ADMIN) and congestion control in it \
             (CAP_NET_ADMIN) are what is missing; run it with sudo"
        );
    }
    Ok(())
}

/// Allows cubic to every namespace; returns what takes that back.
fn allow() -> anyhow::Result<impl FnOnce() -> anyhow::Result<()>> {
    let before = fs::read_to_string(ALLOWED)
        .with_context(|| format!("{ALLOWED}: this must be run in the initial network namespace"))?;
    let before = before.trim().to_owned();
    let is_allowed = before.split(' ').any(|name| name == CONGESTION);
    let widened = format!("{before} {CONGESTION}");
    if !is_allowed {
        let available = fs::read_to_string(AVAILABLE)?;
        if !available.split_whitespace().any(|name| name == CONGESTION) {
            bail!("the kernel has no {CONGESTION}: modprobe tcp_{CONGESTION}");
        }
        fs::write(ALLOWED, &widened).with_context(|| format!("{ALLOWED}: allowing cubic"))?;
    }
    Ok(move || {
        // Somebody else may have chosen otherwise in between.
        let unchanged = || Ok::<_, std::io::Error>(fs::read_to_string(ALLOWED)?.trim() == widened);
        if !is_allowed && unchanged()? {
            fs::write(ALLOWED, &before).with_context(|| {
                format!("{ALLOWED} could not be put back to \"{before}\": do it by hand")
            })?;
        }
        Ok(())
    })
}

/// Runs this program again, as the part that measures, and hands it the signals that come; its
/// `extra` arguments come before those of the command line.
pub(crate) fn inside(signals: SigSet, extra: &[&OsStr]) -> anyhow::Result<ExitStatus> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--inside")
        .args(extra)
        .args(std::env::args_os().skip(1))
        .spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            complain("ending, and putting back what was changed");
            // Not reaped before the main thread ends, and with it this one.
            let _ = kill(pid, signal);
        }
    });
    Ok(child.wait()?)
}

/// Of the part that measures: it ends with the process that started it, and by the signals that one
/// hands on.
pub(crate) fn obey() -> anyhow::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    Ok(signals().thread_unblock()?)
}

/// Makes the namespace, for this process and all that it starts.
pub(crate) fn enter() -> anyhow::Result<()> {
    obey()?;
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("ip, of the package iproute2")?;
    if !up.success() {
        bail!("the loopback device of the new network namespace does not come up");
    }
    set(CHOSEN, CONGESTION)?;
    set(PORTS, PORT_RANGE)
}

/// Writes, and reads back: a refused write is easily overlooked.
pub(crate) fn set(path: &str, value: &str) -> anyhow::Result<()> {
    fs::write(path, value).with_context(|| format!("{path}: \"{value}\""))?;
    let found = fs::read_to_string(path)?;
    let words = |text: &str| {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words
    };
    if words(&found) != words(value) {
        bail!(
            "{path} is \"{}\" after \"{value}\" was written",
            found.trim()
        );
    }
    Ok(())
}
