//! Bytes that go both ways and are compared by their SHA-256 at both ends.
//!
//! The client sends a length (8 bytes) and that many bytes; the server answers with their digest,
//! as many bytes of its own, and their digest. The client confirms with one byte, and the server ends.
//!
//! Without that byte, JSSE breaks at the end of what renews its keys often: an orderly end that
//! crosses its own request for a new key is "close_notify during handshake" to it.

use std::{
    env,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
};

use aws_lc_rs::{
    digest::{Context, SHA256},
    rand,
};

use super::{Upstream, program::is_ci};

const MIB: usize = 1024 * 1024;

/// How much a large transfer carries each way.
pub(crate) fn large() -> usize {
    match env::var("INTEROP_BYTES") {
        Ok(bytes) => bytes.parse().expect("INTEROP_BYTES is a number of bytes"),
        Err(_) if is_ci() => 1024 * MIB,
        Err(_) => 64 * MIB,
    }
}

/// Sends `bytes` random ones, and returns their digest.
pub(crate) fn send(stream: &mut impl Write, bytes: usize) -> io::Result<Vec<u8>> {
    let mut block = vec![0; MIB];
    rand::fill(&mut block).unwrap();
    let mut digest = Context::new(&SHA256);
    let (mut left, mut count) = (bytes, 0_u64);
    while left > 0 {
        // No two blocks are the same.
        block[..8].copy_from_slice(&count.to_be_bytes());
        let part = &block[..left.min(MIB)];
        digest.update(part);
        stream.write_all(part)?;
        left -= part.len();
        count += 1;
    }
    Ok(digest.finish().as_ref().to_vec())
}

/// Receives `bytes`, and returns their digest.
pub(crate) fn receive(stream: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut block = vec![0; MIB];
    let mut digest = Context::new(&SHA256);
    let mut left = bytes;
    while left > 0 {
        let room = left.min(MIB);
        let count = stream.read(&mut block[..room])?;
        if count == 0 {
            let error = format!("{left} of {bytes} bytes did not come");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        digest.update(&block[..count]);
        left -= count;
    }
    Ok(digest.finish().as_ref().to_vec())
}

/// The server's part.
pub(crate) fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let bytes = usize::try_from(u64::from_be_bytes(length)).unwrap();
    let digest = receive(&mut stream, bytes)?;
    stream.write_all(&digest)?;
    let digest = send(&mut stream, bytes)?;
    stream.write_all(&digest)?;
    stream.read_exact(&mut [0])?;
    stream.shutdown(Shutdown::Write)
}

/// What [`carry`] sends beside the bytes themselves: the length and the confirmation.
pub(crate) const BESIDE: usize = 8 + 1;

/// A server for [`carry`].
pub(crate) fn server() -> Upstream {
    Upstream::start(serve)
}

/// The client's part: `bytes` there and back, intact, and nothing after them.
pub(crate) fn carry(stream: &mut (impl Read + Write), bytes: usize) -> io::Result<()> {
    stream.write_all(&(bytes as u64).to_be_bytes())?;
    let sent = send(stream, bytes)?;
    let mut digest = vec![0; sent.len()];
    stream.read_exact(&mut digest)?;
    assert_eq!(digest, sent, "what arrived over there is not what was sent");
    let received = receive(stream, bytes)?;
    stream.read_exact(&mut digest)?;
    assert_eq!(digest, received, "what arrived here is not what was sent");
    stream.write_all(&[1])?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    assert!(rest.is_empty(), "{} more bytes came", rest.len());
    Ok(())
}
