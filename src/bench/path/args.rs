//! The options of `sekisho bench path`.

use std::{
    io::{IsTerminal as _, stdout},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use sekisho_bench::path::Plan;

use crate::{
    bench::quantity::{rate, size},
    cli::duration,
};

/// The longest measurement.
const LONGEST: Duration = Duration::from_secs(3600);
/// The shortest of which anything can be said.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is measured or watched.
#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// A server of `sekisho bench` or iperf3, or a gate before it; with --watch whatever is there
    #[arg(value_name = "HOST:PORT")]
    pub(super) server: String,
    /// How long it lasts, a second to an hour
    #[arg(short = 't', long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(super) duration: Duration,
    /// Print one JSON document, with every sample
    #[arg(long)]
    pub(super) json: bool,
    /// Write a picture of it to a file, in SVG
    #[arg(long, value_name = "FILE")]
    pub(super) plot: Option<PathBuf>,
    /// Print rate, round trip and windows over time, as on a terminal
    #[arg(long)]
    pub(super) chart: bool,

    /// Send nothing: look at the connections of any program of this host to or from HOST:PORT
    #[arg(long, help_heading = "Connections that are there",
        conflicts_with_all = ["reverse", "rate", "congestion", "buffer", "iperf3"])]
    pub(super) watch: bool,
    /// Connections that are shown at most, those that carry most first
    #[arg(long, value_name = "N", help_heading = "Connections that are there", default_value = "10",
        requires = "watch", value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) most: u8,

    /// The server sends
    #[arg(short = 'R', long, help_heading = "Our own stream")]
    pub(super) reverse: bool,
    /// Bits per second at most, as in 500M or 10G [default: as fast as it goes]
    #[arg(short = 'b', long, value_name = "RATE", help_heading = "Our own stream", value_parser = rate)]
    pub(super) rate: Option<u64>,
    /// Congestion control of both ends, such as cubic or bbr [default: the hosts']
    #[arg(short = 'C', long, value_name = "NAME", help_heading = "Our own stream", value_parser = name)]
    pub(super) congestion: Option<String>,
    /// Socket buffers of both ends; with privileges beyond net.core.*mem_max [default: the kernels
    /// tune them]
    #[arg(long, value_name = "SIZE", help_heading = "Our own stream", value_parser = buffer)]
    pub(super) buffer: Option<u64>,
    /// The server is iperf3's; it is found out too, at the price of a line in iperf3's log
    #[arg(long, help_heading = "Our own stream")]
    pub(super) iperf3: bool,
}

impl PathArgs {
    pub(super) fn plan(&self, address: SocketAddr) -> Plan {
        Plan {
            time: self.duration,
            is_reverse: self.reverse,
            rate: self.rate,
            congestion: self.congestion.clone(),
            buffer: self.buffer,
            is_iperf3: self.iperf3,
            ..Plan::new(address)
        }
    }

    pub(super) fn wants_chart(&self) -> bool {
        self.chart || stdout().is_terminal()
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let found = duration(text)?;
    if !(SHORTEST..=LONGEST).contains(&found) {
        return Err("expected a second to an hour".into());
    }
    Ok(found)
}

fn buffer(text: &str) -> Result<u64, String> {
    let found = size(text)?;
    if !(4096..=1 << 30).contains(&found) {
        return Err("expected 4KiB to 1GiB".into());
    }
    Ok(found)
}

/// TCP_CA_NAME_MAX of the kernel is 16, with the zero at the end.
fn name(text: &str) -> Result<String, String> {
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    if text.is_empty() || text.len() > 15 || !text.chars().all(plain) {
        return Err("expected a name such as cubic or bbr".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(time("10s").is_ok() && time("10ms").is_err() && time("2h").is_err());
        assert!(buffer("64MiB").is_ok() && buffer("1").is_err() && buffer("2GiB").is_err());
        assert!(name("bbr").is_ok() && name("").is_err() && name("a b").is_err());
        assert!(name("a_name_of_sixteen").is_err());
    }
}
