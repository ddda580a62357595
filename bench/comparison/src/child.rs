//! Processes that do not outlive this one.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use sekisho_bench::process::{self, Memory};

/// How long a program may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
}

impl Program {
    pub(crate) fn new(path: &Path, arguments: &[&str]) -> Self {
        Self {
            path: path.to_owned(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    /// The first line that it prints, of its standard output or error; for versions.
    pub(crate) fn first_line(&self) -> anyhow::Result<String> {
        let output = Command::new(&self.path)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| self.path.display().to_string())?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|line| !line.trim().is_empty());
        Ok(without_folder(line.unwrap_or_default().trim(), &self.path))
    }
}

/// Some programs begin their version with where they are, which is this machine's matter.
fn without_folder(line: &str, path: &Path) -> String {
    match (path.to_str(), path.file_name().and_then(OsStr::to_str)) {
        (Some(path), Some(name)) => line.replace(path, name),
        _ => line.to_owned(),
    }
}

/// A process that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program whose output goes to the file `log`.
    ///
    /// To be called by the main thread only: the kernel kills the process when the *thread* that
    /// started it ends.
    pub(crate) fn start(program: &Program, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| log.display().to_string())?;
        let child = Command::new(std::env::current_exe()?)
            .args([
                OsStr::new("hop"),
                OsStr::new("--"),
                program.path.as_os_str(),
            ])
            .args(&program.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(process::cpu(self.pid())?)
    }

    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        Ok(process::memory(self.pid())?)
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// An error that it ended, with the last that it wrote.
    pub(crate) fn alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = self.log();
            let mut lines: Vec<_> = log.lines().rev().take(5).collect();
            lines.reverse();
            bail!("it ended ({status}): {}", lines.join(" / "));
        }
        Ok(())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn end(&mut self, patience: Duration) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        if self.ended()?.is_none() {
            // Not reaped yet, so the number is still its own.
            kill(pid, Signal::SIGTERM)?;
        }
        let started = Instant::now();
        while self.ended()?.is_none() {
            if started.elapsed() > patience {
                bail!("not ended {} s after SIGTERM", patience.as_secs());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until `ready` says so.
    pub(crate) fn until(
        &mut self,
        what: &str,
        mut ready: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        while !ready(self) {
            self.alive()?;
            if started.elapsed() > PATIENCE {
                bail!("{what}: not within {} s", PATIENCE.as_secs());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until it accepts connections.
    pub(crate) fn listens(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.until(&format!("listening at {address}"), |_| {
            TcpStream::connect(address).is_ok()
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whether it is gone already makes no difference.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes the program. The process keeps its number, and is killed when its parent ends.
pub(crate) fn hop(command: &[String]) -> anyhow::Result<ExitCode> {
    let Some((path, arguments)) = command.split_first() else {
        bail!("no program to become");
    };
    set_pdeathsig(Signal::SIGKILL)?;
    let error = Command::new(path).args(arguments).exec();
    Err(error).with_context(|| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_does_not_say_where_its_program_is() {
        let line = without_folder("/a/b/envoy  version: 1", Path::new("/a/b/envoy"));
        assert_eq!(line, "envoy  version: 1");
    }

    #[test]
    fn the_first_line_is_the_first_that_says_something() {
        let program = Program::new(Path::new("printf"), &["\n  one \ntwo\n"]);
        assert_eq!(program.first_line().unwrap(), "one");
        let gone = Program::new(Path::new("no-such-program"), &[]);
        assert!(gone.first_line().is_err());
    }
}
