//! Our own stream, to a server of iperf3: the client's part of its protocol (`src/iperf_client_api.c`).
//!
//! A control connection carries single bytes of state and JSON behind a length; the stream's connection
//! begins with the same cookie. Nothing of the far end is told but its count and its CPU.

use std::{
    io::{self, Read, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    connect::connect,
    cpu::{Thread, micros, this_thread},
    error::Error,
    frame::plain,
    measure::{Far, Measured, Plan},
    run::{Progress, Seen, sampled},
    sysctl::Sysctls,
};
use crate::{
    congestion,
    header::{Header, Mode},
    transfer::{self, Direction},
};

const TEST_START: u8 = 1;
const TEST_RUNNING: u8 = 2;
const TEST_END: u8 = 4;
const PARAM_EXCHANGE: u8 = 9;
const CREATE_STREAMS: u8 = 10;
const SERVER_TERMINATE: u8 = 11;
const EXCHANGE_RESULTS: u8 = 13;
const DISPLAY_RESULTS: u8 = 14;
const IPERF_DONE: u8 = 16;
const ACCESS_DENIED: u8 = 255;
const SERVER_ERROR: u8 = 254;
/// Of a cookie, the zero at its end included.
const COOKIE: usize = 37;
/// The longest answer of a server that is read.
const LONGEST: u32 = 1 << 20;
/// How long a server may be busy with whoever was there before: our own first word, maybe.
const BUSY: Duration = Duration::from_secs(5);
const BLOCK: u32 = 128 << 10;

/// Whether iperf3's server begins with this byte.
pub(super) const fn is_first(byte: u8) -> bool {
    matches!(byte, PARAM_EXCHANGE | ACCESS_DENIED)
}

pub(super) fn run(plan: &Plan, progress: Progress<'_>) -> Result<Measured, Error> {
    let begin = Instant::now();
    loop {
        match Client::begin(plan) {
            Err(Error::Busy(_)) if begin.elapsed() < BUSY => {
                thread::sleep(Duration::from_millis(100));
            }
            outcome => return outcome?.measure(plan, progress),
        }
    }
}

#[derive(Debug)]
struct Client {
    control: TcpStream,
    stream: TcpStream,
}

/// What came of a stream.
#[derive(Debug)]
struct Outcome {
    moved: u64,
    time: Duration,
    results: Value,
}

impl Client {
    fn begin(plan: &Plan) -> Result<Self, Error> {
        let control = connect(plan.address, None, None)?;
        let cookie = cookie(&control)?;
        let lost = |error| Error::Gone {
            after: Duration::ZERO,
            error,
        };
        (&control).write_all(&cookie).map_err(lost)?;
        expect(&control, PARAM_EXCHANGE, plan)?;
        let mut parameters = json!({
            "tcp": true,
            "omit": 0,
            "time": plan.time.as_secs().max(1),
            "num": 0,
            "blockcount": 0,
            "parallel": 1,
            "len": BLOCK,
            "pacing_timer": 1000,
            "client_version": "3.12",
        });
        if let Some(map) = parameters.as_object_mut() {
            if plan.is_reverse {
                map.insert("reverse".into(), true.into());
            }
            if let Some(rate) = plan.rate {
                map.insert("bandwidth".into(), rate.into());
            }
            if let Some(name) = &plan.congestion {
                map.insert("congestion".into(), name.as_str().into());
            }
        }
        say(&control, &parameters).map_err(lost)?;
        expect(&control, CREATE_STREAMS, plan)?;
        let stream = connect(plan.address, plan.buffer, plan.congestion.as_deref())?;
        (&stream).write_all(&cookie).map_err(lost)?;
        expect(&control, TEST_START, plan)?;
        expect(&control, TEST_RUNNING, plan)?;
        Ok(Self { control, stream })
    }

    fn measure(&self, plan: &Plan, progress: Progress<'_>) -> Result<Measured, Error> {
        let stream = &self.stream;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
        let start = Instant::now();
        let seen = sampled(stream, (start, plan.time), None, progress, |mover| {
            self.moves(plan, start, mover)
        })?;
        let Seen {
            outcome, mut here, ..
        } = seen;
        here.retain(|sample| sample.at <= micros(outcome.time));
        let counted = outcome.results.pointer("/streams/0/bytes");
        let counted = counted.and_then(Value::as_u64).unwrap_or_default();
        let bytes = if plan.is_reverse {
            outcome.moved
        } else {
            counted.min(outcome.moved)
        };
        let process = outcome.results.get("cpu_util_total");
        let process = process.and_then(Value::as_f64);
        let process = process.filter(|percent| (0.0..=1e5).contains(percent));
        Ok(Measured {
            local,
            remote,
            sender_is: plan.sender_is(),
            here,
            sysctls: Sysctls::read(),
            congestion: congestion::of(stream),
            far: Far {
                process: process.map(|percent| percent / 100.0),
                ..Far::default()
            },
            peer: None,
            is_proxied: false,
            carriers: Vec::new(),
            bytes,
            time: outcome.time,
            is_iperf3: true,
        })
    }

    fn moves(
        &self,
        plan: &Plan,
        start: Instant,
        mover: &OnceLock<Thread>,
    ) -> Result<Outcome, Error> {
        let gone = |error| Error::Gone {
            after: start.elapsed(),
            error,
        };
        let _ = mover.set(this_thread());
        let moved = if plan.is_reverse {
            self.drain(plan, start).map_err(gone)?
        } else {
            let header = Header {
                time: plan.time,
                rate: plan.rate.unwrap_or_default(),
                block: BLOCK,
                ..Header::new(Mode::Upload)
            };
            let none = AtomicU64::new(0);
            transfer::send(&self.stream, &header, Direction::Up, &none).map_err(gone)?
        };
        let time = start.elapsed();
        (&self.control).write_all(&[TEST_END]).map_err(gone)?;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let rest = || {
                // iperf3's sender goes on until it has heard; unread, it could not.
                let mut buffer = vec![0; BLOCK as usize];
                while plan.is_reverse && !over.load(Ordering::Relaxed) {
                    match (&self.stream).read(&mut buffer) {
                        Ok(0) | Err(_) => break,
                        Ok(_) => {}
                    }
                }
            };
            let draining = thread::Builder::new().spawn_scoped(scope, rest)?;
            let results = self.exchange(plan, moved, time, gone);
            over.store(true, Ordering::Relaxed);
            let _ = self.stream.shutdown(Shutdown::Both);
            let _ = draining.join();
            Ok(Outcome {
                moved,
                time,
                results: results?,
            })
        })
    }

    fn drain(&self, plan: &Plan, start: Instant) -> io::Result<u64> {
        let mut buffer = vec![0; BLOCK as usize * 2];
        let mut moved = 0_u64;
        while start.elapsed() < plan.time {
            match (&self.stream).read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => moved += count as u64,
            }
        }
        Ok(moved)
    }

    fn exchange(
        &self,
        plan: &Plan,
        moved: u64,
        time: Duration,
        gone: impl Fn(io::Error) -> Error,
    ) -> Result<Value, Error> {
        expect(&self.control, EXCHANGE_RESULTS, plan)?;
        let ours = json!({
            "cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0,
            "sender_has_retransmits": if plan.is_reverse { -1 } else { 0 },
            "streams": [{
                "id": 1, "bytes": moved, "retransmits": -1, "jitter": 0, "errors": 0,
                "packets": 0, "start_time": 0, "end_time": time.as_secs_f64(),
            }],
        });
        say(&self.control, &ours).map_err(&gone)?;
        let results = hear(&self.control).map_err(&gone)?;
        expect(&self.control, DISPLAY_RESULTS, plan)?;
        (&self.control).write_all(&[IPERF_DONE]).map_err(gone)?;
        Ok(results)
    }
}

/// Letters that nobody else has chosen: by our port and the monotonic clock there is no need of chance.
fn cookie(control: &TcpStream) -> io::Result<[u8; COOKIE]> {
    let port = control.local_addr()?.port();
    let text = format!("sekisho{port:05}{:024}", std::process::id());
    let mut cookie = [0; COOKIE];
    for (to, from) in cookie.iter_mut().take(COOKIE - 1).zip(text.bytes()) {
        *to = from;
    }
    Ok(cookie)
}

/// Waits for a state; others that a server may be in are errors.
fn expect(mut control: &TcpStream, wanted: u8, plan: &Plan) -> Result<(), Error> {
    let mut state = [0];
    control.read_exact(&mut state).map_err(|error| {
        if wanted == PARAM_EXCHANGE {
            let found = match error.kind() {
                io::ErrorKind::WouldBlock => "says nothing".into(),
                _ => "closes the connection without a word".into(),
            };
            let address = plan.address;
            return Error::NotAServer { address, found };
        }
        Error::Gone {
            after: Duration::ZERO,
            error,
        }
    })?;
    match state {
        [state] if state == wanted => Ok(()),
        [ACCESS_DENIED] => Err(Error::Busy(plan.address)),
        [SERVER_TERMINATE] => Err(Error::Iperf3("the server ends".into())),
        [SERVER_ERROR] => {
            let mut numbers = [0; 8];
            control.read_exact(&mut numbers)?;
            let number = numbers
                .first_chunk()
                .map_or(0, |number| i32::from_be_bytes(*number));
            Err(Error::Iperf3(format!("the server has error {number}")))
        }
        [state] if wanted == PARAM_EXCHANGE => Err(Error::NotAServer {
            address: plan.address,
            found: format!("answers with byte {state}"),
        }),
        [state] => Err(Error::Iperf3(format!(
            "state {state} came where {wanted} must"
        ))),
    }
}

fn say(mut control: &TcpStream, value: &Value) -> io::Result<()> {
    let text = value.to_string();
    let length = u32::try_from(text.len()).unwrap_or_default();
    control.write_all(&[&length.to_be_bytes(), text.as_bytes()].concat())
}

/// Reads JSON behind its length.
///
/// # Errors
/// When there is more than any server says, or it is no JSON.
pub fn hear(mut control: impl Read) -> io::Result<Value> {
    let mut length = [0; 4];
    control.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if length > LONGEST {
        return Err(wrong(format!("results of {length} bytes")));
    }
    let mut text = vec![0; length as usize];
    control.read_exact(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| wrong(plain(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_bounded() {
        let whole = [&7_u32.to_be_bytes()[..], b"{\"a\":1}"].concat();
        assert_eq!(hear(whole.as_slice()).unwrap(), json!({"a": 1}));
        let long = (LONGEST + 1).to_be_bytes();
        assert!(hear(&long[..]).unwrap_err().to_string().contains("bytes"));
        let short = [&9_u32.to_be_bytes()[..], b"{}"].concat();
        assert!(hear(short.as_slice()).is_err());
        let none = [&2_u32.to_be_bytes()[..], b"{]"].concat();
        assert!(hear(none.as_slice()).is_err());
    }
}
