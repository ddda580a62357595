//! Real iperf3 as the load.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use sekisho_bench::throughput::Direction;
use serde_json::Value;

use crate::{
    child::{Program, Running},
    load::Carried,
    peer::SERVER,
};

const PROGRAM: &str = "iperf3";

/// Its version.
pub(crate) fn version() -> anyhow::Result<String> {
    Program::new(Path::new(PROGRAM), &["--version"])
        .first_line()
        .context("iperf3, of the Debian package of that name (bench/install fetches it)")
}

/// Starts a server, and sends to it through `target`.
pub(crate) fn run(
    target: SocketAddr,
    time: Duration,
    direction: Direction,
    streams: u16,
    folder: &Path,
) -> anyhow::Result<Carried> {
    let (host, port) = (SERVER.ip().to_string(), SERVER.port().to_string());
    let server = Program {
        path: PathBuf::from(PROGRAM),
        arguments: ["-s", "-B", &host, "-p", &port, "--forceflush"]
            .map(str::to_owned)
            .into(),
    };
    let mut server = Running::start(&server, &folder.join("iperf3-server.log"))?;
    // A connection to see whether it listens would be taken for a client.
    server.until("iperf3 listening", |server| {
        server.log().contains("Server listening")
    })?;
    let (host, port) = (target.ip().to_string(), target.port().to_string());
    let (time, streams) = (time.as_secs().to_string(), streams.to_string());
    let mut client = Command::new(PROGRAM);
    client.args(["-J", "-c", &host, "-p", &port, "-t", &time, "-P", &streams]);
    match direction {
        Direction::Both => drop(client.arg("--bidir")),
        Direction::Reverse => drop(client.arg("-R")),
        Direction::Forward => {}
    }
    let output = client.stdin(Stdio::null()).output().context(PROGRAM)?;
    carried(&output.stdout)
}

fn carried(json: &[u8]) -> anyhow::Result<Carried> {
    let document: Value = serde_json::from_slice(json).context("what iperf3 printed")?;
    if let Some(error) = document.get("error").and_then(Value::as_str) {
        bail!("iperf3: {error}");
    }
    let number = |sum: &str, field: &str| {
        let at = format!("/end/{sum}/{field}");
        document.pointer(&at).and_then(Value::as_f64)
    };
    let of = |sum: &str| {
        Some(Carried {
            bytes: number(sum, "bytes")?,
            bits_per_second: number(sum, "bits_per_second")?,
        })
    };
    let main = of("sum_received").context("iperf3 says nothing of what was received")?;
    let reverse = of("sum_received_bidir_reverse");
    if main.bytes <= 0.0 || reverse.is_some_and(|reverse| reverse.bytes <= 0.0) {
        bail!("iperf3: nothing arrived");
    }
    let reverse = reverse.unwrap_or_default();
    Ok(Carried {
        bytes: main.bytes + reverse.bytes,
        bits_per_second: main.bits_per_second + reverse.bits_per_second,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_added() {
        let json = br#"{"end": {
            "sum_received": {"bytes": 10, "bits_per_second": 80.0},
            "sum_received_bidir_reverse": {"bytes": 5, "bits_per_second": 40.0}}}"#;
        let expected = Carried {
            bytes: 15.0,
            bits_per_second: 120.0,
        };
        assert_eq!(carried(json).unwrap(), expected);
    }

    #[test]
    fn its_errors_are_told() {
        let error = carried(br#"{"error": "no route"}"#).unwrap_err();
        assert_eq!(error.to_string(), "iperf3: no route");
        assert!(carried(b"").is_err());
    }
}
