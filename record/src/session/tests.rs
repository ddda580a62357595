use std::sync::{Arc, Mutex};

use rustls::{
    ConnectionTrafficSecrets,
    crypto::cipher::{AeadKey, Iv},
};
use zeroize::Zeroizing;

use super::*;
use crate::{HEADER, MAX_PLAINTEXT, SLOT, Suite, TicketError};

mod keys;
mod messages;
mod records;
mod refused;
mod vectors;

/// Keys that both ends can count up. The first byte says whose they are.
#[derive(Default)]
struct Counting {
    sent: u8,
    received: u8,
    own: u8,
    tickets: Arc<Mutex<Vec<Vec<u8>>>>,
}

fn key(whose: u8, count: u8) -> TrafficKey {
    TrafficKey {
        suite: Suite::Aes128Gcm,
        key: Zeroizing::new(vec![
            whose, count, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
        ]),
        iv: Zeroizing::new([whose, count, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    }
}

fn secret(whose: u8) -> ConnectionTrafficSecrets {
    let traffic = key(whose, 0);
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&traffic.key);
    // rustls makes keys of 32 bytes from outside, so the suite with keys of that length is used.
    ConnectionTrafficSecrets::Aes256Gcm {
        key: AeadKey::from(bytes),
        iv: Iv::from(*traffic.iv),
    }
}

impl KeySchedule for Counting {
    fn next_to_send(&mut self) -> Result<TrafficKey, RecordError> {
        self.sent = self.sent.wrapping_add(1);
        Ok(key(self.own, self.sent))
    }

    fn next_to_receive(&mut self) -> Result<TrafficKey, RecordError> {
        self.received = self.received.wrapping_add(1);
        Ok(key(3 - self.own, self.received))
    }

    fn ticket(&mut self, payload: &[u8]) -> Result<(), TicketError> {
        if payload == b"bad" {
            return Err(TicketError::Unreadable);
        }
        self.tickets.lock().unwrap().push(payload.to_vec());
        Ok(())
    }
}

/// A client and a server.
struct Pair {
    client: Session,
    server: Session,
    tickets: Arc<Mutex<Vec<Vec<u8>>>>,
}

fn pair_with(limits: Limits, backend: Backend) -> Pair {
    let tickets = Arc::default();
    let session = |role, own: u8| {
        let secrets = ExtractedSecrets {
            tx: (0, secret(own)),
            rx: (0, secret(3 - own)),
        };
        let schedule = Counting {
            own,
            tickets: Arc::clone(&tickets),
            ..Counting::default()
        };
        Session::new(&secrets, Box::new(schedule), role, backend, limits).unwrap()
    };
    Pair {
        client: session(Role::Client, 1),
        server: session(Role::Server, 2),
        tickets,
    }
}

fn pair() -> Pair {
    pair_with(Limits::default(), Backend::AwsLc)
}

/// One record of application data.
fn sealed(session: &mut Session, text: &[u8]) -> Vec<u8> {
    let mut record = vec![0; SLOT];
    record[HEADER..HEADER + text.len()].copy_from_slice(text);
    let length = session.seal(&mut record, text.len()).unwrap();
    record.truncate(length);
    record
}

/// A record of any content, padded, of any type.
fn forged(session: &mut Session, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
    let mut inner = content.to_vec();
    inner.push(kind);
    inner.resize(inner.len() + padding, 0);
    let length = u16::try_from(inner.len() + 16).unwrap();
    let [high, low] = length.to_be_bytes();
    let header = [23, 3, 3, high, low];
    let tag = session.send.seal(header, &mut inner).unwrap();
    [&header, inner.as_slice(), &tag].concat()
}

/// What a session makes of these bytes: the plaintexts, and what was done with.
fn opened(session: &mut Session, bytes: &[u8]) -> Result<(Vec<u8>, usize), RecordError> {
    let mut buffer = bytes.to_vec();
    let mut found = Vec::new();
    let done = session.open(&mut buffer, Layout::Keep, usize::MAX, &mut found)?;
    let text = found.into_iter().flat_map(|range| buffer[range].to_vec());
    Ok((text.collect(), done))
}

fn controlled(session: &mut Session) -> Vec<u8> {
    let mut out = Vec::new();
    session.control(&mut out, false).unwrap();
    out
}
