//! gRPC names a Unix socket by its path in `:authority`: its C core (Python, C++, Ruby, PHP) by the encoded
//! one, as in `run%2Fsekisho%2Fagent%2Fapi.sock`, in Java as it is. That is no authority (RFC 9110 §7.2 has
//! neither percent sign nor slash in a host), and our HTTP/2 library refuses the stream; Go's, and so SPIRE's
//! agent, does not look at it. Here whatever a host does not have becomes a dot before the library sees it:
//! the same length, so that nothing else moves.

/// What a client says first (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// Bytes before a frame's payload (RFC 9113 §4.1).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The largest frame that our side allows.
const MOST: usize = 16 * 1024;

/// Rewrites what a client sends, however it is cut into pieces.
#[derive(Debug)]
pub(super) struct Lenient {
    /// Bytes that go on as they are before the next frame begins.
    pass: usize,
    /// A frame's head, and its payload where that is looked at.
    frame: Vec<u8>,
}

impl Default for Lenient {
    fn default() -> Self {
        Self {
            pass: PREFACE,
            frame: Vec::new(),
        }
    }
}

impl Lenient {
    /// Takes what was read and puts what goes on behind `out`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What grpc-python 1.85 sends, and what goes on.
    fn stream(authority: &str) -> Vec<u8> {
        let mut block = b"@\x05:path\x20/SpiffeWorkloadAPI/FetchX509SVID".to_vec();
        block.extend_from_slice(b"@\x0a:authority");
        block.push(u8::try_from(authority.len()).unwrap());
        block.extend_from_slice(authority.as_bytes());
        block.extend_from_slice(b"\x83\x86@\x02te\x08trailers\x00\x12workload.spiffe.io\x04true");
        let mut all =
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
        all.extend_from_slice(&[
            0,
            0,
            u8::try_from(block.len()).unwrap(),
            HEADERS,
            4,
            0,
            0,
            0,
            1,
        ]);
        all.extend_from_slice(&block);
        // Data that only looks the same.
        all.extend_from_slice(b"\x00\x00\x10\x00\x01\x00\x00\x00\x01A\x0etmp%2Fcap.sock");
        all
    }

    fn fed(bytes: &[u8], pieces: usize) -> Vec<u8> {
        let (mut lenient, mut out) = (Lenient::default(), Vec::new());
        for piece in bytes.chunks(pieces) {
            lenient.feed(piece, &mut out);
        }
        out
    }

    #[test]
    fn the_path_of_a_socket_becomes_an_authority_however_it_is_cut() {
        let paths = [
            ("tmp%2Fcap.sock", "tmp.2Fcap.sock"),
            ("/tmp/a b@c.sock", ".tmp.a.b.c.sock"),
        ];
        for (path, authority) in paths {
            let (sent, expected) = (stream(path), stream(authority));
            for pieces in 1..sent.len() {
                assert_eq!(fed(&sent, pieces), expected, "{pieces}");
            }
        }
    }

    /// What grpc-java 1.73 sends: by the index of the name, with a priority.
    #[test]
    fn java_names_the_path_as_it_is() {
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xaa\x01$\x00\x00\x00\x03\
            \x00\x00\x00\x00\x0fA\x14/tmp/capt/agent.sockD\x20/SpiffeWorkloadAPI/FetchX509SVID\
            \x83\x86_\x10application/grpc@\x02te\x08trailersz\x16grpc-java-netty/1.73.0\
            @\x12workload.spiffe.io\x04true@\x14grpc-accept-encoding\x04gzip"
            .to_vec();
        let mended = fed(&sent, 50);
        let at = sent
            .windows(20)
            .position(|it| it == b"/tmp/capt/agent.sock")
            .unwrap();
        sent[at..at + 20].copy_from_slice(b".tmp.capt.agent.sock");
        assert_eq!(mended, sent);
    }

    #[test]
    fn everything_else_goes_on_as_it_is() {
        let sent = stream("localhost");
        assert_eq!(fed(&sent, 7), sent);
        // By index, without indexing, padded, with a priority.
        let mut padded = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        padded.extend_from_slice(&[0, 0, 13, HEADERS, 4 | PADDED | PRIORITY, 0, 0, 0, 1]);
        padded.extend_from_slice(b"\x00\x00\x00\x00\x00\x00\x3f\x01\x01\x03a%b");
        let mended = fed(&padded, 3);
        assert_eq!(mended.len(), padded.len());
        assert!(mended.ends_with(b"a.b"));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_moved(bytes in prop::collection::vec(any::<u8>(), 0..600), pieces in 1_usize..50) {
            let whole = fed(&bytes, usize::MAX);
            let cut = fed(&bytes, pieces);
            prop_assert_eq!(&whole, &cut);
            // A frame that is not whole yet is kept back; the rest differs in what no host has.
            prop_assert!(whole.len() <= bytes.len());
            for (ours, theirs) in whole.iter().zip(&bytes) {
                prop_assert!(ours == theirs || (!is_of_host(*theirs) && *ours == b'.'));
            }
        }
    }
}
