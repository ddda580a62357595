//! One of the processes.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process;

use super::{environment, introduce::Introduce};
use crate::config::Config;

/// The first pause before one is started again, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// One that has run so long begins with the first pause.
const STEADY: Duration = Duration::from_secs(60);

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The site's CA.
    Authority,
    /// This node's agent.
    Agent,
    /// Discovery of the site's keys on the web.
    Oidc,
    /// The endpoints.
    Proxy,
}

impl Part {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Agent => "agent",
            Self::Oidc => "oidc",
            Self::Proxy => "proxy",
        }
    }
}

/// A process of ours.
pub(super) struct Child {
    part: Part,
    process: process::Child,
    started: Instant,
    pause: Duration,
    /// When it is to be started again.
    due: Option<Instant>,
}

/// What has become of a process.
pub(super) enum Event {
    /// It has ended, in these words.
    Ended(String),
    /// It is time to start it again.
    Due,
}

impl Child {
    /// Starts it, as the user whom the file names for it.
    pub(super) fn start(part: Part, path: &Path, config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            part,
            process: spawn(part, path, config)?,
            started: Instant::now(),
            pause: FIRST,
            due: None,
        })
    }

    pub(super) const fn part(&self) -> Part {
        self.part
    }

    /// Waits for its end; how it went, in words.
    pub(super) async fn wait(&mut self) -> String {
        match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Waits until it has ended, or is to be started again.
    pub(super) async fn event(&mut self) -> Event {
        match self.due {
            Some(due) => {
                tokio::time::sleep_until(due.into()).await;
                Event::Due
            }
            None => Event::Ended(self.wait().await),
        }
    }

    /// Has it started again after a while: twice as long each time that it did not last.
    pub(super) fn later(&mut self) {
        if self.started.elapsed() > STEADY {
            self.pause = FIRST;
        }
        self.due = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
    }

    /// Starts it again.
    pub(super) fn restart(&mut self, path: &Path, config: &Config) -> anyhow::Result<()> {
        self.process = spawn(self.part, path, config)?;
        self.started = Instant::now();
        self.due = None;
        Ok(())
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            // It may just have ended.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

fn spawn(part: Part, path: &Path, config: &Config) -> anyhow::Result<process::Child> {
    // This very program, even if another has been put in its place.
    let mut command = process::Command::new("/proc/self/exe");
    let name = match part {
        Part::Proxy => "run",
        other => other.as_str(),
    };
    command.arg(name).arg("-c").arg(path);
    command
        .arg("--with-parent")
        .arg(std::process::id().to_string());
    command.kill_on_drop(true).stdin(Stdio::null());
    command.env_clear().envs(environment::of(part, config));
    let user = match part {
        Part::Authority => config.authority.as_ref().and_then(|own| own.user.as_ref()),
        Part::Agent => config.agent.as_ref().and_then(|own| own.user.as_ref()),
        Part::Oidc => config.oidc.as_ref().and_then(|own| own.user.as_ref()),
        Part::Proxy => config.user.as_ref(),
    };
    if let Some(name) = user {
        // It does that itself: the groups of a user are set by none of the calls before exec.
        crate::child::user(name)?;
        command.arg("--as-user").arg(name);
    }
    if part == Part::Proxy {
        command.arg("--alone");
    }
    let introduce = (part == Part::Agent)
        .then(|| Introduce::of(config))
        .flatten();
    let introduced = match introduce {
        None => None,
        Some(introduce) => {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            command.arg("--introduced").stdin(OwnedFd::from(theirs));
            Some(introduce.serve(tokio::net::UnixStream::from_std(ours)?))
        }
    };
    let child = command
        .spawn()
        .with_context(|| format!("cannot start the {}", part.as_str()))?;
    if let Some(introduced) = introduced {
        tokio::spawn(introduced);
    }
    Ok(child)
}
