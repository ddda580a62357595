//! What a peer may send after a handshake: raw bytes, and records of any content under the right key,
//! in any pieces. No panic, no memory without bound, and no byte that was not sent as data.

#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    ConnectionTrafficSecrets, ExtractedSecrets,
    crypto::cipher::{AeadKey, Iv},
};
use sekisho_record::{
    Backend, KeySchedule, Layout, Limits, RecordError, Role, Session, Suite, TicketError, TrafficKey,
};

const KEY: [u8; 32] = [7; 32];
const IV: [u8; 12] = [9; 12];

/// The same key for ever: what a session does with it is looked at, not the key.
struct Same;

fn key() -> TrafficKey {
    TrafficKey {
        suite: Suite::Aes256Gcm,
        key: KEY.to_vec().into(),
        iv: IV.into(),
    }
}

impl KeySchedule for Same {
    fn next_to_send(&mut self) -> Result<TrafficKey, RecordError> {
        Ok(key())
    }

    fn next_to_receive(&mut self) -> Result<TrafficKey, RecordError> {
        Ok(key())
    }

    fn ticket(&mut self, payload: &[u8]) -> Result<(), TicketError> {
        if payload.is_empty() { Err(TicketError::Unreadable) } else { Ok(()) }
    }
}

/// A record of `inner`, as the peer's own layer would make it.
fn sealed(inner: &[u8], sequence: u64) -> Vec<u8> {
    let length = (inner.len() + 16).to_be_bytes();
    let header = [23, 3, 3, length[6], length[7]];
    let mut nonce = IV;
    for (byte, count) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= count;
    }
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY).unwrap());
    let mut body = inner.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).unwrap();
    [&header[..], &body].concat()
}

fn session(role: Role) -> Session {
    let secret = || ConnectionTrafficSecrets::Aes256Gcm {
        key: AeadKey::from(KEY),
        iv: Iv::from(IV),
    };
    let secrets = ExtractedSecrets {
        tx: (0, secret()),
        rx: (0, secret()),
    };
    Session::new(&secrets, Box::new(Same), role, Backend::AwsLc, Limits::default()).unwrap()
}

fuzz_target!(|data: &[u8]| {
    let [setup, data @ ..] = data else { return };
    let role = if setup & 1 == 0 { Role::Client } else { Role::Server };
    let layout = if setup & 2 == 0 { Layout::Merge } else { Layout::Keep };
    let mut session = session(role);
    let (mut sequence, mut updates) = (0, 0);
    let (mut sent, mut got, mut input) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = data;
    // Each step: what kind, how long, and so many bytes.
    while let [kind, length, more @ ..] = rest {
        let (bytes, more) = more.split_at(more.len().min(usize::from(*length)));
        rest = more;
        if kind & 0x80 == 0 {
            let padding = usize::from(kind >> 4);
            let mut inner = bytes.to_vec();
            let content = [23, 22, 21, 20, 0][usize::from(kind & 0x0f) % 5];
            inner.push(content);
            inner.resize(inner.len() + padding, 0);
            // The type is the last byte that is not zero (RFC 8446 §5.4), whatever was meant above.
            let last = inner.iter().rposition(|byte| *byte != 0);
            if let Some(last) = last.filter(|last| inner[*last] == 23) {
                sent.extend_from_slice(&inner[..last]);
            }
            input.extend(sealed(&inner, sequence));
            sequence += 1;
        } else {
            input.extend_from_slice(bytes);
        }
        let mut found: Vec<Range<usize>> = Vec::new();
        let most = 1 + usize::from(setup >> 4);
        let Ok(done) = session.open(&mut input, layout, most, &mut found) else { return };
        for range in found {
            got.extend_from_slice(&input[range]);
        }
        input.drain(..done);
        assert!(sent.starts_with(&got), "a byte that was not sent");
        let mut out = Vec::new();
        session.control(&mut out, setup & 4 == 0).unwrap();
        if session.counts().received > updates {
            updates = session.counts().received;
            // Its next record is the first under the next key.
            sequence = 0;
        }
    }
});
