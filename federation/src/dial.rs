//! Connections to the web servers of others: to the very address that was looked at, HTTP/1.1 with a bound
//! on the head.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    body::Body,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use url::{Host, Position, Url};

use crate::client::{Allowed, UrlError};

/// How long one of several addresses of a host may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Most bytes of the head of an answer.
const HEAD: usize = 64 * 1024;
/// Most bytes of an address.
const MAX_URL: usize = 2048;

/// Why a host is not reached.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// Its address is none that is allowed.
    Address(IpAddr),
    /// The system says so.
    Io(io::Error),
}

/// Connects to one of the addresses that a host has, if it is allowed: the very address that was looked
/// at, so that no second look-up says another. Without a list wherever its name leads.
pub(crate) async fn reach(
    host: &str,
    port: u16,
    allowed: Option<&Allowed>,
) -> Result<TcpStream, Unreached> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found: Vec<SocketAddr> = found.map_err(Unreached::Io)?.collect();
    let mut last = Unreached::Io(io::Error::other("its host has no address"));
    for address in found {
        if allowed.is_some_and(|allowed| !allowed.permits(address.ip())) {
            last = Unreached::Address(address.ip());
            continue;
        }
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Unreached::Io(error),
            Err(late) => last = Unreached::Io(late.into()),
        }
    }
    Err(last)
}

/// A connection on which questions are asked, until this is dropped.
pub(crate) struct Spoken<B> {
    pub(crate) sender: SendRequest<B>,
    task: AbortHandle,
}

impl<B> Drop for Spoken<B> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Speaks HTTP/1.1 on `stream`.
pub(crate) async fn speak<S, B>(stream: S) -> Result<Spoken<B>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let task = tokio::spawn(connection).abort_handle();
    Ok(Spoken { sender, task })
}

/// The address below which a web server has files: `https` or `http`, no more than host, port and path.
#[derive(Clone, Debug)]
pub(crate) struct Base(Url);

impl Base {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none, or has a user, a query or a fragment.
    pub(crate) fn parse(url: &str) -> Result<Self, UrlError> {
        if url.len() > MAX_URL || url.contains(|one: char| one.is_ascii_control() || one == ' ') {
            let problem = "it is too long, or has spaces in it";
            return Err(UrlError::NotUrl(problem.into()));
        }
        let mut base = Url::parse(url).map_err(|error| UrlError::NotUrl(error.to_string()))?;
        if !["https", "http"].contains(&base.scheme()) {
            return Err(UrlError::Scheme(base.scheme().into()));
        }
        if base.host().is_none() {
            return Err(UrlError::NoHost);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(UrlError::UserInfo);
        }
        if base.query().is_some() || base.fragment().is_some() {
            let problem = "it may have no query and no fragment";
            return Err(UrlError::NotUrl(problem.into()));
        }
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        Ok(Self(base))
    }

    /// As it is told; it ends with `/`.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The address of a file below it.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }

    /// The same as it stands in a request.
    pub(crate) fn target(&self, name: &str) -> String {
        format!("{}{name}", self.0.path())
    }

    /// What stands in `Host`.
    pub(crate) fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// Host and port to connect to; an address of IPv6 without brackets.
    pub(crate) fn address(&self) -> (String, u16) {
        let host = match self.0.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        (host, self.0.port_or_known_default().unwrap_or(443))
    }

    /// Whether TLS is spoken.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_host_port_and_path_and_nothing_else() {
        let base = Base::parse("https://directory.example/fed").unwrap();
        assert_eq!(base.as_str(), "https://directory.example/fed/");
        assert_eq!(base.at("a/b"), "https://directory.example/fed/a/b");
        assert_eq!(base.target("a/b"), "/fed/a/b");
        assert_eq!(base.address(), ("directory.example".into(), 443));
        assert!(base.is_https());
        let base = Base::parse("http://[::1]:8080").unwrap();
        assert_eq!(base.address(), ("::1".into(), 8080));
        assert_eq!((base.authority(), base.is_https()), ("[::1]:8080", false));
        for (url, says) in [
            ("ftp://a.example", "ftp"),
            ("https://u@a.example", "user"),
            ("https://a.example/?b", "no query"),
            ("https://a.example/#b", "no fragment"),
            ("https://a.example/a b", "spaces"),
            ("directory", "relative URL"),
        ] {
            let error = Base::parse(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
        }
        assert!(Base::parse(&format!("https://a.example/{}", "a".repeat(2048))).is_err());
    }

    #[tokio::test]
    async fn only_what_is_allowed_is_connected_to() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let nowhere = Allowed::default();
        let refused = reach("127.0.0.1", port, Some(&nowhere)).await;
        assert!(matches!(refused, Err(Unreached::Address(_))), "{refused:?}");
        assert!(reach("127.0.0.1", port, None).await.is_ok());
        let here = Allowed::with(["127.0.0.0/8".parse().unwrap()]);
        assert!(reach("127.0.0.1", port, Some(&here)).await.is_ok());
    }
}
