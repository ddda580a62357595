//! What is sent beside the data, and the end of a direction (RFC 8446 §4.6.1, §6.1).

use super::*;

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
}

#[test]
fn a_session_says_which_end_it_is_and_what_it_does_but_shows_no_key() {
    for (backend, name) in [(Backend::AwsLc, "AwsLc"), (Backend::Ring, "Ring")] {
        let Pair {
            mut client, server, ..
        } = pair_with(Limits::default(), backend);
        assert_eq!((client.role(), server.role()), (Role::Client, Role::Server));
        sealed(&mut client, b"x");
        let shown = format!("{client:?} {:?}", key(1, 0));
        for part in [
            "role: Client",
            name,
            "sequence: 1",
            "received: 0",
            "Aes128Gcm",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        // Of the key, and of its IV.
        for secret in ["9, 10, 11", "1, 1, 1"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
