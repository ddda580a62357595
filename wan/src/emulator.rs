//! A path that is running.

use std::{
    io::{PipeReader, PipeWriter, Write as _, pipe},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use ipnet::IpNet;
use nix::unistd::geteuid;

use crate::{
    address,
    carry::Carrier,
    counters::Counters,
    device::Device,
    error::Error,
    namespace::{self, Namespace},
    path::Path,
    settings::{SMALLEST_MTU_V6, Settings},
};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One end of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The network namespace, by the name under which `ip netns` knows it; it is made where it is not
    /// there. `None`: that of this process.
    pub namespace: Option<String>,
    /// The addresses of this end, each with the length of the network's prefix: one, or one of IPv4 and
    /// one of IPv6.
    pub addresses: Vec<IpNet>,
}

/// A path to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The two ends.
    pub ends: [End; 2],
    /// What happens from the first end to the second, and from the second to the first.
    pub settings: [Settings; 2],
    /// What all chance comes from: the same seed means the same fate for the same packets in the same
    /// order.
    pub seed: u64,
}

impl Plan {
    /// Whether this can be made, as far as that shows without making it.
    ///
    /// # Errors
    /// [`Error::Settings`], [`Error::Addresses`] or [`Error::Namespace`], the first that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let [one, other] = &self.ends;
        address::check([&one.addresses, &other.addresses])?;
        for settings in &self.settings {
            settings.check()?;
            if one.addresses.iter().any(|address| address.addr().is_ipv6()) {
                settings.check_mtu(SMALLEST_MTU_V6)?;
            }
        }
        for name in self.ends.iter().filter_map(|end| end.namespace.as_deref()) {
            namespace::check(name)?;
        }
        if one.namespace == other.namespace {
            return Err(Error::Namespace {
                name: one.namespace.clone().unwrap_or_default(),
                problem: "at both ends; between them the kernel would deliver by itself",
            });
        }
        Ok(())
    }
}

/// A running path. Its devices, and the namespaces that it made, are gone when it is dropped.
#[derive(Debug)]
pub struct Emulator {
    // Ends the threads when dropped.
    stop: Option<PipeWriter>,
    ended: PipeReader,
    threads: Vec<JoinHandle<Result<(), Error>>>,
    counters: [Arc<Mutex<Counters>>; 2],
    real_time: [Arc<AtomicBool>; 2],
    // Before the namespaces: a device in one would be deleted with it.
    devices: [Arc<Device>; 2],
    namespaces: [Namespace; 2],
}

impl Emulator {
    /// Makes devices, and namespaces where they are not there, and carries packets from now on.
    ///
    /// # Errors
    /// Those of [`Plan::check`]; [`Error::NotRoot`]; [`Error::Device`] and [`Error::Ip`], when the
    /// system does not allow it; [`Error::Addresses`], when a namespace has such a network already.
    pub fn start(plan: &Plan) -> Result<Self, Error> {
        plan.check()?;
        if !geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let [one, other] = &plan.ends;
        let namespaces = [
            Namespace::take(one.namespace.as_deref())?,
            Namespace::take(other.namespace.as_deref())?,
        ];
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let open = |side: char| {
            let name = format!("wan{}{side}{number}", process::id());
            Device::open(&name).map(Arc::new).map_err(Error::Device)
        };
        let devices = [open('a')?, open('b')?];
        let [forward, back] = &plan.settings;
        let parts = namespaces.iter().zip(&devices).zip(&plan.ends);
        for (((namespace, device), end), settings) in parts.zip([forward, back]) {
            address::check_free(&end.addresses, &namespace.networks()?)?;
            namespace.attach(device, &end.addresses, settings.mtu)?;
        }
        Self::carry(plan, devices, namespaces)
    }

    fn carry(
        plan: &Plan,
        devices: [Arc<Device>; 2],
        namespaces: [Namespace; 2],
    ) -> Result<Self, Error> {
        let (stopped, stop) = pipe().map_err(Error::Start)?;
        let (ended, end) = pipe().map_err(Error::Start)?;
        let stopped = Arc::new(OwnedFd::from(stopped));
        let mut emulator = Self {
            stop: Some(stop),
            ended,
            threads: Vec::new(),
            counters: Default::default(),
            real_time: Default::default(),
            devices,
            namespaces,
        };
        let start = Instant::now();
        let [one, other] = &emulator.devices;
        let ways = [(one, other), (other, one)];
        let told = emulator.counters.iter().zip(&emulator.real_time);
        let ways = ways.into_iter().zip(&plan.settings).zip(told);
        for (index, (((from, to), settings), (counters, is_real_time))) in ways.enumerate() {
            let carrier = Carrier {
                from: Arc::clone(from),
                to: Arc::clone(to),
                path: Path::new(settings, plan.seed.wrapping_add(index as u64)),
                start,
                counters: Arc::clone(counters),
                stop: Arc::clone(&stopped),
                is_real_time: Arc::clone(is_real_time),
            };
            let mut end = end.try_clone().map_err(Error::Start)?;
            let run = move || {
                let outcome = carrier.run();
                // Whoever waits sees it; if nobody does, nobody needs to.
                let _ = end.write_all(&[0]);
                outcome
            };
            let name = format!("wan-{index}");
            let thread = thread::Builder::new().name(name).spawn(run);
            emulator.threads.push(thread.map_err(Error::Start)?);
        }
        Ok(emulator)
    }

    /// The names of the devices, at the first end and at the second.
    #[must_use]
    pub fn devices(&self) -> [&str; 2] {
        self.devices.each_ref().map(|device| device.name())
    }

    /// What has happened until now, from the first end to the second and back.
    #[must_use]
    pub fn counters(&self) -> [Counters; 2] {
        let one = |counters: &Arc<Mutex<Counters>>| {
            *counters.lock().unwrap_or_else(PoisonError::into_inner)
        };
        self.counters.each_ref().map(one)
    }

    /// Whether both directions run at real-time priority, which they ask for when they start, by `chrt`
    /// of util-linux. Without it packets are late where other programs want all cores.
    #[must_use]
    pub fn is_real_time(&self) -> bool {
        self.real_time.iter().all(|one| one.load(Ordering::Relaxed))
    }

    /// Packets that the kernel dropped at each end because the emulator did not read them in time: more
    /// than none means that the emulator, or the machine, is the limit. `None` where a device is gone.
    #[must_use]
    pub fn unread(&self) -> [Option<u64>; 2] {
        let [one, other] = &self.namespaces;
        let [here, there] = &self.devices;
        [one.unread(here), other.unread(there)]
    }

    /// Stops, and removes what was made. What is on its way is gone.
    ///
    /// # Errors
    /// [`Error::Gone`], if a device was gone before; [`Error::Wait`].
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        drop(self.stop.take());
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            let one = thread.join().unwrap_or(Err(Error::Panicked));
            outcome = outcome.and(one);
        }
        outcome
    }
}

/// Readable once the path has ended by itself, as it does when a device is gone.
impl AsFd for Emulator {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Whoever wants to know asks by `stop`.
        let _ = self.end();
    }
}
