//! The process at the other end of a connection, held while it is attested.

mod tcp;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{getsockopt, sockopt},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use super::process::{self, ProcessError};

/// The process at the other end, held so that its pid cannot be given to another.
#[derive(Debug)]
pub struct Peer {
    pid: i32,
    uid: u32,
    gid: u32,
    hold: OwnedFd,
}

/// Why a process cannot be told, or is not the one it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// More than one process holds the connection's socket: which of them asks cannot be told.
    #[error("several processes hold the socket")]
    Ambiguous,
    /// It runs as another user or group than when it connected, and was not root then.
    #[error("process {pid} runs as {now:?}, and connected as {before:?} (user, group)")]
    Changed {
        /// The process.
        pid: i32,
        /// User and group when it connected.
        before: (u32, u32),
        /// User and group now.
        now: (u32, u32),
    },
    /// It has ended.
    #[error("process {pid} has ended")]
    Ended {
        /// The process.
        pid: i32,
    },
    /// The kernel does not tell.
    #[error("the kernel does not tell who is at the other end: {what}")]
    Kernel {
        /// What was asked of it.
        what: &'static str,
        /// What it says.
        source: io::Error,
    },
    /// No process of this host, or none that this one can see (another pid or network namespace).
    #[error("no process of this host is at the other end")]
    NotFound,
    /// `/proc` does not tell.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A process with this number began when the connection was accepted or later: it need not be
    /// the one that connected. Kernels before 6.5 only.
    #[error("process {pid} is not known to be older than its connection")]
    Replaced {
        /// The process.
        pid: i32,
    },
    /// The search for the socket's process met more processes or descriptors than it may.
    #[error("too many processes or open files to find the one at the other end")]
    TooMany,
}

/// When a connection was accepted, on the clock that start times of processes are in (it counts
/// since the boot, sleep included).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accepted(Duration);

impl Accepted {
    /// Now: to be called as soon as `accept` returns.
    #[must_use]
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(Duration::try_from(now).unwrap_or_default())
    }

    fn ticks(self) -> u64 {
        let per_second = rustix::param::clock_ticks_per_second();
        let part = u64::from(self.0.subsec_nanos()) * per_second / 1_000_000_000;
        self.0
            .as_secs()
            .saturating_mul(per_second)
            .saturating_add(part)
    }
}

impl Peer {
    /// The process that connected a Unix socket (SO_PEERCRED), held by SO_PEERPIDFD. Kernels
    /// before 6.5 lack that: there the process now of that number is taken if it began before the
    /// connection was accepted, so the listener must accept without delay.
    ///
    /// # Errors
    /// When it has ended, is in a pid namespace that cannot be seen from here, or may be another
    /// process with the same number.
    pub fn of_socket(stream: &UnixStream, accepted: Accepted) -> Result<Self, PeerError> {
        let credentials = stream.peer_cred().map_err(|source| PeerError::Kernel {
            what: "SO_PEERCRED",
            source,
        })?;
        // The kernel says 0 for a process outside the namespace.
        let pid = credentials
            .pid()
            .filter(|pid| *pid > 0)
            .ok_or(PeerError::NotFound)?;
        let hold = match getsockopt(stream, sockopt::PeerPidfd) {
            Ok(hold) => hold,
            Err(Errno::ESRCH) => return Err(PeerError::Ended { pid }),
            Err(Errno::ENOPROTOOPT | Errno::EINVAL) => {
                let hold = open(pid)?;
                older_than(pid, accepted)?;
                hold
            }
            Err(error) => {
                return Err(PeerError::Kernel {
                    what: "SO_PEERPIDFD",
                    source: error.into(),
                });
            }
        };
        let peer = Self {
            pid,
            uid: credentials.uid(),
            gid: credentials.gid(),
            hold,
        };
        peer.check()?;
        Ok(peer)
    }

    /// The process of this host that holds the other end of a TCP connection accepted at `local`
    /// from `remote`: the kernel's socket table tells the socket, `/proc` who has it open. Only
    /// root sees the open files of others. Blocks while it reads `/proc`: at most 65,536
    /// processes and a million descriptors.
    ///
    /// # Errors
    /// When no process or more than one holds it, or it cannot be found out.
    pub fn of_tcp(local: SocketAddr, remote: SocketAddr) -> Result<Self, PeerError> {
        let inode = tcp::inode(remote, local)?;
        let peer = Self::of_pid(tcp::holder(inode)?)?;
        // Between the search and the hold, the number may have changed hands.
        if tcp::holds(peer.pid, inode)? {
            peer.check()?;
            Ok(peer)
        } else {
            Err(PeerError::Ended { pid: peer.pid })
        }
    }

    /// The process that now has this number, for callers who are trusted to name it (Delegated
    /// Identity API).
    ///
    /// # Errors
    /// When there is none.
    pub fn of_pid(pid: i32) -> Result<Self, PeerError> {
        let hold = open(pid)?;
        let credentials = process::credentials(pid).map_err(|error| ended(pid, error))?;
        let peer = Self {
            pid,
            uid: credentials.uid,
            gid: credentials.gid,
            hold,
        };
        peer.check()?;
        Ok(peer)
    }

    /// The number of the process, in the agent's own pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The effective user when it connected (Unix), else when it was found.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The effective group when it connected (Unix), else when it was found.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// That the process still runs, and as the same user and group, unless it was root: who starts
    /// a setuid or setgid program must not be taken for that program's user or group.
    ///
    /// # Errors
    /// When it has ended or changed.
    pub fn check(&self) -> Result<(), PeerError> {
        let pid = self.pid;
        let alive = || {
            if self.has_ended()? {
                Err(PeerError::Ended { pid })
            } else {
                Ok(())
            }
        };
        let now = process::credentials(pid).map_err(|error| ended(pid, error));
        // After reading: only then was it read of this process.
        alive()?;
        let now = now?;
        let (before, now) = ((self.uid, self.gid), (now.uid, now.gid));
        if self.uid != 0 && now != before {
            return Err(PeerError::Changed { pid, before, now });
        }
        Ok(())
    }

    /// A pidfd is readable as soon as its process has ended, reaped or not (pidfd_open(2)).
    fn has_ended(&self) -> Result<bool, PeerError> {
        let mut descriptors = [PollFd::new(self.hold.as_fd(), PollFlags::POLLIN)];
        let ready =
            poll(&mut descriptors, PollTimeout::ZERO).map_err(|error| PeerError::Kernel {
                what: "poll of a pidfd",
                source: error.into(),
            })?;
        Ok(ready != 0)
    }
}

fn open(pid: i32) -> Result<OwnedFd, PeerError> {
    // rustix panics on a negative number in a debug build.
    let number = (pid > 0)
        .then(|| Pid::from_raw(pid))
        .flatten()
        .ok_or(PeerError::NotFound)?;
    pidfd_open(number, PidfdFlags::empty()).map_err(|error| {
        // EINVAL and ENOENT: it is a thread, not a process (which of them depends on the kernel).
        match error {
            rustix::io::Errno::SRCH => PeerError::Ended { pid },
            rustix::io::Errno::INVAL | rustix::io::Errno::NOENT => PeerError::NotFound,
            _ => PeerError::Kernel {
                what: "pidfd_open",
                source: error.into(),
            },
        }
    })
}

fn older_than(pid: i32, accepted: Accepted) -> Result<(), PeerError> {
    let started = process::started(pid).map_err(|error| ended(pid, error))?;
    // In the same tick either may have been first.
    if started < accepted.ticks() {
        Ok(())
    } else {
        Err(PeerError::Replaced { pid })
    }
}

fn ended(pid: i32, error: ProcessError) -> PeerError {
    if error.is_ended() {
        PeerError::Ended { pid }
    } else {
        error.into()
    }
}
