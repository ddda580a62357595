//! `sekisho bench wan` against its own settings, by programs that others wrote: ping sees the round trip
//! and the losses, iperf3 the rate and the window, and the counters agree with both.
//!
//! Bounds are such that a busy machine keeps them: nothing comes too early, however late it may be.

mod lanes;
mod limits;
pub(crate) mod path;
mod refused;
mod sides;

use std::ops::RangeInclusive;

use nix::sys::signal::Signal;
use path::{Path, needs};

fn within(found: f64, expected: RangeInclusive<f64>, what: &str) {
    assert!(
        expected.contains(&found),
        "{what}: {found}, expected {expected:?}"
    );
}

#[test]
fn ping_sees_the_round_trip_by_both_protocols() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    let v6 = "10.99.0.1/30,10.99.0.2/30,fd00:99::1/64,fd00:99::2/64";
    let path = Path::start(&tools, "--rtt 40ms --rate 100M --addresses", &[v6]);
    for address in ["10.99.0.2", "fd00:99::2"] {
        let said = path.run(0, &["ping", "-q", "-c", "20", "-i", "0.05", address]);
        let times = said
            .split("mdev = ")
            .nth(1)
            .unwrap_or_else(|| panic!("{said}"));
        let least: f64 = times.split('/').next().unwrap().parse().unwrap();
        // Never early; of twenty one at least is not late.
        within(least, 40.0..=45.0, address);
    }
    let end = path.end();
    for way in ["forward", "back"] {
        assert!(end[way]["packets"].as_u64() >= Some(40), "{end:#}");
        assert_eq!(end[way]["lost"], 0);
    }
}

#[test]
fn ping_misses_the_share_that_is_lost() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    let path = Path::start(&tools, "--rtt 2ms --loss 10% --one-way --seed 5", &[]);
    let said = path.run(0, &["ping", "-q", "-c", "1000", "-i", "0.002", "10.99.0.2"]);
    let received = said.split(" received").next().unwrap();
    let received: f64 = received.rsplit(' ').next().unwrap().parse().unwrap();
    // Four standard deviations of a binomial of a thousand with a tenth.
    within(received, 862.0..=938.0, "received");
    let end = path.end();
    // Neighbours are asked for too, but not by many.
    let lost = end["forward"]["lost"].as_f64().unwrap();
    within(lost, 1000.0 - received..=1010.0 - received, "lost");
    assert_eq!(end["back"]["lost"], 0);
}

#[test]
fn iperf3_finds_the_rate() {
    let Some(tools) = needs(&["iperf3"]) else {
        return;
    };
    let path = Path::start(&tools, "--rtt 4ms --rate 100M --queue 256KiB", &[]);
    let server = path.server();
    let report = path.iperf3(&["-t", "3", "-O", "1", "-C", "cubic"]);
    let bits = report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .unwrap();
    // 1448 of 1500 bytes are the stream's.
    within(
        bits / (100e6 * 1448.0 / 1500.0),
        0.95..=1.05,
        "share of the line",
    );
    drop(server);
    let end = path.end();
    assert!(end["forward"]["queue_full"].as_u64() > Some(0), "{end:#}");
    let queue = end["forward"]["largest_queue_bytes"].as_f64().unwrap();
    within(queue, 250_000.0..=262_144.0, "largest queue");
}

#[test]
fn a_window_gives_less_the_longer_the_path_is() {
    let Some(tools) = needs(&["iperf3"]) else {
        return;
    };
    let mut windows = Vec::new();
    for trip in [30, 60] {
        let path = Path::start(&tools, &format!("--rtt {trip}ms"), &[]);
        for host in [0, 1] {
            for setting in [
                "tcp_rmem=4096 131072 1048576",
                "tcp_wmem=4096 16384 4194304",
            ] {
                path.run(host, &["sysctl", "-w", &format!("net.ipv4.{setting}")]);
            }
        }
        let server = path.server();
        let report = path.iperf3(&["-t", "4", "-O", "1", "-C", "cubic"]);
        drop(server);
        let bits = report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .unwrap();
        let window = bits / 8.0 * f64::from(trip) / 1e3;
        // The kernel keeps a part of the megabyte for itself.
        within(window, 300e3..=1049e3, "bytes in a round trip");
        windows.push(window);
        assert_eq!(path.end()["forward"]["lost"], 0);
    }
    // The same window, whatever the round trip: that is the limit.
    within(windows[0] / windows[1], 0.75..=1.33, "windows");
}

#[test]
fn counters_agree_with_iperf3() {
    let Some(tools) = needs(&["iperf3"]) else {
        return;
    };
    let options = "--rtt 10ms --rate 400M --loss 1% --burst 0.1%,5 --one-way --seed 9";
    let path = Path::start(&tools, options, &[]);
    let server = path.server();
    let report = path.iperf3(&["-u", "-b", "40M", "-l", "1400", "-t", "3"]);
    let sum = &report["end"]["sum"];
    let counters = path.counters();
    let forward = &counters["forward"];
    let lost = |name: &str| forward[name].as_f64().unwrap();
    // The connection by which iperf3 agrees on a test has some packets of its own.
    let theirs = sum["lost_packets"].as_f64().unwrap();
    within(lost("lost") - theirs, 0.0..=5.0, "lost, beyond iperf3's");
    let sent = sum["packets"].as_f64().unwrap();
    within(
        lost("packets") - sent,
        0.0..=60.0,
        "packets, beyond iperf3's",
    );
    // One of a hundred, and five of each thousand in bursts.
    within(theirs / sent, 0.008..=0.025, "share");
    assert_eq!(forward["queue_full"], 0);

    // What TCP lost, it has sent again, but for the last that was under way.
    let report = path.iperf3(&["-t", "3", "-C", "cubic"]);
    let again = report["end"]["sum_sent"]["retransmits"].as_f64().unwrap();
    let after = path.counters();
    let gone = after["forward"]["lost"].as_f64().unwrap() - lost("lost");
    assert!(gone > 10.0, "{after:#}");
    assert!(again + 20.0 >= gone, "{gone} lost, {again} sent again");
    drop(server);
    path.end();
}

#[test]
fn a_datagram_is_overtaken_by_others() {
    let Some(tools) = needs(&["iperf3"]) else {
        return;
    };
    let path = Path::start(&tools, "--rtt 10ms --reorder 5%,4ms --one-way", &[]);
    let server = path.server();
    let report = path.iperf3(&["-u", "-b", "20M", "-l", "1000", "-t", "2"]);
    drop(server);
    let text = report["server_output_text"].as_str().unwrap();
    let before = text
        .split(" datagrams received out-of-order")
        .next()
        .unwrap();
    let said = before.rsplit(' ').next().unwrap();
    let said: f64 = said.parse().unwrap_or_else(|_| panic!("{text}"));
    let end = path.end();
    let held = end["forward"]["held_back"].as_f64().unwrap();
    assert!(held > 100.0, "{end:#}");
    within(said / held, 0.5..=1.1, "those that iperf3 saw out of order");
    assert_eq!(end["forward"]["lost"], 0);
}

#[test]
fn it_says_where_it_is_and_cleans_up() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    let path = Path::start(&tools, "--rtt 1ms", &[]);
    for _ in 0..2 {
        let counters = path.counters();
        assert_eq!(counters["emulator_is_limit"], false);
    }
    let names = path.names.clone();
    path.end();
    let said = tools.ip(&["netns", "list"]);
    for name in names {
        assert!(!said.contains(&name), "{said}");
    }
}

#[test]
fn namespaces_that_were_there_stay() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    let path = Path::start_in_made(&tools, "--rtt 1ms");
    path.run(1, &["ping", "-q", "-c", "1", "10.99.0.1"]);
    let names = path.names.clone();
    path.end();
    let said = tools.ip(&["netns", "list"]);
    for name in names {
        assert!(said.contains(&name), "{said}");
        tools.ip(&["netns", "del", &name]);
    }
}

#[test]
fn packets_larger_than_the_path_takes_are_dropped_and_counted() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    let path = Path::start(&tools, "--mtu 1280", &[]);
    let device = path.device(0);
    // The emulator's end takes more than the path does: somebody has set it so.
    path.run(0, &["ip", "link", "set", &device, "mtu", "9000"]);
    let said = path.try_run(
        0,
        &[
            "ping",
            "-q",
            "-c",
            "2",
            "-W",
            "1",
            "-i",
            "0.1",
            "-s",
            "4000",
            "10.99.0.2",
        ],
    );
    assert!(said.contains(" 0 received"), "{said}");
    let end = path.end();
    assert_eq!(end["forward"]["too_large"], 2, "{end:#}");
    assert_eq!(end["forward"]["malformed"], 0);
}

#[test]
fn a_device_that_goes_away_ends_it_with_a_reason() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    for host in [0, 1] {
        let mut path = Path::start_in_made(&tools, "--rtt 1ms");
        let names = path.names.clone();
        tools.ip(&["netns", "del", &names[host]]);
        let (status, said) = path.ended();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("is gone: it, or the namespace"), "{said}");
        tools.ip(&["netns", "del", &names[1 - host]]);
    }
}

#[test]
fn ctrl_c_and_the_end_of_its_time_end_it() {
    let Some(tools) = needs(&["ping"]) else {
        return;
    };
    let path = Path::start(&tools, "--rtt 1ms", &[]);
    path.end_by(Signal::SIGINT);
    let mut path = Path::start(&tools, "--rtt 1ms --time 300ms --interval 50ms", &[]);
    let (status, said) = path.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        said.matches("\"event\":\"counters\"").count() >= 2,
        "{said}"
    );
    assert_eq!(said.matches("\"event\":\"end\"").count(), 1, "{said}");
}
