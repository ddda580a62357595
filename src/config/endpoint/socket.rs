//! `socket`: options of an endpoint's TCP sockets, side by side.

use std::time::Duration;

use sekisho_proxy::endpoint::spec::{Address, Forward, Keepalive, Listen, SocketOptions, Sockets};

use crate::config::{
    error::Report,
    field::{Field, Map},
    keys,
    unit::{DAY, MILLISECOND},
};

/// Longer names of congestion controls do not exist (`TCP_CA_NAME_MAX`).
const NAME: usize = 15;
/// The kernel counts these in seconds, and refuses more.
const KEEPALIVE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(32_767);

/// Reads both sides.
pub(super) fn read(
    field: &Field<'_>,
    listen: Option<&Listen>,
    forward: Option<&Forward>,
    report: &mut Report,
) -> Option<Sockets> {
    let map = field.map(&keys::SOCKET, report)?;
    let before = report.count();
    let rule = "a Unix socket has none of these options";
    if matches!(listen, Some(Listen::Unix { .. })) {
        map.refuse(&["listen"], rule, report);
    }
    let unix = |address: &&Address| matches!(address, Address::Unix(_));
    if forward.is_some_and(|forward| forward.addresses().iter().all(unix)) {
        map.refuse(&["forward"], rule, report);
    }
    let none = SocketOptions::default;
    let listen = map.get_or("listen", none(), report, side);
    let forward = map.get_or("forward", none(), report, side);
    if report.count() > before {
        return None;
    }
    Some(Sockets {
        listen: listen?,
        forward: forward?,
    })
}

fn side(field: &Field<'_>, report: &mut Report) -> Option<SocketOptions> {
    let map = field.map(&keys::SOCKET_SIDE, report)?;
    let default = SocketOptions::default();
    let congestion = map.get_or("congestion", None, report, |field, report| {
        let form = "the name of a congestion control, as in bbr or cubic";
        field.parse(form, report, |text| {
            is_congestion(text).then(|| Some(text.to_owned()))
        })
    });
    let send_buffer = buffer(&map, "send_buffer", report);
    let receive_buffer = buffer(&map, "receive_buffer", report);
    let nodelay = map.get_or("nodelay", default.nodelay, report, Field::boolean);
    let keepalive = map.get_or("keepalive", default.keepalive, report, keepalive);
    let user_timeout = map.get_or("user_timeout", None, report, |field, report| {
        field.duration(MILLISECOND..=DAY, report).map(Some)
    });
    let dscp = map.get_or("dscp", None, report, |field, report| {
        let dscp = field.number(0..=63, report)?;
        u8::try_from(dscp).ok().map(Some)
    });
    Some(SocketOptions {
        congestion: congestion?,
        send_buffer: send_buffer?,
        receive_buffer: receive_buffer?,
        nodelay: nodelay?,
        keepalive: keepalive?,
        user_timeout: user_timeout?,
        dscp: dscp?,
    })
}

/// Whether a congestion control may be called so.
pub(super) fn is_congestion(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= NAME && text.bytes().all(letter)
}

#[expect(
    clippy::option_option,
    reason = "outside: reported; inside: a size that is optional"
)]
fn buffer(map: &Map<'_>, key: &str, report: &mut Report) -> Option<Option<usize>> {
    map.get_or(key, None, report, |field, report| {
        field.size(4096..=1 << 30, report).map(Some)
    })
}

#[expect(
    clippy::option_option,
    reason = "outside: reported; inside: probes that are optional"
)]
fn keepalive(field: &Field<'_>, report: &mut Report) -> Option<Option<Keepalive>> {
    if field.as_text() == Some("false") {
        return Some(None);
    }
    let map = field.map(&keys::KEEPALIVE, report)?;
    let default = Keepalive::default();
    let step = |field: &Field<'_>, report: &mut Report| field.duration(KEEPALIVE, report);
    let time = map.get_or("time", default.time, report, step);
    let interval = map.get_or("interval", default.interval, report, step);
    let retries = map.get_or("retries", default.retries, report, |field, report| {
        field.number(1..=127, report)
    });
    Some(Some(Keepalive {
        time: time?,
        interval: interval?,
        retries: retries?,
    }))
}
