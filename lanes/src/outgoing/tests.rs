use super::*;
use crate::frame::MOST_TEXT;

fn pushed(text: &[u8]) -> Outgoing {
    let mut outgoing = Outgoing::default();
    assert_eq!(outgoing.push(text), text.len());
    outgoing
}

/// Offset and length of the next piece for a lane.
fn next(outgoing: &mut Outgoing, lane: u64, now: Instant) -> Option<(u64, usize)> {
    let piece = outgoing.next(lane, false, now)?;
    Some((piece.offset, piece.text.len()))
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_given_is_sent_in_pieces_and_kept_until_it_is_confirmed() {
    let now = Instant::now();
    let text: Vec<u8> = (0..40_000_u32).map(|byte| byte.to_be_bytes()[3]).collect();
    let mut outgoing = pushed(&text[..10]);
    assert_eq!(outgoing.push(&text[10..]), 39_990);
    let mut sent: Vec<u8> = Vec::new();
    while let Some(piece) = outgoing.next(1, false, now) {
        assert_eq!(piece.offset, sent.len() as u64);
        sent.extend(piece.text);
    }
    assert_eq!(sent, text);
    assert_eq!(outgoing.kept.len(), 3, "small writes are put together");
    outgoing
        .confirm(MOST_TEXT as u64, FIRST_WINDOW, now + SECOND)
        .unwrap();
    assert_eq!(outgoing.held(), 40_000 - MOST_TEXT);
    assert_eq!(outgoing.round(), Some(SECOND));
    outgoing.confirm(3, FIRST_WINDOW, now).unwrap();
    outgoing
        .confirm(40_000, FIRST_WINDOW, now + SECOND)
        .unwrap();
    assert_eq!((outgoing.held(), outgoing.confirmed()), (0, 40_000));
}

#[test]
fn nothing_is_sent_beyond_the_limit_and_the_peer_is_told_once() {
    let now = Instant::now();
    let text = vec![1; 400_000];
    let mut outgoing = Outgoing::default();
    let mut sent = 0;
    loop {
        outgoing.push(&text);
        let Some((offset, length)) = next(&mut outgoing, 1, now) else {
            break;
        };
        assert_eq!(offset, sent);
        sent += length as u64;
        if sent < FIRST_WINDOW {
            assert_eq!(outgoing.blocked(), None);
        }
    }
    assert_eq!(sent, FIRST_WINDOW, "cut where the limit is");
    assert_eq!(outgoing.room(), 0, "and not much more is taken");
    assert_eq!(outgoing.blocked(), Some(FIRST_WINDOW));
    assert_eq!(outgoing.blocked(), None);
    assert!(!outgoing.is_ready());
    outgoing.confirm(0, FIRST_WINDOW + 5, now).unwrap();
    assert_eq!(next(&mut outgoing, 1, now), Some((FIRST_WINDOW, 5)));
    assert_eq!(outgoing.blocked(), Some(FIRST_WINDOW + 5));
    // A limit that was there does not go.
    outgoing.confirm(0, 10, now).unwrap();
    assert_eq!(outgoing.limit, FIRST_WINDOW + 5);
}

#[test]
fn what_went_by_a_lost_lane_goes_by_another() {
    let now = Instant::now();
    let mut outgoing = pushed(&vec![5; 3 * MOST_TEXT]);
    let piece = |index: usize| Some(((index * MOST_TEXT) as u64, MOST_TEXT));
    assert_eq!(next(&mut outgoing, 1, now), piece(0));
    assert_eq!(next(&mut outgoing, 2, now), piece(1));
    assert_eq!(next(&mut outgoing, 1, now), piece(2));
    outgoing.finish();
    assert_eq!(outgoing.fin(1, now), Some(3 * MOST_TEXT as u64));
    outgoing.lost(1);
    assert_eq!(outgoing.fin(2, now), None, "not before the rest");
    assert!(outgoing.is_ready());
    assert_eq!(next(&mut outgoing, 2, now), piece(0));
    assert_eq!(next(&mut outgoing, 2, now), piece(2));
    assert_eq!(next(&mut outgoing, 2, now), None);
    assert_eq!(outgoing.repeated(), 2 * MOST_TEXT as u64);
    assert_eq!(outgoing.fin(2, now), Some(3 * MOST_TEXT as u64));
    outgoing
        .confirm(3 * MOST_TEXT as u64, 0, now + SECOND)
        .unwrap();
    assert!(outgoing.waits_for_end() && !outgoing.is_over());
    assert_eq!(
        outgoing.round(),
        Some(SECOND),
        "of the one that was sent once"
    );
    outgoing.confirm(3 * MOST_TEXT as u64 + 1, 0, now).unwrap();
    assert!(outgoing.is_over());
}

#[test]
fn a_lane_that_holds_the_rest_up_is_helped_by_others() {
    let now = Instant::now();
    let mut outgoing = pushed(&vec![5; 3 * MOST_TEXT]);
    next(&mut outgoing, 1, now);
    next(&mut outgoing, 2, now);
    let later = now + SECOND / 2;
    next(&mut outgoing, 1, later);
    assert_eq!(outgoing.rescue_at(SECOND), Some(now + SECOND));
    assert_eq!(outgoing.rescue(SECOND, later), None);
    assert_eq!(outgoing.rescue(SECOND, now + SECOND), Some(1));
    assert_eq!(outgoing.rescue(SECOND, now + SECOND), None, "once");
    assert_eq!(next(&mut outgoing, 1, now + SECOND), None, "not by itself");
    assert_eq!(next(&mut outgoing, 2, now + SECOND), Some((0, MOST_TEXT)));
    assert_eq!(
        next(&mut outgoing, 2, now + SECOND),
        None,
        "the other is not late"
    );
    assert_eq!(
        outgoing.rescue(SECOND, now + SECOND),
        None,
        "it has another second"
    );
    // The only lane may, for nobody else can.
    outgoing.lost(2);
    assert_eq!(
        outgoing.next(2, true, now).map(|piece| piece.offset),
        Some(0)
    );
}

#[test]
fn an_end_that_is_late_is_sent_again() {
    let now = Instant::now();
    let mut outgoing = Outgoing::default();
    outgoing.finish();
    assert_eq!(outgoing.room(), 0);
    assert_eq!(outgoing.fin(1, now), Some(0));
    assert_eq!(outgoing.fin(1, now), None);
    assert_eq!(outgoing.rescue(SECOND, now + SECOND), Some(1));
    assert_eq!(outgoing.fin(2, now), Some(0));
    assert!(outgoing.waits_for_end());
    // One that was confirmed while it was to be sent again is not sent again.
    assert_eq!(outgoing.rescue(SECOND, now + 2 * SECOND), Some(2));
    let mut other = Outgoing::default();
    other.finish();
    other.fin(1, now);
    other.lost(1);
    assert!(other.may_end());
    other.confirm(1, 0, now).unwrap();
    assert!(other.is_over() && !other.may_end());
    outgoing.closed();
    assert!(outgoing.is_over());
}

#[test]
fn what_was_not_sent_cannot_be_confirmed() {
    let now = Instant::now();
    let mut outgoing = pushed(b"abcdef");
    assert_eq!(outgoing.confirm(1, 0, now), Err(OutgoingError::NotSent(1)));
    next(&mut outgoing, 1, now);
    outgoing.finish();
    assert_eq!(outgoing.confirm(7, 0, now), Err(OutgoingError::NotSent(7)));
    outgoing.confirm(3, 0, now).unwrap();
    assert_eq!(outgoing.held(), 6, "half a piece is none");
    outgoing.fin(1, now).unwrap();
    assert_eq!(outgoing.confirm(8, 0, now), Err(OutgoingError::NotSent(8)));
    outgoing.confirm(7, 0, now).unwrap();
    assert!(outgoing.is_over());
    assert_eq!(outgoing.push(b"x"), 0);
}

#[test]
fn of_small_pieces_only_so_many_are_under_way() {
    let now = Instant::now();
    let mut outgoing = Outgoing::default();
    let mut sent = 0;
    loop {
        outgoing.push(b"x");
        if next(&mut outgoing, 1, now).is_none() {
            break;
        }
        sent += 1;
    }
    assert_eq!(sent, MOST_SMALL_SENT);
    outgoing.push(&[0; 2000]);
    assert!(
        outgoing.next(1, false, now).is_some(),
        "they have become a large one"
    );
    outgoing.confirm(1, 0, now).unwrap();
    outgoing.push(b"x");
    assert!(outgoing.next(1, false, now).is_some());
}

#[test]
fn bytes_are_taken_many_at_a_time() {
    let now = Instant::now();
    let mut outgoing = Outgoing::default();
    assert_eq!(outgoing.push(&vec![1; BACKLOG + 1]), BACKLOG);
    let mut taken = 0;
    while outgoing.next(1, false, now).is_some() {
        let more = outgoing.push(&vec![1; BACKLOG]);
        assert!(more == 0 || more >= BACKLOG - WAITING, "{more}");
        taken += usize::from(more > 0);
    }
    assert!(taken > 0);
}

#[test]
fn at_rest_it_has_no_memory_but_for_what_is_kept() {
    let now = Instant::now();
    let mut outgoing = Outgoing::default();
    let mut sent = 0;
    for _ in 0..1000 {
        sent += outgoing.push(&[7; 2 * SMALL]) as u64;
        outgoing.next(1, false, now).unwrap();
        outgoing
            .confirm(0, sent + LARGEST_WINDOW, now)
            .expect("it says nothing");
    }
    outgoing.rest();
    assert_eq!(outgoing.held() as u64, sent);
    assert!(outgoing.memory() as u64 >= sent);
    outgoing.confirm(sent, sent, now).unwrap();
    outgoing.rest();
    assert_eq!((outgoing.memory(), outgoing.kept.capacity()), (0, 0));
}
