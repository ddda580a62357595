//! Who asks: the process at the other end of a socket, and what is true of it.
//!
//! A [`Peer`] is held by a descriptor, so that its number cannot be given to another process
//! unnoticed. [`WorkloadAttestors`] asks every attestor about it and checks the peer before and
//! after: what was read under its number in between was of that process.
//!
//! What this cannot tell: a process may start another program (`execve`) after it has connected
//! and leave the socket to a child. As long as both run as the same user, who may debug each
//! other, nothing is lost by it; a change of the user since the connection is refused.

mod container;
mod digest;
mod docker;
mod k8s;
pub mod peer;
mod process;
mod slurm;
mod systemd;
#[cfg(test)]
mod tests;
mod unix;

use std::{collections::BTreeSet, error::Error, time::Duration};

use futures_util::future::join_all;
use tokio::{task::spawn_blocking, time::timeout};

pub use self::{
    docker::DockerSpec,
    k8s::K8sSpec,
    peer::{Accepted, Peer, PeerError},
    process::ProcessError,
    systemd::SystemdSpec,
    unix::UnixSpec,
};
use crate::selector::Selector;

/// One attestor to ask, and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkloadAttestorSpec {
    /// Labels, environment and image of the container, from the Docker Engine.
    Docker(DockerSpec),
    /// Pod and container, from the kubelet.
    K8s(Box<K8sSpec>),
    /// Job and step, from the control groups that Slurm makes.
    Slurm,
    /// Unit and its file, from systemd.
    Systemd(SystemdSpec),
    /// User, groups and executable, from `/proc`.
    Unix(UnixSpec),
}

/// Why nothing can be said of a process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// Every attestor failed; the log says how. The caller may come again: gRPC's `Unavailable`.
    #[error("no workload attestor could attest process {pid}")]
    NoneAnswered {
        /// The process.
        pid: i32,
    },
    /// The process ended, or is not what it was.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

/// Why one attestor failed. No part of an answer is told: it may hold what is not for a log.
#[derive(Debug, thiserror::Error)]
enum AttestorError {
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error(transparent)]
    Docker(#[from] docker::DockerError),
    #[error(transparent)]
    K8s(#[from] k8s::K8sError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the control groups name more than one job or step")]
    SeveralJobs,
    #[error("the task was stopped")]
    Stopped,
    #[error(transparent)]
    Systemd(#[from] systemd::BusError),
}

/// The attestors of a node, all asked about every process.
#[derive(Debug)]
pub struct WorkloadAttestors {
    attestors: Vec<Attestor>,
}

impl WorkloadAttestors {
    /// Asks these, in any order. Without any, every process has no selectors.
    #[must_use]
    pub fn new(specs: Vec<WorkloadAttestorSpec>) -> Self {
        Self {
            attestors: specs.into_iter().map(Attestor::new).collect(),
        }
    }

    /// What is true of the process, from all attestors at once, each with its own deadline. One
    /// that fails adds nothing, and the log says so.
    ///
    /// # Errors
    /// When the process has ended or changed, before or meanwhile, and when every attestor fails.
    pub async fn attest(&self, peer: &Peer) -> Result<BTreeSet<Selector>, WorkloadError> {
        peer.check()?;
        let pid = peer.pid();
        let answers = join_all(self.attestors.iter().map(|attestor| attestor.ask(pid))).await;
        peer.check()?;
        let mut selectors = BTreeSet::new();
        let mut answered = self.attestors.is_empty();
        for (attestor, answer) in self.attestors.iter().zip(answers) {
            match answer {
                Ok(found) => {
                    answered = true;
                    let kind = attestor.kind();
                    selectors.extend(found.into_iter().map(|value| Selector::new(kind, value)));
                }
                Err(error) => tracing::warn!(
                    pid,
                    attestor = attestor.kind(),
                    error = with_causes(&error),
                    "a workload attestor failed; its selectors are left out"
                ),
            }
        }
        if answered {
            Ok(selectors)
        } else {
            Err(WorkloadError::NoneAnswered { pid })
        }
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[derive(Debug)]
enum Attestor {
    Docker(docker::Docker),
    K8s(Box<k8s::K8s>),
    Slurm,
    Systemd(systemd::Systemd),
    Unix(unix::Unix),
}

impl Attestor {
    fn new(spec: WorkloadAttestorSpec) -> Self {
        match spec {
            WorkloadAttestorSpec::Docker(spec) => Self::Docker(docker::Docker::new(spec)),
            WorkloadAttestorSpec::K8s(spec) => Self::K8s(Box::new(k8s::K8s::new(*spec))),
            WorkloadAttestorSpec::Slurm => Self::Slurm,
            WorkloadAttestorSpec::Systemd(spec) => Self::Systemd(systemd::Systemd::new(spec)),
            WorkloadAttestorSpec::Unix(spec) => Self::Unix(unix::Unix::new(spec)),
        }
    }

    /// The first part of its selectors, as SPIRE has it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Docker(_) => "docker",
            Self::K8s(_) => "k8s",
            Self::Slurm => "slurm",
            Self::Systemd(_) => "systemd",
            Self::Unix(_) => "unix",
        }
    }

    fn deadline(&self) -> Duration {
        match self {
            Self::Docker(_) => docker::DEADLINE,
            Self::K8s(k8s) => k8s.deadline(),
            Self::Slurm => Duration::from_secs(5),
            Self::Systemd(_) => systemd::DEADLINE,
            Self::Unix(_) => unix::DEADLINE,
        }
    }

    async fn ask(&self, pid: i32) -> Result<Vec<String>, AttestorError> {
        let answer = async {
            match self {
                Self::Docker(docker) => docker.attest(pid).await,
                Self::K8s(k8s) => k8s.attest(pid).await,
                Self::Slurm => spawn_blocking(move || slurm::attest(pid))
                    .await
                    .map_err(|_| AttestorError::Stopped)?,
                Self::Systemd(systemd) => systemd.attest(pid).await,
                Self::Unix(unix) => unix.attest(pid).await,
            }
        };
        timeout(self.deadline(), answer)
            .await
            .unwrap_or_else(|_| Err(AttestorError::Deadline(self.deadline())))
    }
}
