//! CPU time of threads, and the wait for it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{Pid, gettid};
use serde::{Deserialize, Serialize};

/// Processes that are looked at for the owner of a socket, and threads of it, at most.
const MOST: usize = 32_768;
/// Open files of a process that are looked at, at most.
const MOST_FILES: usize = 262_144;

/// What a thread had of the CPU since it began, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuTime {
    /// It ran.
    pub run: u64,
    /// It could have run, but others had the core.
    pub wait: u64,
}

/// This thread, as others find it.
#[must_use]
pub fn this_thread() -> Thread {
    Thread(format!("/proc/self/task/{}", gettid()).into())
}

/// A thread of some process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread(PathBuf);

impl Thread {
    /// What it had until now; `None` where it has ended or the kernel does not tell.
    #[must_use]
    pub fn time(&self) -> Option<CpuTime> {
        parse(&fs::read_to_string(self.0.join("schedstat")).ok()?)
    }
}

/// The threads of a process.
///
/// # Errors
/// When there is no such process.
pub fn threads(process: i32) -> io::Result<Vec<Thread>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
    let found = tasks.filter_map(Result::ok).take(MOST);
    Ok(found.map(|task| Thread(task.path())).collect())
}

/// The process that holds the socket of this inode, and its name; `None` where it is not ours to see.
#[must_use]
pub fn holder(inode: u32) -> Option<(i32, String)> {
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let numbers = processes.filter_map(|one| one.file_name().to_str()?.parse::<i32>().ok());
    let mut numbers = numbers.take(MOST).filter(|pid| inode != 0 && *pid > 0);
    let found = numbers.find(|pid| holds(&Path::new("/proc").join(pid.to_string()), &wanted))?;
    let name = fs::read_to_string(format!("/proc/{}/comm", Pid::from_raw(found))).ok()?;
    Some((found, name.trim_end().to_owned()))
}

fn holds(process: &Path, wanted: &Path) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    let mut files = files.filter_map(Result::ok).take(MOST_FILES);
    files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target == wanted))
}

/// `schedstat`: nanoseconds run, nanoseconds waited, turns (Documentation/scheduler/sched-stats.rst of the
/// kernel).
fn parse(text: &str) -> Option<CpuTime> {
    let mut fields = text.split_ascii_whitespace();
    let mut next = || Some(fields.next()?.parse::<u64>().ok()? / 1000);
    Some(CpuTime {
        run: next()?,
        wait: next()?,
    })
}

/// Of several threads of one process the one that ran most since it was first seen, for a program of which one
/// thread moves the bytes but nobody says which. One that only waited for a core moves none.
#[derive(Debug)]
pub struct Busiest {
    threads: Vec<(Thread, CpuTime)>,
}

impl Busiest {
    /// Those of a process, from now on.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(process: i32) -> io::Result<Self> {
        let threads = threads(process)?.into_iter();
        let threads = threads.filter_map(|one| one.time().map(|time| (one, time)));
        Ok(Self {
            threads: threads.collect(),
        })
    }

    /// Since then.
    #[must_use]
    pub fn time(&self) -> Option<CpuTime> {
        let since = self.threads.iter().filter_map(|(thread, first)| {
            let now = thread.time()?;
            Some(CpuTime {
                run: now.run.saturating_sub(first.run),
                wait: now.wait.saturating_sub(first.wait),
            })
        });
        since.max_by_key(|time| time.run)
    }
}

/// Of a time, in microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_and_waiting_are_told_apart() {
        let found = parse("123456789 5000000 17\n");
        let expected = CpuTime {
            run: 123_456,
            wait: 5000,
        };
        assert_eq!(found, Some(expected));
        for wrong in ["", "1", "a b c", "-1 2 3", "99999999999999999999999 1 1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_socket_is_found_where_it_is_held() {
        use std::os::unix::fs::MetadataExt as _;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = fs::File::from(std::os::fd::OwnedFd::from(socket));
        let inode = u32::try_from(file.metadata().unwrap().ino()).unwrap();
        let (process, name) = holder(inode).unwrap();
        assert_eq!(process, i32::try_from(std::process::id()).unwrap());
        assert!(!name.is_empty());
        assert!(Busiest::of(process).unwrap().time().is_some());
        assert!(holder(0).is_none());
    }
}
