//! What a server says while a path is measured: eight bytes (a letter, three zeros, a length in
//! big-endian), then so many bytes. `H` comes first, `E` last; `S` is a [`Sample`] of the server's end, `D`
//! bytes of the stream.

use std::{
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{sample::Sample, sysctl::Sysctls};
use crate::header::LARGEST;

/// Bytes before each.
pub(super) const HEAD: usize = 8;
/// The longest one that is no data.
const LONGEST: u32 = 16 << 10;
/// Samples of one measurement, at most; a server sends one each interval.
const MOST: u32 = 20_000;
const BUFFER: usize = 256 << 10;
/// The longest text that is shown to people.
const LONGEST_TEXT: usize = 300;

/// How a server begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who is at the other end, as the server sees it: another than the client where a proxy, or a
    /// translation of addresses, stands between.
    pub peer: SocketAddr,
    /// The server's own address: another than the one we asked for where a proxy stands between.
    pub own: SocketAddr,
    /// Congestion control of its end.
    pub congestion: String,
    /// Of its host.
    pub sysctls: Sysctls,
}

/// How it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// Bytes of the stream that arrived there.
    pub received: u64,
    /// Bytes of the stream that it sent.
    pub sent: u64,
    /// Why it could not do what was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Frame {
    /// The first.
    Hello(Box<Hello>),
    /// Its end at a moment.
    Sample(Box<Sample>),
    /// So many bytes of the stream, all read.
    Data(u32),
    /// The last.
    End(End),
}

/// What is no frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The connection.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not begin as a frame does; the first byte, by which iperf3 is known.
    #[error("byte {0} begins no frame")]
    Kind(u8),
    /// Longer than any.
    #[error("a frame of {0} bytes")]
    Length(u32),
    /// Not the JSON that it should be.
    #[error("{0}")]
    Json(serde_json::Error),
    /// More samples than a measurement has.
    #[error("more than {MOST} samples")]
    Count,
}

/// Reads frames.
#[derive(Debug)]
pub struct Frames<R> {
    reader: BufReader<R>,
    samples: u32,
}

impl<R: Read> Frames<R> {
    /// From a connection.
    pub fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER, reader),
            samples: 0,
        }
    }

    /// The next one. Bytes of the stream are counted in `moved` as they come.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn next(&mut self, moved: &AtomicU64) -> Result<Frame, FrameError> {
        let mut head = [0; HEAD];
        let (first, rest) = head.split_at_mut(1);
        self.reader.read_exact(first)?;
        // Before more is waited for: who sends no frames may send nothing else.
        let [kind] = *first else {
            return Err(FrameError::Kind(0));
        };
        if !matches!(kind, b'H' | b'S' | b'D' | b'E') {
            return Err(FrameError::Kind(kind));
        }
        self.reader.read_exact(rest)?;
        let [_, _, _, _, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        let most = if kind == b'D' { LARGEST } else { LONGEST };
        if length > most {
            return Err(FrameError::Length(length));
        }
        match kind {
            b'D' => self.skip(length, moved),
            b'H' => {
                let mut hello: Hello = self.json(length)?;
                hello.congestion = plain(&hello.congestion);
                let lists = [&mut hello.sysctls.allowed, &mut hello.sysctls.available];
                for name in lists.into_iter().flatten() {
                    *name = plain(name);
                }
                Ok(Frame::Hello(Box::new(hello)))
            }
            b'S' if self.samples == MOST => Err(FrameError::Count),
            b'S' => {
                self.samples += 1;
                Ok(Frame::Sample(Box::new(self.json(length)?)))
            }
            _ => {
                let mut end: End = self.json(length)?;
                end.failure = end.failure.as_deref().map(plain);
                Ok(Frame::End(end))
            }
        }
    }

    fn skip(&mut self, length: u32, moved: &AtomicU64) -> Result<Frame, FrameError> {
        let mut left = length as usize;
        while left > 0 {
            let count = self.reader.fill_buf()?.len().min(left);
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.reader.consume(count);
            left -= count;
            moved.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(Frame::Data(length))
    }

    fn json<T: DeserializeOwned>(&mut self, length: u32) -> Result<T, FrameError> {
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(FrameError::Json)
    }
}

/// Text of the other end, without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    let plain = text.chars().filter(|one| !one.is_control());
    plain.take(LONGEST_TEXT).collect()
}

/// The eight bytes before so many.
pub(super) fn head(kind: u8, length: u32) -> [u8; HEAD] {
    let [a, b, c, d] = length.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// One that is no data, as it is sent.
pub(super) fn encode(kind: u8, value: &impl Serialize) -> Vec<u8> {
    // Of plain numbers and texts: it cannot fail.
    let json = serde_json::to_vec(value).unwrap_or_default();
    let length = u32::try_from(json.len()).unwrap_or_default();
    [&head(kind, length), json.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            peer: "[fd00::1]:40000".parse().unwrap(),
            own: "[fd00::2]:5201".parse().unwrap(),
            congestion: "cubic".into(),
            sysctls: Sysctls::read(),
        }
    }

    fn read(bytes: &[u8]) -> Result<Frame, FrameError> {
        Frames::new(bytes).next(&AtomicU64::new(0))
    }

    #[test]
    fn frames_read_as_themselves() {
        let sample = Sample {
            at: 7,
            ..Sample::default()
        };
        let end = End {
            received: u64::MAX,
            ..End::default()
        };
        let mut bytes = encode(b'H', &hello());
        bytes.extend(encode(b'S', &sample));
        bytes.extend(head(b'D', 5));
        bytes.extend(b"12345");
        bytes.extend(encode(b'E', &end));
        let mut frames = Frames::new(bytes.as_slice());
        let moved = AtomicU64::new(0);
        let mut next = || frames.next(&moved).unwrap();
        assert_eq!(next(), Frame::Hello(Box::new(hello())));
        assert_eq!(next(), Frame::Sample(Box::new(sample)));
        assert_eq!(next(), Frame::Data(5));
        assert_eq!(next(), Frame::End(end));
        assert_eq!(moved.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn what_is_none_is_refused() {
        // iperf3's first word, and that of a server which is busy.
        assert!(matches!(read(&[9]), Err(FrameError::Kind(9))));
        assert!(matches!(read(&[255]), Err(FrameError::Kind(255))));
        assert!(matches!(read(b"HTTP/1.1 400"), Err(FrameError::Length(_))));
        let long = head(b'S', LONGEST + 1);
        assert!(matches!(read(&long), Err(FrameError::Length(_))));
        let long = head(b'D', LARGEST + 1);
        assert!(matches!(read(&long), Err(FrameError::Length(_))));
        assert!(matches!(read(&head(b'H', 0)), Err(FrameError::Json(_))));
        assert!(matches!(read(&head(b'D', 3)), Err(FrameError::Io(_))));
        let deep = ["[".repeat(8000), "]".repeat(8000)].concat();
        assert!(matches!(
            read(&encode(b'S', &deep)),
            Err(FrameError::Json(_))
        ));
    }

    #[test]
    fn what_a_terminal_would_obey_is_left_out() {
        let end = End {
            failure: Some("no \u{1b}[2J\r\nway".into()),
            ..End::default()
        };
        let Frame::End(found) = read(&encode(b'E', &end)).unwrap() else {
            panic!("another frame");
        };
        assert_eq!(found.failure.as_deref(), Some("no [2Jway"));
    }

    #[test]
    fn samples_have_an_end() {
        let one = encode(b'S', &Sample::default());
        let bytes = one.repeat(MOST as usize + 1);
        let mut frames = Frames::new(bytes.as_slice());
        let moved = AtomicU64::new(0);
        for _ in 0..MOST {
            frames.next(&moved).unwrap();
        }
        assert!(matches!(frames.next(&moved), Err(FrameError::Count)));
    }
}
