//! One stream of iperf3, counted by its receiver.

use std::{net::SocketAddr, path::Path, process::ExitStatus, time::Duration};

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::Value;

use super::ground::{End, Ground, User};
use crate::{
    child::{Program, Running},
    statistics::Summary,
};

const PROGRAM: &str = "iperf3";
/// How long the receiver may take to print, once the sender has ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a stream may take to come to its speed, in seconds; a third of a short run.
const WARM_UP: f64 = 5.0;

/// What arrived, in Gb/s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rates {
    /// The median of the seconds after the first five.
    pub(super) steady: f64,
    /// Of all.
    pub(super) mean: f64,
    /// Each second.
    pub(super) seconds: Vec<f64>,
}

/// Where a stream goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'a> {
    /// For its logs.
    pub(super) name: &'a str,
    /// Where the receiver listens, at the far end.
    pub(super) listen: SocketAddr,
    /// Where the sender connects to, from the near one.
    pub(super) target: SocketAddr,
    /// Of the sender.
    pub(super) congestion: &'a str,
}

/// A stream that is sent.
#[derive(Debug)]
pub(super) struct Stream {
    receiver: Running,
    sender: Option<Running>,
    program: Program,
    log: std::path::PathBuf,
    seconds: u32,
}

impl Stream {
    /// Starts the receiver, and waits until it listens.
    pub(super) fn listen(
        ground: &Ground,
        folder: &Path,
        route: Route<'_>,
        seconds: u32,
    ) -> anyhow::Result<Self> {
        let Route { name, .. } = route;
        let (host, port) = (
            route.listen.ip().to_string(),
            route.listen.port().to_string(),
        );
        let arguments = ["-s", "-1", "-J", "-B", &host, "-p", &port];
        let receiver = ground.program(End::Far, User::Root, Path::new(PROGRAM), &arguments);
        let receiver = Running::start(&receiver, &folder.join(format!("{name}-receiver.log")))?;
        let (host, port) = (
            route.target.ip().to_string(),
            route.target.port().to_string(),
        );
        let time = seconds.to_string();
        let arguments = [
            "-c",
            &host,
            "-p",
            &port,
            "-t",
            &time,
            "-C",
            route.congestion,
            "-J",
        ];
        let program = ground.program(End::Near, User::Root, Path::new(PROGRAM), &arguments);
        let mut stream = Self {
            receiver,
            sender: None,
            program,
            log: folder.join(format!("{name}-sender.log")),
            seconds,
        };
        // With -J it does not say that it listens, and a connection would be its only client.
        let name = ground.name(End::Far).to_owned();
        stream.receiver.until("iperf3 listening", |_| {
            let look = || std::fs::read_to_string("/proc/thread-self/net/tcp");
            let table = sekisho_wan::inside(&name, look);
            table.is_ok_and(|table| is_listening(&table, route.listen.port()))
        })?;
        Ok(stream)
    }

    /// Sends.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        self.sender = Some(Running::start(&self.program, &self.log)?);
        Ok(())
    }

    /// Whether the sender has ended.
    pub(super) fn is_over(&mut self) -> anyhow::Result<bool> {
        let ended: Option<Option<ExitStatus>> =
            self.sender.as_mut().map(Running::ended).transpose()?;
        Ok(ended.flatten().is_some())
    }

    /// What arrived.
    pub(super) fn rates(mut self) -> anyhow::Result<Rates> {
        if let Some(sender) = &self.sender {
            told(&sender.log()).context("the sender")?;
        }
        let started = std::time::Instant::now();
        while self.receiver.ended()?.is_none() && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let document = told(&self.receiver.log()).context("the receiver")?;
        rates(&document, self.seconds)
    }
}

/// Whether a table as in /proc/net/tcp has a socket that listens at a port.
fn is_listening(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let end = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_here = words.next().is_some_and(|address| address.ends_with(&end));
        is_here && words.nth(1) == Some(LISTEN)
    })
}

/// The document that iperf3 has printed, or what it says went wrong.
fn told(log: &str) -> anyhow::Result<Value> {
    let text = log.find('{').and_then(|from| log.get(from..));
    let Some(text) = text else {
        bail!("iperf3 printed no JSON: {}", log.trim());
    };
    let document: Value = serde_json::from_str(text).context("what iperf3 printed")?;
    if let Some(error) = document.get("error").and_then(Value::as_str) {
        bail!("iperf3: {error}");
    }
    Ok(document)
}

fn rates(document: &Value, seconds: u32) -> anyhow::Result<Rates> {
    let bits = |value: &Value| value.get("bits_per_second").and_then(Value::as_f64);
    let mean = document
        .pointer("/end/sum_received")
        .and_then(bits)
        .filter(|bits| *bits > 0.0)
        .context("iperf3: nothing arrived")?;
    let warm = warm_up(seconds);
    let (mut all, mut steady) = (Vec::new(), Vec::new());
    for interval in document
        .get("intervals")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let sum = interval
            .get("sum")
            .context("iperf3: an interval without a sum")?;
        let number = |name: &str| sum.get(name).and_then(Value::as_f64).unwrap_or_default();
        // What is left at the end is a few milliseconds.
        if number("seconds") < 0.5 {
            continue;
        }
        let rate = bits(sum).unwrap_or_default() / 1e9;
        all.push(rate);
        if f64::midpoint(number("start"), number("end")) > warm {
            steady.push(rate);
        }
    }
    let mean = mean / 1e9;
    Ok(Rates {
        steady: Summary::of(steady).map_or(mean, |summary| summary.median),
        mean,
        seconds: all,
    })
}

/// Seconds that do not count for [`Rates::steady`].
pub(super) fn warm_up(seconds: u32) -> f64 {
    WARM_UP.min(f64::from(seconds) / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(rates: &[f64]) -> Value {
        let interval = |(second, rate): (usize, &f64)| {
            json!({"sum": {"start": second as f64, "end": second as f64 + 1.0, "seconds": 1.0,
                "bits_per_second": rate * 1e9}})
        };
        let mut intervals: Vec<_> = rates.iter().enumerate().map(interval).collect();
        intervals.push(json!({"sum": {"start": 9.0, "end": 9.01, "seconds": 0.01,
            "bits_per_second": 9e12}}));
        json!({"intervals": intervals, "end": {"sum_received": {"bits_per_second": 1.5e9}}})
    }

    #[test]
    fn the_first_seconds_do_not_count() {
        let found = rates(&document(&[0.1, 0.2, 0.3, 0.4, 0.5, 2.0, 3.0, 2.5]), 60).unwrap();
        assert_eq!((found.steady, found.mean), (2.5, 1.5));
        assert_eq!(found.seconds.len(), 8);
        // Of three seconds, the first.
        let short = rates(&document(&[0.1, 1.0, 2.0]), 3).unwrap();
        assert_eq!(short.steady, 1.5);
        assert_eq!(rates(&document(&[]), 3).unwrap().steady, 1.5);
    }

    #[test]
    fn nothing_is_no_figure() {
        let nothing = json!({"intervals": [], "end": {"sum_received": {"bits_per_second": 0.0}}});
        assert!(rates(&nothing, 3).is_err());
        assert!(rates(&json!({}), 3).is_err());
    }

    #[test]
    fn its_errors_are_told() {
        let error = told("{\"error\": \"unable to connect\"}").unwrap_err();
        assert_eq!(error.to_string(), "iperf3: unable to connect");
        let error = told("iperf3: command not found\n").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("no JSON: iperf3: command not found")
        );
        assert!(told("warning: x\n{\"end\": {}}\n").is_ok());
        assert!(told("{\"end\":").is_err());
    }

    #[test]
    fn a_listening_socket_is_found_by_its_port() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
            0: 0100007F:1B5B 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:1B5C 00000000:0000 01 00000000:00000000\n";
        assert!(is_listening(table, 7003));
        assert!(!is_listening(table, 7004));
        assert!(!is_listening(table, 7001));
    }
}
