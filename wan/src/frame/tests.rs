//! Frames as the kernel builds them, and their parts against a sum over the whole.

#![expect(clippy::cast_possible_truncation, reason = "the numbers are small")]

use super::*;
use crate::device::LARGEST;

/// The pseudo header and the TCP or UDP part, summed up as a receiver would.
fn receiver_sum(packet: &[u8], transport: usize) -> u16 {
    let (addresses, protocol) = match packet[0] >> 4 {
        4 => (&packet[12..20], packet[9]),
        _ => (&packet[8..40], packet[6]),
    };
    let part = &packet[transport..];
    let mut bytes = addresses.to_vec();
    bytes.extend([0, protocol]);
    bytes.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
    bytes.extend(part);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(word(pair, 0).unwrap()));
    // Carries are put back before they could be lost.
    words.fold(0, |sum, word| u32::from(folded(sum + word))) as u16
}

/// Fills in the checksum as the device or the kernel does in the end.
fn complete(frame: &[u8]) -> Vec<u8> {
    let header = Header::decode(frame).unwrap();
    let mut packet = frame[HEADER..].to_vec();
    let start = usize::from(header.csum_start);
    let part = &mut packet[start..];
    let words = part.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let sum = words.fold(0, |sum, word| u32::from(folded(sum + word)));
    put(part, usize::from(header.csum_offset), !folded(sum)).unwrap();
    packet
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
}

/// A frame of a flow: `payload` bytes in packets of `segment`, the checksum still to be filled in.
fn frame(kind: Kind, segment: u16, payload: usize) -> Vec<u8> {
    let is_v6 = matches!(kind, Kind::Tcp6 | Kind::Udp6);
    let is_tcp = matches!(kind, Kind::Tcp4 | Kind::Tcp6);
    let internet = if is_v6 { IPV6 } else { IPV4 };
    // Timestamps, as most flows have.
    let transport = if is_tcp { 32 } else { UDP };
    let length = internet + transport + payload;
    let mut packet = vec![0; length];
    if is_v6 {
        packet[0] = 0x60;
        put(&mut packet, 4, (length - IPV6) as u16).unwrap();
        packet[6] = if is_tcp { 6 } else { 17 };
        packet[8..40].copy_from_slice(&[0xfd; 32]);
    } else {
        packet[0] = 0x45;
        put(&mut packet, 2, length as u16).unwrap();
        put(&mut packet, 4, 65_530).unwrap();
        packet[8] = 64;
        packet[9] = if is_tcp { 6 } else { 17 };
        packet[12..20].copy_from_slice(&[10, 99, 0, 1, 10, 99, 0, 2]);
    }
    let part = &mut packet[internet..];
    if is_tcp {
        part[4..8].copy_from_slice(&0xffff_fff0_u32.to_be_bytes());
        part[12] = 0x80;
        // CWR, ACK, PSH and FIN.
        part[13] = 0x80 | 0x10 | 0x08 | 0x01;
    } else {
        put(part, 4, (transport + payload) as u16).unwrap();
    }
    for (index, byte) in part[transport..].iter_mut().enumerate() {
        *byte = (index % 251) as u8;
    }
    let offset = if is_tcp { 16 } else { 6 };
    let mut pseudo = packet[..internet].to_vec();
    pseudo.extend(vec![0; transport + payload]);
    let sum = receiver_sum(&pseudo, internet);
    put(&mut packet, internet + offset, sum).unwrap();
    let gso_type = match kind {
        Kind::Tcp4 => GSO_TCP4 | GSO_ECN,
        Kind::Tcp6 => GSO_TCP6,
        Kind::Udp4 | Kind::Udp6 => GSO_UDP,
    };
    let header = Header {
        flags: NEEDS_CHECKSUM,
        gso_type,
        hdr_len: (internet + transport) as u16,
        gso_size: segment,
        csum_start: internet as u16,
        csum_offset: offset as u16,
    };
    let mut frame = vec![0; HEADER];
    header.encode(&mut frame).unwrap();
    frame.extend(packet);
    frame
}

#[test]
fn packets_and_their_bytes_are_counted() {
    let frame = frame(Kind::Tcp4, 1448, 10_000);
    let shape = Shape::of(&frame).unwrap();
    assert_eq!(shape.count, 7);
    assert_eq!(shape.largest(), 1500);
    assert_eq!(shape.wire(0..1), 1500);
    assert_eq!(shape.wire(6..7), 52 + 10_000 - 6 * 1448);
    assert_eq!(shape.wire(0..7), 7 * 52 + 10_000);
    assert_eq!(shape.wire(3..3), 0);
}

#[test]
fn every_part_is_a_frame_with_the_checksum_of_its_own() {
    for kind in [Kind::Tcp4, Kind::Tcp6, Kind::Udp4, Kind::Udp6] {
        let frame = frame(kind, 1400, 9_999);
        let shape = Shape::of(&frame).unwrap();
        let mut part = Vec::new();
        for first in 0..shape.count {
            for end in first + 1..=shape.count {
                shape.cut(&frame, first..end, &mut part).unwrap();
                assert_eq!(part.len(), shape.length(&(first..end)));
                let header = Header::decode(&part).unwrap();
                assert_eq!(header.gso_type == GSO_NONE, end - first == 1, "{kind:?}");
                let packet = complete(&part);
                let sum = receiver_sum(&packet, shape.transport);
                assert_eq!(sum, 0xffff, "{kind:?} {first}..{end}");
                let inner = Shape::of(&part).unwrap();
                assert_eq!(inner.count, end - first);
                assert_eq!(inner.wire(0..inner.count), shape.wire(first..end));
                let body = &packet[shape.headers..];
                let from = first as usize * 1400;
                assert!(
                    body.iter()
                        .zip(from..)
                        .all(|(byte, at)| *byte == (at % 251) as u8)
                );
            }
        }
    }
}

#[test]
fn sequence_flags_and_identification_go_on() {
    let frame = frame(Kind::Tcp4, 1000, 4000);
    let shape = Shape::of(&frame).unwrap();
    let mut part = Vec::new();
    shape.cut(&frame, 1..3, &mut part).unwrap();
    let packet = &part[HEADER..];
    assert_eq!(word(packet, 4), Some(65_531));
    let words = packet[..20]
        .chunks(2)
        .map(|pair| u32::from(word(pair, 0).unwrap()));
    assert_eq!(folded(words.sum()), 0xffff, "the IP header's checksum");
    let sequence = u32::from_be_bytes(packet[24..28].try_into().unwrap());
    assert_eq!(sequence, 0xffff_fff0_u32.wrapping_add(1000));
    // Neither the first, which alone has CWR, nor the last, which alone has PSH and FIN.
    assert_eq!(packet[33], 0x10);
    shape.cut(&frame, 3..4, &mut part).unwrap();
    assert_eq!(part[HEADER + 33], 0x10 | 0x08 | 0x01);
    shape.cut(&frame, 0..2, &mut part).unwrap();
    assert_eq!(part[HEADER + 33], 0x80 | 0x10);
}

#[test]
fn what_is_no_packet_is_none() {
    let good = frame(Kind::Tcp4, 1448, 5000);
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        Shape::of(&frame)
    };
    assert!(Shape::of(&[]).is_none());
    assert!(Shape::of(&good[..HEADER]).is_none());
    assert!(Shape::of(&good[..HEADER + 30]).is_none());
    assert!(changed(HEADER, 0x75).is_none(), "version 7");
    assert!(changed(1, GSO_TCP6).is_none(), "IPv6's segments in IPv4");
    assert!(changed(1, 99).is_none(), "an unknown kind");
    assert!(changed(0, 0).is_none(), "no checksum to fill in");
    let mut zero = good.clone();
    zero[4..6].fill(0);
    assert!(Shape::of(&zero).is_none(), "packets of nothing");
    let mut far = good.clone();
    far[6..8].fill(0xff);
    assert!(Shape::of(&far).is_none(), "a checksum beyond the end");
}

#[test]
fn no_bytes_make_it_panic() {
    use rand::{RngExt as _, SeedableRng as _};
    let mut random = crate::chance::Generator::seed_from_u64(1);
    let mut part = Vec::new();
    let kinds = [Kind::Tcp4, Kind::Tcp6, Kind::Udp4, Kind::Udp6];
    for round in 0..20_000 {
        let mut bytes = frame(kinds[round % 4], 536, 3000);
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..HEADER + 60);
            bytes[at] = random.random();
        }
        bytes.truncate(random.random_range(0..=bytes.len()));
        let Some(shape) = Shape::of(&bytes) else {
            continue;
        };
        let end = random.random_range(1..=shape.count);
        let first = random.random_range(0..end);
        // Either way: what comes of it goes to the kernel, which looks at it again.
        let _ = shape.cut(&bytes, first..end, &mut part);
        assert!(part.len() <= LARGEST);
    }
}
