//! gRPC names a Unix socket by its path in `:authority`: its C core (Python, C++, Ruby, PHP) by the encoded
//! one, as in `run%2Fsekisho%2Fagent%2Fapi.sock`, in Java as it is. That is no authority (RFC 9110 §7.2 has
//! neither percent sign nor slash in a host), and our HTTP/2 library refuses the stream; Go's, and so SPIRE's
//! agent, does not look at it. Here whatever a host does not have becomes a dot before the library sees it:
//! the same length, so that nothing else moves.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client says first (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// Bytes before a frame's payload (RFC 9113 §4.1).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The largest frame that our side allows.
const MOST: usize = 16 * 1024;

/// Bytes that are read at a time.
const PIECE: usize = 4096;

/// The server's end of a connection, whose client may name its socket as it likes.
#[derive(Debug)]
pub struct Lenient<S> {
    stream: S,
    mend: Mend,
    /// What was read and has yet to be taken, and how much of it was.
    read: (Vec<u8>, usize),
}

impl<S> Lenient<S> {
    /// Before anything was read of `stream`.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            mend: Mend::default(),
            read: (Vec::new(), 0),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let (bytes, taken) = &mut this.read;
            if let Some(left) = bytes.get(*taken..)
                && !left.is_empty()
            {
                let (now, _) = left.split_at(left.len().min(buffer.remaining()));
                buffer.put_slice(now);
                *taken += now.len();
                return Poll::Ready(Ok(()));
            }
            // An idle connection keeps nothing.
            this.read = (Vec::new(), 0);
            let mut space = [0; PIECE];
            let mut piece = ReadBuf::new(&mut space);
            match Pin::new(&mut this.stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if piece.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => this.mend.feed(piece.filled(), &mut this.read.0),
                other => return other,
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Rewrites what a client sends, however it is cut into pieces.
#[derive(Debug)]
struct Mend {
    /// Bytes that go on as they are before the next frame begins.
    pass: usize,
    /// A frame's head, and its payload where that is looked at.
    frame: Vec<u8>,
}

impl Default for Mend {
    fn default() -> Self {
        Self {
            pass: PREFACE,
            frame: Vec::new(),
        }
    }
}

impl Mend {
    /// Takes what was read and puts what goes on behind `out`.
    fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let (now, later) = bytes.split_at(self.pass.min(bytes.len()));
                out.extend_from_slice(now);
                self.pass -= now.len();
                bytes = later;
                continue;
            }
            let (now, later) = bytes.split_at(self.missing().min(bytes.len()));
            self.frame.extend_from_slice(now);
            bytes = later;
            if self.missing() > 0 {
                continue;
            }
            let (length, kind) = self.head();
            if kind == HEADERS && length <= MOST {
                rewrite(&mut self.frame);
            } else {
                self.pass = length;
            }
            out.append(&mut self.frame);
        }
        if self.frame.is_empty() {
            self.frame = Vec::new();
        }
    }

    /// How many bytes the frame lacks, of what is collected of it.
    fn missing(&self) -> usize {
        if self.frame.len() < HEAD {
            return HEAD - self.frame.len();
        }
        let (length, kind) = self.head();
        let whole = if kind == HEADERS && length <= MOST {
            HEAD + length
        } else {
            HEAD
        };
        whole - self.frame.len()
    }

    fn head(&self) -> (usize, u8) {
        match self.frame.as_slice() {
            [a, b, c, kind, ..] => {
                let length = u32::from_be_bytes([0, *a, *b, *c]);
                (usize::try_from(length).unwrap_or(usize::MAX), *kind)
            }
            _ => (0, 0),
        }
    }
}

/// Mends the authority in a HEADERS frame (RFC 9113 §6.2). What cannot be read is left to the library.
fn rewrite(frame: &mut [u8]) {
    let Some((head, payload)) = frame.split_at_mut_checked(HEAD) else {
        return;
    };
    let flags = head.get(4).copied().unwrap_or_default();
    let skip = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    if let Some(block) = payload.get_mut(skip..)
        && let Some(value) = authority(block)
        && let Some(value) = block.get_mut(value)
    {
        for byte in value.iter_mut().filter(|byte| !is_of_host(**byte)) {
            *byte = b'.';
        }
    }
}

/// What a host and a port are made of, as far as clients send them.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte)
}

/// Where the value of `:authority` stands in a header block, if it is there as plain text.
fn authority(block: &[u8]) -> Option<std::ops::Range<usize>> {
    /// `:authority` in the static table (RFC 7541, appendix A).
    const INDEX: usize = 1;
    let mut at = 0;
    loop {
        let first = *block.get(at)?;
        let bits = match first {
            // An indexed field, and a change of the table's size (RFC 7541 §6.1, §6.3): nothing follows.
            0x80.. => {
                at = integer(block, at, 7)?.1;
                continue;
            }
            0x20..0x40 => {
                at = integer(block, at, 5)?.1;
                continue;
            }
            // Literals, with and without indexing (§6.2).
            0x40..0x80 => 6,
            _ => 4,
        };
        let (index, mut next) = integer(block, at, bits)?;
        let mut wanted = index == INDEX;
        if index == 0 {
            let (name, plain, after) = text(block, next)?;
            wanted = plain && block.get(name)? == b":authority";
            next = after;
        }
        let (value, plain, after) = text(block, next)?;
        if wanted {
            return plain.then_some(value);
        }
        at = after;
    }
}

/// A string: where it stands, whether it is plain, and what follows (RFC 7541 §5.2).
fn text(block: &[u8], at: usize) -> Option<(std::ops::Range<usize>, bool, usize)> {
    let plain = block.get(at)? & 0x80 == 0;
    let (length, begin) = integer(block, at, 7)?;
    let end = begin
        .checked_add(length)
        .filter(|end| *end <= block.len())?;
    Some((begin..end, plain, end))
}

/// A number with this many bits in its first byte, and what follows (RFC 7541 §5.1).
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    let mut at = at + 1;
    if value < most {
        return Some((value, at));
    }
    // No header of ours needs more.
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(at)?);
        at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

#[cfg(test)]
mod tests;
