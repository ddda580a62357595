//! What is no path: each with its reason, and none for ever.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    process::Command,
    thread,
};

use serde_json::Value;

use crate::support::{Process, node::SEKISHO};

fn said(words: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(SEKISHO);
    command.args(["bench", "path"]).args(words);
    let (status, said) = Process::start(command.args(["--json", "-t", "2s"])).ended();
    let found = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    (status.code(), found)
}

/// A server that reads the header of 64 bytes, answers so, and closes.
fn answers(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read_exact(&mut [0; 64]);
            let _ = stream.write_all(bytes);
        }
    });
    address
}

fn is_wrong(address: SocketAddr, reason: &str, text: &str) {
    let (code, found) = said(&[&address.to_string()]);
    assert_eq!(
        (code, &found["reason"]),
        (Some(1), &reason.into()),
        "{found:#}"
    );
    assert!(found["error"].as_str().unwrap().contains(text), "{found:#}");
}

#[test]
fn nobody_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    is_wrong(address, "unreachable", "refused");
}

#[test]
fn whoever_is_there_is_none_of_ours() {
    is_wrong(answers(b""), "not_a_server", "without a word");
    is_wrong(
        answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "not_a_server",
        "something else",
    );
    is_wrong(answers(b"SSH-2.0-x\r\n"), "not_a_server", "something else");
    is_wrong(
        answers(b"H\0\0\0\0\0\0\x02{}"),
        "not_a_server",
        "something else",
    );
    is_wrong(
        answers(b"H\0\0\0\xff\xff\xff\xff"),
        "not_a_server",
        "something else",
    );
}

#[test]
fn a_server_goes_away_meanwhile() {
    // A whole greeting, and then nothing more.
    let hello = concat!(
        "{\"peer\":\"127.0.0.1:1\",\"own\":\"127.0.0.1:2\",\"congestion\":\"cubic\",",
        "\"sysctls\":{}}"
    );
    let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
    let bytes = [b"H\0\0\0", &length[..], hello.as_bytes()].concat();
    is_wrong(answers(bytes.clone().leak()), "server_gone", "went away");
    // Figures that are none.
    let wrong = [&bytes[..], b"S\0\0\0\0\0\0\x05{\"at\""].concat();
    is_wrong(answers(wrong.leak()), "bad_answer", "EOF while parsing");
}

#[test]
fn options_that_this_host_refuses() {
    let (code, found) = said(&["127.0.0.1:9", "-C", "nosuchcontrol"]);
    assert_eq!(
        (code, &found["reason"]),
        (Some(1), &"bad_option".into()),
        "{found:#}"
    );
    let mut command = Command::new(SEKISHO);
    command.args(["bench", "path", "127.0.0.1:9", "--watch", "--reverse"]);
    let (status, said) = Process::start(&mut command).ended();
    assert_eq!(status.code(), Some(2), "{said}");
}

#[test]
fn nothing_to_watch() {
    let (code, found) = said(&["127.0.0.1:9", "--watch"]);
    assert_eq!(code, Some(1));
    assert_eq!(found["reason"], "no_connection", "{found:#}");
}
