//! `sekisho/1`: any bytes on a lane, and what they make of a stream's order. Nothing panics, nothing beyond
//! the window is kept, and every byte handed on is the one of its place.
#![no_main]

use std::time::Instant;

use bytes::{BufMut as _, Bytes};
use libfuzzer_sys::fuzz_target;
use sekisho_lanes::{Frame, Incoming, LARGEST_WINDOW, Outgoing, frame};

fn byte(at: u64) -> u8 {
    (at ^ (at >> 8)) as u8
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let (mut incoming, mut outgoing) = (Incoming::default(), Outgoing::default());
    outgoing.push(&[7; 100_000]);
    let now = Instant::now();
    let mut taken = 0;
    while let Ok(Some((frame, length))) = frame::decode(rest) {
        rest = &rest[length..];
        let ok = match frame {
            // By a sender that tells the truth of its bytes, but not of their places.
            Some(Frame::Data { offset, text }) => {
                let offset = offset % (2 << 20);
                // Some are as long as those that stay where they were read.
                let length = text.len() * if text.len() % 2 == 1 { 257 } else { 1 };
                let whole = (offset..).take(length + 100).map(byte).collect::<Vec<_>>();
                let whole = Bytes::from(whole);
                let text = &whole[..length.min(frame::MOST_TEXT)];
                incoming.receive_in(offset, text, Some(&whole)).is_ok()
            }
            Some(Frame::Fin { length }) => incoming.finish(length % (2 << 20)).is_ok(),
            Some(Frame::Blocked { limit }) => {
                incoming.blocked(limit, true);
                true
            }
            Some(Frame::Ack {
                received, limit, ..
            }) => {
                outgoing.next(received % 3, false, now);
                outgoing.confirm(received, limit, now).is_ok()
            }
            Some(Frame::Leave) => {
                outgoing.lost(1);
                let filled = outgoing.fill(|buffer| {
                    buffer.put_bytes(7, buffer.remaining_mut().min(50_000));
                    Ok::<_, ()>(())
                });
                assert!(filled.is_ok());
                true
            }
            _ => true,
        };
        if !ok {
            break;
        }
        let ready: Vec<u8> = incoming.pieces().flatten().copied().collect();
        for (at, found) in (taken..).zip(&ready) {
            assert_eq!(*found, byte(at));
        }
        let count = ready.len() - ready.len() / 3;
        incoming.take(count);
        taken += count as u64;
        assert!(incoming.held() as u64 <= LARGEST_WINDOW);
        assert!(incoming.copied() <= incoming.held());
    }
});
