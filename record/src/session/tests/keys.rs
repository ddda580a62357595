//! How long a key is used, and who asks for the next one (RFC 8446 §4.6.3, §5.5).

use super::*;

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
    let most = Limits::default().key_updates;
    let data: Vec<u8> = (0..100).flat_map(|_| sealed(&mut server, b"x")).collect();
    assert_eq!(opened(&mut client, &data).unwrap().0.len(), 100);
    assert_eq!(borne(&mut client, &mut server), 100 + most);
}

/// How many KeyUpdates in a row `server` bears of `client`.
fn borne(client: &mut Session, server: &mut Session) -> u32 {
    for count in 0..3 * MOST_SENT {
        let ask = ask(client);
        if let Err(error) = opened(server, &ask) {
            assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE));
            return count;
        }
    }
    panic!("there is no end to them");
}

#[test]
fn what_we_have_sent_lets_no_more_key_updates_pass_than_can_be_under_way() {
    let Pair {
        mut client,
        mut server,
        ..
    } = pair();
    for _ in 0..2 * MOST_SENT {
        sealed(&mut server, b"x");
    }
    let most = Limits::default().key_updates;
    assert_eq!(borne(&mut client, &mut server), MOST_SENT + most);
}

#[test]
fn data_of_the_peer_gives_it_its_key_updates_back_and_takes_none_that_our_own_data_gave() {
    let most = Limits::default().key_updates;
    for sent in [0, 100] {
        let Pair {
            mut client,
            mut server,
            ..
        } = pair();
        for _ in 0..most {
            let ask = ask(&mut client);
            opened(&mut server, &ask).unwrap();
        }
        for _ in 0..sent {
            sealed(&mut server, b"x");
        }
        let data = sealed(&mut client, b"x");
        opened(&mut server, &data).unwrap();
        assert_eq!(borne(&mut client, &mut server), most.max(sent));
    }
}

#[test]
fn both_keys_go_on_where_the_handshake_has_left_them_and_are_worn_from_there() {
    let limits = Limits {
        rekey_after: 8,
        ..Limits::default()
    };
    let session = |role, own: u8| {
        let secrets = ExtractedSecrets {
            tx: (u64::from(own), secret(own)),
            rx: (u64::from(3 - own), secret(3 - own)),
        };
        let schedule = Box::new(Counting {
            own,
            ..Counting::default()
        });
        Session::new(&secrets, schedule, role, Backend::AwsLc, limits).unwrap()
    };
    let mut client = session(Role::Client, 1);
    let mut server = session(Role::Server, 2);
    for _ in 0..8 {
        assert!(!client.wants_control() && !server.wants_control());
        let record = sealed(&mut client, b"x");
        assert_eq!(opened(&mut server, &record).unwrap().0, b"x");
        let record = sealed(&mut server, b"y");
        assert_eq!(opened(&mut client, &record).unwrap().0, b"y");
    }
    assert!(client.wants_control() && server.wants_control());
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
fn a_peer_that_was_asked_is_not_asked_again_when_our_own_key_is_replaced() {
    let limits = Limits {
        rekey_after: 8,
        ..Limits::default()
    };
    let mut client = pair().client;
    let mut server = pair_with(limits, Backend::AwsLc).server;
    for _ in 0..9 {
        let record = sealed(&mut client, b"x");
        opened(&mut server, &record).unwrap();
    }
    let asks = controlled(&mut server);
    opened(&mut client, &asks).unwrap();
    assert!(client.wants_control(), "it was asked");
    controlled(&mut client);
    // Its answer is still under way.
    for _ in 0..8 {
        sealed(&mut server, b"x");
    }
    assert!(!controlled(&mut server).is_empty(), "our own key is worn");
    assert!(!server.wants_control());
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
