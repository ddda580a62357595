//! What keeps a path from being measured.

use std::{io, net::SocketAddr, time::Duration};

use super::frame::FrameError;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection.
    #[error("{address}: {error}")]
    Unreachable {
        /// Where to.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// It answers, but not as a server of ours or iperf3's does.
    #[error(
        "{address} {found}; expected `sekisho bench server` or `iperf3 -s` there, or a gate that leads \
         to one"
    )]
    NotAServer {
        /// What was asked.
        address: SocketAddr,
        /// What it did.
        found: String,
    },
    /// It was there, and is not any more.
    #[error("the server went away after {:.1} s: {error}", after.as_secs_f64())]
    Gone {
        /// Since the measurement began.
        after: Duration,
        /// What the system says.
        error: io::Error,
    },
    /// What came is not what a server says.
    #[error("the server's answer: {0}")]
    Frame(#[from] FrameError),
    /// The server says that it cannot.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// Another test runs there.
    #[error("{0}: iperf3 serves another client now; it serves one at a time")]
    Busy(SocketAddr),
    /// iperf3 says something that its protocol does not have there.
    #[error("iperf3: {0}")]
    Iperf3(String),
    /// An option that this host refuses.
    #[error(transparent)]
    Option(io::Error),
    /// This host does not tell what is needed.
    #[error(transparent)]
    System(#[from] io::Error),
    /// A count that cannot be.
    #[error("{sent} bytes were sent and {received} arrived")]
    Counts {
        /// By the sender.
        sent: u64,
        /// By the receiver.
        received: u64,
    },
    /// Nothing to watch.
    #[error("no connection to or from {0} on this host while it was watched")]
    Nothing(String),
}

impl Error {
    /// A stable word for it.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::NotAServer { .. } => "not_a_server",
            Self::Gone { .. } => "server_gone",
            Self::Frame(_) => "bad_answer",
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
            Self::Iperf3(_) => "bad_iperf3",
            Self::Option(_) => "bad_option",
            Self::System(_) => "system",
            Self::Counts { .. } => "counts_differ",
            Self::Nothing(_) => "no_connection",
        }
    }
}
