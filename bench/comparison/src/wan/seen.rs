//! What a sekisho says of a running stream: `/connections` of its admin address.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer: a few connections are a few KiB.
const LONGEST: u64 = 1 << 20;

/// A stream, as it is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Seen {
    /// Connections that it has now: lanes, or the one of plain TLS.
    pub(super) open: u64,
    /// Whether it has lanes at all.
    pub(super) has_lanes: bool,
    /// Lanes that failed so far.
    pub(super) lost: u64,
    /// Bytes sent again for these.
    pub(super) repeated: u64,
    /// Of the side towards the other site.
    pub(super) congestion: Option<String>,
    /// Bytes, where sekisho has set them.
    pub(super) send_buffer: Option<u64>,
}

/// Asks for the document.
pub(super) fn ask(admin: SocketAddr) -> io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET /connections HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    body(&String::from_utf8_lossy(&answer))
}

/// The JSON of an answer, which axum sends with its length, never in chunks.
fn body(answer: &str) -> io::Result<Value> {
    let status = answer.lines().next().unwrap_or_default();
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .filter(|_| status.split(' ').nth(1) == Some("200"))
        .ok_or_else(|| io::Error::other(format!("answers \"{status}\"")))?;
    Ok(serde_json::from_str(body)?)
}

/// The connection that has carried most: iperf3 has a second one, for itself.
pub(super) fn busiest(document: &Value) -> Option<Seen> {
    let all = document.get("connections")?.as_array()?;
    let bytes = |one: &&Value| one.get("bytes_to_upstream").and_then(Value::as_u64);
    let one = all.iter().max_by_key(bytes)?;
    let lanes = one.get("lanes").filter(|lanes| !lanes.is_null());
    let count = |name: &str| lanes?.get(name)?.as_u64();
    let path = |name: &str| one.pointer(&format!("/path/forward/{name}"));
    Some(Seen {
        open: if lanes.is_some() { count("open")? } else { 1 },
        has_lanes: lanes.is_some(),
        lost: count("lost").unwrap_or_default(),
        repeated: count("repeated").unwrap_or_default(),
        congestion: path("congestion")
            .and_then(Value::as_str)
            .map(str::to_owned),
        send_buffer: path("send_buffer").and_then(Value::as_u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_busiest_connection_counts() {
        let path = json!({"forward": {"congestion": "bbr", "send_buffer": 7, "receive_buffer": 8}});
        let mut document = json!({"connections": [
            {"bytes_to_upstream": 37, "lanes": {"open": 1, "lost": 0, "repeated": 0}},
            {"bytes_to_upstream": 1 << 30, "path": path,
                "lanes": {"open": 4, "opened": 6, "lost": 2, "repeated": 9}},
        ]});
        let mut expected = Seen {
            open: 4,
            has_lanes: true,
            lost: 2,
            repeated: 9,
            congestion: Some("bbr".into()),
            send_buffer: Some(7),
        };
        assert_eq!(busiest(&document), Some(expected.clone()));
        document["connections"][1]["lanes"] = Value::Null;
        expected = Seen {
            open: 1,
            has_lanes: false,
            lost: 0,
            repeated: 0,
            ..expected
        };
        assert_eq!(busiest(&document), Some(expected));
        assert_eq!(busiest(&json!({"connections": []})), None);
    }

    #[test]
    fn an_answer_is_a_200_with_json() {
        let good = body("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(good, json!({}));
        let error = body("HTTP/1.1 404 Not Found\r\n\r\n{}").unwrap_err();
        assert_eq!(error.to_string(), "answers \"HTTP/1.1 404 Not Found\"");
        assert!(body("").is_err());
    }
}
