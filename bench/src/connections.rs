//! New connections, one after the other on each of several threads: connect, a short response, and
//! both ends close.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    header::{Header, Mode},
    latency::Latency,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Clone, Debug)]
pub struct Connections {
    /// The server, or a proxy before it.
    pub address: SocketAddr,
    /// Connections that are opened at the same time, a thread each. Default: 16.
    pub concurrency: u16,
    /// How long connections are begun. Default: 10 s.
    pub time: Duration,
    /// Bytes of the response, at least 1. Default: 200.
    pub response: u32,
}

/// One connection that gets one byte: whether a server, or all that stands before it, is there.
///
/// # Errors
/// When it is not, or says nothing within `patience`.
pub fn probe(address: SocketAddr, patience: Duration) -> io::Result<()> {
    let header = Header {
        response: 1,
        ..Header::new(Mode::Connect)
    };
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&header.encode())?;
    stream.read_exact(&mut [0])
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From the first connection's begin to the last one's end.
    pub time: Duration,
    /// From connect to the last byte of the response.
    pub latency: Latency,
    /// Connections that failed.
    pub failed: u64,
    /// What the first of them said.
    pub failure: Option<String>,
}

impl Outcome {
    /// Connections per second that got their response.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.latency.count() as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

impl Connections {
    /// The defaults.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            concurrency: 16,
            time: Duration::from_secs(10),
            response: 200,
        }
    }

    /// Opens connections for the time that is given. Failures are counted.
    ///
    /// # Errors
    /// When no connection at all succeeded.
    pub fn run(&self) -> io::Result<Outcome> {
        let started = Instant::now();
        let mut outcome = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.concurrency.max(1))
                .map(|_| scope.spawn(|| self.one_after_the_other(started)))
                .collect();
            let mut sum = Outcome::default();
            for thread in threads {
                let part = thread.join().unwrap_or_default();
                sum.latency.add(&part.latency);
                sum.failed += part.failed;
                sum.failure = sum.failure.or(part.failure);
            }
            sum
        });
        outcome.time = started.elapsed();
        match &outcome.failure {
            Some(failure) if outcome.latency.count() == 0 => Err(io::Error::other(format!(
                "{} connections failed and none succeeded, the first: {failure}",
                outcome.failed
            ))),
            _ => Ok(outcome),
        }
    }

    fn one_after_the_other(&self, started: Instant) -> Outcome {
        let header = Header {
            response: self.response.max(1),
            ..Header::new(Mode::Connect)
        };
        let header = header.encode();
        let mut outcome = Outcome::default();
        let mut failed_in_a_row = 0;
        while started.elapsed() < self.time {
            let begun = Instant::now();
            match self.once(&header) {
                Ok(done) => {
                    outcome.latency.record(done - begun);
                    failed_in_a_row = 0;
                }
                Err(error) => {
                    outcome.failed += 1;
                    failed_in_a_row += 1;
                    outcome.failure.get_or_insert_with(|| error.to_string());
                    // Refused at once, it would only count how fast that goes.
                    if failed_in_a_row >= 10 {
                        break;
                    }
                }
            }
        }
        outcome
    }

    fn once(&self, header: &[u8]) -> io::Result<Instant> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(header)?;
        let mut wanted = usize::try_from(self.response.max(1)).unwrap_or(1);
        let mut done = Instant::now();
        let mut scratch = [0; 4096];
        loop {
            let count = stream.read(&mut scratch)?;
            if count == 0 {
                break;
            }
            wanted = wanted.saturating_sub(count);
            done = Instant::now();
        }
        if wanted > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a connection was closed before its response was whole",
            ));
        }
        Ok(done)
    }
}
