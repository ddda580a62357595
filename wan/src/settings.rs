//! What a direction of the path does to packets.

use std::time::Duration;

use crate::Nanos;

/// The smallest MTU: what every IPv4 host must take (RFC 791, section 3.1).
pub const SMALLEST_MTU: u16 = 576;
/// The smallest MTU of a path that has IPv6 addresses (RFC 8200, section 5).
pub const SMALLEST_MTU_V6: u16 = 1280;
/// The longest delay, jitter or hold: ten seconds.
pub const LONGEST: Duration = Duration::from_secs(10);
/// The default of [`Settings::memory`]: 256 MiB.
pub const MEMORY: usize = 256 << 20;

/// One direction of a path. A packet meets them in this order: MTU, queue, rate, loss, delay with
/// jitter, reordering. So what is lost has taken its time on the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// From one end to the other; of a path that is the same both ways, half a round trip. Default: 0.
    pub delay: Duration,
    /// What the delay wanders up by, at most; its mean is half of that. In straight lines between
    /// values drawn uniformly, one each four jitters of time (at least each millisecond), so that
    /// packets keep their order. Default: 0.
    pub jitter: Duration,
    /// Bits per second, counted over whole IP packets. Default: as fast as this machine can.
    pub rate: Option<u64>,
    /// What may wait for the line, the packet being sent among it; what comes beyond is dropped.
    /// Without a rate nothing waits. Default: 1 MiB.
    pub queue: Queue,
    /// Probability that a packet is lost, each by itself, from 0 to 1. Default: 0.
    pub loss: f64,
    /// Losses in bursts, beside the others. Default: none.
    pub burst: Option<Burst>,
    /// Packets that are overtaken. Default: none.
    pub reorder: Option<Reorder>,
    /// The largest IP packet, in bytes; larger ones are dropped and counted. Default: 1500.
    pub mtu: u16,
    /// The most memory that packets on their way may take, in bytes; what comes beyond is dropped
    /// and counted. Default: [`MEMORY`].
    pub memory: usize,
}

/// The bound of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Of whole IP packets.
    Bytes(u64),
    /// Packets of whatever size.
    Packets(u32),
}

/// Losses in bursts: Gilbert's chain of two states with Elliott's loss in the bad one (Elliott,
/// *Estimates of error rates for codes on burst-noise channels*, 1963).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Probability that a burst begins at a packet, from above 0 to 1.
    pub begins: f64,
    /// Packets that a burst lasts on average, at least 1; the lengths are geometric.
    pub length: f64,
    /// Probability that a packet in a burst is lost, from above 0 to 1.
    pub lost: f64,
}

/// Packets that are held back, so that later ones overtake them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reorder {
    /// Probability that a packet is held back, each by itself, from above 0 to 1.
    pub share: f64,
    /// For how long, beyond when it would have left. No packet comes later than that: a bound.
    pub hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            queue: Queue::Bytes(1 << 20),
            loss: 0.0,
            burst: None,
            reorder: None,
            mtu: 1500,
            memory: MEMORY,
        }
    }
}

/// What is wrong with [`Settings`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A line that sends nothing.
    #[error("rate: 0 bits per second would carry nothing; leave it out for no limit")]
    Rate,
    /// Not a probability.
    #[error("{what}: {found} is not a share {expected}")]
    Share {
        /// Which setting.
        what: &'static str,
        /// What it is.
        found: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A burst shorter than a packet, or endless.
    #[error("burst: a mean of {0} packets; expected at least 1 and at most a million")]
    BurstLength(f64),
    /// A time beyond [`LONGEST`].
    #[error("{what}: {found:?}; expected at most {LONGEST:?}")]
    Time {
        /// Which setting.
        what: &'static str,
        /// What it is.
        found: Duration,
    },
    /// Packets that are held back for no time.
    #[error("reorder: packets held back for no time keep their place; give a time such as 2ms")]
    Hold,
    /// An MTU that IP does not have.
    #[error("mtu: {found}; expected at least {smallest}, which every host must take")]
    Mtu {
        /// What it is.
        found: u16,
        /// The least.
        smallest: u16,
    },
    /// A queue in which no packet has room.
    #[error("queue: {found} bytes do not hold one packet of {mtu}; give at least so much")]
    Queue {
        /// What it is.
        found: u64,
        /// The MTU.
        mtu: u16,
    },
    /// A queue of no packets.
    #[error("queue: without room for one packet nothing would pass")]
    NoQueue,
    /// Less memory than two reads of a device need.
    #[error("memory: {0} bytes; expected at least 1 MiB")]
    Memory(usize),
}

impl Settings {
    /// Whether a path can be so.
    ///
    /// # Errors
    /// [`SettingsError`], the first that is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.rate == Some(0) {
            return Err(SettingsError::Rate);
        }
        within("delay", self.delay)?;
        within("jitter", self.jitter)?;
        if !(0.0..=1.0).contains(&self.loss) {
            return Err(SettingsError::Share {
                what: "loss",
                found: self.loss,
                expected: "from 0 to 1 (100 %)",
            });
        }
        if let Some(burst) = self.burst {
            some("burst", burst.begins)?;
            some("burst, lost", burst.lost)?;
            if !(1.0..=1e6).contains(&burst.length) {
                return Err(SettingsError::BurstLength(burst.length));
            }
        }
        if let Some(reorder) = self.reorder {
            some("reorder", reorder.share)?;
            within("reorder", reorder.hold)?;
            if reorder.hold.is_zero() {
                return Err(SettingsError::Hold);
            }
        }
        self.check_mtu(SMALLEST_MTU)?;
        match self.queue {
            Queue::Bytes(found) if found < u64::from(self.mtu) => {
                let mtu = self.mtu;
                return Err(SettingsError::Queue { found, mtu });
            }
            Queue::Packets(0) => return Err(SettingsError::NoQueue),
            Queue::Bytes(_) | Queue::Packets(_) => {}
        }
        if self.memory < 1 << 20 {
            return Err(SettingsError::Memory(self.memory));
        }
        Ok(())
    }

    pub(crate) const fn check_mtu(&self, smallest: u16) -> Result<(), SettingsError> {
        let found = self.mtu;
        if found < smallest {
            return Err(SettingsError::Mtu { found, smallest });
        }
        Ok(())
    }
}

fn within(what: &'static str, found: Duration) -> Result<(), SettingsError> {
    if found > LONGEST {
        return Err(SettingsError::Time { what, found });
    }
    Ok(())
}

fn some(what: &'static str, found: f64) -> Result<(), SettingsError> {
    if found > 0.0 && found <= 1.0 {
        return Ok(());
    }
    let expected = "above 0 and up to 1 (100 %)";
    Err(SettingsError::Share {
        what,
        found,
        expected,
    })
}

/// Of a time that [`Settings::check`] has bounded.
pub(crate) fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn each_mistake_is_named() {
        assert!(wrong(|one| one.rate = Some(0)).starts_with("rate: 0"));
        for loss in [-0.1, 1.01, f64::NAN, f64::INFINITY] {
            assert!(wrong(|one| one.loss = loss).starts_with("loss: "), "{loss}");
        }
        assert!(wrong(|one| one.delay = Duration::from_secs(11)).starts_with("delay: 11s"));
        assert!(wrong(|one| one.jitter = Duration::from_secs(11)).starts_with("jitter"));
        assert!(wrong(|one| one.mtu = 575).contains("at least 576"));
        assert!(wrong(|one| one.queue = Queue::Bytes(1499)).contains("one packet of 1500"));
        assert!(wrong(|one| one.queue = Queue::Packets(0)).contains("without room"));
        assert!(wrong(|one| one.memory = 0).contains("1 MiB"));
    }

    #[test]
    fn bursts_and_reordering_make_sense() {
        let burst = |begins, length, lost| {
            wrong(|one| {
                one.burst = Some(Burst {
                    begins,
                    length,
                    lost,
                });
            })
        };
        assert!(burst(0.0, 2.0, 1.0).starts_with("burst: 0"));
        assert!(burst(0.1, 0.5, 1.0).contains("0.5 packets"));
        assert!(burst(0.1, f64::NAN, 1.0).contains("NaN packets"));
        assert!(burst(0.1, 2.0, 1.5).starts_with("burst, lost"));
        let reorder = |share, hold| wrong(|one| one.reorder = Some(Reorder { share, hold }));
        assert!(reorder(1.1, Duration::from_millis(1)).starts_with("reorder: 1.1"));
        assert!(reorder(0.1, Duration::ZERO).contains("no time"));
        assert!(reorder(0.1, Duration::from_secs(60)).contains("at most"));
    }
}
