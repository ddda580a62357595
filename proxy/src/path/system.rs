//! What this system lets a process do about a long path.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::{MOST, option::can_give_back};

/// Sysctls change seldom.
const REMEMBER: Duration = Duration::from_secs(10);
/// Bytes of a page, or fewer than that.
const PAGE: usize = 4096;

/// What this system lets a process do about a long path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Whether buffers may be larger than the system's bounds: CAP_NET_ADMIN in the user namespace of
    /// the network namespace.
    pub forces: bool,
    /// Whether a connection can be as if its buffer had never been large: since Linux 5.14, by the same
    /// capability.
    pub gives_back: bool,
    /// Whether a congestion control is allowed that does not take each loss for a full line: bbr.
    pub bears_losses: bool,
    /// Of receive buffers.
    pub receive: Bounds,
    /// Of send buffers.
    pub send: Bounds,
    /// Bytes at which the kernel begins to hold TCP back: the second of `net.ipv4.tcp_mem`.
    pub memory: usize,
}

/// How much may be under way without privileges, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// By the kernel's tuning: half of the third of `net.ipv4.tcp_rmem`, three quarters of that of
    /// `tcp_wmem`. The rest is what packets cost beside their bytes.
    pub tuned: usize,
    /// By asking: `net.core.rmem_max` or `wmem_max`.
    pub asked: usize,
}

impl Bounds {
    /// The largest window without privileges.
    #[must_use]
    pub const fn window(self) -> usize {
        if self.is_more_asked() {
            self.asked
        } else {
            self.tuned
        }
    }

    /// Whether asking gives so much more than the kernel's tuning that it is worth losing that.
    pub(super) const fn is_more_asked(self) -> bool {
        self.asked / 2 >= self.tuned
    }
}

impl System {
    /// As it is now, or was some seconds ago.
    #[must_use]
    pub fn now() -> Arc<Self> {
        static KNOWN: Mutex<Option<(Instant, Arc<System>)>> = Mutex::new(None);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, system)) = &*known
            && since.elapsed() < REMEMBER
        {
            return Arc::clone(system);
        }
        let system = Arc::new(Self::look());
        *known = Some((Instant::now(), Arc::clone(&system)));
        system
    }

    fn look() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok();
        let may = |does: &dyn Fn(&Socket) -> bool| socket.as_ref().is_some_and(does);
        // What is not there is as Linux has had it for long.
        let number = |name: &str, index: usize, default: usize| {
            let text = fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default();
            let number = text.split_whitespace().nth(index);
            number
                .and_then(|number| number.parse().ok())
                .unwrap_or(default)
        };
        let pages = number("ipv4/tcp_mem", 1, 65_536);
        Self {
            bears_losses: may(&|socket| {
                setsockopt(socket, sockopt::TcpCongestion, &"bbr".into()).is_ok()
            }),
            gives_back: may(&can_give_back),
            forces: may(&|socket| setsockopt(socket, sockopt::RcvBufForce, &MOST).is_ok()),
            receive: Bounds {
                tuned: number("ipv4/tcp_rmem", 2, 6 << 20) / 2,
                asked: number("core/rmem_max", 0, 212_992),
            },
            send: Bounds {
                tuned: number("ipv4/tcp_wmem", 2, 4 << 20) / 4 * 3,
                asked: number("core/wmem_max", 0, 212_992),
            },
            memory: pages.saturating_mul(PAGE),
        }
    }

    /// Whether `make_room` does.
    pub(crate) const fn makes_room(&self) -> bool {
        self.forces && self.gives_back
    }

    /// The largest window on a path, of both directions the smaller: what one connection can have under
    /// way here.
    #[must_use]
    pub fn window(&self) -> usize {
        if !self.forces {
            return self.receive.window().min(self.send.window());
        }
        if self.makes_room() {
            return MOST;
        }
        // Windows are told in units that were settled by the system's bounds.
        let tuned = self.receive.tuned.saturating_mul(2);
        let space = tuned.max(self.receive.asked).max(1);
        let scale = space.ilog2().saturating_sub(15).min(14);
        MOST.min(0xffff << scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::make_room;

    #[test]
    fn this_system_has_bounds() {
        let system = System::now();
        assert!(system.receive.tuned >= 4096 && system.send.tuned >= 4096);
        assert!(system.memory > 0);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(make_room(&socket, MOST).is_some(), system.forces);
        assert_eq!(can_give_back(&socket), system.gives_back);
    }
}
