//! Memory and CPU of other processes, from `/proc`.

use std::{fs, io, time::Duration};

/// Memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, in bytes: `VmRSS`.
    pub resident: u64,
    /// Of that, not backed by files, in bytes: `RssAnon`.
    pub anonymous: u64,
}

/// Reads the memory of a process.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let text = read(pid, "status")?;
    parse_memory(&text).ok_or_else(|| unreadable(pid, "status"))
}

/// Reads the CPU time of a process, user and system, of all its threads, also those that ended.
///
/// # Errors
/// When there is no such process.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let text = read(pid, "stat")?;
    let ticks = parse_ticks(&text).ok_or_else(|| unreadable(pid, "stat"))?;
    // USER_HZ is 100 on every architecture that Linux has today, whatever the kernel's own rate.
    Ok(Duration::from_millis(ticks * 10))
}

fn read(pid: u32, file: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|error| io::Error::new(error.kind(), format!("process {pid}: {error}")))
}

fn unreadable(pid: u32, file: &str) -> io::Error {
    io::Error::other(format!("/proc/{pid}/{file} is not as proc(5) has it"))
}

fn parse_memory(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(Memory {
        resident: field("VmRSS:")?,
        anonymous: field("RssAnon:")?,
    })
}

/// Fields 14 and 15 of `stat`. The name, field 2, may hold spaces and brackets.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_user_and_system_behind_any_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194304 100 0 0 0 250 37 0 0 20 0 3 0 99 1 1 1";
        assert_eq!(parse_ticks(stat), Some(287));
        assert_eq!(parse_ticks("12 (x) S 1"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t     200 kB\nRssFile:\t 1034 kB\n";
        let expected = Memory {
            resident: 1234 * 1024,
            anonymous: 200 * 1024,
        };
        assert_eq!(parse_memory(status), Some(expected));
        assert_eq!(parse_memory("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_has_some() {
        let own = memory(std::process::id()).unwrap();
        assert!(own.resident >= own.anonymous && own.anonymous > 0);
        cpu(std::process::id()).unwrap();
        assert!(memory(0).is_err());
    }
}
