//! How often one address may call what costs: as in SPIRE, excess waits. Of IPv6 a /64 is one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::Status;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Costly {
    /// Attestations.
    Attest,
    /// JWT-SVIDs.
    Jwt,
    /// JWT keys of servers below.
    Publish,
    /// What agents say of themselves.
    Status,
    /// X.509-SVIDs, each.
    X509,
}

/// Addresses that are remembered: those that have called last.
const MOST: usize = 100_000;
/// Longest wait: agents give up after 30 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// When an address has used up what it was given.
#[derive(Debug)]
pub struct Limits {
    known: Mutex<HashMap<(Costly, IpAddr), Instant>>,
    attestations: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Limits {
    /// With so many attestations a second; at least one.
    #[must_use]
    pub fn new(attestations: u32) -> Self {
        Self {
            known: Mutex::default(),
            attestations: attestations.max(1),
        }
    }

    /// A second, and as many at once.
    const fn rate(&self, what: Costly) -> u32 {
        match what {
            Costly::Attest => self.attestations,
            Costly::Jwt | Costly::Publish | Costly::X509 => 500,
            Costly::Status => 10,
        }
    }

    /// Waits until `address` may do this `count` times more.
    ///
    /// # Errors
    /// `ResourceExhausted` where that is more than it may ever do at once, or the wait would be too
    /// long.
    pub async fn wait(
        &self,
        what: Costly,
        address: Option<IpAddr>,
        count: usize,
    ) -> Result<(), Status> {
        // The Unix socket is not limited.
        let Some(address) = address else {
            return Ok(());
        };
        let ready = self.take(what, network(address), count, Instant::now())?;
        tokio::time::sleep_until(ready).await;
        Ok(())
    }

    /// When it may go on.
    fn take(
        &self,
        what: Costly,
        address: IpAddr,
        count: usize,
        now: Instant,
    ) -> Result<Instant, Status> {
        let exhausted = |text: &str| Err(Status::resource_exhausted(text));
        let rate = self.rate(what);
        let count = match u32::try_from(count) {
            Ok(count) if count <= rate => count,
            _ => return exhausted("more than may be asked for at once"),
        };
        // A bucket of `rate` tokens that fills in a second, told by the time at which it is full.
        let (cost, whole) = (
            Duration::from_secs(1) * count / rate,
            Duration::from_secs(1),
        );
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&(what, address)) {
            known.retain(|_, full| *full > now);
            if known.len() >= MOST {
                return exhausted("too many addresses call");
            }
        }
        let full = known.get(&(what, address)).copied().unwrap_or(now).max(now) + cost;
        let ready = full.checked_sub(whole).unwrap_or(now).max(now);
        if ready - now > PATIENCE {
            return exhausted("too many calls wait from this address");
        }
        known.insert((what, address), full);
        Ok(ready)
    }
}

/// Whose an address is: of IPv6 whoever has one has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(
            || IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
            IpAddr::V4,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn what_is_over_waits_and_each_address_for_itself() {
        let limits = Limits::default();
        let now = Instant::now();
        let wait = |what, address, count| {
            limits
                .take(what, address, count, now)
                .map(|ready| ready - now)
        };
        let second = Duration::from_secs(1);
        assert_eq!(wait(Costly::Attest, ONE, 1).unwrap(), Duration::ZERO);
        assert_eq!(wait(Costly::Attest, ONE, 1).unwrap(), second);
        assert_eq!(wait(Costly::Attest, ONE, 1).unwrap(), 2 * second);
        assert_eq!(wait(Costly::Attest, OTHER, 1).unwrap(), Duration::ZERO);
        assert_eq!(wait(Costly::X509, ONE, 500).unwrap(), Duration::ZERO);
        assert_eq!(wait(Costly::X509, ONE, 250).unwrap(), second / 2);
        let later = limits
            .take(Costly::X509, ONE, 500, now + 2 * second)
            .unwrap();
        assert_eq!(later, now + 2 * second, "it has filled again");
    }

    #[test]
    fn of_ipv6_a_network_counts_as_one_address() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::"));
        assert_ne!(network("2001:db8:1:3::1"), network("2001:db8:1:2::1"));
        assert_eq!(network("10.0.0.1"), "10.0.0.1");
        assert_eq!(network("::ffff:10.0.0.1"), "10.0.0.1");
    }

    #[test]
    fn what_can_never_be_and_what_would_wait_too_long_is_refused() {
        let limits = Limits::default();
        let now = Instant::now();
        let refused = limits.take(Costly::X509, ONE, 501, now).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        for _ in 0..=30 {
            limits.take(Costly::Attest, ONE, 1, now).unwrap();
        }
        limits.take(Costly::Attest, ONE, 1, now).unwrap_err();
        limits
            .take(Costly::Attest, ONE, 1, now + Duration::from_secs(1))
            .unwrap();
    }

    #[test]
    fn addresses_are_remembered_up_to_a_bound() {
        let limits = Limits::default();
        let now = Instant::now();
        let address = |at: usize| IpAddr::V4(Ipv4Addr::from(u32::try_from(at).unwrap()));
        for at in 0..MOST {
            limits.take(Costly::Attest, address(at), 1, now).unwrap();
        }
        limits
            .take(Costly::Attest, address(MOST), 1, now)
            .unwrap_err();
        limits.take(Costly::Attest, address(0), 1, now).unwrap();
        let later = now + Duration::from_secs(2);
        limits
            .take(Costly::Attest, address(MOST), 1, later)
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_socket_of_this_host_never_waits() {
        let limits = Limits::default();
        let begin = Instant::now();
        for _ in 0..100 {
            limits.wait(Costly::Attest, None, 1).await.unwrap();
        }
        assert_eq!(Instant::now(), begin);
        limits.wait(Costly::Attest, Some(ONE), 1).await.unwrap();
        limits.wait(Costly::Attest, Some(ONE), 1).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_secs(1));
    }
}
