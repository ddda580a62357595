//! The keys of an endpoint that have defaults.

use std::time::Duration;

use sekisho_certs::tls::MinVersion;
use sekisho_proxy::endpoint::spec::{
    Backend, Balance, Forward, HealthCheck, Limits, Listen, Paths, ProxyProtocol, RecordLayer,
    Sockets, Timeouts,
};

use super::{listen::networks, path, socket};
use crate::config::{
    error::{Problem, Report},
    field::{Field, Map},
    keys,
    unit::{HOUR, MILLISECOND, YEAR},
};

/// What is read here.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) balance: Balance,
    pub(super) health: Option<HealthCheck>,
    pub(super) timeouts: Timeouts,
    pub(super) limits: Limits,
    pub(super) max_age: Option<Duration>,
    pub(super) cut_at_expiry: bool,
    pub(super) proxy_protocol: ProxyProtocol,
    pub(super) record: RecordLayer,
    pub(super) sockets: Sockets,
    pub(super) path: Paths,
}

/// `tls`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tls {
    pub(super) min: MinVersion,
    pub(super) resumption: bool,
}

/// Reads them all, so that each wrong one is reported.
pub(super) fn read(
    map: &Map<'_>,
    listen: Option<&Listen>,
    forward: Option<&Forward>,
    default_record: RecordLayer,
    report: &mut Report,
) -> Option<Settings> {
    let balance = map.get_or("balance", Balance::default(), report, |field, report| {
        let words = [
            ("round_robin", Balance::RoundRobin),
            ("least_connections", Balance::LeastConnections),
        ];
        field.choice(&words, report)
    });
    let health = map.get_or("health", None, report, health);
    let timeouts = map.get_or("timeouts", Timeouts::default(), report, timeouts);
    let limits = map.get_or("limits", Limits::default(), report, limits);
    let max_age = map.get_or("max_age", None, report, long);
    let cut_at_expiry = map.get_or("cut_at_expiry", false, report, Field::boolean);
    let none = ProxyProtocol::default();
    let proxy_protocol = map.get_or("proxy_protocol", none, report, |field, report| {
        proxy_protocol(field, listen, forward, report)
    });
    let protocol = map.get_or("protocol", (), report, protocol);
    let record = map.get_or("record", default_record, report, record);
    let sockets = map.get_or("socket", Sockets::default(), report, |field, report| {
        socket::read(field, listen, forward, report)
    });
    let path = map.get_or("path", Paths::default(), report, |field, report| {
        path::read(field, listen, forward, sockets.as_ref(), report)
    });
    protocol?;
    Some(Settings {
        balance: balance?,
        health: health?,
        timeouts: timeouts?,
        limits: limits?,
        max_age: max_age?,
        cut_at_expiry: cut_at_expiry?,
        proxy_protocol: proxy_protocol?,
        record: record?,
        sockets: sockets?,
        path: path?,
    })
}

/// `record`, of an endpoint or of all.
pub(in crate::config) fn record(field: &Field<'_>, report: &mut Report) -> Option<RecordLayer> {
    let words = [
        ("auto", RecordLayer::Auto),
        ("aws-lc", RecordLayer::Own(Backend::AwsLc)),
        ("ring", RecordLayer::Own(Backend::Ring)),
        ("rustls", RecordLayer::Rustls),
    ];
    field.choice(&words, report)
}

/// `tls: {min, resumption}`.
pub(super) fn tls(field: &Field<'_>, report: &mut Report) -> Option<Tls> {
    let versions = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
    let map = field.map(&keys::TLS, report)?;
    let min = map.get_or("min", MinVersion::default(), report, |field, report| {
        field.choice(&versions, report)
    });
    let resumption = map.get_or("resumption", false, report, Field::boolean)?;
    let min = min?;
    if resumption && min == MinVersion::Tls12 {
        let rule = "resumption is for TLS 1.3 only, and `min` lets 1.2 in";
        map.refuse(&["resumption"], rule, report);
        return None;
    }
    Some(Tls { min, resumption })
}

/// A step of a connection: never without a bound, never longer than an hour.
fn step(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    field.duration(MILLISECOND..=HOUR, report)
}

/// Something that may last.
#[expect(
    clippy::option_option,
    reason = "outside: reported; inside: a bound that is optional"
)]
fn long(field: &Field<'_>, report: &mut Report) -> Option<Option<Duration>> {
    field.duration(MILLISECOND..=YEAR, report).map(Some)
}

#[expect(
    clippy::option_option,
    reason = "outside: reported; inside: a check that is optional"
)]
fn health(field: &Field<'_>, report: &mut Report) -> Option<Option<HealthCheck>> {
    let default = HealthCheck::default();
    match field.as_text() {
        Some("true") => return Some(Some(default)),
        Some("false") => return Some(None),
        _ => {}
    }
    let map = field.map(&keys::HEALTH, report)?;
    let interval = map.get_or("interval", default.interval, report, step);
    let timeout = map.get_or("timeout", default.timeout, report, step);
    let times = |field: &Field<'_>, report: &mut Report| field.number(1..=100, report);
    let fall = map.get_or("fall", default.fall, report, times);
    let rise = map.get_or("rise", default.rise, report, times);
    Some(Some(HealthCheck {
        interval: interval?,
        timeout: timeout?,
        fall: fall?,
        rise: rise?,
    }))
}

fn timeouts(field: &Field<'_>, report: &mut Report) -> Option<Timeouts> {
    let default = Timeouts::default();
    let map = field.map(&keys::TIMEOUTS, report)?;
    let connect = map.get_or("connect", default.connect, report, step);
    let handshake = map.get_or("handshake", default.handshake, report, step);
    let idle = map.get_or("idle", default.idle, report, long);
    Some(Timeouts {
        connect: connect?,
        handshake: handshake?,
        idle: idle?,
    })
}

fn limits(field: &Field<'_>, report: &mut Report) -> Option<Limits> {
    let default = Limits::default();
    let map = field.map(&keys::LIMITS, report)?;
    let connections = map.get_or(
        "connections",
        default.connections,
        report,
        |field, report| field.number(1..=1_048_576, report)?.try_into().ok(),
    );
    // Each source prefix gets a quarter, so that there must be four.
    let handshakes = map.get_or("handshakes", default.handshakes, report, |field, report| {
        field.number(4..=65_536, report)?.try_into().ok()
    });
    let lanes = map.get_or("lanes", default.lanes, report, |field, report| {
        field.number(1..=4096, report)?.try_into().ok()
    });
    Some(Limits {
        connections: connections?,
        handshakes: handshakes?,
        lanes: lanes?,
    })
}

fn proxy_protocol(
    field: &Field<'_>,
    listen: Option<&Listen>,
    forward: Option<&Forward>,
    report: &mut Report,
) -> Option<ProxyProtocol> {
    let map = field.map(&keys::PROXY_PROTOCOL, report)?;
    let receive = map.get_or("in", false, report, Field::boolean)?;
    let send = map.get_or("out", false, report, Field::boolean)?;
    let accept_from = map.get_or("from", Vec::new(), report, networks)?;
    if send && matches!(forward, Some(Forward::Mtls { .. })) {
        map.refuse(
            &["out"],
            "the header would go ahead of the handshake, to somebody who is not verified yet; a \
             peer by mTLS sees who comes by its SVID",
            report,
        );
        return None;
    }
    if receive {
        map.required(
            "from",
            "the networks that send the header, as in [10.1.0.0/16]",
            report,
        )?;
        if matches!(listen, Some(Listen::Unix { .. })) {
            map.refuse(
                &["in"],
                "the sources of a unix `listen` have no address",
                report,
            );
            return None;
        }
    } else if map.get("from").is_some() {
        map.refuse(&["from"], "without `in: true` no header is read", report);
        return None;
    }
    Some(ProxyProtocol { accept_from, send })
}

fn protocol(field: &Field<'_>, report: &mut Report) -> Option<()> {
    match field.as_text() {
        Some("tcp") => Some(()),
        Some(later @ ("http" | "kafka")) => {
            field.problem(Problem::Later(format!("protocol: {later}")), report);
            None
        }
        _ => {
            field.wrong("tcp", report);
            None
        }
    }
}
