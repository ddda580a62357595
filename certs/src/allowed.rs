//! To which addresses a connection may go: whoever writes the name of an endpoint, lets one redirect, or
//! lists a gateway in a catalogue, must not make us talk to what only we can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What is not on the public Internet (IANA's special-purpose registries, RFC 6890; multicast).
const SPECIAL: [&str; 27] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // The first /96 has the unspecified address, loopback and what is mapped from IPv4.
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// The networks that an administrator allows, beside the public Internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    listed: Vec<IpNet>,
    special: Vec<IpNet>,
}

impl Default for Allowed {
    /// The public Internet only.
    fn default() -> Self {
        Self::with([])
    }
}

impl Allowed {
    /// These networks too.
    #[must_use]
    pub fn with(listed: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            listed: listed.into_iter().collect(),
            special: SPECIAL.iter().filter_map(|net| net.parse().ok()).collect(),
        }
    }

    /// Whether a connection may go to this address.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let has = |nets: &[IpNet], address: IpAddr| nets.iter().any(|net| net.contains(&address));
        // Who listed the address of a translator has not listed what is behind it.
        let behind = match address {
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        [Some(address), behind]
            .into_iter()
            .flatten()
            .all(|one| has(&self.listed, one) || !has(&self.special, one))
    }
}

/// The IPv4 address that a translator or a tunnel makes of an IPv6 address: NAT64 (RFC 6052), 6to4
/// (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(Ipv4Addr::new(a, b, c, d)),
        [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_network_of_the_list_is_one() {
        assert_eq!(Allowed::default().special.len(), SPECIAL.len());
    }

    #[test]
    fn what_only_we_can_reach_is_allowed_only_where_it_is_listed() {
        let public = Allowed::default();
        for good in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111"] {
            assert!(public.permits(at(good)), "{good}");
        }
        let listed = Allowed::with(["10.1.0.0/16", "fd00::/8"].map(|net| net.parse().unwrap()));
        for private in [
            "0.0.0.0",
            "10.2.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::10.2.0.1",
            "2002:7f00:1::",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!public.permits(at(private)), "{private}");
            assert!(!listed.permits(at(private)), "{private}");
        }
        for private in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "fd12::1",
        ] {
            assert!(!public.permits(at(private)), "{private}");
            assert!(listed.permits(at(private)), "{private}");
        }
        assert!(listed.permits(at("64:ff9b::8.8.8.8")));
    }
}
