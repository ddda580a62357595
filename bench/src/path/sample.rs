//! What is known of a connection at a moment.

use serde::{Deserialize, Serialize};

use super::{cpu::CpuTime, info::TcpInfo};

/// Memory of a socket, in bytes, as the kernel accounts it: the payload and what it costs to keep it
/// (`INET_DIAG_SKMEMINFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Of what has arrived and is not read.
    pub receive: u32,
    /// Its bound, SO_RCVBUF; the kernel raises it up to `tcp_rmem` unless the program has set it.
    pub receive_buffer: u32,
    /// Of what is written and not acknowledged.
    pub send: u32,
    /// Its bound, SO_SNDBUF; the kernel raises it up to `tcp_wmem` unless the program has set it.
    pub send_buffer: u32,
}

/// One end of a connection at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Since the measurement began, in microseconds.
    pub at: u64,
    /// Bytes that arrived and are not read: Recv-Q of ss(8).
    pub receive_queue: u32,
    /// Bytes written and not acknowledged: Send-Q of ss(8).
    pub send_queue: u32,
    /// The other end offers no window, and is asked from time to time whether it does again.
    pub is_probing: bool,
    /// The connection.
    pub tcp: TcpInfo,
    /// The socket's memory, where the kernel tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// CPU of the thread that moves the bytes at this end, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuTime>,
}
