//! One direction of a stream, sent or received by a thread of its own.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    header::{Header, REPORT, Report},
    pattern::Pattern,
};

/// Of one read.
const BUFFER: usize = 256 << 10;

/// Which of a stream's two patterns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    /// From the client.
    Up,
    /// From the server.
    Down,
}

const fn seed(header: &Header, direction: Direction) -> u64 {
    match direction {
        Direction::Up => header.seed,
        Direction::Down => !header.seed,
    }
}

/// Sends what the header asks for; returns how many bytes that were.
pub(crate) fn send(
    mut stream: &TcpStream,
    header: &Header,
    direction: Direction,
    counter: &AtomicU64,
) -> io::Result<u64> {
    let block = usize::try_from(header.block).unwrap_or(BUFFER);
    let seed = seed(header, direction);
    let mut pattern = if header.verify {
        Pattern::new(seed)
    } else {
        Pattern::of(seed, block)
    };
    let started = Instant::now();
    let mut sent = 0_u64;
    loop {
        let passed = started.elapsed();
        let left = match header.bytes {
            0 => u64::MAX,
            bytes => bytes - sent.min(bytes),
        };
        if left == 0 || (!header.time.is_zero() && passed >= header.time) {
            return Ok(sent);
        }
        let count =
            stream.write(pattern.next(block.min(usize::try_from(left).unwrap_or(block))))?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        pattern.advance(count);
        sent += count as u64;
        counter.store(sent, Ordering::Relaxed);
        if header.rate > 0 {
            pause(sent, header, started);
        }
    }
}

/// Waits until `sent` bytes are due.
pub(crate) fn pause(sent: u64, header: &Header, started: Instant) {
    let due = Duration::from_secs_f64(sent as f64 * 8.0 / header.rate as f64);
    let due = if header.time.is_zero() {
        due
    } else {
        due.min(header.time)
    };
    if let Some(rest) = due.checked_sub(started.elapsed()) {
        thread::sleep(rest);
    }
}

/// What arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes, without the report.
    pub(crate) bytes: u64,
    /// The first byte that is not of the pattern.
    pub(crate) damaged_at: Option<u64>,
    /// What the last bytes said.
    pub(crate) report: Option<Report>,
}

/// Receives until the other end closes its half. With `reported`, the last bytes are its report.
pub(crate) fn receive(
    mut stream: &TcpStream,
    header: &Header,
    direction: Direction,
    reported: bool,
    counter: &AtomicU64,
) -> io::Result<Received> {
    let mut pattern = header.verify.then(|| Pattern::new(seed(header, direction)));
    let keep = if reported { REPORT } else { 0 };
    let mut buffer = vec![0; keep + BUFFER];
    // The last bytes so far, which are no payload if nothing comes behind them.
    let mut held = 0;
    let mut received = Received::default();
    loop {
        let count = stream.read(buffer.get_mut(held..).unwrap_or_default())?;
        if count == 0 {
            break;
        }
        let filled = held + count;
        let payload = filled.saturating_sub(keep);
        let data = buffer.get(..payload).unwrap_or_default();
        if let (Some(pattern), None) = (&mut pattern, received.damaged_at) {
            let at = pattern.compare(data);
            received.damaged_at = at.map(|at| received.bytes + at as u64);
        }
        received.bytes += payload as u64;
        counter.store(received.bytes, Ordering::Relaxed);
        buffer.copy_within(payload..filled, 0);
        held = filled - payload;
    }
    if reported {
        let last = buffer.first_chunk::<REPORT>();
        let last = last.filter(|_| held == REPORT).and_then(Report::decode);
        if last.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "the stream ended after {} bytes without the server's report",
                    received.bytes
                ),
            ));
        }
        received.report = last;
    }
    Ok(received)
}
