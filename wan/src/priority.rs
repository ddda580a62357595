//! Real-time priority: a line does not slow down because a host is busy.
//!
//! On a machine whose cores are all wanted, which is how a path of one machine is measured, an ordinary
//! thread that wakes up for a packet waits for milliseconds. The kernel keeps a part of each second for
//! the others (`sched_rt_runtime_us`), and a thread that has nothing to carry sleeps.

use std::process::{Command, Stdio};

use nix::unistd::gettid;

/// Gives the calling thread the least real-time priority, in turns with others of it; whether it has it
/// now. By util-linux' `chrt`, since the system call has no safe face in the libraries used here.
pub(crate) fn raise() -> bool {
    Command::new("chrt")
        .args(["--rr", "--pid", "1", &gettid().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
