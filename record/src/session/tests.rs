use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use rustls::{
    ConnectionTrafficSecrets,
    crypto::cipher::{AeadKey, Iv},
};
use zeroize::Zeroizing;

use super::*;
use crate::{HEADER, MAX_PLAINTEXT, MAX_RECORD, SLOT, Suite, TicketError};

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

#[test]
fn what_one_side_seals_the_other_opens_with_either_library() {
    for ours in Backend::ALL {
        for theirs in Backend::ALL {
            let mut sender = pair_with(Limits::default(), ours).client;
            let mut receiver = pair_with(Limits::default(), theirs).server;
            for length in [1, 2, 100, MAX_PLAINTEXT - 1, MAX_PLAINTEXT] {
                let text = vec![7; length];
                let record = sealed(&mut sender, &text);
                assert_eq!(record.len(), HEADER + length + TRAILER);
                assert_eq!(opened(&mut receiver, &record), Ok((text, record.len())));
            }
        }
    }
}

#[test]
fn a_part_of_a_record_waits_for_its_rest() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let first = sealed(&mut client, b"first");
    let second = sealed(&mut client, b"second");
    let all = [first.clone(), second].concat();
    for cut in 0..all.len() {
        let Pair { mut server, .. } = pair();
        let (text, done) = opened(&mut server, &all[..cut]).unwrap();
        let expected = if cut < first.len() { 0 } else { first.len() };
        assert_eq!(done, expected);
        assert_eq!(Session::is_ready(&all[..cut]), cut >= first.len());
        let (rest, more) = opened(&mut server, &all[done..]).unwrap();
        assert_eq!([text, rest].concat(), b"firstsecond");
        assert_eq!(done + more, all.len());
    }
    assert_eq!(opened(&mut server, &[]), Ok((vec![], 0)));
    // What can never be a record need not wait for more.
    for never in [&[21][..], &[23, 3, 3, 0xff, 0xff], &[23, 3, 3, 0, 1]] {
        assert!(Session::is_ready(never));
    }
}

#[test]
fn at_most_so_many_records_are_opened_as_were_asked_for() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let mut all: Vec<u8> = (0..5)
        .flat_map(|text| sealed(&mut client, &[text]))
        .collect();
    let mut found = Vec::new();
    let done = server.open(&mut all, Layout::Keep, 3, &mut found).unwrap();
    assert_eq!((found.len(), done), (3, 3 * (HEADER + 1 + TRAILER)));
}

#[test]
fn merged_plaintexts_are_one_piece_and_kept_ones_have_room_around_them() {
    for (layout, pieces) in [(Layout::Merge, 1), (Layout::Keep, 3)] {
        let Pair {
            mut client,
            mut server,
            ..
        } = pair();
        let mut all: Vec<u8> = [&b"ab"[..], b"cde", b"f"]
            .iter()
            .flat_map(|text| sealed(&mut client, text))
            .collect();
        // A range of another buffer is not to be grown.
        let other = 0..1;
        let mut found = Vec::from([other.clone()]);
        server
            .open(&mut all, layout, usize::MAX, &mut found)
            .unwrap();
        let own = found.split_off(1);
        assert_eq!((own.len(), found), (pieces, Vec::from([other])));
        let text: Vec<u8> = own
            .iter()
            .flat_map(|range| all[range.clone()].to_vec())
            .collect();
        assert_eq!(text, b"abcdef");
        for range in own {
            assert!(layout == Layout::Merge || range.start >= HEADER);
        }
    }
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let mut all = [
        sealed(&mut client, b"a"),
        sealed(&mut client, &[9; SMALL + 1]),
    ]
    .concat();
    all.extend(sealed(&mut client, &[8; SMALL]));
    let mut found = Vec::new();
    server
        .open(&mut all, Layout::Merge, usize::MAX, &mut found)
        .unwrap();
    let lengths: Vec<_> = found.iter().map(Range::len).collect();
    assert_eq!(
        lengths,
        [1, SMALL + 1 + SMALL],
        "a long one stays, a short one joins it"
    );
}

#[test]
fn padding_is_taken_off_and_empty_records_are_borne_for_a_while() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    for padding in [0, 1, 255, MAX_PLAINTEXT - 5] {
        let record = forged(&mut client, 23, b"hello", padding);
        assert_eq!(opened(&mut server, &record).unwrap().0, b"hello");
    }
    let most = Limits::default().empty_records;
    for _ in 0..most {
        let record = forged(&mut client, 23, b"", 3);
        assert_eq!(opened(&mut server, &record).unwrap().0, b"");
    }
    let record = forged(&mut client, 23, b"x", 0);
    assert_eq!(opened(&mut server, &record).unwrap().0, b"x");
    for _ in 0..most {
        let record = forged(&mut client, 23, b"", 0);
        opened(&mut server, &record).unwrap();
    }
    let record = forged(&mut client, 23, b"", 0);
    let flood = opened(&mut server, &record).unwrap_err();
    assert_eq!(flood.alert(), Some(Alert::UNEXPECTED_MESSAGE));
}

/// A KeyUpdate that asks for another, outside what `control` would send.
fn ask(session: &mut Session) -> Vec<u8> {
    let record = forged(session, 22, &[24, 0, 0, 1, 1], 0);
    let key = session.schedule.next_to_send().unwrap();
    session.send = Cipher::new(&key, 0, Backend::AwsLc).unwrap();
    record
}

#[test]
fn requests_are_answered_before_the_next_data_each_or_together() {
    for (waited, answers) in [(false, 3), (true, 1)] {
        let Pair {
            mut client,
            mut server,
            ..
        } = pair();
        for _ in 0..3 {
            let ask = ask(&mut client);
            opened(&mut server, &ask).unwrap();
        }
        assert!(server.wants_control());
        let mut reply = Vec::new();
        server.control(&mut reply, waited).unwrap();
        let one = HEADER + 5 + TRAILER;
        assert_eq!(reply.len(), answers * one, "without a request of its own");
        assert!(!server.wants_control());
        assert!(controlled(&mut server).is_empty());
        let data = sealed(&mut server, b"under the new key");
        let (text, _) = opened(&mut client, &[reply, data].concat()).unwrap();
        assert_eq!(text, b"under the new key");
        assert!(!client.wants_control(), "an answer is not answered");
        let answers = answers as u64;
        assert_eq!(
            server.counts(),
            Counts {
                sent: answers,
                received: 3
            }
        );
        assert_eq!(
            client.counts(),
            Counts {
                sent: 0,
                received: answers
            }
        );
        let data = sealed(&mut client, b"and back");
        assert_eq!(opened(&mut server, &data).unwrap().0, b"and back");
    }
}

#[test]
fn a_peer_may_ask_at_every_record_that_it_receives() {
    // As JSSE does, until our answer reaches it. Through a long one-way transfer there are more of
    // them than may be under way at once.
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    for _ in 0..3 * MOST_SENT {
        let data = sealed(&mut server, b"x");
        opened(&mut client, &data).unwrap();
        let ask = ask(&mut client);
        opened(&mut server, &ask).unwrap();
    }
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let most = u64::from(Limits::default().key_updates);
    let data: Vec<u8> = (0..100).flat_map(|_| sealed(&mut server, b"x")).collect();
    assert_eq!(opened(&mut client, &data).unwrap().0.len(), 100);
    for _ in 0..100 + most {
        let ask = ask(&mut client);
        opened(&mut server, &ask).unwrap();
    }
    let more = ask(&mut client);
    let error = opened(&mut server, &more).unwrap_err();
    assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn our_key_is_replaced_in_time_and_the_old_one_opens_nothing_more() {
    let limits = Limits {
        rekey_after: 8,
        ..Limits::default()
    };
    let Pair {
        mut client,
        mut server,
        ..
    } = pair_with(limits, Backend::AwsLc);
    for round in 1..=3 {
        for _ in 0..8 {
            assert!(!client.wants_control());
            let record = sealed(&mut client, b"x");
            opened(&mut server, &record).unwrap();
        }
        assert!(client.wants_control());
        let update = controlled(&mut client);
        opened(&mut server, &update).unwrap();
        assert_eq!(client.counts().sent, round);
    }
    assert!(!server.wants_control(), "it was not asked");
    let mut before = pair_with(limits, Backend::AwsLc).client;
    let old = sealed(&mut before, b"x");
    assert_eq!(opened(&mut server, &old), Err(RecordError::BadRecordMac));
}

#[test]
fn a_peer_that_keeps_its_key_too_long_is_asked_once_and_then_left() {
    let limits = Limits {
        rekey_after: 8,
        records_per_key: 20,
        ..Limits::default()
    };
    let patient = Limits {
        rekey_after: u64::MAX / 2,
        ..Limits::default()
    };
    let mut stubborn = pair_with(patient, Backend::AwsLc).client;
    let mut server = pair_with(limits, Backend::AwsLc).server;
    for count in 1..=20 {
        let record = sealed(&mut stubborn, b"x");
        opened(&mut server, &record).unwrap();
        let ask = server.wants_control();
        assert_eq!(ask, count == 9, "an eighth above its time, once: {count}");
        if ask {
            let update = controlled(&mut server);
            opened(&mut stubborn, &update).unwrap();
            assert!(stubborn.wants_control(), "it was asked");
        }
    }
    let record = sealed(&mut stubborn, b"x");
    let error = opened(&mut server, &record).unwrap_err();
    assert_eq!(error, RecordError::KeyExhausted);
    assert_eq!(error.alert(), Some(Alert::INTERNAL_ERROR));
}

#[test]
fn a_peer_that_can_be_asked_no_more_is_not_held_to_a_new_key() {
    let limits = Limits {
        records_per_key: 5,
        ..Limits::default()
    };
    let mut client = pair().client;
    let mut server = pair_with(limits, Backend::AwsLc).server;
    server.close_notify(&mut Vec::new()).unwrap();
    for _ in 0..10 {
        let record = sealed(&mut client, b"x");
        assert_eq!(opened(&mut server, &record).unwrap().0, b"x");
    }
}

#[test]
fn a_peer_that_follows_when_asked_is_asked_again_later() {
    let limits = Limits {
        rekey_after: 8,
        ..Limits::default()
    };
    let patient = Limits {
        rekey_after: u64::MAX / 2,
        ..Limits::default()
    };
    let mut client = pair_with(patient, Backend::AwsLc).client;
    let mut server = pair_with(limits, Backend::AwsLc).server;
    for round in 1..=3 {
        for _ in 0..9 {
            let record = sealed(&mut client, b"x");
            opened(&mut server, &record).unwrap();
        }
        let update = controlled(&mut server);
        opened(&mut client, &update).unwrap();
        let reply = controlled(&mut client);
        opened(&mut server, &reply).unwrap();
        assert_eq!(
            server.counts(),
            Counts {
                sent: round,
                received: round
            }
        );
    }
}

#[test]
fn an_exhausted_key_seals_nothing_more() {
    let limits = Limits {
        rekey_after: 3,
        records_per_key: 3,
        ..Limits::default()
    };
    let mut client = pair_with(limits, Backend::AwsLc).client;
    for _ in 0..3 {
        sealed(&mut client, b"x");
    }
    let mut record = vec![0; SLOT];
    assert_eq!(client.seal(&mut record, 1), Err(RecordError::KeyExhausted));
    client.send = Cipher::new(&key(1, 0), u64::MAX, Backend::AwsLc).unwrap();
    assert_eq!(
        client.seal(&mut record, 1),
        Err(RecordError::KeyExhausted),
        "it would wrap"
    );
}

#[test]
fn a_slot_without_room_is_refused_and_costs_no_sequence_number() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let mut small = vec![0; HEADER + 4 + TRAILER];
    assert_eq!(client.seal(&mut small, 5), Err(RecordError::Overflow(5)));
    let mut large = vec![0; 2 * SLOT];
    let over = MAX_PLAINTEXT + 1;
    assert_eq!(
        client.seal(&mut large, over),
        Err(RecordError::Overflow(over))
    );
    for length in [0, 4, 5, HEADER + 3] {
        assert!(client.seal(&mut vec![0; length], 1).is_err());
    }
    let record = sealed(&mut client, b"x");
    assert_eq!(opened(&mut server, &record).unwrap().0, b"x");
}

#[test]
fn close_notify_ends_one_direction_and_what_follows_it_is_ignored() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let mut out = sealed(&mut client, b"last");
    client.close_notify(&mut out).unwrap();
    let length = out.len();
    client.close_notify(&mut out).unwrap();
    client.alert(Alert::INTERNAL_ERROR, &mut out).unwrap();
    assert_eq!(out.len(), length, "the last word is said once");
    let mut record = vec![0; SLOT];
    assert_eq!(client.seal(&mut record, 1), Err(RecordError::Closed));
    out.extend(b"anything at all");
    let length = out.len();
    assert_eq!(opened(&mut server, &out), Ok((b"last".to_vec(), length)));
    assert!(server.is_closed());
    assert_eq!(opened(&mut server, b"more"), Ok((vec![], 4)));
    // The other direction goes on.
    let back = sealed(&mut server, b"and back");
    assert_eq!(opened(&mut client, &back).unwrap().0, b"and back");
    assert!(!client.is_closed());
    // Nothing is asked of a session whose last word is said.
    let ask = forged(&mut server, 22, &[24, 0, 0, 1, 1], 0);
    opened(&mut client, &ask).unwrap();
    assert!(!client.wants_control());
}

#[test]
fn tickets_reach_the_schedule_of_a_client() {
    let Pair {
        mut client,
        mut server,
        tickets,
    } = pair();
    let both = forged(&mut server, 22, &[4, 0, 0, 1, 9, 4, 0, 0, 2, 8], 0);
    let rest = forged(&mut server, 22, &[8], 0);
    opened(&mut client, &[both, rest].concat()).unwrap();
    assert_eq!(*tickets.lock().unwrap(), [vec![9], vec![8, 8]]);
    assert_eq!(
        format!("{client:?}").matches("key").count(),
        0,
        "no key is shown"
    );
}

proptest! {
    #[test]
    fn bytes_of_a_stranger_neither_pass_nor_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut server = pair().server;
        if let Ok((text, _)) = opened(&mut server, &bytes) {
            prop_assert!(text.is_empty());
        }
    }

    #[test]
    fn a_changed_bit_anywhere_passes_no_text(at in 0_usize..400, bit in 0_u8..8) {
        let Pair { mut client, mut server, .. } = pair();
        let mut all = [sealed(&mut client, &[5; 300]), sealed(&mut client, &[6; 300])].concat();
        let at = at % (HEADER + 300 + TRAILER);
        all[at] ^= 1 << bit;
        let text = opened(&mut server, &all).map(|(text, _)| text).unwrap_or_default();
        prop_assert!(text.is_empty());
    }
}

#[test]
fn a_record_that_is_as_long_as_it_may_be_fits_the_room_that_is_named_for_it() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let record = forged(&mut client, 23, &[1; MAX_PLAINTEXT], 0);
    assert_eq!(record.len(), SLOT);
    assert!(record.len() <= MAX_RECORD);
    assert_eq!(opened(&mut server, &record).unwrap().0.len(), MAX_PLAINTEXT);
}
