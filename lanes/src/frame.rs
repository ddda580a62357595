//! The wire format (`docs/protocol.md`, frames): a type, a length of three bytes, a body.

use std::fmt;

use crate::Limited;

/// Bytes before a body.
pub const HEADER: usize = 4;
/// Bytes of a DATA's body before its text.
pub const OFFSET: usize = 8;
/// Most bytes of text in one DATA: with its header it fills one TLS record.
pub const MOST_TEXT: usize = (1 << 14) - HEADER - OFFSET;
/// Most bytes of the body of any other frame, those of later versions included.
pub const MOST_BODY: usize = 1024;
/// Bytes of the longest frame.
pub const LONGEST: usize = 1 << 14;
/// Longest word of a refusal.
const MOST_WORD: usize = 32;
/// Longest name of an endpoint: a DNS name.
const MOST_NAME: usize = 253;
/// From here on, a type that is not known is skipped.
const OPTIONAL: u8 = 0x80;

mod kind {
    pub(super) const OPEN: u8 = 1;
    pub(super) const ACCEPT: u8 = 2;
    pub(super) const DENY: u8 = 3;
    pub(super) const DATA: u8 = 4;
    pub(super) const ACK: u8 = 5;
    pub(super) const FIN: u8 = 6;
    pub(super) const RESET: u8 = 7;
    pub(super) const LEAVE: u8 = 8;
    pub(super) const BLOCKED: u8 = 9;
}

/// Names a stream among those of two sides: random, and known to nobody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub [u8; 16]);

impl fmt::Debug for StreamId {
    /// The first four bytes: enough to find it again, not enough to join it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

/// What a lane is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A stream of its own, whose first lane this is.
    New,
    /// A stream that is there.
    Join,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The first frame of the side that dialled, once on each lane.
    Open {
        /// Which stream.
        stream: StreamId,
        /// For a stream of its own, or one that is there.
        purpose: Purpose,
        /// Most lanes that this side will have for the stream.
        lanes: u8,
        /// The endpoint that is meant: the server name of the handshake, lower case.
        endpoint: &'a str,
    },
    /// The first frame of the side that was dialled.
    Accept {
        /// Most lanes that this side lets the stream have.
        lanes: u8,
    },
    /// The same, where it refuses.
    Deny {
        /// The stable word of the reason.
        reason: &'a str,
    },
    /// Bytes of the stream.
    Data {
        /// Where in the stream they begin.
        offset: u64,
        /// At least one, at most [`MOST_TEXT`].
        text: &'a [u8],
    },
    /// What has come.
    Ack {
        /// All bytes before this one are there; one more than the stream's length: its end, too.
        received: u64,
        /// No byte at or behind this one may be sent.
        limit: u64,
        /// What holds up what this side has to send, though the window lets it go.
        limited: Limited,
    },
    /// The sender's direction ends.
    Fin {
        /// The length of its stream.
        length: u64,
    },
    /// The stream ends at once, on all lanes.
    Reset {
        /// The stable word of the reason.
        reason: &'a str,
    },
    /// No more of the stream is sent on this lane, which is closed once both sides have said so.
    Leave,
    /// There are bytes that the window does not let go.
    Blocked {
        /// The limit that holds them.
        limit: u64,
    },
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A type that this version does not have, and must not skip.
    #[error("a frame of the unknown type {0}")]
    Unknown(u8),
    /// Longer than its type may be.
    #[error("a frame of type {kind} with {length} bytes")]
    Length {
        /// Its type.
        kind: u8,
        /// Its length.
        length: usize,
    },
    /// A field with a value that it must not have.
    #[error("{0}")]
    Value(&'static str),
}

/// Reads the frame that `bytes` begin with: the frame, and how many bytes it has. `None` where more
/// bytes are needed; a frame `None` is one to be skipped.
///
/// # Errors
/// When it is none.
pub fn decode(bytes: &[u8]) -> Result<Option<(Option<Frame<'_>>, usize)>, FrameError> {
    let Some((&[kind, a, b, c], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    // Told before the rest has come: nothing is collected that will be refused.
    let most = match kind {
        kind::DATA => OFFSET + MOST_TEXT,
        _ => MOST_BODY,
    };
    if length > most {
        return Err(FrameError::Length { kind, length });
    }
    if !(kind::OPEN..=kind::BLOCKED).contains(&kind) && kind < OPTIONAL {
        return Err(FrameError::Unknown(kind));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let frame = (kind < OPTIONAL).then(|| body_of(kind, body)).transpose()?;
    Ok(Some((frame, HEADER + length)))
}

/// Reads fields one behind the other. What stands behind the last one that this version knows is for
/// later ones.
struct Fields<'a> {
    kind: u8,
    all: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn short(&self) -> FrameError {
        FrameError::Length {
            kind: self.kind,
            length: self.all,
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8, FrameError> {
        self.bytes().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, FrameError> {
        self.bytes().map(u64::from_be_bytes)
    }

    /// A length of one byte, and so many bytes of `allowed`.
    fn text(&mut self, most: usize, allowed: fn(&u8) -> bool) -> Result<&'a str, FrameError> {
        let length = usize::from(self.byte()?);
        let (text, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.short())?;
        self.rest = rest;
        let fits = !text.is_empty() && text.len() <= most && text.iter().all(allowed);
        let text = std::str::from_utf8(text).ok().filter(|_| fits);
        text.ok_or(FrameError::Value("a name or word with other letters"))
    }
}

fn body_of(kind: u8, body: &[u8]) -> Result<Frame<'_>, FrameError> {
    const WORD: fn(&u8) -> bool = |byte| byte.is_ascii_lowercase() || *byte == b'_';
    const NAME: fn(&u8) -> bool = |byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    let mut fields = Fields {
        kind,
        all: body.len(),
        rest: body,
    };
    Ok(match kind {
        kind::OPEN => Frame::Open {
            stream: StreamId(fields.bytes()?),
            purpose: match fields.byte()? {
                0 => Purpose::New,
                1 => Purpose::Join,
                _ => {
                    return Err(FrameError::Value(
                        "OPEN for neither a new stream nor one that is there",
                    ));
                }
            },
            lanes: lanes(fields.byte()?)?,
            endpoint: fields.text(MOST_NAME, NAME)?,
        },
        kind::ACCEPT => Frame::Accept {
            lanes: lanes(fields.byte()?)?,
        },
        kind::DENY => Frame::Deny {
            reason: fields.text(MOST_WORD, WORD)?,
        },
        kind::DATA => {
            let offset = fields.number()?;
            let text = fields.rest;
            let end = offset.checked_add(text.len() as u64);
            // One is kept for the end.
            if text.is_empty() || end.is_none_or(|end| end == u64::MAX) {
                return Err(FrameError::Value(
                    "DATA of no bytes, or beyond the last one",
                ));
            }
            Frame::Data { offset, text }
        }
        kind::ACK => Frame::Ack {
            received: fields.number()?,
            limit: fields.number()?,
            limited: match fields.byte()? & 3 {
                1 => Limited::Held,
                3 => Limited::Losses,
                _ => Limited::No,
            },
        },
        kind::FIN => match fields.number()? {
            u64::MAX => return Err(FrameError::Value("FIN beyond the last byte")),
            length => Frame::Fin { length },
        },
        kind::RESET => Frame::Reset {
            reason: fields.text(MOST_WORD, WORD)?,
        },
        kind::LEAVE => Frame::Leave,
        kind::BLOCKED => Frame::Blocked {
            limit: fields.number()?,
        },
        other => return Err(FrameError::Unknown(other)),
    })
}

fn lanes(count: u8) -> Result<u8, FrameError> {
    if count == 0 {
        return Err(FrameError::Value("no lanes at all"));
    }
    Ok(count)
}

impl Frame<'_> {
    /// Appends it to `out`. A word or name that is too long is cut: ours never are.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend([0; HEADER]);
        let text = |out: &mut Vec<u8>, text: &str, most: usize| {
            let text = text.as_bytes();
            let text = text.get(..text.len().min(most)).unwrap_or_default();
            out.push(u8::try_from(text.len()).unwrap_or_default());
            out.extend(text);
        };
        let kind = match self {
            Self::Open {
                stream,
                purpose,
                lanes,
                endpoint,
            } => {
                out.extend(stream.0);
                out.push(u8::from(*purpose == Purpose::Join));
                out.push(*lanes);
                text(out, endpoint, MOST_NAME);
                kind::OPEN
            }
            Self::Accept { lanes } => {
                out.push(*lanes);
                kind::ACCEPT
            }
            Self::Deny { reason } => {
                text(out, reason, MOST_WORD);
                kind::DENY
            }
            Self::Data { offset, text } => {
                out.extend(offset.to_be_bytes());
                out.extend(*text);
                kind::DATA
            }
            Self::Ack {
                received,
                limit,
                limited,
            } => {
                out.extend(received.to_be_bytes());
                out.extend(limit.to_be_bytes());
                out.push(match limited {
                    Limited::No => 0,
                    Limited::Held => 1,
                    Limited::Losses => 3,
                });
                kind::ACK
            }
            Self::Fin { length } => {
                out.extend(length.to_be_bytes());
                kind::FIN
            }
            Self::Reset { reason } => {
                text(out, reason, MOST_WORD);
                kind::RESET
            }
            Self::Leave => kind::LEAVE,
            Self::Blocked { limit } => {
                out.extend(limit.to_be_bytes());
                kind::BLOCKED
            }
        };
        let length = out.len() - begin - HEADER;
        if let Some(header) = out.get_mut(begin..begin + HEADER) {
            header.copy_from_slice(&header_of(kind, length));
        }
    }
}

/// The header of a DATA whose text has `length` bytes, and its offset: what stands before the text.
#[must_use]
pub fn data_header(offset: u64, length: usize) -> [u8; HEADER + OFFSET] {
    let [a, b, c, d] = header_of(kind::DATA, OFFSET + length);
    let [e, f, g, h, i, j, k, l] = offset.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

fn header_of(kind: u8, length: usize) -> [u8; HEADER] {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let [_, a, b, c] = length.to_be_bytes();
    [kind, a, b, c]
}

#[cfg(test)]
mod tests;
