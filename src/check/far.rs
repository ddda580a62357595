//! Endpoints that forward to somewhere far, with buffers too small for it.

use std::{
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use sekisho_bench::path::{
    Sysctls, WINDOW_SHARE, buffer_for,
    diag::{Kernel, Ports},
};
use sekisho_proxy::{
    endpoint::spec::{Address, EndpointSpec, Forward, Side},
    local::LocalUsers,
    path::System,
};

/// Nearer than that no window of today's defaults is small.
const FAR: Duration = Duration::from_millis(2);
/// What a stream should get, in bits per second.
const WANTED: f64 = 1e9;
/// How long a target may take to be measured; one that takes longer is told of by nobody here.
const PATIENCE: Duration = Duration::from_secs(1);
/// Targets of one endpoint that are measured, at most.
const MOST: usize = 4;

/// Warnings for each endpoint, in order. Targets are asked at the same time, and what has not answered in
/// time is left out: names that nobody resolves too.
pub(super) fn warnings(endpoints: &[&EndpointSpec]) -> Vec<Vec<String>> {
    let sysctls = Sysctls::read();
    let forces = System::now().forces;
    let (tell, told) = mpsc::channel();
    let mut found = vec![Vec::new(); endpoints.len()];
    let mut open = 0_usize;
    for (number, spec) in endpoints.iter().enumerate() {
        for target in targets(spec) {
            let (tell, target) = (tell.clone(), target.clone());
            let ask = move || {
                let trip = round_trip(&target);
                // Nobody listens any more where it took too long.
                let _ = tell.send((number, target, trip));
            };
            // One that cannot be started is one that does not answer.
            let started = thread::Builder::new().name("far".into()).spawn(ask);
            open += usize::from(started.is_ok());
        }
    }
    let end = Instant::now() + PATIENCE * 2;
    while open > 0 {
        let left = end.saturating_duration_since(Instant::now());
        let Ok((number, target, trip)) = told.recv_timeout(left) else {
            break;
        };
        open -= 1;
        let Some((spec, found)) = endpoints.get(number).zip(found.get_mut(number)) else {
            continue;
        };
        let side = spec.forwarding();
        found.extend(trip.and_then(|trip| small(&target, trip, &sysctls, &side, forces)));
    }
    for found in &mut found {
        found.sort();
    }
    found
}

/// The targets of other hosts.
fn targets(spec: &EndpointSpec) -> Vec<&Address> {
    match &spec.forward {
        Forward::Mtls { targets, .. } => {
            let found = targets.iter().map(|target| &target.address);
            found.take(MOST).collect()
        }
        Forward::Plain { .. } => Vec::new(),
    }
}

/// By a connection that is there, or by one that is opened for it and closed; `None` where it is on this
/// host or does not answer.
fn round_trip(target: &Address) -> Option<Duration> {
    let address: SocketAddr = match target {
        Address::Ip(address) => *address,
        Address::Name(name, port) => (name.as_str(), *port).to_socket_addrs().ok()?.next()?,
        Address::Site(_) | Address::Sites(_) | Address::Unix(_) => return None,
    };
    let ip = address.ip().to_canonical();
    if ip.is_unspecified() || LocalUsers::is_own_address(ip) {
        return None;
    }
    let address = SocketAddr::new(ip, address.port());
    let kernel = Kernel::open();
    let ports = Ports {
        remote: address.port(),
        local: 0,
    };
    let known = kernel
        .and_then(|kernel| kernel.all(ports))
        .unwrap_or_default();
    let known = known.iter().filter(|one| one.remote == address);
    let least = known.filter_map(|one| one.sample.tcp.min_rtt).min();
    if let Some(least) = least {
        return Some(Duration::from_micros(least.into()));
    }
    let begin = Instant::now();
    TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    Some(begin.elapsed())
}

/// What is wrong with the buffers for a round trip.
fn small(
    target: &Address,
    trip: Duration,
    sysctls: &Sysctls,
    side: &Side,
    forces: bool,
) -> Option<String> {
    let (share_sent, share_received) = WINDOW_SHARE;
    let buffers = [
        Buffer {
            name: "tcp_wmem",
            tuned: sysctls.tcp_wmem?,
            share: share_sent,
            asked: ("wmem_max", sysctls.wmem_max.filter(|_| !forces)),
            in_socket: side.socket.send_buffer,
            in_path: side.path.buffers.size(),
        },
        Buffer {
            name: "tcp_rmem",
            tuned: sysctls.tcp_rmem?,
            share: share_received,
            asked: ("rmem_max", sysctls.rmem_max.filter(|_| !forces)),
            in_socket: side.socket.receive_buffer,
            in_path: side.path.buffers.size(),
        },
    ];
    let seconds = trip.as_secs_f64();
    let most = |buffer: &Buffer| buffer.window() * 8.0 / seconds.max(1e-9);
    let [sent, received] = buffers.each_ref().map(most);
    let slow = sent.min(received);
    if trip < FAR || slow >= WANTED {
        return None;
    }
    let size = buffer_for(WANTED, seconds);
    let scarce = buffers.iter().filter(|buffer| most(buffer) < WANTED);
    let mut lifts: Vec<String> = scarce.map(|buffer| buffer.lift(size)).collect();
    lifts.dedup();
    Some(format!(
        "{target} is {:.1} ms away: with this host's buffers one stream gets at most {:.0} Mb/s; {} (and the \
         same there; `sekisho bench path` measures it)",
        seconds * 1e3,
        slow / 1e6,
        lifts.join(", ")
    ))
}

/// A buffer of the sockets that an endpoint dials.
struct Buffer {
    /// The sysctl.
    name: &'static str,
    tuned: [u64; 3],
    /// Of a tuned buffer, what is a window.
    share: f64,
    /// What a program may ask for at most, and the sysctl; `None`: whatever it wants.
    asked: (&'static str, Option<u64>),
    /// What the file says under `socket.forward`, which goes before `path.forward`.
    in_socket: Option<usize>,
    in_path: Option<usize>,
}

impl Buffer {
    fn window(&self) -> f64 {
        let [.., most] = self.tuned;
        let set = self.in_socket.or(self.in_path);
        let most_asked = self.asked.1.map_or(f64::INFINITY, |most| most as f64);
        set.map_or(most as f64 * self.share, |size| {
            (size as f64).min(most_asked)
        })
    }

    fn lift(&self, size: u64) -> String {
        let [least, first, _] = self.tuned;
        let name = self.name;
        let set = self.in_socket.or(self.in_path).map(|set| set as u64);
        if let (asked, Some(most)) = self.asked
            && set.is_some_and(|set| set > most)
        {
            return format!(
                "sysctl -w net.core.{asked}={size}, without which `check`'s user gets no more than {most}"
            );
        }
        match (self.in_socket, self.in_path) {
            (Some(_), _) => "leave the buffers of `socket.forward` to the kernel".into(),
            (None, Some(_)) => "leave `path.forward.buffers` at `auto`".into(),
            (None, None) => format!("sysctl -w net.ipv4.{name}=\"{least} {first} {size}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use sekisho_proxy::endpoint::spec::Buffers;

    use super::*;

    fn found(milliseconds: u64, most: u64, side: &Side) -> Option<String> {
        let sysctls = Sysctls {
            tcp_rmem: Some([4096, 131_072, most]),
            tcp_wmem: Some([4096, 16_384, most]),
            ..Sysctls::default()
        };
        let target = Address::Name("osaka.example".into(), 8443);
        small(
            &target,
            Duration::from_millis(milliseconds),
            &sysctls,
            side,
            true,
        )
    }

    #[test]
    fn what_is_far_needs_larger_buffers() {
        let side = Side::default();
        let said = found(31, 6 << 20, &side).unwrap();
        assert!(
            said.starts_with("osaka.example:8443 is 31.0 ms away"),
            "{said}"
        );
        assert!(said.contains("at most 812 Mb/s"), "{said}");
        // 1 Gb/s in 31 ms are 3.9 MB; of the send buffer more is payload, and it is enough.
        assert!(said.contains("tcp_rmem=\"4096 131072 8388608\""), "{said}");
        assert!(!said.contains("tcp_wmem"), "{said}");
        let said = found(100, 4 << 20, &side).unwrap();
        assert!(said.contains("tcp_wmem=\"4096 16384 33554432\""), "{said}");
    }

    #[test]
    fn what_is_near_or_has_them_is_fine() {
        let side = Side::default();
        assert_eq!(found(1, 64 << 10, &side), None);
        assert_eq!(found(31, 64 << 20, &side), None);
        assert_eq!(found(15, 6 << 20, &side), None);
    }

    #[test]
    fn buffers_that_the_file_sets_are_the_file_s_matter() {
        let mut side = Side::default();
        side.socket.send_buffer = Some(64 << 10);
        let said = found(31, 64 << 20, &side).unwrap();
        assert!(
            said.contains("leave the buffers of `socket.forward`"),
            "{said}"
        );
        let mut side = Side::default();
        side.path.buffers = Buffers::Size(64 << 10);
        let said = found(31, 64 << 20, &side).unwrap();
        assert!(
            said.contains("at most 17 Mb/s; leave `path.forward.buffers` at `auto` (and"),
            "{said}"
        );
        side.path.buffers = Buffers::Size(16 << 20);
        assert_eq!(found(31, 1 << 20, &side), None);
        // Without privileges it is not given.
        let sysctls = Sysctls {
            tcp_rmem: Some([4096, 131_072, 64 << 20]),
            tcp_wmem: Some([4096, 16_384, 64 << 20]),
            rmem_max: Some(212_992),
            wmem_max: Some(32 << 20),
            ..Sysctls::default()
        };
        let target = Address::Name("osaka.example".into(), 8443);
        let trip = Duration::from_millis(31);
        let said = small(&target, trip, &sysctls, &side, false).unwrap();
        assert!(
            said.contains("at most 55 Mb/s; sysctl -w net.core.rmem_max=8388608, "),
            "{said}"
        );
        assert!(!said.contains("wmem_max"), "{said}");
    }
}
