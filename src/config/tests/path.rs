//! `path`.

use std::num::NonZeroU8;

use sekisho_proxy::endpoint::spec::{Buffers, Congestion, Lanes, PathOptions, Paths};

use super::{INBOUND, OUTBOUND, endpoint, refused_endpoint::check, site};

/// Plain on both sides.
const PLAIN: &str = "listen: tcp://127.0.0.1:7000\nforward: tcp://127.0.0.1:7001\n";

/// The paths of an endpoint with a key more.
fn paths(base: &str, path: &str) -> Paths {
    endpoint(&site(&format!("{base}path: {path}\n"))).spec.path
}

fn options(congestion: &str, buffers: usize, lanes: u8) -> PathOptions {
    PathOptions {
        congestion: Congestion::Named(congestion.into()),
        buffers: Buffers::Size(buffers),
        lanes: Lanes::Most(NonZeroU8::new(lanes).unwrap()),
    }
}

#[test]
fn everything_is_automatic_unless_given() {
    let none = Paths::default();
    for base in [INBOUND, OUTBOUND, PLAIN] {
        assert_eq!(endpoint(&site(base)).spec.path, none);
        assert_eq!(paths(base, "{}"), none);
    }
    assert_eq!(none.listen.congestion, Congestion::Auto);
    assert_eq!(none.listen.buffers, Buffers::Auto);
    assert_eq!(none.forward.lanes, Lanes::Auto);
    let auto = "{congestion: auto, buffers: auto, lanes: auto}";
    assert_eq!(paths(OUTBOUND, auto), none);
}

#[test]
fn each_side_has_its_own() {
    let text = "{listen: {congestion: bbr, buffers: 64MiB, lanes: 16}, forward: {congestion: \
                cubic, buffers: 4KiB}}";
    let forward = PathOptions {
        lanes: Lanes::Auto,
        ..options("cubic", 4096, 1)
    };
    let listen = options("bbr", 64 << 20, 16);
    assert_eq!(paths(INBOUND, text), Paths { listen, forward });
    let plain = paths(PLAIN, "{forward: {congestion: reno}}").forward;
    assert_eq!(plain.congestion.name(), Some("reno"));
}

#[test]
fn the_short_form_is_of_each_side_that_speaks_mtls() {
    let short = "{congestion: bbr, buffers: 32MiB, lanes: 1}";
    let given = options("bbr", 32 << 20, 1);
    let none = PathOptions::default;
    let (listen, forward) = (given.clone(), none());
    assert_eq!(paths(INBOUND, short), Paths { listen, forward });
    let (listen, forward) = (none(), given.clone());
    assert_eq!(paths(OUTBOUND, short), Paths { listen, forward });
    let both = "listen: mtls://127.0.0.1:7000\nforward: mtls://a.example:7000\naccept: \
                [spiffe://a.example/w]\nexpect: [spiffe://a.example/w]\nidentity: \
                unix:///run/a.sock\n";
    let (listen, forward) = (given.clone(), given);
    assert_eq!(paths(both, short), Paths { listen, forward });
}

#[test]
fn what_socket_sets_is_left_alone_by_auto() {
    let keys = "socket: {listen: {congestion: bbr, send_buffer: 4MiB}}\npath: {listen: {congestion: \
                auto, buffers: auto, lanes: 2}}\n";
    let spec = endpoint(&site(&format!("{INBOUND}{keys}"))).spec;
    assert_eq!(spec.listening().congestion(), Some("bbr"));
    assert_eq!(spec.forwarding().congestion(), None);
    // Each way is set by another key.
    let keys = "socket: {listen: {dscp: 10}}\npath: {congestion: reno}\n";
    let spec = endpoint(&site(&format!("{INBOUND}{keys}"))).spec;
    assert_eq!(spec.listening().congestion(), Some("reno"));
}

#[test]
fn values_say_what_was_expected() {
    check(
        INBOUND,
        &[
            (
                "path: auto",
                "8:11: endpoints.x.path: expected {listen: {…}, forward: {…}}, or {congestion, \
                 buffers, lanes} for each mTLS side, found \"auto\"",
            ),
            (
                "path: {listen: auto}",
                "8:20: endpoints.x.path.listen: expected {congestion: auto or NAME, buffers: auto \
                 or SIZE, lanes: auto or N}, found \"auto\"",
            ),
            (
                "path: {listen: {congestion: \"b b r\"}}",
                "8:33: endpoints.x.path.listen.congestion: expected auto, or the name of a \
                 congestion control, as in bbr or cubic, found \"b b r\"",
            ),
            (
                "path: {buffers: 64}",
                "8:21: endpoints.x.path.buffers: expected auto, or a size from 4KiB to 1GiB, as in \
                 64MiB, found \"64\"",
            ),
            (
                "path: {buffers: 2GiB}",
                "8:21: endpoints.x.path.buffers: expected auto, or a size from 4KiB to 1GiB, as in \
                 64MiB, found \"2GiB\"",
            ),
            (
                "path: {lanes: 0}",
                "8:19: endpoints.x.path.lanes: expected auto, or a number from 1 to 32, found \"0\"",
            ),
            (
                "path: {listen: {lanes: 33}}",
                "8:28: endpoints.x.path.listen.lanes: expected auto, or a number from 1 to 32, \
                 found \"33\"",
            ),
            (
                "path: {listen: {lanes: +4}}",
                "8:28: endpoints.x.path.listen.lanes: expected auto, or a number from 1 to 32, \
                 found \"+4\"",
            ),
            (
                "path: {listen: {lane: 4}}",
                "8:21: endpoints.x.path.listen.lane: unknown key, did you mean `lanes`?; expected \
                 one of: congestion, buffers, lanes",
            ),
        ],
    );
}

#[test]
fn what_makes_no_sense_at_a_side_is_refused() {
    check(
        INBOUND,
        &[
            (
                "path: {forward: {lanes: 4}}",
                "8:22: endpoints.x.path.forward.lanes: lanes are mTLS connections of one stream, \
                 and this side speaks no mTLS",
            ),
            (
                "path: {lanes: 4, listen: {congestion: bbr}}",
                "8:12: endpoints.x.path.lanes: stands for each mTLS side, and `listen` or \
                 `forward` for one: write one form",
            ),
        ],
    );
    check(
        OUTBOUND,
        &[(
            "path: {listen: {congestion: bbr}}",
            "8:20: endpoints.x.path.listen: the path to a Unix socket has no length",
        )],
    );
    check(
        PLAIN,
        &[(
            "path: {congestion: bbr}",
            "6:12: endpoints.x.path.congestion: stands for each mTLS side, and no side is one: \
             write `listen: {…}` or `forward: {…}`",
        )],
    );
}

#[test]
fn one_option_has_one_place() {
    let twice = |socket: &str| format!("{INBOUND}socket: {{listen: {{{socket}}}}}\n");
    check(
        &twice("congestion: bbr"),
        &[
            (
                "path: {listen: {congestion: cubic}}",
                "9:21: endpoints.x.path.listen.congestion: `socket.listen.congestion` sets it \
                 already: write one of the two",
            ),
            (
                "path: {congestion: cubic}",
                "9:12: endpoints.x.path.congestion: `socket.listen.congestion` sets it already: \
                 write one of the two",
            ),
        ],
    );
    for key in ["send_buffer", "receive_buffer"] {
        check(
            &twice(&format!("{key}: 1MiB")),
            &[(
                "path: {buffers: 64MiB}",
                &format!(
                    "9:12: endpoints.x.path.buffers: `socket.listen.{key}` sets it already: write \
                     one of the two"
                ),
            )],
        );
    }
}
