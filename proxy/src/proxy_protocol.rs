//! PROXY protocol, v1 and v2 in, v2 out (haproxy.org, proxy-protocol.txt).

use std::{collections::BTreeMap, net::SocketAddr};

use ppp::{HeaderResult, v1, v2};
use sekisho_certs::SpiffeId;

use crate::{error::ProxyHeaderError, transport::Transport};

/// The TLV that carries the peer's SPIFFE ID, as ztunnel sends it.
const TLV_IDENTITY: u8 = 0xD0;
/// The v2 signature and the four bytes after it.
const V2_HEAD: usize = 16;
/// A v1 line with its line end.
const V1_MAX: usize = 107;
/// Addresses and TLVs of a v2 header; 2 KiB hold a SPIFFE ID and change.
const V2_MAX: usize = 4096;

/// Reads a header, which must come, and returns what it claims: `source`, `destination`,
/// `identity`. A v2 `LOCAL` or v1 `UNKNOWN` claims nothing.
///
/// # Errors
/// When the socket fails, or the first bytes are no header.
pub(crate) async fn read(
    transport: &mut Transport,
) -> Result<BTreeMap<String, String>, ProxyHeaderError> {
    let mut header = vec![0; 12];
    transport.read_exactly(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(V2_HEAD, 0);
        transport
            .read_exactly(header.get_mut(12..).unwrap_or_default())
            .await?;
        let length = match header.get(14..V2_HEAD) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => return Err(ProxyHeaderError::Malformed),
        };
        if length > V2_MAX {
            return Err(ProxyHeaderError::TooLong(V2_MAX));
        }
        header.resize(V2_HEAD + length, 0);
        transport
            .read_exactly(header.get_mut(V2_HEAD..).unwrap_or_default())
            .await?;
    } else if header.starts_with(b"PROXY ") {
        // Byte by byte, since what follows the line is not ours to read.
        while !header.ends_with(b"\r\n") {
            if header.len() >= V1_MAX {
                return Err(ProxyHeaderError::TooLong(V1_MAX));
            }
            let mut byte = [0];
            transport.read_exactly(&mut byte).await?;
            header.extend(byte);
        }
    } else {
        return Err(ProxyHeaderError::Malformed);
    }
    claims(&header)
}

/// What a whole header claims.
///
/// # Errors
/// When it is not one.
pub fn claims(header: &[u8]) -> Result<BTreeMap<String, String>, ProxyHeaderError> {
    let mut claimed = BTreeMap::new();
    let mut put = |name: &str, value: String| claimed.insert(name.to_owned(), value);
    let (addresses, tlvs) = match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => (v1_addresses(&header.addresses), None),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Proxy => {
            (v2_addresses(&header.addresses), Some(header))
        }
        HeaderResult::V2(Ok(_)) => (None, None),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
            return Err(ProxyHeaderError::Malformed);
        }
    };
    if let Some((source, destination)) = addresses {
        put("source", source.to_string());
        put("destination", destination.to_string());
    }
    for tlv in tlvs.iter().flat_map(v2::Header::tlvs) {
        let tlv = tlv.map_err(|_| ProxyHeaderError::Malformed)?;
        if tlv.kind == TLV_IDENTITY {
            let identity =
                std::str::from_utf8(&tlv.value).map_err(|_| ProxyHeaderError::Malformed)?;
            put("identity", identity.to_owned());
        }
    }
    Ok(claimed)
}

/// Source and destination, where the header has them.
fn v1_addresses(addresses: &v1::Addresses) -> Option<(SocketAddr, SocketAddr)> {
    match addresses {
        v1::Addresses::Tcp4(tcp) => Some((
            (tcp.source_address, tcp.source_port).into(),
            (tcp.destination_address, tcp.destination_port).into(),
        )),
        v1::Addresses::Tcp6(tcp) => Some((
            (tcp.source_address, tcp.source_port).into(),
            (tcp.destination_address, tcp.destination_port).into(),
        )),
        v1::Addresses::Unknown => None,
    }
}

/// The same of a v2 header.
fn v2_addresses(addresses: &v2::Addresses) -> Option<(SocketAddr, SocketAddr)> {
    match addresses {
        v2::Addresses::IPv4(ip) => Some((
            (ip.source_address, ip.source_port).into(),
            (ip.destination_address, ip.destination_port).into(),
        )),
        v2::Addresses::IPv6(ip) => Some((
            (ip.source_address, ip.source_port).into(),
            (ip.destination_address, ip.destination_port).into(),
        )),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    }
}

/// The v2 header sent upstream: kernel addresses, and the verified ID of the peer where there is
/// one. `None` when it cannot be built, which no address family we accept on gives.
pub(crate) fn header(
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    identity: Option<&SpiffeId>,
) -> Option<Vec<u8>> {
    let (command, addresses) = match (source, destination) {
        (Some(source), Some(destination)) => {
            let canonical =
                |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            (
                v2::Command::Proxy,
                v2::Addresses::from((canonical(source), canonical(destination))),
            )
        }
        // A Unix socket has no address to tell.
        _ => (v2::Command::Local, v2::Addresses::Unspecified),
    };
    let mut builder =
        v2::Builder::with_addresses(v2::Version::Two | command, v2::Protocol::Stream, addresses);
    if let Some(id) = identity {
        builder = builder
            .write_tlv(TLV_IDENTITY, id.to_string().as_bytes())
            .ok()?;
    }
    builder.build().ok()
}
