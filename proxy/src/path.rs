//! The path to a peer that is not on this host: how long it is, and what is done about it
//! (docs/adr/0020-path-sides.md).
//!
//! Before a connection stands, its socket gets room for large windows, where this process may
//! (`make_room`), and gives it back at once: whoever has not been let in keeps no more of the kernel's
//! memory than anywhere. Once it has a permit, `open` sets congestion control and buffers by the round
//! trip that the kernel saw.

mod option;
mod plan;
mod system;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;

use crate::{
    endpoint::spec::{EndpointSpec, PathOptions, SocketOptions},
    live::Live,
    local::LocalUsers,
    stream::Stream,
    transport::Transport,
};

use option::Seen;
pub(crate) use option::{Room, make_room};
use plan::{Place, Plan};
pub use system::{Bounds, System};

/// A path is long from this round trip on.
pub const LONG: Duration = Duration::from_millis(2);
/// The largest buffer that is made without being asked for, in bytes.
pub const MOST: usize = 64 << 20;

/// A long path to a peer that was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Far {
    /// What the first packets took.
    pub(crate) round_trip: Duration,
    /// Bytes that one connection can have under way, by what this system allows and by the units that
    /// the peer tells windows in. What the peer's system allows within them is not known.
    pub(crate) window: usize,
}

impl Far {
    /// What is known of the path of a connection whose round trip was measured; `None` for a short one.
    pub(crate) fn of(path: &PathDetails) -> Option<Self> {
        let round_trip = path.round_trip.filter(|time| *time >= LONG)?;
        let window = System::now().window().min(path.offers);
        Some(Self { round_trip, window })
    }

    /// Whether one connection suffices here for 10 Gb/s, as far as buffers go to.
    pub(crate) fn suffices(&self) -> bool {
        self.window >= plan::needed(self.round_trip)
    }
}

/// What is known of the path of one side to a peer elsewhere, and what was done about it.
#[derive(Clone, Debug, Default)]
pub struct PathDetails {
    /// What the first packets took, or later ones where those were lost.
    pub round_trip: Option<Duration>,
    /// Congestion control, once it was set or looked at.
    pub congestion: Option<String>,
    /// The receive buffer, in bytes, where it is not the kernel's to tune.
    pub receive_buffer: Option<usize>,
    /// The send buffer, in bytes, where it is not the kernel's to tune.
    pub send_buffer: Option<usize>,
    /// The largest window that the peer has units for.
    offers: usize,
    /// Its share of what all connections may keep.
    _grant: Option<Arc<Grant>>,
}

/// The window, in bytes, that a connection has to have room for when it begins.
pub(crate) fn window(options: &PathOptions) -> usize {
    options.buffers.size().unwrap_or_default().max(MOST)
}

/// Bytes of buffers that were made larger, of all connections.
static GRANTED: AtomicUsize = AtomicUsize::new(0);
static BBR_REFUSED: AtomicBool = AtomicBool::new(false);

/// A share of them, until dropped.
#[derive(Debug)]
struct Grant(usize);

impl Grant {
    /// `None` where that would be more than `most` together.
    fn of(bytes: usize, most: usize) -> Option<Arc<Self>> {
        let order = Ordering::Relaxed;
        let add = |granted: usize| granted.checked_add(bytes).filter(|sum| *sum <= most);
        let added = GRANTED.fetch_update(order, order, add);
        added.is_ok().then(|| Arc::new(Self(bytes)))
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        GRANTED.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Looks at the path of a connection that has just come or been dialled; `None` where the peer is on
/// this host.
pub(crate) fn look(stream: &TcpStream, peer: SocketAddr) -> Option<Box<PathDetails>> {
    if is_here(stream, peer) {
        return None;
    }
    let Seen {
        round_trip, offers, ..
    } = option::seen(stream);
    Some(Box::new(PathDetails {
        round_trip,
        offers,
        ..PathDetails::default()
    }))
}

/// What the kernel says of a connection at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Momentary {
    /// Its estimate of the round trip.
    pub(crate) round_trip: Option<Duration>,
    /// Segments sent again so far.
    pub(crate) sent_again: u32,
    /// It has sent the same again and again, and nothing is acknowledged.
    pub(crate) stands_still: bool,
    /// Its congestion control does not take each loss for a full line.
    pub(crate) bears_losses: bool,
}

/// Asks the kernel of a connection to another host.
pub(crate) fn momentary(stream: &TcpStream) -> Momentary {
    let seen = option::seen(stream);
    let congestion = getsockopt(stream, sockopt::TcpCongestion).unwrap_or_default();
    Momentary {
        round_trip: seen.round_trip,
        sent_again: seen.sent_again,
        stands_still: seen.timeouts > 1,
        bears_losses: congestion.to_string_lossy().starts_with("bbr"),
    }
}

fn is_here(stream: &TcpStream, peer: SocketAddr) -> bool {
    let ip = peer.ip().to_canonical();
    let own = || stream.local_addr();
    ip.is_loopback() || own().is_ok_and(|own| own.ip().to_canonical() == ip)
}

/// Sets what both sides of a connection get on their paths, now that it has a permit.
pub(crate) fn open(spec: &EndpointSpec, live: &Live, client: &Stream, upstream: &Stream) {
    let mut details = live.details();
    if let Some(client) = client.transport() {
        let (socket, path) = (&spec.sockets.listen, &spec.path.listen);
        side(client, socket, path, &mut details.listen_path);
    }
    if let Some(upstream) = upstream.transport() {
        let (socket, path) = (&spec.sockets.forward, &spec.path.forward);
        side(upstream, socket, path, &mut details.forward_path);
    }
}

/// The same of one side, of which `details` has what was found when it began.
pub(crate) fn side(
    transport: &Transport,
    socket: &SocketOptions,
    path: &PathOptions,
    details: &mut Option<Box<PathDetails>>,
) {
    let Transport::Tcp(stream) = transport else {
        return;
    };
    let Some(details) = details else {
        // On this host: the kernel tunes it well, and cubic was asked for before.
        if path.buffers.size().is_some() {
            apply(
                stream,
                &plan::plan(socket, path, Place::Host, &System::now()),
            );
        }
        return;
    };
    if details.round_trip.is_none() {
        details.round_trip = option::seen(stream).round_trip;
    }
    let place = match details.round_trip {
        Some(round_trip) => Place::At(round_trip),
        None => Place::Unknown {
            on_link: stream.peer_addr().is_ok_and(LocalUsers::is_on_link),
        },
    };
    let system = System::now();
    let mut plan = plan::plan(socket, path, place, &system);
    if path.buffers.size().is_none() {
        let bytes = plan.receive.unwrap_or_default() + plan.send.unwrap_or_default();
        if bytes > 0 {
            let grant = Grant::of(bytes, system.memory);
            if grant.is_none() {
                tracing::debug!(bytes, "no larger buffers: too many connections have them");
                (plan.receive, plan.send, plan.unsent) = (None, None, None);
            }
            details._grant = grant;
        }
    }
    (details.receive_buffer, details.send_buffer) = apply(stream, &plan);
    details.congestion = getsockopt(stream, sockopt::TcpCongestion)
        .ok()
        .map(|name| name.to_string_lossy().trim_end_matches('\0').to_owned());
}

/// Returns what the buffers became.
fn apply(stream: &TcpStream, plan: &Plan<'_>) -> (Option<usize>, Option<usize>) {
    if let Some(name) = plan.congestion
        && let Err(error) = setsockopt(stream, sockopt::TcpCongestion, &name.into())
        && name == "bbr"
        && !BBR_REFUSED.swap(true, Ordering::Relaxed)
    {
        tracing::debug!(%error, "bbr is refused; long paths have the system's congestion control");
    }
    let receive = plan
        .receive
        .and_then(|size| option::receive_buffer(stream, size));
    let send = plan.send.and_then(|size| option::send_buffer(stream, size));
    if let Some(bytes) = plan.unsent {
        let _ = SockRef::from(stream).set_tcp_notsent_lowat(bytes);
    }
    (receive, send)
}

/// What this system refuses of what a side asks for, by key, tried on a socket of its own.
#[must_use]
pub fn refused(options: &PathOptions) -> Vec<(&'static str, String)> {
    let socket = match Socket::new(Domain::IPV4, Type::STREAM, None) {
        Ok(socket) => socket,
        Err(error) => return vec![("congestion", error.to_string())],
    };
    let mut refused = Vec::new();
    if let Some(name) = options.congestion.name()
        && let Err(error) = setsockopt(&socket, sockopt::TcpCongestion, &name.into())
    {
        let hint = "see net.ipv4.tcp_allowed_congestion_control";
        refused.push(("congestion", format!("has no effect: {error} ({hint})")));
    }
    if let Some(size) = options.buffers.size() {
        for (way, sysctl, is) in [
            ("receive", "rmem_max", option::receive_buffer(&socket, size)),
            ("send", "wmem_max", option::send_buffer(&socket, size)),
        ] {
            let is = is.unwrap_or_default();
            // A kernel counts twice as much, in 31 bits.
            if is < size.min(0x3fff_ffff) {
                refused.push((
                    "buffers",
                    format!(
                        "is {is} bytes to {way}: net.core.{sysctl} has to be {size}, or the process \
                         needs CAP_NET_ADMIN"
                    ),
                ));
            }
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_path_is_far_and_its_window_is_the_smaller_ones() {
        let path = |round_trip: u64, offers| PathDetails {
            round_trip: Some(Duration::from_micros(round_trip)),
            offers,
            ..PathDetails::default()
        };
        assert_eq!(Far::of(&PathDetails::default()), None);
        assert_eq!(Far::of(&path(1999, MOST)), None);
        // As of a peer with Linux's usual bounds.
        let far = Far::of(&path(31_000, 8 << 20)).unwrap();
        assert!(far.window <= 8 << 20 && !far.suffices(), "{far:?}");
        let far = Far::of(&path(2000, MOST)).unwrap();
        let window = System::now().window();
        assert_eq!(far.window, window.min(MOST));
        assert_eq!(far.suffices(), window >= 5_000_000);
    }

    #[test]
    fn what_all_connections_have_been_granted_is_bounded() {
        let most = GRANTED.load(Ordering::Relaxed) + 100;
        let first = Grant::of(60, most).unwrap();
        assert!(Grant::of(60, most).is_none());
        assert!(Grant::of(usize::MAX, usize::MAX).is_none());
        drop(first);
        assert!(Grant::of(60, most).is_some());
    }

    #[test]
    fn what_a_system_refuses_is_told_with_what_lifts_it() {
        use crate::endpoint::spec::{Buffers, Congestion};
        assert!(refused(&PathOptions::default()).is_empty());
        let unknown = PathOptions {
            congestion: Congestion::Named("nonesuch".into()),
            ..PathOptions::default()
        };
        let [(key, why)] = refused(&unknown).try_into().unwrap();
        assert_eq!(key, "congestion");
        assert!(why.contains("tcp_allowed_congestion_control"), "{why}");
        let large = PathOptions {
            buffers: Buffers::Size(1 << 30),
            ..PathOptions::default()
        };
        let told = refused(&large);
        let system = System::now();
        let capped = |asked: usize| !system.forces && asked < 1 << 30;
        let expected = [capped(system.receive.asked), capped(system.send.asked)];
        assert_eq!(
            told.len(),
            expected.iter().filter(|is| **is).count(),
            "{told:?}"
        );
        assert!(
            told.iter()
                .all(|(key, why)| *key == "buffers" && why.contains("CAP_NET_ADMIN"))
        );
    }
}
