//! One stream of iperf3, counted by its receiver.

mod rates;

use std::{net::SocketAddr, path::Path, process::ExitStatus, time::Duration};

use anyhow::Context as _;

pub(super) use self::rates::{Rates, warm_up};
use rates::{rates, told};

use super::ground::{End, Ground, User};
use crate::child::{Program, Running};

const PROGRAM: &str = "iperf3";
/// How long the receiver may take to print, once the sender has ended.
const PATIENCE: Duration = Duration::from_secs(5);

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

#[cfg(test)]
mod tests {
    use super::*;

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
