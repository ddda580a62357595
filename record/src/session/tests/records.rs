//! Records that are sealed and opened, and where their plaintexts are.

use proptest::prelude::*;

use super::*;
use crate::MAX_RECORD;

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
