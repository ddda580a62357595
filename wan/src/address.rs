//! The addresses of the two ends.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Error;

/// Whether these can stand at the two ends: for each at the one, one of the same network at the other,
/// in the same order.
pub(crate) fn check(ends: [&[IpNet]; 2]) -> Result<(), Error> {
    let [one, other] = ends;
    let wrong = |text: String| Err(Error::Addresses(text));
    if one.is_empty() || one.len() != other.len() {
        return wrong(format!(
            "{} at one end, {} at the other; expected a pair of one network, or one of IPv4 and one of \
             IPv6, such as 10.99.0.1/30,10.99.0.2/30",
            one.len(),
            other.len()
        ));
    }
    for (index, (one, other)) in one.iter().zip(other).enumerate() {
        if one.trunc() != other.trunc() {
            return wrong(format!(
                "{one} and {other} are not of one network; expected such as 10.99.0.1/30 and 10.99.0.2/30"
            ));
        }
        if one.addr() == other.addr() {
            return wrong(format!("{one} at both ends; expected two of one network"));
        }
        for address in [one, other] {
            if !is_host(address) {
                return wrong(format!("{address} is the network's own, not a host's"));
            }
        }
        let earlier = ends.map(|end| end.iter().take(index).find(|earlier| overlap(earlier, one)));
        if let Some(earlier) = earlier.into_iter().flatten().next() {
            return wrong(format!(
                "{one} and {earlier} overlap: no packet could tell them apart"
            ));
        }
    }
    Ok(())
}

/// Whether networks that a namespace has already leave these free.
pub(crate) fn check_free(ours: &[IpNet], theirs: &[(IpNet, String)]) -> Result<(), Error> {
    for ours in ours {
        if let Some((network, device)) = theirs.iter().find(|(theirs, _)| overlap(theirs, ours)) {
            return Err(Error::Addresses(format!(
                "{ours} overlaps {network}, which {device} has there; choose another network"
            )));
        }
    }
    Ok(())
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.addr()) || other.contains(&one.addr()) || one.trunc() == other.trunc()
}

fn is_host(address: &IpNet) -> bool {
    match address.addr() {
        IpAddr::V4(host) if address.prefix_len() < 31 => {
            !matches!(address, IpNet::V4(net) if net.network() == host || net.broadcast() == host)
        }
        _ => address.prefix_len() < address.max_prefix_len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace()
            .map(|one| one.parse().unwrap())
            .collect()
    }

    fn said(one: &str, other: &str) -> String {
        match check([&nets(one), &nets(other)]) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn pairs_of_one_network_are_right() {
        assert_eq!(said("10.99.0.1/30", "10.99.0.2/30"), "");
        assert_eq!(said("10.99.0.0/31", "10.99.0.1/31"), "");
        assert_eq!(said("10.9.0.1/24 fd00::1/64", "10.9.0.2/24 fd00::2/64"), "");
    }

    #[test]
    fn the_others_are_told_why_not() {
        for (one, other, expected) in [
            ("", "", "0 at one end"),
            ("10.9.0.1/24 fd00::1/64", "10.9.0.2/24", "2 at one end, 1"),
            ("10.9.0.1/24", "10.9.1.2/24", "not of one network"),
            ("10.9.0.1/24", "10.9.0.2/25", "not of one network"),
            ("10.9.0.1/24", "fd00::2/64", "not of one network"),
            ("10.9.0.1/24", "10.9.0.1/24", "at both ends"),
            ("10.9.0.0/24", "10.9.0.1/24", "the network's own"),
            ("10.9.0.1/24", "10.9.0.255/24", "the network's own"),
            (
                "10.9.0.1/24 10.9.0.65/26",
                "10.9.0.2/24 10.9.0.66/26",
                "overlap",
            ),
        ] {
            let said = said(one, other);
            assert!(said.contains(expected), "{one}, {other}: {said}");
        }
    }

    #[test]
    fn what_is_there_already_is_not_taken() {
        let theirs = [("10.9.0.7/16".parse().unwrap(), "eth0".to_owned())];
        let error = check_free(&nets("10.9.5.1/30"), &theirs).unwrap_err();
        assert!(error.to_string().contains("10.9.0.7/16, which eth0 has"));
        assert!(check_free(&nets("10.10.0.1/30"), &theirs).is_ok());
    }
}
