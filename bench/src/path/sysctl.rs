//! What the host allows its sockets, by `/proc/sys/net`.

use std::fs;

use serde::{Deserialize, Serialize};

/// Bounds of buffers, in bytes, and congestion control.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sysctls {
    /// `net.ipv4.tcp_rmem`: least, first and most of a receive buffer that the kernel tunes. It holds for
    /// IPv6 too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_rmem: Option<[u64; 3]>,
    /// `net.ipv4.tcp_wmem`: the same of a send buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_wmem: Option<[u64; 3]>,
    /// `net.core.rmem_max`: the most that a program may ask for by SO_RCVBUF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rmem_max: Option<u64>,
    /// `net.core.wmem_max`: the most that a program may ask for by SO_SNDBUF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wmem_max: Option<u64>,
    /// `net.ipv4.tcp_allowed_congestion_control`: what any program may choose.
    pub allowed: Vec<String>,
    /// `net.ipv4.tcp_available_congestion_control`: what root may choose without loading a module.
    pub available: Vec<String>,
}

impl Sysctls {
    /// Those of the network namespace of this thread. What cannot be read is `None`.
    #[must_use]
    pub fn read() -> Self {
        let words = |name: &str| {
            let text = read(name).unwrap_or_default();
            text.split_ascii_whitespace().map(str::to_owned).collect()
        };
        Self {
            tcp_rmem: read("ipv4/tcp_rmem").and_then(|text| three(&text)),
            tcp_wmem: read("ipv4/tcp_wmem").and_then(|text| three(&text)),
            rmem_max: read("core/rmem_max").and_then(|text| text.trim().parse().ok()),
            wmem_max: read("core/wmem_max").and_then(|text| text.trim().parse().ok()),
            allowed: words("ipv4/tcp_allowed_congestion_control"),
            available: words("ipv4/tcp_available_congestion_control"),
        }
    }
}

fn read(name: &str) -> Option<String> {
    // By way of the thread: /proc/sys shows the namespace of whoever opens it.
    fs::read_to_string(format!("/proc/sys/net/{name}")).ok()
}

fn three(text: &str) -> Option<[u64; 3]> {
    let mut fields = text.split_ascii_whitespace();
    let mut next = || fields.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_are_three_numbers() {
        assert_eq!(
            three("4096\t131072\t6291456\n"),
            Some([4096, 131_072, 6_291_456])
        );
        for wrong in ["", "1 2", "1 b 3", "-1 2 3"] {
            assert_eq!(three(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn this_host_has_some() {
        let found = Sysctls::read();
        assert!(found.tcp_rmem.is_some_and(|[_, _, most]| most > 0));
        assert!(!found.allowed.is_empty());
    }
}
