use super::{INBOUND, OUTBOUND, refused_endpoint::check};

const DURATION: &str = "a duration with its unit (ms, s, m, h, d), as in 300ms, 30s or 1h30m";

#[test]
fn settings_say_what_they_expect() {
    let hour = "expected a duration from 1ms to 1h, found";
    let year = "expected a duration from 1ms to 366d, found";
    let known = "expected one of: listen, forward, as, accept, expect, local, from, identity, \
                 bundles, policy, name, default, tls, balance, health, timeouts, limits, max_age, \
                 cut_at_expiry, proxy_protocol, protocol, record, socket, path";
    check(
        INBOUND,
        &[
            (
                "record: openssl",
                "8:13: endpoints.x.record: expected auto or aws-lc or ring or rustls, found \"openssl\"",
            ),
            (
                "protocol: http",
                "8:15: endpoints.x.protocol: `protocol: http` is not in this version",
            ),
            (
                "protocol: kafka",
                "8:15: endpoints.x.protocol: `protocol: kafka` is not in this version",
            ),
            (
                "protocol: udp",
                "8:15: endpoints.x.protocol: expected tcp, found \"udp\"",
            ),
            (
                "balanse: x",
                &format!("8:5: endpoints.x.balanse: unknown key, did you mean `balance`?; {known}"),
            ),
            (
                "balance: random",
                "8:14: endpoints.x.balance: expected round_robin or least_connections, found \
                 \"random\"",
            ),
            (
                "tls: 1.2",
                "8:10: endpoints.x.tls: expected {min, resumption}, found \"1.2\"",
            ),
            (
                "tls: {min: 1.1}",
                "8:16: endpoints.x.tls.min: expected 1.2 or 1.3, found \"1.1\"",
            ),
            (
                "tls: {min: 1.2, resumption: true}",
                "8:21: endpoints.x.tls.resumption: resumption is for TLS 1.3 only, and `min` lets \
                 1.2 in",
            ),
            (
                "tls: {resumption: maybe}",
                "8:23: endpoints.x.tls.resumption: expected true or false, found \"maybe\"",
            ),
            (
                "socket: {listen: {congestion: \"c u b i c\"}}",
                "8:35: endpoints.x.socket.listen.congestion: expected the name of a congestion \
                 control, as in bbr or cubic, found \"c u b i c\"",
            ),
            (
                "socket: {forward: {send_buffer: 5}}",
                "8:37: endpoints.x.socket.forward.send_buffer: expected a size with its unit (B, \
                 KiB, MiB, GiB), as in 64KiB, found \"5\"",
            ),
            (
                "socket: {forward: {receive_buffer: 1KiB}}",
                "8:40: endpoints.x.socket.forward.receive_buffer: expected a size from 4KiB to \
                 1GiB, found \"1KiB\"",
            ),
            (
                "socket: {listen: {dscp: 64}}",
                "8:29: endpoints.x.socket.listen.dscp: expected a number from 0 to 63, found \"64\"",
            ),
            (
                "socket: {listen: {keepalive: true}}",
                "8:34: endpoints.x.socket.listen.keepalive: expected false or {time, interval, \
                 retries}, found \"true\"",
            ),
            (
                "socket: {listen: {keepalive: {retries: 0}}}",
                "8:44: endpoints.x.socket.listen.keepalive.retries: expected a number from 1 to \
                 127, found \"0\"",
            ),
            (
                "socket: {listn: {}}",
                "8:14: endpoints.x.socket.listn: unknown key, did you mean `listen`?; expected one \
                 of: listen, forward",
            ),
            (
                "health: yes",
                "8:13: endpoints.x.health: expected true, false or {interval, timeout, fall, \
                 rise}, found \"yes\"",
            ),
            (
                "health: {interval: 0s}",
                &format!("8:24: endpoints.x.health.interval: {hour} \"0s\""),
            ),
            (
                "health: {timeout: 5}",
                &format!("8:23: endpoints.x.health.timeout: expected {DURATION}, found \"5\""),
            ),
            (
                "health: {fall: 0}",
                "8:20: endpoints.x.health.fall: expected a number from 1 to 100, found \"0\"",
            ),
            (
                "health: {rise: 1.5}",
                "8:20: endpoints.x.health.rise: expected a number from 1 to 100, found \"1.5\"",
            ),
            (
                "timeouts: 5s",
                "8:15: endpoints.x.timeouts: expected {connect, handshake, idle}, found \"5s\"",
            ),
            (
                "timeouts: {connect: 2h}",
                &format!("8:25: endpoints.x.timeouts.connect: {hour} \"2h\""),
            ),
            (
                "timeouts: {handshake: 0ms}",
                &format!("8:27: endpoints.x.timeouts.handshake: {hour} \"0ms\""),
            ),
            (
                "timeouts: {idle: 0s}",
                &format!("8:22: endpoints.x.timeouts.idle: {year} \"0s\""),
            ),
            (
                "max_age: 0s",
                &format!("8:14: endpoints.x.max_age: {year} \"0s\""),
            ),
            (
                "max_age: 367d",
                &format!("8:14: endpoints.x.max_age: {year} \"367d\""),
            ),
            (
                "cut_at_expiry: on",
                "8:20: endpoints.x.cut_at_expiry: expected true or false, found \"on\"",
            ),
            (
                "limits: 5",
                "8:13: endpoints.x.limits: expected {connections, handshakes, lanes}, found \"5\"",
            ),
            (
                "limits: {connections: 0}",
                "8:27: endpoints.x.limits.connections: expected a number from 1 to 1048576, found \
                 \"0\"",
            ),
            (
                "limits: {handshakes: 3}",
                "8:26: endpoints.x.limits.handshakes: expected a number from 4 to 65536, found \
                 \"3\"",
            ),
            (
                "limits: {lanes: 0}",
                "8:21: endpoints.x.limits.lanes: expected a number from 1 to 4096, found \"0\"",
            ),
            (
                "proxy_protocol: true",
                "8:21: endpoints.x.proxy_protocol: expected {in: true, from: [CIDR], out: true}, \
                 found \"true\"",
            ),
            (
                "proxy_protocol: {in: true}",
                "8:5: endpoints.x.proxy_protocol.from: missing: expected the networks that send \
                 the header, as in [10.1.0.0/16]",
            ),
            (
                "proxy_protocol: {from: [10.0.0.0/8]}",
                "8:22: endpoints.x.proxy_protocol.from: without `in: true` no header is read",
            ),
        ],
    );
    check(
        OUTBOUND,
        &[
            (
                "proxy_protocol: {in: true, from: [10.0.0.0/8]}",
                "8:22: endpoints.x.proxy_protocol.in: the sources of a unix `listen` have no \
                 address",
            ),
            (
                "proxy_protocol: {out: true}",
                "8:22: endpoints.x.proxy_protocol.out: the header would go ahead of the \
                 handshake, to somebody who is not verified yet; a peer by mTLS sees who comes by \
                 its SVID",
            ),
        ],
    );
}
