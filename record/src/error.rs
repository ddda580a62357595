//! What ends a session before its time.

use crate::{Alert, TicketError};

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The peer sent an alert that ends the connection (RFC 8446 §6.2).
    #[error("the other side sent the TLS alert {0}")]
    AlertReceived(Alert),
    /// A record does not open: damaged, replayed, out of order, or under another key (§5.2).
    #[error("a record does not open under the connection's key")]
    BadRecordMac,
    /// Something was to be sent after `close_notify` or another last word.
    #[error("our direction is closed")]
    Closed,
    /// A message cannot be read.
    #[error("{0}")]
    Decode(&'static str),
    /// A field has a value that it must not have.
    #[error("{0}")]
    IllegalParameter(&'static str),
    /// A key has protected as many records as it may (§5.5), and no new one came.
    #[error("the key has protected as many records as it may")]
    KeyExhausted,
    /// A record is longer than §5.1 and §5.2 allow.
    #[error("a record of {0} bytes is longer than TLS 1.3 allows")]
    Overflow(usize),
    /// rustls gave no new key.
    #[error("no new key: {0}")]
    Schedule(String),
    /// A session ticket was refused.
    #[error("session ticket: {0}")]
    Ticket(#[source] TicketError),
    /// A record or message that must not come here.
    #[error("{0}")]
    UnexpectedMessage(&'static str),
}

impl RecordError {
    /// The alert that tells the peer (§6.2); `None` where it has told us.
    #[must_use]
    pub const fn alert(&self) -> Option<Alert> {
        Some(match self {
            Self::AlertReceived(_) => return None,
            Self::BadRecordMac => Alert::BAD_RECORD_MAC,
            Self::Decode(_) | Self::Ticket(TicketError::Unreadable) => Alert::DECODE_ERROR,
            Self::IllegalParameter(_) | Self::Ticket(TicketError::Illegal) => {
                Alert::ILLEGAL_PARAMETER
            }
            Self::Closed | Self::KeyExhausted | Self::Schedule(_) => Alert::INTERNAL_ERROR,
            Self::Overflow(_) => Alert::RECORD_OVERFLOW,
            Self::UnexpectedMessage(_) => Alert::UNEXPECTED_MESSAGE,
        })
    }
}
