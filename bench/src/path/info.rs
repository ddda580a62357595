//! `struct tcp_info` of the kernel's `include/uapi/linux/tcp.h`.

use serde::{Deserialize, Serialize};

/// Bytes that every kernel tells since 2.6.
const SMALLEST: usize = 104;

/// What the kernel tells of a connection. A figure that this kernel does not have is `None`; times are in
/// microseconds, sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpInfo {
    /// The last rate was found while the application had nothing more to send
    /// (`tcpi_delivery_rate_app_limited`, since Linux 4.9).
    pub app_limited: bool,
    /// Bytes of a segment that this end sends.
    pub mss: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Smoothed round trip.
    pub rtt: u32,
    /// Mean deviation of the round trip.
    pub rtt_deviation: u32,
    /// Congestion window, in segments.
    pub cwnd: u32,
    /// Slow start threshold, in segments; very large: none yet.
    pub ssthresh: u32,
    /// Round trip as the receiver sees it; 0: it has not seen any.
    pub receive_rtt: u32,
    /// What the application reads in a round trip, by which the kernel tunes the receive buffer.
    pub receive_space: u32,
    /// Segments sent again.
    pub retransmissions: u32,
    /// Bytes per second at which segments are let go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pacing_rate: Option<u64>,
    /// Bytes acknowledged by the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked: Option<u64>,
    /// Bytes that arrived from the other end, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Bytes written and not sent yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_sent: Option<u32>,
    /// The shortest round trip of the last minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rtt: Option<u32>,
    /// Bytes per second that the last acknowledgements told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_rate: Option<u64>,
    /// Time with something to send or under way, the next two included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<u64>,
    /// Time stopped by the other end's receive window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_limited: Option<u64>,
    /// Time stopped by this end's send buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_limited: Option<u64>,
    /// Bytes sent, those sent again included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Bytes sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_again: Option<u64>,
    /// The window that the other end offered last (since Linux 5.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_window: Option<u32>,
    /// The window that this end offered last (since Linux 6.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_window: Option<u32>,
}

impl TcpInfo {
    /// Reads what `INET_DIAG_INFO` carries; `None` where it is shorter than any kernel's. What a newer
    /// kernel has behind it is left alone.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < SMALLEST {
            return None;
        }
        let narrow = |at| u32_at(bytes, at);
        let wide = |at| u64_at(bytes, at);
        // A field of one bit: C lays them out by the machine's byte order.
        let bit = if cfg!(target_endian = "little") {
            1
        } else {
            0x80
        };
        Some(Self {
            app_limited: bytes.get(7).is_some_and(|flags| flags & bit != 0),
            mss: narrow(16)?,
            unacked: narrow(24)?,
            rtt: narrow(68)?,
            rtt_deviation: narrow(72)?,
            ssthresh: narrow(76)?,
            cwnd: narrow(80)?,
            receive_rtt: narrow(92)?,
            receive_space: narrow(96)?,
            retransmissions: narrow(100)?,
            pacing_rate: wide(104).filter(|rate| *rate != u64::MAX),
            acked: wide(120),
            received: wide(128),
            not_sent: narrow(144),
            // Before the first it is the largest number.
            min_rtt: narrow(148).filter(|rtt| *rtt != u32::MAX),
            delivery_rate: wide(160),
            busy: wide(168),
            window_limited: wide(176),
            buffer_limited: wide(184),
            sent: wide(200),
            sent_again: wide(208),
            send_window: narrow(228),
            receive_window: narrow(232),
        })
    }
}

/// A number of the kernel's, in this machine's byte order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Vec<u8> {
        let mut bytes = vec![0; 248];
        bytes[7] = if cfg!(target_endian = "little") {
            1
        } else {
            0x80
        };
        bytes[68..72].copy_from_slice(&20_000_u32.to_ne_bytes());
        bytes[148..152].copy_from_slice(&19_000_u32.to_ne_bytes());
        bytes[168..176].copy_from_slice(&7_u64.to_ne_bytes());
        bytes[228..232].copy_from_slice(&65_536_u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn figures_stand_where_the_kernel_puts_them() {
        let info = TcpInfo::parse(&whole()).unwrap();
        assert!(info.app_limited);
        assert_eq!((info.rtt, info.min_rtt), (20_000, Some(19_000)));
        assert_eq!((info.busy, info.send_window), (Some(7), Some(65_536)));
    }

    #[test]
    fn an_older_kernel_tells_less() {
        for length in 0..=248 {
            let info = TcpInfo::parse(&whole()[..length]);
            assert_eq!(info.is_some(), length >= 104, "{length}");
            let Some(info) = info else { continue };
            assert_eq!(info.min_rtt.is_some(), length >= 152, "{length}");
            assert_eq!(info.busy.is_some(), length >= 176, "{length}");
            assert_eq!(info.send_window.is_some(), length >= 232, "{length}");
            assert_eq!(info.receive_window.is_some(), length >= 236, "{length}");
        }
    }
}
