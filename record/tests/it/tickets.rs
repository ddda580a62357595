//! Tickets that come after the handshake (RFC 8446 §4.6.1), by rustls' own reading of them.

use rustls::{Connection, HandshakeKind};
use sekisho_record::{Layout, Role, TicketError};

use crate::{
    differential::PLAIN,
    oracle::{Handshake, Link, Setup, configs},
};

const CLIENT: Setup = Setup {
    role: Role::Client,
    ..PLAIN
};

/// A lifetime, `ticket_age_add`, a nonce, the ticket and no extensions.
const TICKET: [u8; 16] = [0, 0, 14, 16, 1, 2, 3, 4, 1, 9, 0, 2, 5, 6, 0, 0];

#[test]
fn tickets_after_the_handshake_are_taken_by_rustls_and_carry_no_data() {
    let mut link = Link::new(CLIENT);
    assert!(!link.to_ours.is_empty(), "the server has sent its tickets");
    link.deliver_to_ours(usize::MAX, Layout::Merge);
    assert!(link.ours_got.is_empty());
    link.oracle_sends(b"and then data");
    link.settle();
    assert_eq!(link.ours_got, b"and then data");
    assert!(matches!(link.oracle, Connection::Server(_)));
}

#[test]
fn a_ticket_that_we_took_resumes_the_next_connection() {
    let configs = configs(CLIENT);
    let mut first = Link::with(CLIENT, &configs);
    assert_eq!(first.oracle.handshake_kind(), Some(HandshakeKind::Full));
    let before = Handshake::new(Role::Client, &configs).oracle;
    assert_eq!(before.handshake_kind(), Some(HandshakeKind::Full));
    first.deliver_to_ours(usize::MAX, Layout::Keep);
    let after = Handshake::new(Role::Client, &configs).oracle;
    assert_eq!(after.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn a_ticket_that_is_cut_or_followed_or_empty_cannot_be_read() {
    let mut client = Handshake::new(Role::Client, &configs(CLIENT)).schedule;
    assert_eq!(client.ticket(&TICKET), Ok(()));
    let unreadable = Err(TicketError::Unreadable);
    for cut in 0..TICKET.len() {
        assert_eq!(client.ticket(&TICKET[..cut]), unreadable, "{cut}");
    }
    let followed = [&TICKET[..], &[0]].concat();
    assert_eq!(client.ticket(&followed), unreadable);
    let mut empty = TICKET.to_vec();
    empty.splice(10..14, [0, 0]);
    assert_eq!(client.ticket(&empty), unreadable);
}

#[test]
fn a_ticket_with_an_extension_twice_is_illegal() {
    let mut client = Handshake::new(Role::Client, &configs(CLIENT)).schedule;
    // `early_data` (42) with 0 bytes allowed, which rustls leaves alone.
    let extension = [0, 42, 0, 4, 0, 0, 0, 0];
    let with = |extensions: &[u8]| {
        let length = u8::try_from(extensions.len()).unwrap();
        [&TICKET[..15], &[length], extensions].concat()
    };
    assert_eq!(client.ticket(&with(&extension)), Ok(()));
    let twice = with(&[extension, extension].concat());
    assert_eq!(client.ticket(&twice), Err(TicketError::Illegal));
}

#[test]
fn a_server_takes_no_ticket() {
    let mut server = Handshake::new(Role::Server, &configs(PLAIN)).schedule;
    assert_eq!(server.ticket(&TICKET), Err(TicketError::Illegal));
}
