//! What a connection is for: 64 bytes from the client before anything else, and the 32 bytes by
//! which a server says what it sent and what arrived.
//!
//! All numbers are big-endian. There is no control connection: each connection stands for itself,
//! so a proxy may send it to any of several servers.

use std::{fmt, time::Duration};

/// Bytes of a [`Header`].
pub const LENGTH: usize = 64;
/// Bytes of a [`Report`].
pub const REPORT: usize = 32;
/// The largest block, request or response that a server grants: 16 MiB.
pub const LARGEST: u32 = 16 << 20;
/// The longest time for which a server sends: a week.
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

const MAGIC: &[u8; 4] = b"SKB1";
const REPORT_MAGIC: &[u8; 4] = b"SKBR";
const VERIFY: u8 = 1;

/// What moves on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A stream each way at the same time.
    Both,
    /// One response, then the server closes.
    Connect,
    /// A stream from the server, then its [`Report`].
    Download,
    /// Requests and responses, until the client closes.
    Exchange,
    /// A stream from the server in [`crate::path::frame`]s, with the kernel's figures of it among them.
    PathDown,
    /// A stream to the server, which tells the kernel's figures of it in [`crate::path::frame`]s meanwhile.
    PathUp,
    /// A stream to the server, answered with its [`Report`] when the client has closed its half.
    Upload,
}

const MODES: [(u8, Mode); 7] = [
    (1, Mode::Upload),
    (2, Mode::Download),
    (3, Mode::Both),
    (4, Mode::Exchange),
    (5, Mode::Connect),
    (6, Mode::PathUp),
    (7, Mode::PathDown),
];

/// How a connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What moves.
    pub mode: Mode,
    /// Streams carry the pattern of `seed` and its receiver compares. Default: false.
    pub verify: bool,
    /// Bytes of one write of a stream, 1 to [`LARGEST`].
    pub block: u32,
    /// How long a stream lasts, in milliseconds on the wire; zero: until `bytes`.
    pub time: Duration,
    /// Bytes of a stream; zero: until `time`. For [`Mode::Exchange`] the size of a first exchange,
    /// both ways, that comes before all others; zero: none. For [`Mode::PathUp`] and [`Mode::PathDown`]
    /// the size that the server asks for its socket's buffers; zero: as its host has them.
    pub bytes: u64,
    /// Bits per second of a stream at most; zero: as fast as it goes.
    pub rate: u64,
    /// Of the pattern.
    pub seed: u64,
    /// Bytes of a request, up to [`LARGEST`].
    pub request: u32,
    /// Bytes of a response, up to [`LARGEST`].
    pub response: u32,
    /// Congestion control that the server asks for, at most 16 bytes; empty: as its host has it.
    pub congestion: String,
}

impl Header {
    /// One that asks for nothing but `mode`.
    #[must_use]
    pub const fn new(mode: Mode) -> Self {
        Self {
            mode,
            verify: false,
            block: 128 << 10,
            time: Duration::ZERO,
            bytes: 0,
            rate: 0,
            seed: 0,
            request: 0,
            response: 0,
            congestion: String::new(),
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        let mode = MODES.iter().find(|(_, mode)| *mode == self.mode);
        let milliseconds = u32::try_from(self.time.as_millis()).unwrap_or(u32::MAX);
        let mut congestion = [0; 16];
        for (to, from) in congestion.iter_mut().zip(self.congestion.bytes()) {
            *to = from;
        }
        let mut out = Vec::with_capacity(LENGTH);
        out.extend_from_slice(MAGIC);
        out.push(mode.map_or(0, |(number, _)| *number));
        out.push(if self.verify { VERIFY } else { 0 });
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.block.to_be_bytes());
        out.extend_from_slice(&milliseconds.to_be_bytes());
        out.extend_from_slice(&self.bytes.to_be_bytes());
        out.extend_from_slice(&self.rate.to_be_bytes());
        out.extend_from_slice(&self.seed.to_be_bytes());
        out.extend_from_slice(&self.request.to_be_bytes());
        out.extend_from_slice(&self.response.to_be_bytes());
        out.extend_from_slice(&congestion);
        // Its parts are of fixed sizes that add up.
        out.try_into().unwrap_or([0; LENGTH])
    }

    /// Reads what [`Header::encode`] made.
    ///
    /// # Errors
    /// When it is not ours, or asks for more than a server grants.
    pub fn decode(bytes: &[u8; LENGTH]) -> Result<Self, Refused> {
        let mut fields = Fields(bytes);
        if fields.array() != *MAGIC {
            return Err(Refused::NotOurs);
        }
        let [number, flags, _, _] = fields.array();
        let mode = MODES.iter().find(|(known, _)| *known == number);
        let (_, mode) = mode.ok_or(Refused::Mode(number))?;
        let header = Self {
            mode: *mode,
            verify: flags & VERIFY != 0,
            block: u32::from_be_bytes(fields.array()),
            time: Duration::from_millis(u32::from_be_bytes(fields.array()).into()),
            bytes: u64::from_be_bytes(fields.array()),
            rate: u64::from_be_bytes(fields.array()),
            seed: u64::from_be_bytes(fields.array()),
            request: u32::from_be_bytes(fields.array()),
            response: u32::from_be_bytes(fields.array()),
            congestion: String::from_utf8_lossy(&fields.array::<16>())
                .trim_end_matches('\0')
                .to_owned(),
        };
        let sizes = [header.block, header.request, header.response];
        if header.block == 0 || sizes.iter().any(|size| *size > LARGEST) {
            return Err(Refused::Size);
        }
        if header.time > LONGEST {
            return Err(Refused::Time);
        }
        Ok(header)
    }
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A mode that is not known here.
    Mode(u8),
    /// It does not begin as a header does.
    NotOurs,
    /// A block, request or response of no bytes or more than [`LARGEST`].
    Size,
    /// More than [`LONGEST`].
    Time,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode(number) => write!(f, "mode {number} is not known: another version?"),
            Self::NotOurs => f.write_str("not a client of sekisho bench"),
            Self::Size => write!(
                f,
                "a block, request or response over {LARGEST} bytes, or none"
            ),
            Self::Time => write!(f, "longer than {} s", LONGEST.as_secs()),
        }
    }
}

impl std::error::Error for Refused {}

/// What a server says at the end of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes it sent, without header and report.
    pub sent: u64,
    /// Bytes that arrived there.
    pub received: u64,
    /// Where the first byte that arrived differs from the pattern, if it was to compare.
    pub damaged_at: Option<u64>,
}

impl Report {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> [u8; REPORT] {
        let mut out = Vec::with_capacity(REPORT);
        out.extend_from_slice(REPORT_MAGIC);
        out.extend_from_slice(&u32::from(self.damaged_at.is_some()).to_be_bytes());
        out.extend_from_slice(&self.sent.to_be_bytes());
        out.extend_from_slice(&self.received.to_be_bytes());
        out.extend_from_slice(&self.damaged_at.unwrap_or_default().to_be_bytes());
        // Its parts are of fixed sizes that add up.
        out.try_into().unwrap_or([0; REPORT])
    }

    /// Reads what [`Report::encode`] made; `None` if that is not it.
    #[must_use]
    pub fn decode(bytes: &[u8; REPORT]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.array() != *REPORT_MAGIC {
            return None;
        }
        let damaged = u32::from_be_bytes(fields.array()) != 0;
        let sent = u64::from_be_bytes(fields.array());
        let received = u64::from_be_bytes(fields.array());
        let at = u64::from_be_bytes(fields.array());
        Some(Self {
            sent,
            received,
            damaged_at: damaged.then_some(at),
        })
    }
}

/// Reads fixed fields one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        // Short input reads as zeros, which no field is checked against.
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else {
            return [0; N];
        };
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            verify: true,
            block: 4096,
            time: Duration::from_millis(1500),
            bytes: 1 << 40,
            rate: 10_000_000_000,
            seed: 0x0123_4567_89ab_cdef,
            request: 100,
            response: 200,
            congestion: "cubic".into(),
            ..Header::new(Mode::Both)
        }
    }

    #[test]
    fn a_header_reads_as_itself() {
        for (_, mode) in MODES {
            let header = Header { mode, ..sample() };
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let good = sample().encode();
        let mut other = good;
        other[0] = b'G';
        assert_eq!(Header::decode(&other), Err(Refused::NotOurs));
        let mut other = good;
        other[4] = 9;
        assert_eq!(Header::decode(&other), Err(Refused::Mode(9)));
        for wrong in [0, LARGEST + 1] {
            let header = Header {
                block: wrong,
                ..sample()
            };
            assert_eq!(Header::decode(&header.encode()), Err(Refused::Size));
        }
        let header = Header {
            time: LONGEST + Duration::from_millis(1),
            ..sample()
        };
        assert_eq!(Header::decode(&header.encode()), Err(Refused::Time));
    }

    #[test]
    fn a_report_reads_as_itself() {
        for damaged_at in [None, Some(0), Some(77)] {
            let report = Report {
                sent: 1,
                received: u64::MAX,
                damaged_at,
            };
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!(Report::decode(&[0; REPORT]), None);
    }
}
