//! One stream of bytes over several connections of the same two identities, *lanes*, by
//! `docs/protocol.md` (ALPN `sekisho/1`). It does no I/O and knows no clock but the one it is given.
//!
//! ```text
//!  application ──fill──▶ Outgoing ──next──▶ DATA on the lane that has room ══▶
//!              ◀─take── Incoming ◀─receive─ DATA in any order ══
//! ```
//!
//! [`frame`] is the wire format, [`Outgoing`] what was sent and not confirmed, [`Incoming`] what has
//! come and not been taken, [`Count`] how many lanes a stream should have.
//!
//! What it refuses: a byte beyond the window that was granted, a piece that overlaps another, an
//! acknowledgement of what was never sent, more repetition than losses explain, an end that moves.
//! Each is an error with which the whole stream ends: nothing out of place is ever handed on.

mod backlog;
pub mod frame;
pub mod incoming;
pub mod number;
pub mod outgoing;

pub use frame::{Frame, FrameError, StreamId};
pub use incoming::{Incoming, IncomingError};
pub use number::{Advice, Count, Limited};
pub use outgoing::{Outgoing, OutgoingError, Piece};

/// The protocol's name in ALPN (RFC 7301).
pub const ALPN: &[u8] = b"sekisho/1";

/// Bytes that each side may send before the other has granted more (`docs/protocol.md`, windows).
pub const FIRST_WINDOW: u64 = 1 << 20;

/// Most bytes that a side may have under way: what a receiver may have to keep, and a sender to
/// repeat.
pub const LARGEST_WINDOW: u64 = 64 << 20;

/// Most lanes of one stream.
pub const MOST_LANES: u8 = 32;
