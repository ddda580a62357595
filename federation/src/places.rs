//! How many may be at a door at a time: in all, and from one network.

use std::{
    collections::HashMap,
    hash::Hash,
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

impl Network {
    /// The /48 that an IPv6 network is of.
    const fn site(self) -> Option<[u16; 3]> {
        match self {
            Self::V4(_) => None,
            Self::V6([a, b, c, _]) => Some([a, b, c]),
        }
    }
}

/// The places of one kind.
#[derive(Debug)]
pub struct Places {
    taken: Mutex<Taken>,
    most: usize,
    most_of_one: usize,
    /// Of one /48 of IPv6 addresses, which one subscriber may have: 65536 networks of ours.
    most_of_site: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_network: HashMap<Network, usize>,
    by_site: HashMap<[u16; 3], usize>,
}

fn free<K: Hash + Eq>(counts: &mut HashMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(of);
        }
    }
}

impl Places {
    /// So many in all, and from one network.
    pub fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Self::with_sites(most, most_of_one, most)
    }

    /// So many in all, from one network, and from one /48 of IPv6 addresses.
    pub fn with_sites(most: usize, most_of_one: usize, most_of_site: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            most,
            most_of_one,
            most_of_site,
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
        if let Some(site) = network.site() {
            let of_site = taken.by_site.entry(site).or_default();
            if *of_site >= self.most_of_site {
                return None;
            }
            *of_site += 1;
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
        free(&mut taken.by_network, &self.network);
        if let Some(site) = self.network.site() {
            free(&mut taken.by_site, &site);
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
    fn one_site_takes_no_more_than_its_part_by_many_networks() {
        let places = Places::with_sites(20, 2, 6);
        let at_net = |net: usize| at(&format!("2001:db8:0:{net:x}::1"));
        let taken: Vec<_> = (0..10).filter_map(|net| places.take(at_net(net))).collect();
        assert_eq!(taken.len(), 6);
        let _other = places.take(at("2001:db8:1::1")).unwrap();
        drop(taken);
        let _again = places.take(at_net(9)).unwrap();
        assert_eq!(places.taken.lock().unwrap().by_site.len(), 2);
    }

    #[test]
    fn networks_that_have_gone_are_forgotten() {
        let places = Places::new(5, 2);
        for host in 0..100 {
            drop(places.take(at(&format!("10.0.{host}.1"))).unwrap());
        }
        drop(places.take(at("2001:db8::1")).unwrap());
        let taken = places.taken.lock().unwrap();
        assert_eq!((taken.all, taken.by_network.len()), (0, 0));
        assert!(taken.by_site.is_empty());
    }
}
