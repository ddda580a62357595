use proptest::prelude::*;

use super::*;

fn round(frame: Frame<'_>) {
    let mut bytes = vec![7; 3];
    frame.encode(&mut bytes);
    let bytes = &bytes[3..];
    for cut in 0..bytes.len() {
        assert_eq!(decode(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    assert_eq!(decode(bytes), Ok(Some((Some(frame), bytes.len()))));
    // What a later version appends is not ours to read, but of DATA all is text.
    if !matches!(frame, Frame::Data { .. }) {
        let mut longer = bytes.to_vec();
        longer.push(1);
        longer[3] += 1;
        assert_eq!(decode(&longer), Ok(Some((Some(frame), longer.len()))));
    }
}

#[test]
fn what_is_written_is_read() {
    let stream = StreamId([9; 16]);
    for purpose in [Purpose::New, Purpose::Join] {
        round(Frame::Open {
            stream,
            purpose,
            lanes: 4,
            endpoint: "mdx.tokyo.example",
        });
    }
    round(Frame::Accept { lanes: 16 });
    round(Frame::Deny {
        reason: "policy_denied",
    });
    round(Frame::Data {
        offset: 1 << 40,
        text: b"x",
    });
    for limited in [Limited::No, Limited::Held, Limited::Losses] {
        round(Frame::Ack {
            received: 3,
            limit: u64::MAX,
            limited,
        });
    }
    round(Frame::Fin { length: 0 });
    round(Frame::Reset { reason: "drained" });
    round(Frame::Leave);
    round(Frame::Blocked { limit: 5 });
}

#[test]
fn a_full_piece_and_its_header_are_one_record() {
    let text = vec![3; MOST_TEXT];
    let frame = Frame::Data {
        offset: 77,
        text: &text,
    };
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    assert_eq!(bytes.len(), LONGEST);
    assert_eq!(bytes[..12], data_header(77, MOST_TEXT));
    assert_eq!(decode(&bytes), Ok(Some((Some(frame), LONGEST))));
}

#[test]
fn what_is_unknown_and_optional_is_skipped() {
    let bytes = [0x80, 0, 0, 2, 1, 2, 8, 0, 0, 0];
    assert_eq!(decode(&bytes), Ok(Some((None, 6))));
    assert_eq!(decode(&bytes[6..]), Ok(Some((Some(Frame::Leave), 4))));
}

#[test]
fn what_is_no_frame_is_refused() {
    let refused = |bytes: &[u8]| decode(bytes).unwrap_err();
    assert_eq!(refused(&[0, 0, 0, 0]), FrameError::Unknown(0));
    assert_eq!(refused(&[10, 0, 0, 0]), FrameError::Unknown(10));
    assert_eq!(refused(&[0x7f, 0, 0, 0]), FrameError::Unknown(0x7f));
    // By its header alone.
    for (kind, length) in [(4, 16_381), (5, 1025), (0xff, 1025), (1, 0xff_ffff)] {
        let [_, a, b, c] = u32::to_be_bytes(length);
        let length = length as usize;
        assert_eq!(
            refused(&[kind, a, b, c]),
            FrameError::Length { kind, length }
        );
    }
    // Too short for its fields.
    for kind in [1, 2, 3, 4, 5, 6, 7, 9] {
        assert_eq!(
            refused(&[kind, 0, 0, 0]),
            FrameError::Length { kind, length: 0 }
        );
    }
    let value = |bytes: &[u8]| assert!(matches!(refused(bytes), FrameError::Value(_)));
    value(&[2, 0, 0, 1, 0]);
    value(&[3, 0, 0, 3, 2, b'a', b'A']);
    value(&[3, 0, 0, 1, 0]);
    value(&[4, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    value(&[4, 0, 0, 9, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    value(&[4, 0, 0, 9, 255, 255, 255, 255, 255, 255, 255, 254, 1]);
    value(&[6, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 255]);
    let mut open = Vec::new();
    let frame = Frame::Open {
        stream: StreamId([0; 16]),
        purpose: Purpose::New,
        lanes: 1,
        endpoint: "a/b",
    };
    frame.encode(&mut open);
    value(&open);
    open[HEADER + 16] = 2;
    value(&open);
}

#[test]
fn a_stream_is_not_shown_whole() {
    assert_eq!(format!("{:?}", StreamId([0xab; 16])), "abababab…");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(Some((frame, length))) = decode(&bytes) {
            prop_assert!(length <= bytes.len() && length >= HEADER);
            if let Some(frame) = frame {
                let mut again = Vec::new();
                frame.encode(&mut again);
                prop_assert_eq!(decode(&again), Ok(Some((Some(frame), again.len()))));
            }
        }
    }
}
