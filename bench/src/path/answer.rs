//! Answers of the kernel's socket table (sock_diag(7)), read with a bound at every step.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    info::{TcpInfo, u32_at},
    sample::{Memory, Sample},
};

/// Of a netlink message (netlink(7)).
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const BY_FAMILY: u16 = 20;
/// Of `struct inet_diag_msg`.
const SOCKET: usize = 72;
/// `TCP_TIMER` words: a window probe.
const PROBE: u8 = 4;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
// Attributes, `include/uapi/linux/inet_diag.h`.
const INFO: u16 = 2;
const CONGESTION: u16 = 4;
const MEMORY: u16 = 7;
/// `TCP_CA_NAME_MAX`.
const LONGEST_NAME: usize = 16;

/// A connection, as the table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The address of this end.
    pub local: SocketAddr,
    /// The address of the other end.
    pub remote: SocketAddr,
    /// Of the socket, by which its process is found; 0: no process has it any more.
    pub inode: u32,
    /// The congestion control of this end; empty where the kernel does not tell.
    pub congestion: String,
    /// The figures, at no time yet.
    pub sample: Sample,
}

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Connections in it.
    pub connections: Vec<Connection>,
    /// Nothing comes behind it.
    pub is_last: bool,
    /// The number of an error of the system's, positive.
    pub error: Option<i32>,
}

/// Reads one datagram. What is cut short or of another kind is left out.
#[must_use]
pub fn parse(datagram: &[u8]) -> Answer {
    let mut answer = Answer::default();
    let mut rest = datagram;
    while let Some((kind, payload, behind)) = message(rest) {
        match kind {
            ERROR => {
                let number = u32_at(payload, 0).unwrap_or_default().cast_signed();
                answer.error = Some(number.saturating_neg()).filter(|number| *number != 0);
                answer.is_last = true;
            }
            DONE => answer.is_last = true,
            BY_FAMILY => answer.connections.extend(connection(payload)),
            _ => {}
        }
        rest = behind;
    }
    answer
}

fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let kind = u16_at(bytes, 4)?;
    let payload = bytes.get(HEADER..length)?;
    Some((kind, payload, behind(bytes, length)))
}

/// What comes behind the first `length` bytes, which begins at a multiple of four.
fn behind(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(length.next_multiple_of(4)..).unwrap_or_default()
}

fn connection(payload: &[u8]) -> Option<Connection> {
    let (socket, attributes) = payload.split_at_checked(SOCKET)?;
    let [family, _state, timer, _, ..] = socket else {
        return None;
    };
    let mut found = Connection {
        local: address(socket, *family, 4, 8)?,
        remote: address(socket, *family, 6, 24)?,
        inode: u32_at(socket, 68)?,
        congestion: String::new(),
        sample: Sample {
            receive_queue: u32_at(socket, 56)?,
            send_queue: u32_at(socket, 60)?,
            is_probing: *timer == PROBE,
            ..Sample::default()
        },
    };
    let mut tcp = None;
    let mut rest = attributes;
    while let Some(length) = u16_at(rest, 0).map(usize::from) {
        let Some(value) = rest.get(4..length) else {
            break;
        };
        // The two highest bits are flags.
        match u16_at(rest, 2).unwrap_or_default() & 0x3fff {
            INFO => tcp = TcpInfo::parse(value),
            CONGESTION => found.congestion = name(value),
            MEMORY => found.sample.memory = memory(value),
            _ => {}
        }
        rest = behind(rest, length);
    }
    // A socket without these has nothing to tell.
    found.sample.tcp = tcp?;
    Some(found)
}

fn address(socket: &[u8], family: u8, port: usize, at: usize) -> Option<SocketAddr> {
    let port = socket.get(port..)?.first_chunk()?;
    let bytes = socket.get(at..)?.first_chunk::<16>()?;
    let ip: IpAddr = match family {
        IPV4 => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        // IPv4 by a socket of both is IPv4.
        IPV6 => Ipv6Addr::from(*bytes).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

fn name(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    let length = end.unwrap_or(value.len()).min(LONGEST_NAME);
    let plain = value.get(..length).unwrap_or_default().iter();
    let plain = plain.filter(|byte| byte.is_ascii_graphic());
    plain.map(|byte| char::from(*byte)).collect()
}

/// `enum { SK_MEMINFO_RMEM_ALLOC, … }` of `sock_diag.h`.
fn memory(value: &[u8]) -> Option<Memory> {
    Some(Memory {
        receive: u32_at(value, 0)?,
        receive_buffer: u32_at(value, 4)?,
        send_buffer: u32_at(value, 12)?,
        send: u32_at(value, 20)?,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests;
