//! What `/proc` tells of a process. All of it is read with a bound.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    str::SplitAsciiWhitespace,
};

/// No file of `/proc` that is read here is longer: 65,536 groups make 720 KiB.
const MAX_FILE: u64 = 1024 * 1024;

/// Why `/proc` did not tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// Longer than anything the kernel writes there of an ordinary process.
    #[error("/proc/{pid}/{file} is too long")]
    TooLong {
        /// The process.
        pid: i32,
        /// Which file.
        file: &'static str,
    },
    /// A line is missing or is not as the kernel writes it.
    #[error("/proc/{pid}/{file} is not understood")]
    Unexpected {
        /// The process.
        pid: i32,
        /// Which file.
        file: &'static str,
    },
    /// It cannot be read: the process has ended, or the agent lacks the right.
    #[error("/proc/{pid}/{file} cannot be read")]
    Unreadable {
        /// The process.
        pid: i32,
        /// Which file.
        file: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl ProcessError {
    /// Whether the process is no more.
    pub(super) fn is_ended(&self) -> bool {
        let Self::Unreadable { source, .. } = self else {
            return false;
        };
        source.kind() == io::ErrorKind::NotFound
            || source.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
    }
}

/// User and groups that a process acts as.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    /// The effective user, as SPIRE takes it.
    pub(super) uid: u32,
    /// The effective group.
    pub(super) gid: u32,
    /// The supplementary groups, which may hold the effective one.
    pub(super) groups: Vec<u32>,
}

pub(super) fn path(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// A text file of the process. Bytes that are no UTF-8 (in the names of programs and mounts) are
/// replaced.
pub(super) fn read(pid: i32, file: &'static str) -> Result<String, ProcessError> {
    let unreadable = |source| ProcessError::Unreadable { pid, file, source };
    let mut text = Vec::new();
    File::open(path(pid, file))
        .map_err(unreadable)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE {
        return Err(ProcessError::TooLong { pid, file });
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn credentials(pid: i32) -> Result<Credentials, ProcessError> {
    parse_status(&read(pid, "status")?).ok_or(ProcessError::Unexpected {
        pid,
        file: "status",
    })
}

/// When the process began, in clock ticks since the boot (proc_pid_stat(5), field 22).
pub(super) fn started(pid: i32) -> Result<u64, ProcessError> {
    parse_start(&read(pid, "stat")?).ok_or(ProcessError::Unexpected { pid, file: "stat" })
}

fn parse_status(status: &str) -> Option<Credentials> {
    // The first line is the program's name, in which the kernel writes a line break as `\n`.
    let line = |name: &str| -> Option<SplitAsciiWhitespace<'_>> {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::split_ascii_whitespace)
    };
    // Real, effective, saved, of the file system.
    let effective = |name| line(name)?.nth(1)?.parse().ok();
    Some(Credentials {
        uid: effective("Uid")?,
        gid: effective("Gid")?,
        groups: line("Groups")?
            .map(|group| group.parse().ok())
            .collect::<Option<_>>()?,
    })
}

fn parse_start(stat: &str) -> Option<u64> {
    // The program's name stands in brackets and may hold brackets and blanks itself: fields are
    // counted from the last one. The state, after it, is the third.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_effective_user_and_group_are_taken() {
        let status = "Name:\tUid:\t9\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\n\
                      Gid:\t100\t101\t102\t103\nFDSize:\t64\nGroups:\t4 24 27 \nNStgid:\t9\n";
        let credentials = parse_status(status).unwrap();
        assert_eq!((credentials.uid, credentials.gid), (1001, 101));
        assert_eq!(credentials.groups, [4, 24, 27]);
        let without = status.replace("4 24 27 ", "");
        assert_eq!(parse_status(&without).unwrap().groups, [0; 0]);
    }

    #[test]
    fn what_is_no_status_gives_nothing() {
        for status in [
            "",
            "Uid:\t1\t2\t3\t4\nGid:\t1\t2\t3\t4\n",
            "Uid:\t1\nGid:\t1\t2\t3\t4\nGroups:\t\n",
            "Uid:\t1\t-2\t3\t4\nGid:\t1\t2\t3\t4\nGroups:\t\n",
            "Uid:\t1\t2\t3\t4\nGid:\t1\t2\t3\t4\nGroups:\t5 x\n",
        ] {
            assert_eq!(parse_status(status), None, "{status:?}");
        }
    }

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_move_the_start_time() {
        let stat = "7 (a) 1 2 (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 1 2 3\n";
        assert_eq!(parse_start(stat), Some(777));
        assert_eq!(parse_start("7 (a) S 1 7"), None);
        assert_eq!(parse_start("7"), None);
    }

    #[test]
    fn this_process_is_read() {
        let own = std::process::id().cast_signed();
        let credentials = credentials(own).unwrap();
        assert_eq!(credentials.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(credentials.gid, nix::unistd::getegid().as_raw());
        assert!(started(own).unwrap() > 0);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "(?s).{0,300}") {
            let _ = parse_status(&text);
            let _ = parse_start(&text);
        }
    }
}
