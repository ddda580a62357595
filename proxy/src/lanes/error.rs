//! Why a stream cannot go on.

use std::io;

use sekisho_lanes::{IncomingError, OutgoingError};
use sekisho_record::RecordError;

use crate::wire::tls_error;

/// A stream that cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LanesError {
    /// The other side refused it.
    #[error("the other side refused: {0}")]
    Denied(String),
    /// The other side gave it up.
    #[error("the other side gave it up: {0}")]
    Reset(String),
    /// What came is none of the protocol's frames, or has no place where it came.
    #[error("sekisho/1: {0}")]
    Frame(String),
    /// TLS of the first lane, before the other side had accepted the stream.
    #[error("{0}")]
    Tls(RecordError),
    /// No lane is left.
    #[error("no lane is left, the last one: {0}")]
    Alone(String),
}

impl LanesError {
    /// In one of the system's, as a relay knows errors.
    pub(super) fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Tls(error) => return tls_error(error.clone()),
            Self::Alone(_) => io::ErrorKind::ConnectionAborted,
            Self::Denied(_) | Self::Reset(_) => io::ErrorKind::ConnectionReset,
            Self::Frame(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

impl From<IncomingError> for LanesError {
    fn from(error: IncomingError) -> Self {
        Self::Frame(format!("{error} ({})", error.word()))
    }
}

impl From<OutgoingError> for LanesError {
    fn from(error: OutgoingError) -> Self {
        Self::Frame(format!("{error} (confirmed)"))
    }
}
