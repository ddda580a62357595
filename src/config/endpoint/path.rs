//! `path`: what an endpoint does about the length of its paths, side by side.

use std::num::NonZeroU8;

use sekisho_proxy::endpoint::spec::{
    Address, Buffers, Congestion, Forward, Lanes, Listen, PathOptions, Paths, SocketOptions,
    Sockets,
};

use super::socket::is_congestion;
use crate::config::{
    error::Report,
    field::{Field, Map},
    keys, unit,
};

/// The keys of the short form, and of each side.
const OWN: [&str; 3] = ["congestion", "buffers", "lanes"];
/// As of `socket`.
const SIZE: std::ops::RangeInclusive<u64> = 4096..=1 << 30;

/// What stands at a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Mtls,
    Plain,
    Unix,
    /// It was reported.
    Unknown,
}

/// Reads both sides. `sockets` must not say the same.
pub(super) fn read(
    field: &Field<'_>,
    listen: Option<&Listen>,
    forward: Option<&Forward>,
    sockets: Option<&Sockets>,
    report: &mut Report,
) -> Option<Paths> {
    let map = field.map(&keys::PATH, report)?;
    let before = report.count();
    let none = Sockets::default();
    let sockets = sockets.unwrap_or(&none);
    let sides = [
        ("listen", of_listen(listen), &sockets.listen),
        ("forward", of_forward(forward), &sockets.forward),
    ];
    let is_there = |key: &&str| map.get(key).is_some();
    let is_short = OWN.iter().any(is_there);
    let [listen, forward] = if is_short {
        if sides.iter().any(|(side, ..)| is_there(side)) {
            let rule =
                "stands for each mTLS side, and `listen` or `forward` for one: write one form";
            map.refuse(&OWN, rule, report);
            return None;
        }
        let kinds = sides.map(|(_, kind, _)| kind);
        if !kinds.contains(&Kind::Mtls) && !kinds.contains(&Kind::Unknown) {
            let rule = "stands for each mTLS side, and no side is one: write `listen: {…}` or \
                        `forward: {…}`";
            map.refuse(&OWN, rule, report);
            return None;
        }
        let options = options(&map, report)?;
        sides.map(|(side, kind, socket)| {
            if kind != Kind::Mtls {
                return Some(PathOptions::default());
            }
            refuse_twice(&map, side, &options, socket, report);
            Some(options.clone())
        })
    } else {
        sides.map(|(side, kind, socket)| {
            map.get_or(side, PathOptions::default(), report, |field, report| {
                if kind == Kind::Unix {
                    field.rule("the path to a Unix socket has no length", report);
                    return None;
                }
                let map = field.map(&keys::PATH_SIDE, report)?;
                if kind == Kind::Plain {
                    let rule = "lanes are mTLS connections of one stream, and this side speaks no \
                                mTLS";
                    map.refuse(&["lanes"], rule, report);
                }
                let options = options(&map, report)?;
                refuse_twice(&map, side, &options, socket, report);
                Some(options)
            })
        })
    };
    if report.count() > before {
        return None;
    }
    Some(Paths {
        listen: listen?,
        forward: forward?,
    })
}

fn of_listen(listen: Option<&Listen>) -> Kind {
    match listen {
        Some(Listen::Mtls { .. }) => Kind::Mtls,
        Some(Listen::Tcp { .. } | Listen::Connect { .. }) => Kind::Plain,
        Some(Listen::Unix { .. }) => Kind::Unix,
        None => Kind::Unknown,
    }
}

fn of_forward(forward: Option<&Forward>) -> Kind {
    let unix = |address: &&Address| matches!(address, Address::Unix(_));
    match forward {
        Some(Forward::Mtls { .. }) => Kind::Mtls,
        Some(plain) if plain.addresses().iter().all(unix) => Kind::Unix,
        Some(Forward::Plain { .. }) => Kind::Plain,
        None => Kind::Unknown,
    }
}

fn options(map: &Map<'_>, report: &mut Report) -> Option<PathOptions> {
    let congestion = map.get_or("congestion", Congestion::Auto, report, |field, report| {
        let form = "auto, or the name of a congestion control, as in bbr or cubic";
        field.parse(form, report, |text| match text {
            "auto" => Some(Congestion::Auto),
            name => is_congestion(name).then(|| Congestion::Named(name.to_owned())),
        })
    });
    let buffers = map.get_or("buffers", Buffers::Auto, report, |field, report| {
        let form = format!(
            "auto, or a size from {} to {}, as in 64MiB",
            unit::WrittenSize(*SIZE.start()),
            unit::WrittenSize(*SIZE.end())
        );
        field.parse(&form, report, |text| match text {
            "auto" => Some(Buffers::Auto),
            size => {
                let size = unit::size(size).filter(|size| SIZE.contains(size))?;
                Some(Buffers::Size(size.try_into().ok()?))
            }
        })
    });
    let lanes = map.get_or("lanes", Lanes::Auto, report, |field, report| {
        let form = format!("auto, or a number from 1 to {}", Lanes::MOST);
        field.parse(&form, report, |text| match text {
            "auto" => Some(Lanes::Auto),
            number => {
                let digits = number.bytes().all(|byte| byte.is_ascii_digit());
                let number: NonZeroU8 = number.parse().ok().filter(|_| digits)?;
                (number.get() <= Lanes::MOST).then_some(Lanes::Most(number))
            }
        })
    });
    Some(PathOptions {
        congestion: congestion?,
        buffers: buffers?,
        lanes: lanes?,
    })
}

/// One option has one place. `auto` leaves alone what `socket` sets.
fn refuse_twice(
    map: &Map<'_>,
    side: &str,
    options: &PathOptions,
    socket: &SocketOptions,
    report: &mut Report,
) {
    let mut refuse = |key: &'static str, other: &str| {
        let rule = format!("`socket.{side}.{other}` sets it already: write one of the two");
        map.refuse(&[key], &rule, report);
    };
    if options.congestion.name().is_some() && socket.congestion.is_some() {
        refuse("congestion", "congestion");
    }
    if options.buffers.size().is_some() {
        if socket.send_buffer.is_some() {
            refuse("buffers", "send_buffer");
        }
        if socket.receive_buffer.is_some() {
            refuse("buffers", "receive_buffer");
        }
    }
}
