//! How many may be at a door at a time: in all, and from one network.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Where somebody comes from: the /24 of an IPv4 address, the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4([u8; 3]),
    V6([u16; 4]),
}

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// The places of one kind.
#[derive(Debug)]
pub struct Places {
    taken: Mutex<Taken>,
    most: usize,
    most_of_one: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: HashMap<Network, usize>,
}

impl Places {
    /// So many in all, and from one network.
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            most,
            most_of_one,
        })
    }

    /// A place until it is dropped; `None` where there is none left.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = Network::of(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.by_network.get(&network).copied().unwrap_or_default();
        if taken.all >= self.most || of_one >= self.most_of_one {
            return None;
        }
        taken.all += 1;
        taken.by_network.insert(network, of_one + 1);
        drop(taken);
        Some(Place {
            of: Arc::clone(self),
            network,
        })
    }
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place {
    of: Arc<Places>,
    network: Network,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_one) = taken.by_network.get_mut(&self.network) {
            *of_one = of_one.saturating_sub(1);
            if *of_one == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_network_takes_no_more_than_its_part() {
        let places = Places::new(5, 2);
        let first = places.take(at("10.0.0.1")).unwrap();
        let _second = places.take(at("::ffff:10.0.0.200")).unwrap();
        assert!(places.take(at("10.0.0.3")).is_none());
        let _six = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| places.take(at(text)).unwrap());
        assert!(places.take(at("2001:db8::2")).is_none());
        let other = places.take(at("2001:db8:0:1::1")).unwrap();
        assert!(places.take(at("10.0.1.1")).is_none(), "all are taken");
        drop(first);
        let _again = places.take(at("10.0.0.3")).unwrap();
        drop(other);
        let _last = places.take(at("10.0.1.1")).unwrap();
    }

    #[test]
    fn networks_that_have_gone_are_forgotten() {
        let places = Places::new(5, 2);
        for host in 0..100 {
            drop(places.take(at(&format!("10.0.{host}.1"))).unwrap());
        }
        let taken = places.taken.lock().unwrap();
        assert_eq!((taken.all, taken.by_network.len()), (0, 0));
    }
}
