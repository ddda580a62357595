//! Requests and responses on one connection, without waiting.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use crate::header::Header;

/// Bytes that are read or written at once.
pub(super) const SCRATCH: usize = 256 << 10;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    End,
    Read,
    Write,
}

/// Where a connection stands.
#[derive(Debug)]
pub(super) struct Exchange {
    request: u64,
    response: u64,
    /// Of the request that comes.
    wanted: u64,
    /// Of the response that goes.
    owed: u64,
    /// Owed when the request is whole.
    next: u64,
    /// Closes its half after the response.
    once: bool,
}

impl Exchange {
    /// Until the client closes.
    pub(super) fn new(header: &Header) -> Self {
        let (request, response) = (header.request.into(), header.response.into());
        let (wanted, next) = match header.bytes {
            0 => (request, response),
            first => (first, first),
        };
        Self {
            request,
            response,
            wanted,
            owed: 0,
            next,
            once: false,
        }
    }

    /// One response, without a request.
    pub(super) fn once(header: &Header) -> Self {
        Self {
            owed: header.response.into(),
            once: true,
            ..Self::new(header)
        }
    }

    pub(super) fn turn(&mut self, mut stream: &TcpStream, scratch: &mut [u8]) -> io::Result<Turn> {
        loop {
            if self.owed > 0 {
                let bytes = up_to(scratch, self.owed);
                let count = match stream.write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Turn::Write);
                    }
                    other => other?,
                };
                self.owed -= count as u64;
                if self.owed > 0 {
                    continue;
                }
                if self.once {
                    stream.shutdown(Shutdown::Write)?;
                }
                // The next request is not here yet: no read that finds nothing.
                return Ok(Turn::Read);
            }
            let bytes = up_to(scratch, self.wanted.max(1));
            let count = match stream.read(bytes) {
                Ok(0) => return Ok(Turn::End),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Read),
                other => other? as u64,
            };
            self.wanted = self.wanted.saturating_sub(count);
            if self.wanted == 0 {
                self.owed = self.next;
                self.wanted = self.request;
                self.next = self.response;
            }
            if self.owed == 0 {
                return Ok(Turn::Read);
            }
        }
    }
}

fn up_to(scratch: &mut [u8], most: u64) -> &mut [u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = most.min(scratch.len());
    scratch.get_mut(..count).unwrap_or_default()
}
