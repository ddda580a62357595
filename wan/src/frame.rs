//! What a device gives in one read: a packet, or many of one flow with the header of the first; and
//! how a part of these is cut out.
//!
//! Only what `virtio_net_hdr` describes is understood: TCP over IPv4 and IPv6, and UDP. A part keeps
//! the offload of the whole, so nothing is summed up here but what a header's length changes.

use std::ops::Range;

use crate::device::{
    GSO_ECN, GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, HEADER, Header, NEEDS_CHECKSUM,
};

const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const FIN_AND_PUSH: u8 = 0x01 | 0x08;
const CWR: u8 = 0x80;

/// How a frame is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of IP and TCP or UDP headers that each packet has; 0 where there is one packet.
    headers: usize,
    /// Where the TCP or UDP header begins, from the IP header on.
    transport: usize,
    /// Bytes of payload in each packet but the last.
    segment: usize,
    /// Bytes of payload in all.
    payload: usize,
    is_ipv6: bool,
    is_tcp: bool,
    /// Packets.
    pub(crate) count: u32,
}

impl Shape {
    /// Of a frame with its header; `None` where it is no packet.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let header = Header::decode(frame).ok()?;
        let packet = frame.get(HEADER..)?;
        let is_ipv6 = match packet.first()? >> 4 {
            4 if packet.len() >= IPV4 => false,
            6 if packet.len() >= IPV6 => true,
            _ => return None,
        };
        let kind = header.gso_type & !GSO_ECN;
        if kind == GSO_NONE {
            return Some(Self {
                headers: 0,
                transport: 0,
                segment: packet.len(),
                payload: packet.len(),
                is_ipv6,
                is_tcp: false,
                count: 1,
            });
        }
        let is_tcp = match (kind, is_ipv6) {
            (GSO_TCP4, false) | (GSO_TCP6, true) => true,
            (GSO_UDP, _) => false,
            _ => return None,
        };
        // Else there would be no place from which to take the length of the headers.
        if header.flags & NEEDS_CHECKSUM == 0 {
            return None;
        }
        let transport = usize::from(header.csum_start);
        let headers = transport
            + if is_tcp {
                usize::from(packet.get(transport + 12)? >> 4) * 4
            } else {
                UDP
            };
        let payload = packet.len().checked_sub(headers)?;
        let segment = usize::from(header.gso_size);
        let least = if is_ipv6 { IPV6 } else { IPV4 };
        if transport < least || segment == 0 || payload == 0 {
            return None;
        }
        // Where a part gets its checksum.
        packet.get(transport + usize::from(header.csum_offset) + 1)?;
        Some(Self {
            headers,
            transport,
            segment,
            payload,
            is_ipv6,
            is_tcp,
            count: u32::try_from(payload.div_ceil(segment)).ok()?,
        })
    }

    /// Bytes of IP packets that these packets are on a line.
    pub(crate) fn wire(&self, packets: Range<u32>) -> u64 {
        let count = packets.end.saturating_sub(packets.start) as usize;
        (count * self.headers + self.part(&packets).len()) as u64
    }

    /// Bytes of the frame that these packets are when they are cut out.
    pub(crate) fn length(&self, packets: &Range<u32>) -> usize {
        HEADER + self.headers + self.part(packets).len()
    }

    /// Bytes of the largest packet.
    pub(crate) fn largest(&self) -> usize {
        self.headers + self.segment.min(self.payload)
    }

    fn part(&self, packets: &Range<u32>) -> Range<usize> {
        let at = |packet: u32| (packet as usize * self.segment).min(self.payload);
        at(packets.start)..at(packets.end).max(at(packets.start))
    }

    /// Cuts out some packets of a frame of this shape, as a frame.
    pub(crate) fn cut(&self, frame: &[u8], packets: Range<u32>, to: &mut Vec<u8>) -> Option<()> {
        to.clear();
        let part = self.part(&packets);
        let body = HEADER + self.headers;
        to.extend_from_slice(frame.get(..body)?);
        to.extend_from_slice(frame.get(body + part.start..body + part.end)?);
        let mut header = Header::decode(frame).ok()?;
        let is_last = packets.end >= self.count;
        if packets.end - packets.start == 1 {
            header.gso_type = GSO_NONE;
            header.gso_size = 0;
        } else if packets.start > 0 {
            header.gso_type &= !GSO_ECN;
        }
        header.encode(to).ok()?;
        let packet = to.get_mut(HEADER..)?;
        self.internet(packet, packets.start)?;
        let transport = packet.get_mut(self.transport..)?;
        if self.is_tcp {
            let sequence = transport.get_mut(4..8)?;
            let first = u32::from_be_bytes(sequence.try_into().ok()?);
            let offset = u32::try_from(part.start).ok()?;
            sequence.copy_from_slice(&first.wrapping_add(offset).to_be_bytes());
            let flags = transport.get_mut(13)?;
            if !is_last {
                *flags &= !FIN_AND_PUSH;
            }
            if packets.start > 0 {
                *flags &= !CWR;
            }
        } else {
            let length = u16::try_from(transport.len()).ok()?;
            put(transport, 4, length)?;
        }
        // It holds the sum of the pseudo header, of which the length is a part (RFC 1624: what is
        // taken away is added as its complement).
        let long = |length: usize| u16::try_from(length).ok();
        let before = long(self.headers - self.transport + self.payload)?;
        let after = long(transport.len())?;
        let place = usize::from(header.csum_offset);
        let sum = u32::from(word(transport, place)?) + u32::from(!before) + u32::from(after);
        put(transport, place, folded(sum))
    }

    /// Length, identification and checksum of the IP header.
    fn internet(&self, packet: &mut [u8], first: u32) -> Option<()> {
        let length = packet.len();
        if self.is_ipv6 {
            return put(packet, 4, u16::try_from(length - IPV6).ok()?);
        }
        put(packet, 2, u16::try_from(length).ok()?)?;
        let number = word(packet, 4)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "identifications go round after 65,535"
        )]
        put(packet, 4, number.wrapping_add(first as u16))?;
        put(packet, 10, 0)?;
        let header = packet.get(..self.transport)?;
        let words = header
            .chunks_exact(2)
            .map(|pair| word(pair, 0).map(u32::from));
        let sum = words.sum::<Option<u32>>()?;
        put(packet, 10, !folded(sum))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    let pair = bytes.get_mut(at..at + 2)?;
    pair.copy_from_slice(&value.to_be_bytes());
    Some(())
}

/// The ones' complement sum of 16 bits.
fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "no more is left")]
    let sum = sum as u16;
    sum
}

#[cfg(test)]
mod tests;
