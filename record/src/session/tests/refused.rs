//! What RFC 8446 does not allow after a handshake, and the alert for it.

use super::*;

/// What a peer sends to a server (`false`) or a client (`true`): type, content, padding, and the
/// alert.
type Row = (&'static str, bool, u8, Vec<u8>, usize, Alert);

fn rows() -> Vec<Row> {
    const UNEXPECTED: Alert = Alert::UNEXPECTED_MESSAGE;
    const DECODE: Alert = Alert::DECODE_ERROR;
    let long = MAX_PLAINTEXT;
    vec![
        ("no content type", false, 0, vec![], 0, UNEXPECTED),
        (
            "no content type, padded",
            false,
            0,
            vec![0; 99],
            99,
            UNEXPECTED,
        ),
        (
            "protected change_cipher_spec",
            false,
            20,
            vec![1],
            0,
            UNEXPECTED,
        ),
        ("heartbeat", false, 24, vec![1], 0, UNEXPECTED),
        ("unknown type", false, 255, vec![1], 0, UNEXPECTED),
        ("empty handshake", false, 22, vec![], 0, UNEXPECTED),
        ("empty handshake, padded", true, 22, vec![], 7, UNEXPECTED),
        ("empty alert", false, 21, vec![], 0, UNEXPECTED),
        ("alert of one byte", false, 21, vec![1], 0, DECODE),
        ("alert of three bytes", false, 21, vec![1, 0, 0], 0, DECODE),
        (
            "two alerts in a record",
            false,
            21,
            vec![1, 0, 1, 0],
            0,
            DECODE,
        ),
        (
            "content too long",
            false,
            23,
            vec![1; long + 1],
            0,
            Alert::RECORD_OVERFLOW,
        ),
        (
            "padding too long",
            false,
            23,
            vec![1; long],
            1,
            Alert::RECORD_OVERFLOW,
        ),
        (
            "ClientHello again",
            false,
            22,
            vec![1, 0, 0, 0],
            0,
            UNEXPECTED,
        ),
        (
            "ticket to a server",
            false,
            22,
            vec![4, 0, 0, 0],
            0,
            UNEXPECTED,
        ),
        (
            "CertificateRequest",
            true,
            22,
            vec![13, 0, 0, 0],
            0,
            UNEXPECTED,
        ),
        ("Finished", true, 22, vec![20, 0, 0, 0], 0, UNEXPECTED),
        ("HelloRequest", true, 22, vec![0, 0, 0, 0], 0, UNEXPECTED),
        ("message_hash", true, 22, vec![254, 0, 0, 0], 0, UNEXPECTED),
        (
            "KeyUpdate of two",
            false,
            22,
            vec![24, 0, 0, 1, 2],
            0,
            Alert::ILLEGAL_PARAMETER,
        ),
        (
            "KeyUpdate too long",
            false,
            22,
            vec![24, 0, 0, 2, 0, 0],
            0,
            DECODE,
        ),
        (
            "KeyUpdate too short",
            false,
            22,
            vec![24, 0, 0, 0],
            0,
            DECODE,
        ),
        (
            "KeyUpdate not last",
            false,
            22,
            vec![24, 0, 0, 1, 0, 24],
            0,
            UNEXPECTED,
        ),
        (
            "ticket that cannot be",
            true,
            22,
            vec![4, 0, 0, 3, b'b', b'a', b'd'],
            0,
            DECODE,
        ),
        (
            "ticket too long",
            true,
            22,
            vec![4, 0xff, 0xff, 0xff],
            0,
            DECODE,
        ),
    ]
}

#[test]
fn each_is_answered_by_its_alert_once_and_for_all() {
    for (name, to_client, kind, content, padding, alert) in rows() {
        let Pair {
            mut client,
            mut server,
            ..
        } = pair();
        let (sender, receiver) = if to_client {
            (&mut server, &mut client)
        } else {
            (&mut client, &mut server)
        };
        let before = sealed(sender, b"before");
        let bad = forged(sender, kind, &content, padding);
        let after = sealed(sender, b"after");
        // What came before it is handed out, what comes after it is not.
        let all = [before.clone(), bad, after].concat();
        let (text, done) = opened(receiver, &all).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (text.as_slice(), done),
            (&b"before"[..], before.len()),
            "{name}"
        );
        let error = receiver
            .failure()
            .cloned()
            .unwrap_or_else(|| panic!("{name}: passed"));
        assert_eq!(error.alert(), Some(alert), "{name}: {error}");
        assert_eq!(opened(receiver, &all[done..]), Err(error.clone()), "{name}");
        assert_eq!(opened(receiver, &[]), Err(error), "{name}");
    }
}

#[test]
fn alerts_end_the_connection_whatever_their_level_and_are_not_answered() {
    for level in [1, 2, 0, 255] {
        for code in (0..=u8::MAX).filter(|code| ![0, 90].contains(code)) {
            let Pair {
                mut client,
                mut server,
                ..
            } = pair();
            let record = forged(&mut client, 21, &[level, code], 0);
            let error = opened(&mut server, &record).unwrap_err();
            assert_eq!(error, RecordError::AlertReceived(Alert(code)));
            assert_eq!(error.alert(), None);
        }
    }
}

#[test]
fn user_canceled_is_borne_but_not_for_ever() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    for _ in 0..Limits::default().empty_records {
        let record = forged(&mut client, 21, &[1, 90], 0);
        opened(&mut server, &record).unwrap();
    }
    let record = forged(&mut client, 21, &[1, 90], 0);
    let error = opened(&mut server, &record).unwrap_err();
    assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn nothing_may_come_inside_a_handshake_message() {
    for (kind, content) in [(23, &b"data"[..]), (23, b""), (21, &[1, 0]), (21, &[1, 90])] {
        let Pair {
            mut client,
            mut server,
            ..
        } = pair();
        let part = forged(&mut client, 22, &[24, 0], 0);
        let other = forged(&mut client, kind, content, 0);
        let error = opened(&mut server, &[part, other].concat()).unwrap_err();
        assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE), "{kind}");
    }
    // But a fatal alert is what it is.
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    let part = forged(&mut client, 22, &[24, 0], 0);
    let alert = forged(&mut client, 21, &[2, 80], 0);
    let error = opened(&mut server, &[part, alert].concat()).unwrap_err();
    assert_eq!(error, RecordError::AlertReceived(Alert::INTERNAL_ERROR));
}

#[test]
fn a_flood_of_tickets_is_not_borne_and_data_between_makes_it_none() {
    let most = Limits::default().tickets;
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    for _ in 0..3 {
        for _ in 0..most {
            let ticket = forged(&mut server, 22, &[4, 0, 0, 0], 0);
            opened(&mut client, &ticket).unwrap();
        }
        let data = sealed(&mut server, b"x");
        opened(&mut client, &data).unwrap();
    }
    for _ in 0..most {
        let ticket = forged(&mut server, 22, &[4, 0, 0, 0], 0);
        opened(&mut client, &ticket).unwrap();
    }
    let ticket = forged(&mut server, 22, &[4, 0, 0, 0], 0);
    let error = opened(&mut client, &ticket).unwrap_err();
    assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn damaged_replayed_reordered_and_missing_records_do_not_open() {
    let mut client = pair().client;
    let [first, second] = [
        sealed(&mut client, b"first"),
        sealed(&mut client, b"second"),
    ];
    let mut cut = first.clone();
    cut.pop();
    cut[4] -= 1;
    let empty = [&[23, 3, 3, 0, 16][..], &[0; 16]].concat();
    let cases = [
        (
            "replayed",
            [first.clone(), first.clone()].concat(),
            &b"first"[..],
        ),
        ("reordered", [second.clone(), first].concat(), b""),
        ("missing", second, b""),
        ("cut", cut, b""),
        ("a tag and nothing else", empty, b""),
        ("less than a tag", vec![23, 3, 3, 0, 3, 1, 2, 3], b""),
    ];
    for (name, bytes, before) in cases {
        let mut server = pair().server;
        let text = opened(&mut server, &bytes).map(|(text, _)| text);
        assert_eq!(text.unwrap_or_default(), before, "{name}");
        assert_eq!(server.failure(), Some(&RecordError::BadRecordMac), "{name}");
    }
}

#[test]
fn every_error_has_words() {
    let errors = [
        RecordError::AlertReceived(Alert(49)),
        RecordError::BadRecordMac,
        RecordError::Closed,
        RecordError::Decode("a"),
        RecordError::IllegalParameter("b"),
        RecordError::KeyExhausted,
        RecordError::Overflow(3),
        RecordError::Schedule("c".into()),
        RecordError::Ticket(TicketError::Illegal),
        RecordError::UnexpectedMessage("d"),
    ];
    let words: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(words[0], "the other side sent the TLS alert access_denied");
    assert!(words.iter().all(|words| !words.is_empty()));
}

#[test]
fn what_does_not_open_and_what_is_our_own_fault_have_alerts_of_their_own() {
    // Those of the table above are not repeated.
    for (error, alert) in [
        (RecordError::BadRecordMac, Alert::BAD_RECORD_MAC),
        (RecordError::Closed, Alert::INTERNAL_ERROR),
        (RecordError::KeyExhausted, Alert::INTERNAL_ERROR),
        (RecordError::Schedule("c".into()), Alert::INTERNAL_ERROR),
        (
            RecordError::Ticket(TicketError::Illegal),
            Alert::ILLEGAL_PARAMETER,
        ),
    ] {
        assert_eq!(error.alert(), Some(alert), "{error}");
    }
}
