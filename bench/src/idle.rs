//! Connections that are held: what they cost, and whether they still answer afterwards.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use crate::{
    header::{Header, Mode},
    process::{self, Memory},
};

/// How long a connection may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes by which a connection shows that it lives.
const PING: usize = 16;
const BLOCK: usize = 64 << 10;

/// What to do.
#[derive(Clone, Debug)]
pub struct Idle {
    /// The server, or a proxy before it.
    pub address: SocketAddr,
    /// Connections to hold. Default: 1,000.
    pub connections: u32,
    /// Connections that are opened at the same time. Default: 16.
    pub concurrency: u16,
    /// Bytes that each carries, each way, before it is idle. Default: none. The server answers when
    /// all of them have arrived.
    pub carry: u32,
    /// How long they are held before memory is read. Default: 3 s.
    pub hold: Duration,
    /// Processes whose memory is read. Default: none.
    pub processes: Vec<u32>,
}

/// What a process had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The process.
    pub pid: u32,
    /// Before the first connection.
    pub before: Memory,
    /// While all are held.
    pub during: Memory,
}

impl Held {
    /// Resident bytes per connection.
    #[must_use]
    pub fn per_connection(&self, connections: u32) -> f64 {
        let grown = self.during.resident as f64 - self.before.resident as f64;
        grown / f64::from(connections.max(1))
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Connections that were opened, and carried what they were to carry.
    pub opened: u32,
    /// Of these, those that answered after they were held.
    pub answered: u32,
    /// Memory of each process.
    pub processes: Vec<Held>,
}

impl Idle {
    /// The defaults.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connections: 1_000,
            concurrency: 16,
            carry: 0,
            hold: Duration::from_secs(3),
            processes: Vec::new(),
        }
    }

    /// Opens, carries, holds, reads memory, and asks each connection again.
    ///
    /// # Errors
    /// When a connection cannot be opened or a process is not there.
    pub fn run(&self) -> io::Result<Outcome> {
        let read = || -> io::Result<Vec<_>> {
            let pids = self.processes.iter();
            pids.map(|pid| process::memory(*pid)).collect()
        };
        let before = read()?;
        let lanes = u32::from(self.concurrency.max(1)).min(self.connections.max(1));
        let mut opened = in_parallel((0..lanes).collect(), |lane| {
            let share = self.connections / lanes + u32::from(lane < self.connections % lanes);
            (0..share)
                .map(|_| self.open())
                .collect::<io::Result<Vec<_>>>()
        })?;
        thread::sleep(self.hold);
        let during = read()?;
        let count = |total: usize| u32::try_from(total).unwrap_or(u32::MAX);
        let total = opened.iter().map(Vec::len).sum();
        let answered = in_parallel(opened.iter_mut().collect(), |streams| {
            // One that does not answer is what this is here to find.
            Ok(streams.iter_mut().map(ping).filter(|alive| *alive).count())
        })?;
        let processes = self.processes.iter().zip(before).zip(during);
        Ok(Outcome {
            opened: count(total),
            answered: count(answered.iter().sum()),
            processes: processes
                .map(|((pid, before), during)| Held {
                    pid: *pid,
                    before,
                    during,
                })
                .collect(),
        })
    }

    fn open(&self) -> io::Result<TcpStream> {
        let ping = u32::try_from(PING).unwrap_or_default();
        let header = Header {
            bytes: self.carry.into(),
            request: ping,
            response: ping,
            ..Header::new(Mode::Exchange)
        };
        let mut stream = TcpStream::connect(self.address)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.address)))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&header.encode())?;
        let mut block = vec![b'i'; BLOCK];
        let carry = usize::try_from(self.carry).unwrap_or_default();
        each_block(carry, |count| {
            stream.write_all(block.get(..count).unwrap_or_default())
        })?;
        each_block(carry, |count| {
            stream.read_exact(block.get_mut(..count).unwrap_or_default())
        })?;
        // Without that, a proxy may not even have dialled yet.
        if carry == 0 && !self::ping(&mut stream) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a new connection did not answer",
            ));
        }
        Ok(stream)
    }
}

fn each_block(mut left: usize, mut go: impl FnMut(usize) -> io::Result<()>) -> io::Result<()> {
    while left > 0 {
        let count = left.min(BLOCK);
        go(count)?;
        left -= count;
    }
    Ok(())
}

fn ping(stream: &mut TcpStream) -> bool {
    let mut answer = [0; PING];
    stream.write_all(&[b'p'; PING]).is_ok() && stream.read_exact(&mut answer).is_ok()
}

/// A thread for each item.
fn in_parallel<I: Send, O: Send>(
    items: Vec<I>,
    work: impl Fn(I) -> io::Result<O> + Sync,
) -> io::Result<Vec<O>> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .map(|item| scope.spawn(move || work(item)))
            .collect();
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    })
}
