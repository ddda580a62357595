//! Ordinary clients through a pair of nodes: HTTP, and half-closed streams.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    process::Command,
};

use crate::support::{Pair, Process, Upstream, World, http, program::program, transfer};

const MIB: usize = 1024 * 1024;

#[test]
fn curl_gets_a_page_through_a_pair() {
    let curl = program!("curl");
    let world = World::new();
    // More than any buffer on the way holds.
    let page: Vec<u8> = (0_u32..)
        .map(|n| n.to_be_bytes()[2])
        .take(8 * MIB)
        .collect();
    let expected = page.clone();
    let upstream = Upstream::start(move |stream| http::answer(&stream, &page));
    let pair = Pair::start(&world, upstream.address);
    let file = world.file("page");
    let mut command = Command::new(curl);
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    command.arg("--output").arg(&file);
    let mut curl = Process::start(command.arg(format!("http://{}/", pair.address)));
    let (status, said) = curl.ended();
    assert!(status.success(), "{said}");
    assert!(std::fs::read(&file).unwrap() == expected, "another page");
    let line = pair.receiving.closed();
    assert_eq!(line["client_id"], "spiffe://a.example/front");
    assert_eq!(
        pair.sending.closed()["upstream_id"],
        "spiffe://b.example/back"
    );
}

/// A service that reads to the end of the stream, and only then answers: with how much it was, and
/// 4 MiB.
fn after_the_end() -> Upstream {
    Upstream::start(|mut stream| {
        let count = io::copy(&mut stream, &mut io::sink())?;
        writeln!(stream, "{count}")?;
        transfer::send(&mut stream, 4 * MIB)?;
        stream.shutdown(Shutdown::Write)
    })
}

/// A client that sends what it reads, closes its half, and writes all that it gets.
fn half_close_is_kept(program: &str, arguments: impl FnOnce(SocketAddr) -> Vec<String>) {
    let program = program!(program);
    let world = World::new();
    let upstream = after_the_end();
    let pair = Pair::start(&world, upstream.address);
    let file = world.file("answer");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" >\"$FILE\"", "sh"]);
    command.env("FILE", &file).arg(program);
    let mut client = Process::start_with_input(command.args(arguments(pair.address)));
    let mut input = client.input();
    transfer::send(&mut input, 3 * MIB).unwrap();
    drop(input);
    let (status, said) = client.ended();
    assert!(status.success(), "{said}");
    let mut answer = Vec::new();
    std::fs::File::open(&file)
        .unwrap()
        .read_to_end(&mut answer)
        .unwrap();
    let line = format!("{}\n", 3 * MIB);
    assert!(answer.starts_with(line.as_bytes()), "not all arrived");
    assert_eq!(answer.len(), line.len() + 4 * MIB, "not all came back");
    pair.sending.closed();
    pair.receiving.closed();
}

#[test]
fn netcat_closes_its_half_and_still_receives_everything() {
    half_close_is_kept("nc", |address| {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        vec!["-N".into(), ip, port]
    });
}

#[test]
fn socat_closes_its_half_and_still_receives_everything() {
    half_close_is_kept("socat", |address| {
        vec![
            "-t".into(),
            "30".into(),
            "-".into(),
            format!("TCP:{address}"),
        ]
    });
}
