//! Requests and responses on connections that stay open, one in flight on each.
//!
//! The default sizes are about those of a small HTTP request and its answer, as `wrk` sends them:
//! 100 and 200 bytes.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::{
    header::{Header, Mode},
    latency::Latency,
};

/// How long a response may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const EVENTS: usize = 256;

/// What to do.
#[derive(Clone, Debug)]
pub struct Requests {
    /// The server, or a proxy before it.
    pub address: SocketAddr,
    /// Connections. Default: 16.
    pub connections: u16,
    /// How long requests are begun. Default: 10 s.
    pub time: Duration,
    /// Bytes of a request, at least 1. Default: 100.
    pub request: u32,
    /// Bytes of a response, at least 1. Default: 200.
    pub response: u32,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// From the first request to the last response.
    pub time: Duration,
    /// From each request to the last byte of its response.
    pub latency: Latency,
}

impl Outcome {
    /// Responses per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.latency.count() as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

struct Connection {
    stream: TcpStream,
    /// Of the request that goes.
    unsent: usize,
    /// Of the response that comes.
    wanted: usize,
    begun: Instant,
}

impl Requests {
    /// The defaults.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connections: 16,
            time: Duration::from_secs(10),
            request: 100,
            response: 200,
        }
    }

    /// Opens the connections, then sends on each whenever its response is there.
    ///
    /// # Errors
    /// When a connection fails or ends, or no response comes for 30 s.
    pub fn run(&self) -> io::Result<Outcome> {
        let header = Header {
            request: self.request.max(1),
            response: self.response.max(1),
            ..Header::new(Mode::Exchange)
        };
        let request = vec![b'q'; usize::try_from(header.request).unwrap_or(1)];
        let response = usize::try_from(header.response).unwrap_or(1);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connections = Vec::new();
        for token in 0..u64::from(self.connections.max(1)) {
            let stream = open(self.address, &header)?;
            let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            epoll.add(&stream, EpollEvent::new(interest, token))?;
            connections.push(Connection {
                stream,
                unsent: request.len(),
                wanted: response,
                begun: Instant::now(),
            });
        }
        let started = Instant::now();
        let mut latency = Latency::default();
        let mut scratch = vec![0; 64 << 10];
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let mut open = connections.len();
        for connection in &mut connections {
            connection.begun = Instant::now();
            connection.send(&request)?;
        }
        let patience = EpollTimeout::try_from(PATIENCE).unwrap_or(EpollTimeout::NONE);
        while open > 0 {
            let count = match epoll.wait(&mut events, patience) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            if count == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{open} connections wait for a response, none came for 30 s"),
                ));
            }
            for event in events.iter().take(count) {
                let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
                let Some(connection) = connections.get_mut(index) else {
                    continue;
                };
                if connection.unsent > 0 {
                    connection.send(&request)?;
                }
                // Of a connection that has its last response, the end may come in any way.
                if connection.wanted == 0 || !connection.receive(&mut scratch)? {
                    continue;
                }
                let now = Instant::now();
                latency.record(now - connection.begun);
                if now - started < self.time {
                    connection.begun = now;
                    connection.unsent = request.len();
                    connection.wanted = response;
                    connection.send(&request)?;
                } else {
                    open -= 1;
                }
            }
        }
        Ok(Outcome {
            time: started.elapsed(),
            latency,
        })
    }
}

/// Connects, and says what for.
pub(crate) fn open(address: SocketAddr, header: &Header) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
    stream.set_nodelay(true)?;
    stream.write_all(&header.encode())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Connection {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        while self.unsent > 0 {
            let from = request.len().saturating_sub(self.unsent);
            match self.stream.write(request.get(from..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                other => self.unsent -= other?.min(self.unsent),
            }
        }
        Ok(())
    }

    /// Whether the response is whole.
    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        while self.wanted > 0 {
            let most = self.wanted.min(scratch.len());
            match self
                .stream
                .read(scratch.get_mut(..most).unwrap_or_default())
            {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "a connection was closed before its response was whole",
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                other => self.wanted -= other?,
            }
        }
        Ok(true)
    }
}
