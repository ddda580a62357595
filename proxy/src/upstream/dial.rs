//! Connecting to one target: all its addresses, the next one begun before the last has failed
//! (RFC 8305, bounded).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::net::{TcpStream, UnixStream};

use super::{catalogue::Planned, resolve::Resolved};
use crate::{
    endpoint::spec::{Address, Side},
    error::UpstreamError,
    path, socket,
    transport::Transport,
};

/// RFC 8305 §5: Connection Attempt Delay.
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// Connects, and says to what.
///
/// # Errors
/// When no address answered.
pub(super) async fn target(
    planned: &Planned,
    resolved: &Resolved,
    side: &Side,
) -> Result<(Transport, String), UpstreamError> {
    let Planned {
        name: called,
        address,
        found,
        ..
    } = planned;
    let failed = |error: io::Error| UpstreamError::Connect(format!("{called}: {error}"));
    let allowed = |ip: IpAddr| match found {
        Some(found) if !found.allowed.permits(ip) => Err(UpstreamError::NotAllowed {
            service: found.service.clone(),
            address: ip,
        }),
        _ => Ok(()),
    };
    match address {
        // What the catalogue has of it was put in its place.
        Address::Site(_) | Address::Sites(_) => Err(UpstreamError::NotListed(address.to_string())),
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(failed)?;
            Ok((Transport::Unix(stream), address.to_string()))
        }
        Address::Ip(ip) => {
            allowed(ip.ip())?;
            let stream = tcp(*ip, side).await.map_err(failed)?;
            Ok((Transport::Tcp(stream), called.clone()))
        }
        Address::Name(name, port) => {
            let addresses =
                resolved
                    .known_or_ask(name, *port)
                    .await
                    .map_err(|error| UpstreamError::Dns {
                        name: name.clone(),
                        error,
                    })?;
            // A name of which one address is forbidden is not to be trusted with the others.
            addresses.iter().try_for_each(|at| allowed(at.ip()))?;
            let (stream, at) = first_of(interleave(addresses), side)
                .await
                .map_err(failed)?;
            Ok((Transport::Tcp(stream), format!("{address} ({at})")))
        }
    }
}

/// Connects to one address.
///
/// # Errors
/// What the system says.
pub(crate) async fn tcp(address: SocketAddr, side: &Side) -> io::Result<TcpStream> {
    let stream = socket::dial(address, path::window(&side.path)).await?;
    socket::dialled(&stream, address, side);
    Ok(stream)
}

/// RFC 8305 §4: families in turn, the resolver's first one first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut a, mut b): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    a.reverse();
    b.reverse();
    let mut order = Vec::new();
    while let Some(address) = a.pop() {
        order.push(address);
        order.extend(b.pop());
    }
    b.reverse();
    order.extend(b);
    order
}

async fn first_of(addresses: Vec<SocketAddr>, side: &Side) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let attempt = |address| async move { (tcp(address, side).await, address) };
    trying.extend(waiting.next().map(attempt));
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        let more = waiting.len() > 0;
        tokio::select! {
            ended = trying.next() => match ended {
                Some((Ok(stream), address)) => return Ok((stream, address)),
                Some((Err(error), _)) => {
                    last = error;
                    trying.extend(waiting.next().map(attempt));
                }
                None => return Err(last),
            },
            () = tokio::time::sleep(NEXT_AFTER), if more => {
                trying.extend(waiting.next().map(attempt));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        let given = parse(&[
            "[::1]:1",
            "[::2]:1",
            "10.0.0.1:1",
            "10.0.0.2:1",
            "10.0.0.3:1",
        ]);
        let order = parse(&[
            "[::1]:1",
            "10.0.0.1:1",
            "[::2]:1",
            "10.0.0.2:1",
            "10.0.0.3:1",
        ]);
        assert_eq!(interleave(given), order);
    }
}
