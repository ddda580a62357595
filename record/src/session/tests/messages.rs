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
    assert_eq!(
        format!("{client:?}").matches("key").count(),
        0,
        "no key is shown"
    );
}
