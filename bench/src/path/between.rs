//! Where a proxy stands between: which connections of this host carry what we send.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
};

use super::{
    cpu::{Busiest, holder},
    diag::{Kernel, Ports},
    sample::Sample,
    verdict::Side,
};

/// Connections that are followed, at most.
const MOST: usize = 1024;
/// A connection counts that carries at least such a share of what we do.
const SHARE: f64 = 0.1;
/// All together must carry at least such a share, or they are not what we look for.
const TOGETHER: f64 = 0.5;

/// A connection of a proxy on this host.
#[derive(Clone, Debug, PartialEq)]
pub struct Carrier {
    /// Its end here.
    pub local: SocketAddr,
    /// Its other end.
    pub remote: SocketAddr,
    /// Congestion control of its end here.
    pub congestion: String,
    /// Its end here, over time.
    pub samples: Vec<Sample>,
    /// Bytes that it carried in our direction meanwhile.
    pub bytes: u64,
}

/// Follows all connections of this host that leave it.
#[derive(Debug)]
pub(super) struct Between {
    kernel: Kernel,
    sender_is: Side,
    own: (SocketAddr, SocketAddr),
    followed: HashMap<(SocketAddr, SocketAddr), Carrier>,
    /// Threads of the program that our connection leads to.
    program: Option<Busiest>,
}

impl Between {
    pub(super) fn new(sender_is: Side, local: SocketAddr, remote: SocketAddr) -> io::Result<Self> {
        let kernel = Kernel::open()?;
        // Where it is on this host, its socket is here too.
        let other = kernel.one(remote, local)?;
        let process = other.and_then(|other| holder(other.inode));
        Ok(Self {
            kernel,
            sender_is,
            own: (local, remote),
            followed: HashMap::new(),
            program: process.and_then(|(process, _)| Busiest::of(process).ok()),
        })
    }

    pub(super) fn take(&mut self, at: u64) -> io::Result<()> {
        let cpu = self.program.as_ref().and_then(Busiest::time);
        for found in self.kernel.all(Ports::default())? {
            let key = (found.local, found.remote);
            let ours = key == self.own || key == (self.own.1, self.own.0);
            if ours || stays(found.local.ip(), found.remote.ip()) {
                continue;
            }
            if self.followed.len() >= MOST && !self.followed.contains_key(&key) {
                continue;
            }
            let carrier = self.followed.entry(key).or_insert_with(|| Carrier {
                local: found.local,
                remote: found.remote,
                congestion: found.congestion,
                samples: Vec::new(),
                bytes: 0,
            });
            let sample = Sample {
                at,
                cpu,
                ..found.sample
            };
            if let Some(first) = carrier.samples.first() {
                let before = moved(first, self.sender_is);
                carrier.bytes = moved(&sample, self.sender_is).saturating_sub(before);
            }
            // Of those that stand still only the first is kept.
            if carrier.bytes > 0 || carrier.samples.is_empty() {
                carrier.samples.push(sample);
            }
        }
        Ok(())
    }

    /// Those that carried our `bytes`, the one with most first; none, where others do.
    pub(super) fn carriers(self, bytes: u64) -> Vec<Carrier> {
        let wanted = |share: f64| bytes as f64 * share;
        let mut found: Vec<_> = self.followed.into_values().collect();
        found.retain(|one| one.bytes > 0 && one.bytes as f64 >= wanted(SHARE));
        found.sort_by_key(|one| std::cmp::Reverse(one.bytes));
        let sum: u64 = found.iter().map(|one| one.bytes).sum();
        if (sum as f64) < wanted(TOGETHER) {
            found.clear();
        }
        found
    }
}

fn moved(sample: &Sample, sender_is: Side) -> u64 {
    let bytes = match sender_is {
        Side::Here => sample.tcp.acked,
        Side::There => sample.tcp.received,
    };
    bytes.unwrap_or_default()
}

/// Both ends have one address, or are loopback: it does not leave this host.
fn stays(local: IpAddr, remote: IpAddr) -> bool {
    local == remote || local.is_loopback() || remote.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrier(port: u16, bytes: u64) -> Carrier {
        Carrier {
            local: ([10, 0, 0, 1], port).into(),
            remote: "10.0.0.2:443".parse().unwrap(),
            congestion: String::new(),
            samples: Vec::new(),
            bytes,
        }
    }

    fn of(found: &[Carrier], bytes: u64) -> Vec<u16> {
        let between = Between {
            kernel: Kernel::open().unwrap(),
            sender_is: Side::Here,
            own: (
                "127.0.0.1:1".parse().unwrap(),
                "127.0.0.1:2".parse().unwrap(),
            ),
            followed: found
                .iter()
                .map(|one| ((one.local, one.remote), one.clone()))
                .collect(),
            program: None,
        };
        let found = between.carriers(bytes);
        found.iter().map(|one| one.local.port()).collect()
    }

    #[test]
    fn those_count_that_carry_what_we_send() {
        let lanes = [
            carrier(1, 400),
            carrier(2, 500),
            carrier(3, 90),
            carrier(4, 0),
        ];
        assert_eq!(of(&lanes, 1000), [2, 1]);
        // Others' traffic, of which there is less than ours.
        assert!(of(&[carrier(1, 400)], 1000).is_empty());
        assert!(of(&[], 0).is_empty());
    }
}
