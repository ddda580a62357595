//! What a figure was measured on. Without it a figure says nothing.

use std::fs;

use serde::Serialize;

use crate::{
    aead::{self, Speed},
    complain,
};

/// The machine, as it was when the run began.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Those that decide what AES-GCM costs.
    pub(crate) cpu_flags: Vec<String>,
    pub(crate) memory_gib: f64,
    /// Read back in the network namespace of the run.
    pub(crate) congestion_control: String,
    /// Programs that ran or waited in the minute before: others than this one disturb.
    pub(crate) load_average: f64,
    /// AES-GCM on one core.
    pub(crate) aead: Vec<Speed>,
}

impl Machine {
    /// Looks at it; takes about a second.
    pub(crate) fn look() -> anyhow::Result<Self> {
        let uname = nix::sys::utsname::uname()?;
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let first = |text: &str| {
            text.split_whitespace()
                .next()
                .and_then(|word| word.parse().ok())
        };
        let kibibytes: f64 = field(&memory, "MemTotal")
            .and_then(|it| first(&it))
            .unwrap_or(0.0);
        let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
        Ok(Self {
            kernel: [uname.sysname(), uname.release(), uname.machine()]
                .map(|part| part.to_string_lossy())
                .join(" "),
            cpu: field(&cpu, "model name").unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism()?.get(),
            cpu_flags: flags(&field(&cpu, "flags").unwrap_or_default()),
            memory_gib: kibibytes / f64::from(1 << 20),
            congestion_control: congestion.trim().to_owned(),
            load_average: first(&load).unwrap_or(0.0),
            aead: aead::speeds(),
        })
    }

    /// Whether the wide instructions for AES are there.
    pub(crate) fn is_wide(&self) -> bool {
        ["vaes", "avx512f"]
            .iter()
            .all(|wanted| self.cpu_flags.iter().any(|flag| flag == wanted))
    }

    /// Says what it is, and what disturbs it.
    pub(crate) fn announce(&self) {
        for line in self.lines() {
            complain(line);
        }
        if self.load_average > 0.5 {
            complain(format_args!(
                "the load average is {:.2}: other programs disturb what is measured here",
                self.load_average
            ));
        }
    }

    /// For people, an item a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let speeds = self.aead.iter().map(|speed| {
            format!(
                "{} {} {:.1}",
                speed.library, speed.algorithm, speed.gigabytes_per_second
            )
        });
        vec![
            format!(
                "{}, congestion control {}",
                self.kernel, self.congestion_control
            ),
            format!(
                "{}, {} cores, {:.0} GiB ({})",
                self.cpu,
                self.cores,
                self.memory_gib,
                self.cpu_flags.join(" ")
            ),
            format!(
                "AES-GCM on one core, 16 KiB records, GB/s: {}",
                speeds.collect::<Vec<_>>().join(", ")
            ),
        ]
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn flags(all: &str) -> Vec<String> {
    let wanted = ["aes", "avx2", "vaes", "vpclmulqdq", "avx512f"];
    let there = |wanted: &&str| all.split_whitespace().any(|flag| flag == *wanted);
    wanted
        .into_iter()
        .filter(|it| there(it))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: AMD EPYC\nflags : fpu aes vaes\n";
        assert_eq!(field(text, "model name").as_deref(), Some("AMD EPYC"));
        assert_eq!(flags(&field(text, "flags").unwrap()), ["aes", "vaes"]);
        assert_eq!(field(text, "bugs"), None);
    }
}
