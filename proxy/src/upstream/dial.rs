//! Connecting to one target: all its addresses, the next one begun before the last has failed
//! (RFC 8305, bounded).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::{TcpStream, UnixStream},
    time::Instant,
};

use super::{catalogue::Planned, resolve::Resolved};
use crate::{
    endpoint::spec::{Address, EndpointSpec, SocketOptions},
    error::UpstreamError,
    socket,
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
    options: &SocketOptions,
) -> Result<(Transport, String, Option<Far>), UpstreamError> {
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
            Ok((Transport::Unix(stream), address.to_string(), None))
        }
        Address::Ip(ip) => {
            allowed(ip.ip())?;
            let (stream, far) = tcp(*ip, options).await.map_err(failed)?;
            Ok((Transport::Tcp(stream), called.clone(), Some(far)))
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
            let (stream, far) = first_of(interleave(addresses), options)
                .await
                .map_err(failed)?;
            let called = format!("{address} ({})", far.address);
            Ok((Transport::Tcp(stream), called, Some(far)))
        }
    }
}

/// Who answered, and how far away that is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Far {
    pub(crate) address: SocketAddr,
    /// What `connect` took: a round trip, where no SYN was lost.
    pub(crate) round_trip: Duration,
}

/// Connects to an address that answered before.
///
/// # Errors
/// What the system says.
pub(crate) async fn redial(address: SocketAddr, spec: &EndpointSpec) -> io::Result<TcpStream> {
    Ok(tcp(address, &spec.sockets.forward).await?.0)
}

async fn tcp(address: SocketAddr, options: &SocketOptions) -> io::Result<(TcpStream, Far)> {
    let begin = Instant::now();
    let stream = TcpStream::connect(address).await?;
    let round_trip = begin.elapsed();
    socket::dialled(&stream, address, options);
    Ok((
        stream,
        Far {
            address,
            round_trip,
        },
    ))
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

async fn first_of(
    addresses: Vec<SocketAddr>,
    options: &SocketOptions,
) -> io::Result<(TcpStream, Far)> {
    let mut waiting = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let attempt = |address| tcp(address, options);
    trying.extend(waiting.next().map(attempt));
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        let more = waiting.len() > 0;
        tokio::select! {
            ended = trying.next() => match ended {
                Some(Ok(connected)) => return Ok(connected),
                Some(Err(error)) => {
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
