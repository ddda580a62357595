use super::*;

fn taken(incoming: &mut Incoming) -> Vec<u8> {
    let mut all = Vec::new();
    while !incoming.next().is_empty() {
        all.extend(incoming.next());
        incoming.take(incoming.next().len());
    }
    all
}

#[test]
fn pieces_in_any_order_are_handed_on_in_theirs() {
    let mut incoming = Incoming::default();
    incoming.receive(3, b"def").unwrap();
    assert!(incoming.next().is_empty());
    assert_eq!(incoming.due(), Due::Nothing);
    incoming.receive(9, b"jkl").unwrap();
    incoming.receive(0, b"abc").unwrap();
    assert_eq!(incoming.next(), b"abcdef");
    assert_eq!((incoming.held(), incoming.state().0), (9, 6));
    assert_eq!(incoming.due(), Due::Soon);
    incoming.take(1);
    assert_eq!(incoming.next(), b"bcdef");
    incoming.receive(6, b"ghi").unwrap();
    assert_eq!(taken(&mut incoming), b"bcdefghijkl");
    assert_eq!((incoming.held(), incoming.small), (0, 0));
    assert!(!incoming.is_over());
    incoming.finish(12).unwrap();
    assert!(incoming.is_over() && incoming.is_complete());
    assert_eq!((incoming.state().0, incoming.due()), (13, Due::Now));
    incoming.told();
    assert_eq!(incoming.due(), Due::Nothing);
    incoming.tell_again();
    assert_eq!(incoming.due(), Due::Now);
}

#[test]
fn what_comes_twice_is_dropped_counted_and_bounded() {
    let mut incoming = Incoming::default();
    incoming.receive(0, b"abc").unwrap();
    incoming.receive(6, b"ghi").unwrap();
    incoming.told();
    incoming.receive(0, b"abc").unwrap();
    incoming.receive(6, b"ghi").unwrap();
    assert_eq!(incoming.repeated(), 6);
    assert_eq!(incoming.due(), Due::Now, "who repeats has not heard of us");
    incoming.receive(3, b"def").unwrap();
    assert_eq!(taken(&mut incoming), b"abcdefghi");
    let piece = vec![0; 9];
    let refused = (0..10_000_000).find_map(|_| incoming.receive(0, &piece).err());
    assert!(matches!(refused, Some(IncomingError::Repeated(_))));
}

#[test]
fn a_piece_that_overlaps_another_is_refused() {
    for (offset, text) in [
        (2, &b"cd"[..]),
        (8, b"ijk"),
        (10, b"k"),
        (9, b"jk"),
        (11, b"lm"),
        (8, b"ijklm"),
        (3, b"defghijkl"),
        (0, b"abcd"),
    ] {
        let mut incoming = Incoming::default();
        incoming.receive(0, b"abc").unwrap();
        incoming.receive(9, b"jkl").unwrap();
        let refused = incoming.receive(offset, text).unwrap_err();
        assert_eq!(refused, IncomingError::Overlap(offset), "{offset} {text:?}");
        assert_eq!(incoming.held(), 6, "nothing of it is kept");
        incoming.receive(3, b"defghi").unwrap();
        assert_eq!(taken(&mut incoming), b"abcdefghijkl");
    }
}

#[test]
fn nothing_beyond_the_limit_is_taken_and_the_limit_follows_what_is_handed_on() {
    let mut incoming = Incoming::default();
    let limit = incoming.state().1;
    assert_eq!(limit, FIRST_WINDOW);
    let refused = incoming.receive(limit - 1, b"xy").unwrap_err();
    assert!(matches!(refused, IncomingError::Window { .. }));
    assert!(incoming.receive(u64::MAX - 1, b"x").is_err());
    incoming.receive(limit - 1, b"x").unwrap();
    incoming.receive(0, &[0; 1000]).unwrap();
    assert_eq!(incoming.state().1, limit, "nothing was handed on");
    incoming.take(400);
    assert_eq!(incoming.state().1, limit + 400);
    assert_eq!(incoming.due(), Due::Soon);
    incoming.told();
    incoming.receive(1000, &vec![0; 300_000]).unwrap();
    taken(&mut incoming);
    assert_eq!(incoming.due(), Due::Now);
}

#[test]
fn the_window_grows_for_a_sender_that_it_holds_up_and_a_receiver_that_takes() {
    let mut incoming = Incoming::default();
    let window = |incoming: &Incoming| incoming.state().1 - incoming.received();
    let text = vec![0; 1 << 20];
    incoming.blocked(FIRST_WINDOW, true);
    assert_eq!(
        window(&incoming),
        FIRST_WINDOW,
        "nothing of what was granted has come"
    );
    incoming.receive(0, &text).unwrap();
    incoming.blocked(FIRST_WINDOW, false);
    assert_eq!(window(&incoming), 0, "not allowed");
    incoming.blocked(FIRST_WINDOW, true);
    assert_eq!(window(&incoming), 0, "what has come lies about");
    taken(&mut incoming);
    // What it was told is older than what holds now.
    incoming.blocked(FIRST_WINDOW, true);
    assert_eq!(window(&incoming), 2 * FIRST_WINDOW);
    assert_eq!(incoming.due(), Due::Now);
    // One that was held up before it knew of that is not asked twice.
    incoming.blocked(FIRST_WINDOW, true);
    assert_eq!(window(&incoming), 2 * FIRST_WINDOW);
    for _ in 0..400 {
        incoming.receive(incoming.received(), &text).unwrap();
        taken(&mut incoming);
        incoming.blocked(incoming.received().min(incoming.state().1), true);
    }
    assert_eq!(window(&incoming), LARGEST_WINDOW);
}

#[test]
fn where_memory_is_short_windows_narrow_and_what_was_granted_stays() {
    let mut incoming = Incoming {
        window: 8 << 20,
        ..Incoming::default()
    };
    incoming.grant();
    let granted = incoming.limit;
    incoming.narrow();
    assert_eq!((incoming.window, incoming.limit), (4 << 20, granted));
    for _ in 0..9 {
        incoming.narrow();
    }
    assert_eq!((incoming.window, incoming.limit), (FIRST_WINDOW, granted));
    // All of it may still come, and more is granted only once little is left of it.
    let text = vec![7; MOST_TEXT];
    let mut offset = 0;
    while offset + text.len() as u64 <= granted {
        incoming.receive(offset, &text).unwrap();
        offset += text.len() as u64;
        taken(&mut incoming);
        assert_eq!(incoming.limit, granted.max(offset + FIRST_WINDOW));
    }
    assert!(incoming.limit > granted);
}

#[test]
fn bytes_one_by_one_lie_together() {
    let mut incoming = Incoming::default();
    for at in 0..1000 {
        incoming.receive(2000 - 2 * at - 1, b"y").unwrap();
    }
    for at in 0..1000 {
        incoming.receive(2 * at, b"x").unwrap();
    }
    assert_eq!(incoming.pieces().count(), 1);
    assert_eq!(taken(&mut incoming), b"xy".repeat(1000));
}

#[test]
fn small_pieces_out_of_order_are_bounded() {
    let mut incoming = Incoming::default();
    for piece in 0..MOST_SMALL as u64 {
        incoming.receive(1 + 2 * piece, b"x").unwrap();
    }
    let refused = incoming.receive(100_001, b"x").unwrap_err();
    assert_eq!(refused, IncomingError::Pieces);
    incoming.receive(0, b"x").unwrap();
    incoming.receive(100_001, b"x").unwrap();
}

#[test]
fn an_end_does_not_move_and_nothing_lies_behind_it() {
    let mut incoming = Incoming::default();
    incoming.receive(0, b"abc").unwrap();
    incoming.receive(6, b"g").unwrap();
    for length in [2, 6] {
        assert_eq!(incoming.finish(length), Err(IncomingError::End(length)));
    }
    incoming.finish(8).unwrap();
    incoming.finish(8).unwrap();
    assert_eq!(incoming.finish(9), Err(IncomingError::End(9)));
    assert_eq!(incoming.receive(7, b"hi"), Err(IncomingError::End(8)));
    incoming.receive(3, b"def").unwrap();
    assert!(!incoming.is_complete());
    incoming.receive(7, b"h").unwrap();
    assert!(incoming.is_complete() && !incoming.is_over());
    assert_eq!(taken(&mut incoming), b"abcdefgh");
    assert!(incoming.is_over());
}

#[test]
fn an_empty_stream_ends() {
    let mut incoming = Incoming::default();
    incoming.finish(0).unwrap();
    assert!(incoming.is_over());
    assert_eq!((incoming.state().0, incoming.due()), (1, Due::Now));
}

#[test]
fn a_large_piece_stays_where_it_was_read_and_small_ones_do_not_keep_it() {
    let whole = Bytes::from(b"what is read together ".repeat(2300));
    let mut incoming = Incoming::default();
    let text = |range: std::ops::Range<usize>| whole.get(range).unwrap();
    // The second first, then some of what lies before and behind it.
    let (first, second) = (SHARED - 1, 2 * MOST_TEXT);
    incoming
        .receive_in(first as u64, text(first..second), Some(&whole))
        .unwrap();
    assert_eq!((incoming.copied(), incoming.held()), (0, second - first));
    let rest = text(second..second + 10);
    incoming
        .receive_in(second as u64, rest, Some(&whole))
        .unwrap();
    assert_eq!(incoming.copied(), 10);
    incoming
        .receive_in(0, text(0..first), Some(&whole))
        .unwrap();
    assert_eq!(incoming.copied(), 10 + first);
    let places: Vec<_> = incoming.pieces().map(<[u8]>::as_ptr).collect();
    assert!(!whole.as_ptr_range().contains(&places[0]));
    assert_eq!(places[1], text(first..second).as_ptr());
    assert!(!whole.as_ptr_range().contains(&places[2]));
    incoming.take(first + 5);
    assert_eq!(incoming.next(), text(first + 5..second));
    assert_eq!(incoming.copied(), 10);
    assert_eq!(taken(&mut incoming), text(first + 5..second + 10));
    assert_eq!((incoming.copied(), incoming.held()), (0, 0));
    assert!(whole.is_unique());
}

#[test]
fn more_is_not_taken_than_there_is() {
    let mut incoming = Incoming::default();
    incoming.receive(0, &[1; 3000]).unwrap();
    incoming.receive(3000, b"abc").unwrap();
    incoming.take(3001);
    assert_eq!(incoming.next(), b"bc");
    incoming.take(100);
    assert!(incoming.next().is_empty());
    assert_eq!((incoming.taken, incoming.copied()), (3003, 0));
}

#[test]
fn at_rest_it_has_no_memory_but_for_what_is_kept() {
    let mut incoming = Incoming::default();
    let text = vec![7; SHARED];
    for _ in 0..20 {
        incoming.receive(incoming.received(), &text).unwrap();
    }
    incoming.take(19 * SHARED);
    incoming.rest();
    assert_eq!(taken(&mut incoming), text);
    incoming.rest();
    assert_eq!(incoming.ready.capacity(), 0);
}
