//! Bounds on handshakes in flight at one address, so that slow or hostile clients cannot shut out
//! the others.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Prefixes remembered as having completed a handshake.
const MAX_KNOWN: usize = 4096;

/// Counts handshakes in flight. Of a limit L, one unknown source prefix (/24, /64) gets L/4 and
/// all unknown ones together 3L/4; the last quarter is for prefixes that succeeded before, each of
/// which gets 3L/4. Loopback is one of the latter, without a bound of its own.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    by_prefix: HashMap<Prefix, usize>,
    known: HashSet<Prefix>,
    /// The same in the order they came, to forget the oldest.
    order: VecDeque<Prefix>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Prefix {
    Loopback,
    V4([u8; 3]),
    V6([u8; 8]),
}

impl Prefix {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            ip if ip.is_loopback() => Self::Loopback,
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl Gate {
    /// Lets a handshake from `source` begin, unless a bound is reached.
    pub(crate) fn enter(self: &Arc<Self>, source: IpAddr, limit: usize) -> Option<Handshaking> {
        let prefix = Prefix::of(source);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = prefix == Prefix::Loopback || state.known.contains(&prefix);
        let quarter = limit.div_ceil(4);
        let (of_prefix, of_all) = match (prefix, known) {
            (Prefix::Loopback, _) => (limit, limit),
            (_, true) => (limit - limit / 4, limit),
            (_, false) => (quarter, limit - limit / 4),
        };
        let mine = state.by_prefix.get(&prefix).copied().unwrap_or_default();
        if mine >= of_prefix || state.in_flight >= of_all {
            return None;
        }
        state.in_flight += 1;
        *state.by_prefix.entry(prefix).or_default() += 1;
        drop(state);
        Some(Handshaking {
            gate: Arc::clone(self),
            prefix,
        })
    }
}

/// A handshake in flight; leaves the gate when dropped.
#[derive(Debug)]
pub(crate) struct Handshaking {
    gate: Arc<Gate>,
    prefix: Prefix,
}

impl Handshaking {
    /// The peer was verified: its prefix is a known one from now on.
    pub(crate) fn succeeded(self) {
        let mut state = self
            .gate
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if state.known.insert(self.prefix) {
            state.order.push_back(self.prefix);
            if state.order.len() > MAX_KNOWN
                && let Some(oldest) = state.order.pop_front()
            {
                state.known.remove(&oldest);
            }
        }
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        let mut state = self
            .gate
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(count) = state.by_prefix.get_mut(&self.prefix) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.by_prefix.remove(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_prefix_gets_a_quarter_and_strangers_leave_a_quarter_to_known_peers() {
        let gate = Arc::new(Gate::default());
        let mut held = Vec::new();
        for network in 1..=3 {
            for host in 0..2 {
                held.push(
                    gate.enter(ip(&format!("10.0.{network}.{host}")), 8)
                        .unwrap(),
                );
            }
            assert!(gate.enter(ip(&format!("10.0.{network}.9")), 8).is_none());
        }
        assert!(
            gate.enter(ip("10.0.4.1"), 8).is_none(),
            "strangers have had 6 of 8"
        );
        held.remove(0).succeeded();
        held.push(gate.enter(ip("10.0.1.1"), 8).unwrap());
        held.push(gate.enter(ip("10.0.1.2"), 8).unwrap());
        held.push(gate.enter(ip("10.0.1.3"), 8).unwrap());
        assert!(gate.enter(ip("10.0.1.4"), 8).is_none(), "8 of 8");
        held.clear();
        assert!(gate.state.lock().unwrap().by_prefix.is_empty());
    }
}
