//! What a side's sockets get on a path: by what its endpoint says, what was found of the path, and what
//! the system allows.

use std::time::Duration;

use super::{LONG, MOST, System};
use crate::endpoint::spec::{PathOptions, SocketOptions};

/// The rate that buffers are made for, in bytes in a second: 10 Gb/s.
const RATE: u128 = 1_250_000_000;

/// More than the relay writes at once, and 8 ms of 2 Gb/s.
const UNSENT: u32 = 2 << 20;

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this host.
    Host,
    /// Elsewhere, at the end of such a round trip.
    At(Duration),
    /// Elsewhere, and how far is not known.
    Unknown {
        /// Whether it is in a network that this host is in.
        on_link: bool,
    },
}

/// What to set; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan<'a> {
    /// Congestion control.
    pub(super) congestion: Option<&'a str>,
    /// Bytes of the receive buffer.
    pub(super) receive: Option<usize>,
    /// Bytes of the send buffer.
    pub(super) send: Option<usize>,
    /// Bytes of it that may wait for their turn to be sent. The kernel's tuning keeps these few; a size
    /// would not, and on a slow line they would be seconds.
    pub(super) unsent: Option<u32>,
}

/// Bytes that are under way at most in a round trip, twice: while the answer to a loss is awaited, what
/// follows has to be kept.
pub(super) fn needed(round_trip: Duration) -> usize {
    let bytes = 2 * RATE * round_trip.as_micros() / 1_000_000;
    usize::try_from(bytes).unwrap_or(MOST).min(MOST)
}

/// A congestion control that is named was set before; everything else is decided here.
pub(super) fn plan(
    socket: &SocketOptions,
    path: &PathOptions,
    place: Place,
    system: &System,
) -> Plan<'static> {
    let long = match place {
        Place::At(round_trip) if round_trip >= LONG => Some(needed(round_trip)),
        _ => None,
    };
    let is_named = socket.congestion.is_some() || path.congestion.name().is_some();
    let congestion = match place {
        _ if is_named => None,
        _ if long.is_some() => Some("bbr"),
        Place::Host | Place::At(_) | Place::Unknown { on_link: true } => Some("cubic"),
        Place::Unknown { on_link: false } => None,
    };
    let buffer = |set: Option<usize>, bounds: super::Bounds| match (set, path.buffers.size()) {
        (Some(_), _) => None,
        (None, Some(size)) => Some(size),
        (None, None) => {
            // A size of ours ends the kernel's tuning: not for less than that gives.
            let needed = long.filter(|needed| *needed > bounds.tuned)?;
            if system.forces {
                Some(needed)
            } else {
                bounds.is_more_asked().then(|| needed.min(bounds.asked))
            }
        }
    };
    let send = buffer(socket.send_buffer, system.send);
    Plan {
        congestion,
        receive: buffer(socket.receive_buffer, system.receive),
        send,
        unsent: send
            .is_some_and(|_| path.buffers.size().is_none())
            .then_some(UNSENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        endpoint::spec::{Buffers, Congestion},
        path::Bounds,
    };

    const FAR: Place = Place::At(Duration::from_millis(31));

    /// Linux's usual bounds, with privileges or without.
    fn system(forces: bool) -> System {
        let bounds = |tuned| Bounds {
            tuned,
            asked: 212_992,
        };
        System {
            forces,
            gives_back: true,
            bears_losses: true,
            receive: bounds(3 << 20),
            send: bounds(3 << 20),
            memory: 1 << 30,
        }
    }

    fn automatic(place: Place, system: &System) -> Plan<'static> {
        plan(
            &SocketOptions::default(),
            &PathOptions::default(),
            place,
            system,
        )
    }

    #[test]
    fn a_short_path_gets_cubic_and_the_kernels_buffers() {
        let near = Plan {
            congestion: Some("cubic"),
            ..Plan::default()
        };
        for forces in [true, false] {
            let system = system(forces);
            for place in [
                Place::Host,
                Place::At(Duration::from_micros(1)),
                Place::At(Duration::from_micros(1999)),
                Place::Unknown { on_link: true },
            ] {
                assert_eq!(automatic(place, &system), near, "{place:?}");
            }
            let unknown = Place::Unknown { on_link: false };
            assert_eq!(automatic(unknown, &system), Plan::default());
        }
    }

    #[test]
    fn a_long_path_gets_bbr_and_what_10_gbps_need() {
        let expected = |receive, send| Plan {
            congestion: Some("bbr"),
            receive,
            send,
            unsent: send.map(|_| UNSENT),
        };
        let may = system(true);
        assert_eq!(automatic(FAR, &may), expected(Some(MOST), Some(MOST)));
        let size = Some(25_000_000);
        let place = Place::At(Duration::from_millis(10));
        assert_eq!(automatic(place, &may), expected(size, size));
        assert_eq!(automatic(Place::At(LONG), &may).receive, Some(5_000_000));
        // A round trip of an hour does not overflow.
        let place = Place::At(Duration::from_secs(3600));
        assert_eq!(automatic(place, &may).send, Some(MOST));
        // Without privileges, `rmem_max` would give less than the kernel's tuning does.
        assert_eq!(automatic(FAR, &system(false)), expected(None, None));
    }

    #[test]
    fn a_system_that_was_tuned_is_left_to_its_tuning() {
        let mut tuned = system(true);
        tuned.receive.tuned = 128 << 20;
        let plan = automatic(FAR, &tuned);
        assert_eq!((plan.receive, plan.send), (None, Some(MOST)));
        // One where asking gives much more, without privileges, and one where it gives a little more.
        let mut asked = system(false);
        asked.receive.asked = 32 << 20;
        asked.send.asked = 4 << 20;
        let plan = automatic(FAR, &asked);
        assert_eq!((plan.receive, plan.send), (Some(32 << 20), None));
        assert_eq!(asked.window(), 3 << 20);
    }

    #[test]
    fn what_a_file_says_wins() {
        let path = PathOptions {
            congestion: Congestion::Named("reno".into()),
            buffers: Buffers::Size(1 << 20),
            ..PathOptions::default()
        };
        let none = SocketOptions::default();
        let size = Some(1 << 20);
        for place in [Place::Host, FAR, Place::Unknown { on_link: true }] {
            for forces in [true, false] {
                let Plan {
                    congestion,
                    receive,
                    send,
                    unsent,
                } = plan(&none, &path, place, &system(forces));
                assert_eq!((congestion, receive, send), (None, size, size));
                assert_eq!(unsent, None);
            }
        }
        let socket = SocketOptions {
            congestion: Some("cubic".into()),
            receive_buffer: Some(8192),
            ..SocketOptions::default()
        };
        let plan = plan(&socket, &PathOptions::default(), FAR, &system(true));
        assert_eq!(
            (plan.congestion, plan.receive, plan.send),
            (None, None, Some(MOST))
        );
    }

    #[test]
    fn a_window_is_what_the_smaller_direction_has() {
        assert_eq!(system(true).window(), MOST);
        assert_eq!(system(false).window(), 3 << 20);
        let old = System {
            gives_back: false,
            ..system(true)
        };
        // The scale of 6 MiB is 7.
        assert_eq!(old.window(), 65_535 << 7);
    }
}
