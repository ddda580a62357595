//! `mtls://`, `tcp://` and `unix://` addresses.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use sekisho_certs::{TrustDomain, id::parse_trust_domain, members::is_service_name};
use sekisho_proxy::endpoint::spec::Address;

/// What a `listen` looks like.
pub(super) const LISTEN: &str = "mtls://ADDRESS:PORT, tcp://ADDRESS:PORT, \
                                 connect://ADDRESS:PORT or unix:///PATH";
/// What a `forward` looks like.
pub(super) const FORWARD: &str = "mtls://HOST:PORT[/NAME], site://TRUST-DOMAIN/SERVICE, \
                                  site://*[/SERVICE], tcp://HOST:PORT or unix:///PATH";
/// What a host looks like.
const HOST: &str = "an IP address ([…] around IPv6) or a DNS name, a colon and a port from 1 to \
                    65535";
/// What the path of a socket looks like.
const SOCKET: &str = "unix:// and the absolute path of a socket, at most 107 bytes";
/// What an address to listen at looks like.
pub(super) const LOCAL: &str = "an IP address ([…] around IPv6; names are not looked up here), a colon and a port from 1 to \
     65535";
/// What the kernel takes as the path of a socket (`sun_path`).
const LONGEST_SOCKET: usize = 107;

/// A `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListenUrl {
    Mtls(SocketAddr),
    Tcp(SocketAddr),
    Connect(SocketAddr),
    Unix(PathBuf),
}

/// A `forward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ForwardUrl {
    Mtls(Address, Option<String>),
    Site(TrustDomain, String),
    Sites(Option<String>),
    Plain(Address),
}

/// Parses a `listen`.
///
/// # Errors
/// What was expected instead.
pub(super) fn listen(text: &str) -> Result<ListenUrl, &'static str> {
    if let Some(address) = text.strip_prefix("mtls://") {
        Ok(ListenUrl::Mtls(socket_address(address)?))
    } else if let Some(address) = text.strip_prefix("tcp://") {
        Ok(ListenUrl::Tcp(socket_address(address)?))
    } else if let Some(address) = text.strip_prefix("connect://") {
        Ok(ListenUrl::Connect(socket_address(address)?))
    } else if text.starts_with("unix:") {
        Ok(ListenUrl::Unix(unix(text)?))
    } else {
        Err(LISTEN)
    }
}

/// Parses one target of a `forward`.
///
/// # Errors
/// What was expected instead.
pub(super) fn forward(text: &str) -> Result<ForwardUrl, &'static str> {
    if let Some(rest) = text.strip_prefix("mtls://") {
        let (address, name) = match rest.split_once('/') {
            Some((address, name)) if is_dns_name(name) => (address, Some(name.into())),
            Some(_) => {
                return Err("mtls://HOST:PORT/NAME, NAME being lower-case DNS labels ([a-z0-9_-])");
            }
            None => (rest, None),
        };
        Ok(ForwardUrl::Mtls(host(address)?, name))
    } else if let Some(rest) = text.strip_prefix("site://*") {
        match rest.strip_prefix('/') {
            None if rest.is_empty() => Ok(ForwardUrl::Sites(None)),
            Some(name) if is_service_name(name) => Ok(ForwardUrl::Sites(Some(name.to_owned()))),
            _ => Err(
                "site://* or site://*/SERVICE, SERVICE being a lower-case DNS label ([a-z0-9-])",
            ),
        }
    } else if let Some(rest) = text.strip_prefix("site://") {
        let parts = rest.split_once('/');
        let parts = parts.and_then(|(site, name)| Some((parse_trust_domain(site).ok()?, name)));
        match parts {
            Some((site, name)) if is_service_name(name) => {
                Ok(ForwardUrl::Site(site, name.to_owned()))
            }
            _ => {
                Err("site://TRUST-DOMAIN/SERVICE, SERVICE being a lower-case DNS label ([a-z0-9-])")
            }
        }
    } else if let Some(address) = text.strip_prefix("tcp://") {
        Ok(ForwardUrl::Plain(host(address)?))
    } else if text.starts_with("unix:") {
        Ok(ForwardUrl::Plain(Address::Unix(unix(text)?)))
    } else {
        Err(FORWARD)
    }
}

/// Parses `unix:///PATH`.
///
/// # Errors
/// What was expected instead.
pub(super) fn unix(text: &str) -> Result<PathBuf, &'static str> {
    text.strip_prefix("unix://")
        .filter(|path| {
            path.starts_with('/')
                && !path.ends_with('/')
                && path.len() <= LONGEST_SOCKET
                && !path.chars().any(char::is_control)
        })
        .map(PathBuf::from)
        .ok_or(SOCKET)
}

/// Parses `ADDRESS:PORT`.
///
/// # Errors
/// What was expected instead.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() != 0)
        .ok_or(LOCAL)
}

/// Parses `HOST:PORT`.
///
/// # Errors
/// What was expected instead.
pub(super) fn host(text: &str) -> Result<Address, &'static str> {
    if let Ok(address) = socket_address(text) {
        return Ok(Address::Ip(address));
    }
    let (name, port) = text.rsplit_once(':').ok_or(HOST)?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0);
    let name = name.to_ascii_lowercase();
    // A trailing dot keeps the resolver from trying its search domains.
    let absolute = name.strip_suffix('.').unwrap_or(&name);
    // A name that ends in a number is a misspelt address.
    let last = absolute.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit());
    match port {
        Some(port) if is_dns_name(absolute) && !number => Ok(Address::Name(name, port)),
        _ => Err(HOST),
    }
}

/// Whether `text` is one or more lower-case DNS labels.
pub(super) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether only this host can reach the address.
pub(super) const fn is_loopback(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.is_loopback(),
            None => ip.is_loopback(),
        },
    }
}
