//! HTTP CONNECT (RFC 9110 §9.3.6): a client of this host says which service of which site it wants.
//!
//! `CONNECT mdx.tokyo.example:443` is the service `mdx` of `tokyo.example`; the port has to be one, and
//! says nothing. One request for a connection, and what follows its head is not read before there is a
//! permit.

use std::{io, net::Ipv4Addr, time::Duration};

use sekisho_certs::{Reason, TrustDomain, id::parse_trust_domain, members::is_service_name};
use tokio::io::AsyncWriteExt as _;

use crate::{stream::Stream, transport::Transport};

/// Bytes of a head at most.
pub const LONGEST: usize = 8 * 1024;
/// Header fields at most.
const FIELDS: usize = 64;
/// How long a head may take at most; `timeouts.handshake` may be shorter.
pub(crate) const TIME: Duration = Duration::from_secs(10);
/// How long a client may take to accept an answer.
const PATIENCE: Duration = Duration::from_secs(2);

const BAD_REQUEST: &str = "400 Bad Request";

/// Whom a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The site.
    pub domain: TrustDomain,
    /// The service there, a DNS label.
    pub service: String,
}

/// What came is no request that could be answered with a connection.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The socket failed, or ended within the head.
    #[error("no HTTP request came: {0}")]
    Io(#[from] io::Error),
    /// Not a head as RFC 9112 has it.
    #[error("no HTTP/1.1 request: {0}")]
    Malformed(String),
    /// Another method: this is no proxy for `http://` addresses.
    #[error("the method is not CONNECT")]
    Method,
    /// No `SERVICE.TRUST-DOMAIN:PORT`.
    #[error("{0:?} is not SERVICE.TRUST-DOMAIN:PORT")]
    Target(String),
    /// Larger than allowed.
    #[error("the head of the request is longer than {LONGEST} bytes")]
    TooLong,
    /// Too slow.
    #[error("the head of the request was not complete after {0:?}")]
    Timeout(Duration),
}

impl RequestError {
    /// The stable word for it.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Io(_) | Self::Malformed(_) | Self::Method | Self::Target(_) => Reason::BadRequest,
            Self::TooLong => Reason::Limit,
            Self::Timeout(_) => Reason::HandshakeTimeout,
        }
    }

    /// The status line's end.
    pub(crate) const fn status(&self) -> &'static str {
        match self {
            Self::Io(_) | Self::Malformed(_) | Self::Target(_) => BAD_REQUEST,
            Self::Method => "405 Method Not Allowed",
            Self::TooLong => "431 Request Header Fields Too Large",
            Self::Timeout(_) => "408 Request Timeout",
        }
    }
}

/// Reads the head of a request: whom it wants, and how long it is. `None`: it is not whole yet.
///
/// # Errors
/// When it is not one, or asks for something else.
pub fn parse(bytes: &[u8]) -> Result<Option<(Wanted, usize)>, RequestError> {
    let malformed = |why: &str| RequestError::Malformed(why.to_owned());
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(malformed(&error.to_string())),
    };
    if request.method != Some("CONNECT") {
        return Err(RequestError::Method);
    }
    let count = |name: &str| {
        let fields = request.headers.iter();
        fields
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .count()
    };
    // RFC 9112 §3.2.
    let hosts = count("host");
    if hosts > 1 || (hosts == 0 && request.version == Some(1)) {
        return Err(malformed("there is not one Host"));
    }
    // RFC 9110 §9.3.6: it has no content; who believes otherwise would have it read as the stream's.
    if count("transfer-encoding") + count("content-length") > 0 {
        return Err(malformed("a CONNECT has no content"));
    }
    let wanted = target(request.path.unwrap_or_default())?;
    Ok(Some((wanted, length)))
}

/// Takes `SERVICE.TRUST-DOMAIN:PORT` apart. Names of hosts have no case.
fn target(text: &str) -> Result<Wanted, RequestError> {
    let parts = || {
        let (host, port) = text.rsplit_once(':')?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse().ok().filter(|port: &u16| digits && *port > 0)?;
        let host = host.to_ascii_lowercase();
        let (service, domain) = host.split_once('.')?;
        let address = host.parse::<Ipv4Addr>().is_ok();
        if address || !is_service_name(service) || domain.split('.').any(str::is_empty) {
            return None;
        }
        Some(Wanted {
            domain: parse_trust_domain(domain).ok()?,
            service: service.to_owned(),
        })
    };
    parts().ok_or_else(|| RequestError::Target(text.chars().take(300).collect()))
}

/// Reads a request, and nothing beyond its head.
///
/// # Errors
/// When none came in `time`, or another one.
pub(crate) async fn read(
    transport: &mut Transport,
    time: Duration,
) -> Result<Wanted, RequestError> {
    let read = tokio::time::timeout(time, head(transport)).await;
    read.unwrap_or(Err(RequestError::Timeout(time)))
}

async fn head(transport: &mut Transport) -> Result<Wanted, RequestError> {
    let mut head = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let before = head.len();
        let room = buffer.get_mut(before..).unwrap_or_default();
        if room.is_empty() {
            return Err(RequestError::TooLong);
        }
        // Looked at first: what follows the head stays where it is until there is a permit.
        let count = transport.peek(room).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        head.extend_from_slice(room.get(..count).unwrap_or_default());
        let found = parse(&head)?;
        let take = found
            .as_ref()
            .map_or(count, |(_, length)| length.saturating_sub(before));
        let taken = room.get_mut(..take).unwrap_or_default();
        transport.read_exactly(taken).await?;
        if let Some((wanted, _)) = found {
            return Ok(wanted);
        }
    }
}

/// The status line's end for what became of a request that was understood.
pub(crate) const fn status(reason: Reason) -> &'static str {
    match reason {
        Reason::BadRequest => BAD_REQUEST,
        Reason::LocalUser
        | Reason::NotAccepted
        | Reason::NotExpected
        | Reason::PolicyDenied
        | Reason::PolicyBudget
        | Reason::PolicyError
        | Reason::PolicyUndefined => "403 Forbidden",
        // What may be otherwise in a moment: a site that is asked for, an SVID that is on its way.
        Reason::UnknownTrustDomain | Reason::NoIdentity | Reason::Limit | Reason::Drained => {
            "503 Service Unavailable"
        }
        _ => "502 Bad Gateway",
    }
}

/// Says that the stream begins. Whether the client hears it, the relay finds out.
pub(crate) async fn accept(client: &mut Stream) {
    let answer = b"HTTP/1.1 200 Connection established\r\n\r\n";
    let said = async {
        client.write_all(answer).await?;
        client.flush().await
    };
    let _ = tokio::time::timeout(PATIENCE, said).await;
}

/// Says why not, in one word, and closes.
pub(crate) async fn refuse(mut transport: Transport, status: &'static str, reason: Reason) {
    // RFC 9110 §15.5.6: a 405 says what would do.
    let allow = if status.starts_with("405") {
        "Allow: CONNECT\r\n"
    } else {
        ""
    };
    let length = reason.as_str().len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\n{allow}Content-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{reason}\n"
    );
    let said = tokio::time::timeout(PATIENCE, transport.write_all(answer.as_bytes())).await;
    if matches!(said, Ok(Ok(()))) {
        transport.close_gently().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(head: &str) -> Result<Option<(String, usize)>, RequestError> {
        let parsed = parse(head.as_bytes())?;
        Ok(parsed.map(|(wanted, length)| {
            let name = format!("site://{}/{}", wanted.domain, wanted.service);
            (name, length)
        }))
    }

    fn line(target: &str) -> String {
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
    }

    #[test]
    fn the_first_label_is_the_service_and_the_rest_its_site() {
        let name = |target: &str| wanted(&line(target)).unwrap().unwrap().0;
        assert_eq!(name("mdx.tokyo.example:443"), "site://tokyo.example/mdx");
        assert_eq!(name("MDX.Tokyo.Example:1"), "site://tokyo.example/mdx");
        assert_eq!(
            name("a-1.lab_2.uni.example:65535"),
            "site://lab_2.uni.example/a-1"
        );
        // As OpenBSD's nc sends it for ssh.
        let old = "CONNECT mdx.tokyo.example:22 HTTP/1.0\r\n\r\n";
        assert_eq!(wanted(old).unwrap().unwrap().0, "site://tokyo.example/mdx");
    }

    #[test]
    fn a_head_ends_where_it_ends_and_no_piece_of_it_is_one() {
        let head = line("mdx.tokyo.example:443");
        let more = format!("{head}SSH-2.0-OpenSSH_9.2\r\n\r\n");
        assert_eq!(wanted(&more).unwrap().unwrap().1, head.len());
        for end in 0..head.len() {
            assert!(wanted(&head[..end]).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn other_methods_are_told_from_what_is_no_http() {
        for method in ["GET http://mdx.tokyo.example/", "POST /", "connect a.b:1"] {
            let head = format!("{method} HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(matches!(wanted(&head), Err(RequestError::Method)), "{head}");
        }
        let many: String = (0..=FIELDS).map(|n| format!("X-{n}: y\r\n")).collect();
        let heads = [
            "\x16\x03\x01\x02\0",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "CONNECT a.b.example:1 HTTP/1.1\r\n\r\n",
            "CONNECT a.b.example:1 HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n",
            "CONNECT a.b.example:1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT a.b.example:1 HTTP/1.1\r\nHost: x\r\ncontent-length: 4\r\n\r\n",
            "CONNECT a.b.example:1 HTTP/1.1\r\nHost x\r\n\r\n",
            "CONNECT a.b.example:1 HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
            "CONNECT a.b.example:1  HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT a.b.example:1 HTTP/1.1\rHost: x\r\r",
            &format!("CONNECT a.b.example:1 HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        ];
        for head in heads {
            let said = wanted(head);
            assert!(
                matches!(said, Err(RequestError::Malformed(_))),
                "{head:?}: {said:?}"
            );
        }
    }

    #[test]
    fn what_names_no_service_of_a_site_is_refused() {
        let long = format!("mdx.{}.example:1", "a".repeat(300));
        let targets = [
            "mdx.tokyo.example",
            "mdx.tokyo.example:",
            "mdx.tokyo.example:0",
            "mdx.tokyo.example:65536",
            "mdx.tokyo.example:+1",
            "mdx.tokyo.example.:1",
            "mdx..example:1",
            ".tokyo.example:1",
            "mdx:1",
            "a_b.tokyo.example:1",
            "-a.tokyo.example:1",
            "10.0.0.1:443",
            "[::1]:443",
            "[::ffff:10.0.0.1]:443",
            "user@mdx.tokyo.example:1",
            "mdx.tokyo.example/../x:1",
            "mdx.tokyo%2eexample:1",
            "mdx.tōkyō.example:1",
            "https://mdx.tokyo.example:1",
            "/",
            "*",
            &long,
        ];
        for target in targets {
            let said = wanted(&line(target));
            let refused = matches!(
                said,
                Err(RequestError::Target(_) | RequestError::Malformed(_))
            );
            assert!(refused, "{target}: {said:?}");
        }
    }
}
