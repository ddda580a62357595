//! Connections that are there, of whatever program: nothing is sent.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use super::{
    answer::Connection,
    cpu::{Busiest, holder, micros},
    diag::{Kernel, Ports},
    error::Error,
    sample::Sample,
    sampler::interval,
    sysctl::Sysctls,
    verdict::{Observed, Side},
};

/// Connections that are followed, at most.
const MOST: usize = 256;
/// Those of them whose programs are looked for, at most: each takes a look at all processes.
const MOST_PROGRAMS: usize = 32;

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Addresses of a host, this one or another.
    pub addresses: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
    /// For how long. Default: 10 s.
    pub time: Duration,
}

/// A program of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its process.
    pub process: i32,
    /// Its name.
    pub name: String,
}

/// A connection that was watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// Its end here.
    pub local: SocketAddr,
    /// Its other end.
    pub remote: SocketAddr,
    /// This host has opened it.
    pub opened_here: bool,
    /// Which end sends more.
    pub sender_is: Side,
    /// Congestion control of its end here.
    pub congestion: String,
    /// The program that has its end here, where that may be seen.
    pub program: Option<Program>,
    /// Its end here, over time.
    pub here: Vec<Sample>,
    /// Its other end, where that is on this host too.
    pub there: Vec<Sample>,
    /// It has begun while it was watched.
    pub is_whole: bool,
    /// Bytes that moved the main way.
    pub bytes: u64,
}

impl Watched {
    /// What is judged.
    #[must_use]
    pub fn observed<'a>(&'a self, sysctls: &'a Sysctls) -> Observed<'a> {
        let is_sender = self.sender_is == Side::Here;
        let (here, there) = (self.here.as_slice(), self.there.as_slice());
        let is_both = !there.is_empty();
        Observed {
            sender_is: self.sender_is,
            sender: if is_sender { here } else { there },
            receiver: if is_sender { there } else { here },
            reader: &[],
            receiver_process: None,
            sender_sysctls: Some(sysctls).filter(|_| is_sender || is_both),
            receiver_sysctls: Some(sysctls).filter(|_| !is_sender || is_both),
            congestion: if is_sender { &self.congestion } else { "" },
            asked: None,
            is_eager: false,
            is_whole: self.is_whole,
            opened_here: self.opened_here,
            is_fixed: false,
        }
    }
}

type Key = (SocketAddr, SocketAddr);

#[derive(Debug)]
struct Followed {
    congestion: String,
    program: Option<(Program, Option<Busiest>)>,
    samples: Vec<Sample>,
}

impl Watch {
    /// Watches; what moved most comes first. `progress` is told how long it has been, and of how many
    /// connections.
    ///
    /// # Errors
    /// [`Error::Nothing`]; [`Error::System`].
    pub fn run(&self, mut progress: impl FnMut(Duration, usize)) -> Result<Vec<Watched>, Error> {
        let kernel = Kernel::open()?;
        let mut followed = HashMap::new();
        let start = Instant::now();
        let every = interval(self.time);
        loop {
            self.take(&kernel, start.elapsed(), &mut followed)?;
            progress(start.elapsed(), followed.len());
            let left = self.time.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            thread::sleep(every.min(left));
        }
        let found = self.pair(followed, micros(every) * 2);
        if found.is_empty() {
            let names: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            let name = format!("{}, port {}", names.join(" and "), self.port);
            return Err(Error::Nothing(name));
        }
        Ok(found)
    }

    fn is_ours(&self, address: SocketAddr) -> bool {
        address.port() == self.port && self.addresses.contains(&address.ip())
    }

    fn take(
        &self,
        kernel: &Kernel,
        at: Duration,
        followed: &mut HashMap<Key, Followed>,
    ) -> io::Result<()> {
        let by = [
            Ports {
                remote: self.port,
                local: 0,
            },
            Ports {
                local: self.port,
                remote: 0,
            },
        ];
        for ports in by {
            for found in kernel.all(ports)? {
                let key = (found.local, found.remote);
                // Each once, though both ports may be this one.
                let is_wanted = if ports.local == 0 {
                    self.is_ours(found.remote)
                } else {
                    self.is_ours(found.local) && !self.is_ours(found.remote)
                };
                let is_new = !followed.contains_key(&key);
                if !is_wanted || (is_new && followed.len() >= MOST) {
                    continue;
                }
                let with_program = followed.len() < MOST_PROGRAMS;
                let one = followed
                    .entry(key)
                    .or_insert_with(|| Followed::new(&found, with_program));
                let program = one.program.as_ref();
                let busiest = program.and_then(|(_, threads)| threads.as_ref());
                one.samples.push(Sample {
                    at: micros(at),
                    cpu: busiest.and_then(Busiest::time),
                    ..found.sample
                });
            }
        }
        Ok(())
    }

    /// Puts both ends of one connection together, where both are here.
    fn pair(&self, mut followed: HashMap<Key, Followed>, begun: u64) -> Vec<Watched> {
        let mut keys: Vec<_> = followed.keys().copied().collect();
        // Those that opened it first.
        keys.sort_by_key(|(local, remote)| (!self.is_ours(*remote), *local, *remote));
        let mut all = Vec::new();
        for key @ (local, remote) in keys {
            let Some(one) = followed.remove(&key) else {
                continue;
            };
            let other = followed.remove(&(remote, local));
            let there = other.map_or_else(Vec::new, |other| other.samples);
            let (sender_is, bytes) = direction(&one.samples);
            let first = one.samples.first().map_or(0, |first| first.at);
            all.push(Watched {
                local,
                remote,
                opened_here: self.is_ours(remote),
                sender_is,
                congestion: one.congestion,
                program: one.program.map(|(program, _)| program),
                here: one.samples,
                there,
                is_whole: first > begun,
                bytes,
            });
        }
        all.sort_by_key(|one| (std::cmp::Reverse(one.bytes), one.local));
        all
    }
}

impl Followed {
    fn new(found: &Connection, with_program: bool) -> Self {
        let program = holder(found.inode).filter(|_| with_program);
        Self {
            congestion: found.congestion.clone(),
            program: program.map(|(process, name)| {
                let threads = Busiest::of(process).ok();
                (Program { process, name }, threads)
            }),
            samples: Vec::new(),
        }
    }
}

/// Which end sent more while it was watched; if nothing moved, which end has something to send.
fn direction(samples: &[Sample]) -> (Side, u64) {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return (Side::Here, 0);
    };
    let grown = |one: fn(&Sample) -> Option<u64>| {
        let (from, to) = (one(first), one(last));
        to.unwrap_or_default()
            .saturating_sub(from.unwrap_or_default())
    };
    let sent = grown(|one| one.tcp.acked);
    let received = grown(|one| one.tcp.received);
    if received > sent || (sent == received && last.receive_queue > last.send_queue) {
        (Side::There, received)
    } else {
        (Side::Here, sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(local: &str, remote: &str) -> Key {
        (local.parse().unwrap(), remote.parse().unwrap())
    }

    fn followed(acked: u64, received: u64) -> Followed {
        let at = |at, acked, received| {
            let mut sample = Sample {
                at,
                ..Sample::default()
            };
            sample.tcp.acked = Some(acked);
            sample.tcp.received = Some(received);
            sample
        };
        Followed {
            congestion: "cubic".into(),
            program: None,
            samples: vec![at(0, 0, 0), at(100, acked, received)],
        }
    }

    #[test]
    fn both_ends_on_this_host_are_one_connection() {
        let watch = Watch {
            addresses: vec!["10.0.0.2".parse().unwrap()],
            port: 80,
            time: Duration::from_secs(1),
        };
        let all = HashMap::from([
            (key("10.0.0.2:80", "10.0.0.2:4000"), followed(1, 500)),
            (key("10.0.0.2:4000", "10.0.0.2:80"), followed(500, 1)),
            (key("10.0.0.2:80", "10.0.0.9:4001"), followed(9, 7)),
        ]);
        let found = watch.pair(all, 1000);
        let [one, other] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(one.opened_here && one.local.port() == 4000);
        assert_eq!((one.sender_is, one.bytes), (Side::Here, 500));
        assert_eq!(one.there.len(), 2);
        assert!(!other.opened_here && other.there.is_empty());
        assert_eq!(other.remote.port(), 4001);
    }

    #[test]
    fn nothing_to_watch_is_an_error() {
        let watch = Watch {
            addresses: vec!["192.0.2.77".parse().unwrap()],
            port: 9,
            time: Duration::from_millis(1),
        };
        let error = watch.run(|_, _| {}).unwrap_err();
        assert_eq!(error.reason(), "no_connection");
        assert!(error.to_string().contains("192.0.2.77, port 9"));
    }
}
