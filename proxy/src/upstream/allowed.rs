//! Addresses that another site's catalogue may send us to.
//!
//! A catalogue comes from afar: without this a member could have our proxies dial whatever listens
//! on this host or in its networks. Asked of the address that is dialled, after its name was
//! resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether `address` is public, or in one of the networks that the operator has listed.
pub(super) fn is_allowed(address: IpAddr, listed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    listed.iter().any(|net| net.contains(&address)) || is_public(address)
}

/// Whether the Internet routes it (IANA special-purpose address registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

const fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let this_network = a == 0;
    let shared = a == 100 && b & 0xc0 == 64;
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmarks = a == 198 && b & 0xfe == 18;
    let reserved = a >= 240;
    !(this_network
        || shared
        || protocols
        || benchmarks
        || reserved
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast()
        || ip.is_broadcast())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    // Global unicast is 2000::/3; what translates to IPv4 goes where that address goes.
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        (0x64, 0xff9b, 0, 0, 0, 0) => embedded(g, h),
        (0x2002, high, low, ..) => embedded(high, low),
        // Teredo, benchmarks, ORCHID, documentation.
        (0x2001, 0..=0x01ff | 0x0db8, ..) | (0x3fff, 0..=0x0fff, ..) => false,
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(address: &str, listed: &[&str]) -> bool {
        let listed: Vec<IpNet> = listed.iter().map(|net| net.parse().unwrap()).collect();
        is_allowed(address.parse().unwrap(), &listed)
    }

    #[test]
    fn public_addresses_are_allowed() {
        for address in [
            "1.1.1.1",
            "133.11.0.1",
            "203.0.112.1",
            "2001:2f8::1",
            "2400::1",
            "::ffff:133.11.0.1",
            "64:ff9b::850b:1",
        ] {
            assert!(allowed(address, &[]), "{address}");
        }
    }

    #[test]
    fn what_is_of_this_host_or_of_its_networks_only_where_it_is_listed() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!allowed(address, &[]), "{address}");
            let whole = if address.contains('.') && !address.contains(':') {
                "0.0.0.0/0"
            } else {
                "::/0"
            };
            let mapped = address.starts_with("::ffff");
            let whole = if mapped { "0.0.0.0/0" } else { whole };
            assert!(allowed(address, &[whole]), "{address}");
        }
        assert!(allowed("10.1.2.3", &["10.1.0.0/16"]));
        assert!(!allowed("10.2.0.1", &["10.1.0.0/16"]));
    }
}
