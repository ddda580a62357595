//! The options of `sekisho bench wan`.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use rand::RngExt as _;
use sekisho_wan::{Burst, End, MEMORY, Plan, Queue, Reorder, Settings};

use crate::{
    bench::quantity::{fraction, rate, share, size},
    cli::duration,
};

/// A queue by default has room for what a round trip brings, and for so much at least.
const SMALLEST_QUEUE: u64 = 1 << 20;
const BITS: u128 = 8;
const SECOND: u128 = 1_000_000_000;

/// What the path is like, and between what.
#[derive(Debug, Args)]
pub(crate) struct WanArgs {
    /// The network namespaces, made where they are not there; one alone: between this one and it
    #[arg(long, value_name = "NS,NS", required_unless_present = "ceiling",
        conflicts_with = "ceiling", value_parser = between)]
    pub(super) between: Option<Between>,
    /// Address and prefix of the first end and of the second; then a pair of IPv6, if any
    #[arg(
        long,
        value_name = "ADDRESS,ADDRESS",
        value_delimiter = ',',
        default_value = "10.99.0.1/30,10.99.0.2/30"
    )]
    pub(super) addresses: Vec<IpNet>,
    /// How long it lasts [default: until Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub(super) time: Option<Duration>,
    /// Print counters so often, beside those at the end and on SIGUSR1
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub(super) interval: Option<Duration>,
    /// Print JSON, one document on a line
    #[arg(long)]
    pub(super) json: bool,
    /// Measure what the emulator carries on this machine without delay and rate, instead
    #[arg(long)]
    pub(super) ceiling: bool,

    /// Round trip, half of it each way: 22ms, 15.7ms, 300us
    #[arg(long, value_name = "TIME", help_heading = "The path", default_value = "0ms",
        value_parser = fraction)]
    pub(super) rtt: Duration,
    /// What the delay of each direction wanders up by, at most: half of it on average
    #[arg(long, value_name = "TIME", help_heading = "The path", default_value = "0ms",
        value_parser = fraction)]
    pub(super) jitter: Duration,
    /// Bits per second of IP packets, as in 500M or 4G [default: what the machine can]
    #[arg(long, value_name = "RATE", help_heading = "The path", value_parser = rate)]
    pub(super) rate: Option<u64>,
    /// The same of the way back [default: as the other]
    #[arg(long, value_name = "RATE", help_heading = "The path", value_parser = rate)]
    pub(super) back_rate: Option<u64>,
    /// What may wait for the line, as in 1MiB, or 1000p for packets [default: a round trip's worth, at
    /// least 1MiB]
    #[arg(long, value_name = "SIZE", help_heading = "The path", value_parser = queue)]
    pub(super) queue: Option<Queue>,
    /// Share of packets lost, each by itself: 0.01%
    #[arg(long, value_name = "SHARE", help_heading = "The path", default_value = "0%",
        value_parser = share)]
    pub(super) loss: f64,
    /// Losses in bursts: how many packets begin one, how many packets it lasts on average, and the
    /// share of these that is lost [default of that: 100%]
    #[arg(long, value_name = "SHARE,N[,SHARE]", help_heading = "The path", value_parser = burst)]
    pub(super) burst: Option<Burst>,
    /// Share of packets held back, and for how long: 5%,2ms
    #[arg(long, value_name = "SHARE,TIME", help_heading = "The path", value_parser = reorder)]
    pub(super) reorder: Option<Reorder>,
    /// Loss, bursts and reordering from the first end to the second only
    #[arg(long, help_heading = "The path")]
    pub(super) one_way: bool,
    /// The largest IP packet, in bytes
    #[arg(
        long,
        value_name = "BYTES",
        help_heading = "The path",
        default_value = "1500"
    )]
    pub(super) mtu: u16,
    /// The most memory for packets on their way, each direction
    #[arg(long, value_name = "SIZE", help_heading = "The path", default_value = "256MiB",
        value_parser = size)]
    pub(super) memory: u64,
    /// What all chance comes from [default: another each time, printed]
    #[arg(long, value_name = "N", help_heading = "The path")]
    pub(super) seed: Option<u64>,
}

/// The namespaces of the two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Between {
    /// `None`: that of this process.
    near: Option<String>,
    far: String,
}

impl WanArgs {
    pub(super) fn plan(&self) -> Plan {
        let forward = self.settings(self.rate, true);
        let back = self.settings(self.back_rate.or(self.rate), !self.one_way);
        Plan {
            ends: self.ends(),
            settings: [forward, back],
            seed: self.seed.unwrap_or_else(|| rand::rng().random()),
        }
    }

    fn ends(&self) -> [End; 2] {
        let between = self.between.as_ref();
        let near = between.and_then(|between| between.near.as_ref());
        let far = between.map(|between| &between.far);
        let of = |skip: usize| {
            let every_other = self.addresses.iter().skip(skip).step_by(2);
            every_other.copied().collect()
        };
        [(near, of(0)), (far, of(1))].map(|(namespace, addresses)| End {
            namespace: namespace.cloned(),
            addresses,
        })
    }

    fn settings(&self, rate: Option<u64>, has_defects: bool) -> Settings {
        let trip = self.rtt.as_nanos() * u128::from(rate.unwrap_or_default()) / (BITS * SECOND);
        let trip = u64::try_from(trip).unwrap_or(u64::MAX);
        let whole_trip = Queue::Bytes(trip.max(SMALLEST_QUEUE));
        Settings {
            delay: self.rtt / 2,
            jitter: self.jitter,
            rate,
            queue: self.queue.unwrap_or(whole_trip),
            loss: if has_defects { self.loss } else { 0.0 },
            burst: self.burst.filter(|_| has_defects),
            reorder: self.reorder.filter(|_| has_defects),
            mtu: self.mtu,
            memory: usize::try_from(self.memory).unwrap_or(MEMORY),
        }
    }
}

fn between(text: &str) -> Result<Between, String> {
    let names: Vec<_> = text.split(',').map(str::to_owned).collect();
    let (near, far) = match <[String; 2]>::try_from(names) {
        Ok([near, far]) => (Some(near), far),
        Err(names) => match <[String; 1]>::try_from(names) {
            Ok([far]) => (None, far),
            Err(_) => return Err("expected one namespace or two, such as tokyo,osaka".into()),
        },
    };
    Ok(Between { near, far })
}

fn queue(text: &str) -> Result<Queue, String> {
    let packets = text.strip_suffix('p').map(str::parse);
    match packets {
        Some(Ok(packets)) => Ok(Queue::Packets(packets)),
        _ => size(text)
            .map(Queue::Bytes)
            .map_err(|_| "expected a size such as 1MiB, or packets such as 1000p".into()),
    }
}

fn burst(text: &str) -> Result<Burst, String> {
    let parts: Vec<_> = text.split(',').collect();
    let (begins, length, lost) = match *parts.as_slice() {
        [begins, length] => (begins, length, "100%"),
        [begins, length, lost] => (begins, length, lost),
        _ => return Err("expected such as 0.01%,8 or 0.01%,8,50%".into()),
    };
    let length = length
        .parse()
        .ok()
        .filter(|length: &f64| length.is_finite());
    Ok(Burst {
        begins: share(begins)?,
        length: length.ok_or("expected a number of packets, such as 8")?,
        lost: share(lost)?,
    })
}

fn reorder(text: &str) -> Result<Reorder, String> {
    let (part, hold) = text.split_once(',').ok_or("expected such as 5%,2ms")?;
    Ok(Reorder {
        share: share(part)?,
        hold: fraction(hold)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_alone_is_the_far_end() {
        let far = "b".to_owned();
        let two = between("a,b").unwrap();
        assert_eq!((two.near.as_deref(), &two.far), (Some("a"), &far));
        let one = between("b").unwrap();
        assert_eq!((one.near.as_deref(), &one.far), (None, &far));
        assert!(between("a,b,c").is_err());
    }

    #[test]
    fn queues_bursts_and_reordering_are_read() {
        assert_eq!(queue("1MiB"), Ok(Queue::Bytes(1 << 20)));
        assert_eq!(queue("1000p"), Ok(Queue::Packets(1000)));
        let wanted = Burst {
            begins: 0.001,
            length: 8.5,
            lost: 0.5,
        };
        assert_eq!(burst("0.1%,8.5,50%"), Ok(wanted));
        assert_eq!(burst("1%,8").unwrap().lost, 1.0);
        let wanted = Reorder {
            share: 0.05,
            hold: Duration::from_micros(2500),
        };
        assert_eq!(reorder("5%,2.5ms"), Ok(wanted));
    }

    #[test]
    fn what_is_none_of_these_is_refused() {
        for text in ["p", "-1p", "1.5p", "", "1 p", "x"] {
            assert!(queue(text).is_err(), "{text}");
        }
        for text in ["", "1%", "1%,x", "1%,NaN", "101%,8", "1%,8,9%,1", "8,1%"] {
            assert!(burst(text).is_err(), "{text}");
        }
        for text in ["", "5%", "5%,2", "2ms,5%", "5%,-2ms"] {
            assert!(reorder(text).is_err(), "{text}");
        }
    }
}
