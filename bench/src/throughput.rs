//! Streams, as fast as they go or as fast as they may.

mod interval;
mod stream;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

pub use self::interval::{Interval, Span};
use self::{interval::Sampler, stream::Stream};
use crate::header::{Header, Mode};

/// Which ends send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both at the same time, on each connection.
    Both,
    /// The client.
    #[default]
    Forward,
    /// The server.
    Reverse,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Throughput {
    /// The server, or a proxy before it.
    pub address: SocketAddr,
    /// Connections at the same time. Default: 1.
    pub streams: u16,
    /// How long each sends. Default: 10 s. Ignored if `bytes` says how much.
    pub time: Duration,
    /// How much each stream sends, in bytes, each way. Default: until `time`.
    pub bytes: Option<u64>,
    /// Which ends send. Default: the client.
    pub direction: Direction,
    /// Bytes of one write. Default: 128 KiB, as iperf3 has it.
    pub block: u32,
    /// Bits per second of each stream, each way. Default: as fast as it goes.
    pub rate: Option<u64>,
    /// Between two reports. Default: 1 s.
    pub interval: Duration,
    /// The receiver compares every byte. Default: no.
    pub verify: bool,
    /// Congestion control of both ends. Default: what their hosts have.
    pub congestion: Option<String>,
}

/// One direction of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Way {
    /// Bytes, by both ends: they agree, or there is no outcome.
    pub bytes: u64,
    /// From the start until the receiver had, and had told of, the last byte.
    pub time: Duration,
}

impl Way {
    /// Bits per second that arrived.
    #[must_use]
    pub fn bits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64().max(1e-9)
    }
}

/// What a stream carried.
#[derive(Clone, Debug, PartialEq)]
pub struct Carried {
    /// The client's address.
    pub local: SocketAddr,
    /// The server's, or the proxy's.
    pub remote: SocketAddr,
    /// From the client.
    pub forward: Option<Way>,
    /// From the server.
    pub reverse: Option<Way>,
    /// The client's congestion control.
    pub congestion: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Each stream.
    pub streams: Vec<Carried>,
    /// Each interval.
    pub intervals: Vec<Interval>,
}

impl Outcome {
    /// All streams together, from the client; `None` if it did not send.
    #[must_use]
    pub fn forward(&self) -> Option<Way> {
        sum(self.streams.iter().filter_map(|stream| stream.forward))
    }

    /// All streams together, from the server.
    #[must_use]
    pub fn reverse(&self) -> Option<Way> {
        sum(self.streams.iter().filter_map(|stream| stream.reverse))
    }
}

fn sum(ways: impl Iterator<Item = Way>) -> Option<Way> {
    ways.reduce(|one, other| Way {
        bytes: one.bytes + other.bytes,
        time: one.time.max(other.time),
    })
}

impl Throughput {
    /// The defaults.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            streams: 1,
            time: Duration::from_secs(10),
            bytes: None,
            direction: Direction::Forward,
            block: 128 << 10,
            rate: None,
            interval: Duration::from_secs(1),
            verify: false,
            congestion: None,
        }
    }

    fn header(&self, stream: u16) -> Header {
        let mode = match self.direction {
            Direction::Both => Mode::Both,
            Direction::Forward => Mode::Upload,
            Direction::Reverse => Mode::Download,
        };
        Header {
            verify: self.verify,
            block: self.block,
            time: if self.bytes.is_some() {
                Duration::ZERO
            } else {
                self.time
            },
            bytes: self.bytes.unwrap_or_default(),
            rate: self.rate.unwrap_or_default(),
            seed: u64::from(stream) + 1,
            congestion: self.congestion.clone().unwrap_or_default(),
            ..Header::new(mode)
        }
    }

    /// Connects all streams, lets them go, and tells `progress` of each interval.
    ///
    /// # Errors
    /// When a connection fails, when sender and receiver counted differently, or when a byte that
    /// arrived was not the one sent.
    pub fn run(&self, mut progress: impl FnMut(&Interval)) -> io::Result<Outcome> {
        let streams = (0..self.streams.max(1))
            .map(|number| {
                let connection = TcpStream::connect(self.address).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", self.address))
                })?;
                Stream::begin(connection, self.header(number)).map(Arc::new)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let started = Instant::now();
        let (done, finished) = mpsc::channel();
        for (number, stream) in streams.iter().enumerate() {
            let stream = Arc::clone(stream);
            let done = done.clone();
            thread::Builder::new()
                .name(format!("bench-{number}"))
                .spawn(move || {
                    // Nobody listens once another stream has failed.
                    let _ = done.send((number, stream.run(started)));
                })?;
        }
        drop(done);
        let mut sampler = Sampler::new(&streams, started, self.interval);
        let mut carried = Vec::new();
        while carried.len() < streams.len() {
            match finished.recv_timeout(sampler.until_next()) {
                Ok((number, outcome)) => carried.push((number, outcome?)),
                Err(mpsc::RecvTimeoutError::Timeout) => progress(sampler.take()),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("a stream's thread panicked"));
                }
            }
        }
        if let Some(last) = sampler.finish() {
            progress(last);
        }
        carried.sort_by_key(|(number, _)| *number);
        Ok(Outcome {
            streams: carried.into_iter().map(|(_, carried)| carried).collect(),
            intervals: sampler.intervals(),
        })
    }
}
