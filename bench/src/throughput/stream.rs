//! One stream of the client.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Carried, Way};
use crate::{
    congestion,
    header::{Header, Mode, REPORT, Report},
    transfer::{self, Direction, Received},
};

/// How long the other end may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Stream {
    connection: TcpStream,
    // Both are gone once the other end has closed.
    local: SocketAddr,
    remote: SocketAddr,
    header: Header,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Stream {
    /// Says what the connection is for.
    pub(super) fn begin(mut connection: TcpStream, header: Header) -> io::Result<Self> {
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let name = Some(header.congestion.as_str()).filter(|name| !name.is_empty());
        congestion::choose(&connection, name)?;
        connection.write_all(&header.encode())?;
        Ok(Self {
            local: connection.local_addr()?,
            remote: connection.peer_addr()?,
            connection,
            header,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        })
    }

    /// Bytes sent and received so far.
    pub(super) fn moved(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.sent), load(&self.received))
    }

    /// Moves all of it.
    pub(super) fn run(&self, started: Instant) -> io::Result<Carried> {
        let way = |bytes: u64| {
            Some(Way {
                bytes,
                time: started.elapsed(),
            })
        };
        let (forward, reverse) = match self.header.mode {
            Mode::Download => {
                let received = self.receive()?;
                agree(received.report, &received)?;
                (None, way(received.bytes))
            }
            Mode::Both => thread::scope(|scope| {
                let sending = scope.spawn(|| self.send());
                let received = self.receive()?;
                let panicked = |_| Err(io::Error::other("a sending thread panicked"));
                let sent = sending.join().unwrap_or_else(panicked)?;
                agree(received.report, &received)?;
                arrived(sent, received.report)?;
                io::Result::Ok((way(sent), way(received.bytes)))
            })?,
            _ => {
                let sent = self.send()?;
                let mut last = [0; REPORT];
                (&self.connection)
                    .read_exact(&mut last)
                    .map_err(unreported)?;
                arrived(sent, Report::decode(&last))?;
                (way(sent), None)
            }
        };
        Ok(Carried {
            local: self.local,
            remote: self.remote,
            forward,
            reverse,
            congestion: congestion::of(&self.connection),
        })
    }

    fn send(&self) -> io::Result<u64> {
        let sent = transfer::send(&self.connection, &self.header, Direction::Up, &self.sent)?;
        self.connection.shutdown(Shutdown::Write)?;
        Ok(sent)
    }

    fn receive(&self) -> io::Result<Received> {
        transfer::receive(
            &self.connection,
            &self.header,
            Direction::Down,
            true,
            &self.received,
        )
    }
}

/// The stream ended where the server's report should have come.
fn unreported(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(
            error.kind(),
            "the connection ended without the server's report: does what stands between close both \
             directions when one ends?",
        );
    }
    error
}

/// The server sent what we received.
fn agree(report: Option<Report>, received: &Received) -> io::Result<()> {
    let sent = report.map(|report| report.sent);
    whole(sent, received.bytes, received.damaged_at)
}

/// The server received what we sent.
fn arrived(sent: u64, report: Option<Report>) -> io::Result<()> {
    let Some(report) = report else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the server's report is not one",
        ));
    };
    whole(Some(sent), report.received, report.damaged_at)
}

fn whole(sent: Option<u64>, received: u64, damaged_at: Option<u64>) -> io::Result<()> {
    if let Some(at) = damaged_at {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("byte {at} is not the one that was sent"),
        ));
    }
    if sent != Some(received) {
        let sent = sent.unwrap_or_default();
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{sent} bytes were sent and {received} arrived"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_differs_at_its_ends_is_an_error() {
        assert!(whole(Some(5), 5, None).is_ok());
        let short = whole(Some(5), 4, None).unwrap_err();
        assert_eq!(short.to_string(), "5 bytes were sent and 4 arrived");
        let damaged = whole(Some(5), 5, Some(3)).unwrap_err();
        assert!(damaged.to_string().starts_with("byte 3 "));
        assert!(arrived(5, None).is_err());
    }
}
