//! What cannot be: said before anything is made, with the exit code of a wrong command line.

use super::path::{needs, said};

#[test]
fn a_path_that_makes_no_sense_is_refused_with_its_reason() {
    for (options, reason) in [
        ("--rtt 22ms", "--between"),
        ("--between a,b --rate 0", "expected bits per second"),
        ("--between a,b --loss 101%", "0% to 100%"),
        ("--between a,b --loss 0.01", "0% to 100%"),
        ("--between a,b --rtt 22", "such as 15.7ms"),
        (
            "--between a,b --rtt 60s",
            "delay: 30s; expected at most 10s",
        ),
        ("--between a,b --mtu 500", "mtu: 500; expected at least 576"),
        ("--between a,b --mtu 70000", "70000"),
        (
            "--between a,b --queue 100",
            "do not hold one packet of 1500",
        ),
        ("--between a,b --queue 0p", "room for one packet"),
        ("--between a,b --reorder 5%,0ms", "keep their place"),
        ("--between a,b --burst 0%,8", "burst: 0"),
        ("--between a,b --burst 1%,0.5", "0.5 packets"),
        ("--between a,b --memory 1KiB", "1 MiB"),
        ("--between a,a", "at both ends"),
        ("--between a,../b", "letters, digits"),
        ("--between a,b,c", "--between"),
        (
            "--between a,b --addresses 10.9.0.1/30,10.9.9.2/30",
            "not of one network",
        ),
        (
            "--between a,b --addresses 10.9.0.1/30,10.9.0.1/30",
            "at both ends",
        ),
        (
            "--between a,b --addresses 10.9.0.1/30",
            "a pair of one network",
        ),
        ("--between a,b --addresses 10.9.0.1,10.9.0.2", "10.9.0.1"),
        (
            "--between a,b --mtu 1000 --addresses 10.9.0.1/30,10.9.0.2/30,fd00::1/64,fd00::2/64",
            "at least 1280",
        ),
        ("--ceiling --between a,b", "--between"),
    ] {
        let (code, said) = said(options);
        assert_eq!(code, Some(2), "{options}: {said}");
        assert!(said.contains(reason), "{options}: {said}");
    }
}

#[test]
fn addresses_that_a_namespace_has_already_are_refused() {
    let Some(_) = needs(&[]) else { return };
    // Loopback is everywhere.
    let name = format!("sekishowan{}l", std::process::id());
    let (code, said) = said(&format!(
        "--between {name} --addresses 127.0.0.5/30,127.0.0.6/30"
    ));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("overlaps 127.0.0.1/8, which lo has"),
        "{said}"
    );
}
