//! The TLS 1.3 record layer (RFC 8446 §5) of a connection whose handshake rustls has made: many
//! records at a time, sealed and opened where they lie. It does no I/O and copies no payload.
//!
//! ```text
//!  application ──read──▶ slots ──seal in place──▶ one write ══▶
//!              ◀─writev── plaintexts ◀─open in place── one read ══
//! ```
//!
//! What goes on beside the data is kept inside [`Session`]: KeyUpdate both ways (§4.6.3, §5.5),
//! tickets (§4.6.1), alerts and the end of a direction (§6). The caller moves bytes, and asks
//! [`Session::wants_control`] before it seals the next ones.
//!
//! What it refuses: any record, message or alert that RFC 8446 does not allow after a handshake,
//! each with the alert it asks for ([`RecordError::alert`]); more than [`Limits`] of what costs work
//! and carries nothing. It knows no other version than TLS 1.3.
//!
//! Keys come from rustls' `dangerous_into_kernel_connection`, the door it has for those who protect
//! records elsewhere. rustls 0.24 opens in place itself and may replace this crate one day, so
//! nothing but [`Session`] is known outside.

mod alert;
mod choice;
mod cipher;
mod error;
mod limits;
mod message;
mod open;
mod schedule;
mod seal;
mod session;

pub use alert::Alert;
pub use choice::{Backend, Measured};
pub use cipher::{Suite, TrafficKey};
pub use error::RecordError;
pub use limits::Limits;
pub use schedule::{KeySchedule, Role, TicketError};
pub use session::{Counts, Layout, Session};

/// Bytes of a record's header.
pub const HEADER: usize = 5;
/// Most bytes of application data in one record (§5.1).
pub const MAX_PLAINTEXT: usize = 1 << 14;
/// What a record has after its plaintext: the inner content type and the tag.
pub const TRAILER: usize = 1 + TAG;
/// Bytes of a full record that carries no padding: what a sender needs room for.
pub const SLOT: usize = HEADER + MAX_PLAINTEXT + TRAILER;
/// Bytes of the largest record that a peer may send (§5.2): what a receiver needs room for.
pub const MAX_RECORD: usize = HEADER + MAX_CIPHERTEXT;

/// Bytes of an AEAD tag; the same for all suites.
const TAG: usize = 16;
/// §5.2: "The length MUST NOT exceed 2^14 + 256 bytes."
const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;

/// Content types (§5.1).
mod content {
    pub(crate) const ALERT: u8 = 21;
    pub(crate) const HANDSHAKE: u8 = 22;
    pub(crate) const APPLICATION_DATA: u8 = 23;
}
