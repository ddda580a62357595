//! What is sent through a pair, and what is read off it.

mod metric;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::bail;
use clap::ValueEnum;
pub(crate) use metric::Metric;
use sekisho_bench::{
    connections::Connections,
    idle::Idle,
    latency::Latency,
    requests::Requests,
    throughput::{Direction, Throughput},
};
use serde::Serialize;

use crate::{child::Running, cli::Options, iperf3};

/// What an idle connection carries first, each way, in bytes.
const CARRY: u32 = 1 << 20;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Load {
    /// One stream from the client
    Stream,
    /// Eight streams from the client
    Streams8,
    /// One stream from the server
    Reverse,
    /// One connection, a stream each way
    Bidir,
    /// New connections, sixteen at a time, each with a full handshake
    Connect,
    /// The same, with TLS sessions resumed
    Resume,
    /// Requests on 16 connections that stay open
    Rr16,
    /// Requests on 128 connections that stay open
    Rr128,
    /// Idle connections, each of which has carried 1 MiB both ways
    Idle,
    /// Start-up and memory before the first load, with one worker and with eight
    Startup,
}

/// What was read off one cell.
pub(crate) type Sample = BTreeMap<Metric, f64>;

/// The two proxies of a pair, while they run.
#[derive(Debug)]
pub(crate) struct Proxies {
    pub(crate) front: Running,
    pub(crate) back: Running,
}

/// CPU time of both.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    front: f64,
    back: f64,
}

impl Cpu {
    fn read(proxies: Option<&Proxies>) -> anyhow::Result<Option<Self>> {
        let read = |proxies: &Proxies| -> anyhow::Result<_> {
            Ok(Self {
                front: proxies.front.cpu()?.as_secs_f64(),
                back: proxies.back.cpu()?.as_secs_f64(),
            })
        };
        proxies.map(read).transpose()
    }

    const fn both(self) -> f64 {
        self.front + self.back
    }
}

impl Load {
    /// What is measured unless asked otherwise.
    pub(crate) const DEFAULT: [Self; 10] = [
        Self::Stream,
        Self::Streams8,
        Self::Reverse,
        Self::Bidir,
        Self::Connect,
        Self::Resume,
        Self::Rr16,
        Self::Rr128,
        Self::Idle,
        Self::Startup,
    ];

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// What it is, in a line.
    pub(crate) fn title(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// Whether bytes are counted.
    pub(crate) const fn is_stream(self) -> bool {
        matches!(
            self,
            Self::Stream | Self::Streams8 | Self::Reverse | Self::Bidir
        )
    }

    /// The numbers of workers that it is measured with.
    pub(crate) fn workers(self, options: &Options) -> Vec<u16> {
        let all = options.workers();
        match self {
            Self::Startup => vec![1, 8],
            // One connection is one worker's, and memory does not ask.
            Self::Stream | Self::Reverse | Self::Bidir | Self::Idle => {
                all.into_iter().take(1).collect()
            }
            Self::Streams8 | Self::Connect | Self::Resume | Self::Rr16 | Self::Rr128 => all,
        }
    }

    /// What its table shows.
    pub(crate) const fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Stream | Self::Streams8 | Self::Reverse | Self::Bidir => &[
                Metric::Rate,
                Metric::CpuPerGigabyte,
                Metric::CpuPerGigabyteFront,
                Metric::CpuPerGigabyteBack,
            ],
            Self::Connect | Self::Resume => &[
                Metric::Connections,
                Metric::CpuPerConnection,
                Metric::P50,
                Metric::P99,
                Metric::P999,
            ],
            Self::Rr16 | Self::Rr128 => &[
                Metric::Requests,
                Metric::RequestsPerCpu,
                Metric::P50,
                Metric::P99,
                Metric::P999,
            ],
            Self::Idle => &[Metric::IdleFront, Metric::IdleBack, Metric::Answered],
            Self::Startup => &[Metric::StartUp, Metric::EmptyFront, Metric::EmptyBack],
        }
    }

    /// Sends it to `target` and reads what the proxies spent.
    pub(crate) fn run(
        self,
        target: SocketAddr,
        proxies: Option<&Proxies>,
        options: &Options,
        server: Server<'_>,
    ) -> anyhow::Result<Sample> {
        let time = Duration::from_secs(options.seconds().into());
        let before = Cpu::read(proxies)?;
        let mut sample = Sample::new();
        let mut amount = 0.0;
        match self {
            Self::Stream | Self::Streams8 | Self::Reverse | Self::Bidir => {
                let carried = self.stream(target, time, server)?;
                sample.insert(Metric::Rate, carried.bits_per_second / 1e9);
                amount = carried.bytes / 1e9;
            }
            Self::Connect | Self::Resume => {
                let plan = Connections {
                    time,
                    ..Connections::new(target)
                };
                let outcome = plan.run()?;
                if let Some(failure) = outcome.failure {
                    bail!(
                        "{} connections failed, the first: {failure}",
                        outcome.failed
                    );
                }
                sample.insert(Metric::Connections, outcome.per_second());
                latencies(&outcome.latency, &mut sample);
                amount = outcome.latency.count() as f64;
            }
            Self::Rr16 | Self::Rr128 => {
                let plan = Requests {
                    connections: if self == Self::Rr16 { 16 } else { 128 },
                    time,
                    ..Requests::new(target)
                };
                let outcome = plan.run()?;
                sample.insert(Metric::Requests, outcome.per_second());
                latencies(&outcome.latency, &mut sample);
                amount = outcome.latency.count() as f64;
            }
            Self::Idle => idle(target, proxies, options, &mut sample)?,
            Self::Startup => {}
        }
        let after = Cpu::read(proxies)?;
        if let (Some(before), Some(after)) = (before, after) {
            let spent = Cpu {
                front: after.front - before.front,
                back: after.back - before.back,
            };
            self.costs(spent, amount, &mut sample);
        }
        Ok(sample)
    }

    fn costs(self, spent: Cpu, amount: f64, sample: &mut Sample) {
        if amount <= 0.0 {
            return;
        }
        let each = spent.both() / amount;
        match self {
            Self::Stream | Self::Streams8 | Self::Reverse | Self::Bidir => {
                sample.insert(Metric::CpuPerGigabyte, each);
                sample.insert(Metric::CpuPerGigabyteFront, spent.front / amount);
                sample.insert(Metric::CpuPerGigabyteBack, spent.back / amount);
            }
            Self::Connect | Self::Resume => {
                sample.insert(Metric::CpuPerConnection, each * 1e3);
            }
            Self::Rr16 | Self::Rr128 => {
                sample.insert(Metric::RequestsPerCpu, 1.0 / each.max(1e-12));
            }
            Self::Idle | Self::Startup => {}
        }
    }

    fn stream(
        self,
        target: SocketAddr,
        time: Duration,
        server: Server<'_>,
    ) -> anyhow::Result<Carried> {
        let direction = match self {
            Self::Reverse => Direction::Reverse,
            Self::Bidir => Direction::Both,
            _ => Direction::Forward,
        };
        let streams = if self == Self::Streams8 { 8 } else { 1 };
        if let Server::Iperf3(folder) = server {
            return iperf3::run(target, time, direction, streams, folder);
        }
        let plan = Throughput {
            streams,
            direction,
            time,
            interval: time,
            ..Throughput::new(target)
        };
        let outcome = plan.run(|_| {})?;
        let ways = [outcome.forward(), outcome.reverse()];
        let ways = ways.iter().flatten();
        Ok(ways.fold(Carried::default(), |sum, way| Carried {
            bytes: sum.bytes + way.bytes as f64,
            bits_per_second: sum.bits_per_second + way.bits_per_second(),
        }))
    }
}

/// What answers at the far end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server<'a> {
    /// Real iperf3, to be started; its files go into the folder.
    Iperf3(&'a std::path::Path),
    /// Our own, which is there.
    Own,
}

/// What streams carried, all together, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Carried {
    pub(crate) bytes: f64,
    pub(crate) bits_per_second: f64,
}

fn latencies(latency: &Latency, sample: &mut Sample) {
    for (metric, percent) in [
        (Metric::P50, 50.0),
        (Metric::P99, 99.0),
        (Metric::P999, 99.9),
    ] {
        sample.insert(metric, latency.percentile(percent).as_secs_f64() * 1e3);
    }
}

fn idle(
    target: SocketAddr,
    proxies: Option<&Proxies>,
    options: &Options,
    sample: &mut Sample,
) -> anyhow::Result<()> {
    let pids = proxies.map(|pair| vec![pair.front.pid(), pair.back.pid()]);
    let plan = Idle {
        connections: options.idle_connections(),
        carry: CARRY,
        processes: pids.unwrap_or_default(),
        ..Idle::new(target)
    };
    let outcome = plan.run()?;
    let metrics = [Metric::IdleFront, Metric::IdleBack];
    for (metric, held) in metrics.into_iter().zip(&outcome.processes) {
        sample.insert(metric, held.per_connection(outcome.opened) / 1024.0);
    }
    let share = f64::from(outcome.answered) / f64::from(outcome.opened.max(1));
    sample.insert(Metric::Answered, share * 100.0);
    Ok(())
}
