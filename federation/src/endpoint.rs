//! A SPIFFE bundle endpoint (SPIFFE_Federation.md §5): public keys for whoever asks, without a client
//! certificate (§5.2.1.3). `/` has the site's own bundle, and `/federation/TRUST-DOMAIN` that of another
//! domain that the site has, for those who believe this endpoint but have no way to the other
//! (§5.2.2.2, "non-self-serving").

mod door;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use sekisho_certs::{TrustDomain, hex, id::parse_trust_domain, sha256};

use crate::http::{Answer, json, method_not_allowed, text};

pub(crate) use door::ACME;
pub use door::serve;

/// Below it are the bundles of other domains.
const OTHERS: &str = "/federation/";

/// What is asked for. A path that this module does not know is `Other`: whoever has more documents than
/// bundles finds them by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `/`.
    Own,
    /// `/federation/TRUST-DOMAIN`, where that is a name in the form in which it is written (lower case).
    Of(TrustDomain),
    /// The path of anything else.
    Other(String),
}

impl Asked {
    fn at(path: &str) -> Self {
        if path == "/" {
            return Self::Own;
        }
        let domain = path.strip_prefix(OTHERS);
        match domain.and_then(|domain| parse_trust_domain(domain).ok()) {
            Some(domain) => Self::Of(domain),
            None => Self::Other(path.into()),
        }
    }
}

/// A document, and the tag by which whoever has it asks for another (RFC 9110 §8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    body: Bytes,
    tag: String,
}

impl Document {
    /// Of this text, JSON.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut tag = hex(&sha256(&body));
        tag.truncate(32);
        Self {
            body,
            tag: format!("\"{tag}\""),
        }
    }
}

/// What there is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This.
    Document(Document),
    /// Nothing by that name.
    Nothing,
    /// It cannot be told now.
    Unavailable,
}

/// Where documents come from.
pub trait Documents: Send + Sync + 'static {
    /// What is there now. Called for each request that may be answered.
    fn find(&self, asked: Asked) -> impl Future<Output = Found> + Send;
}

/// The answer to a request, whose body is not looked at.
async fn answer<B>(documents: &impl Documents, request: &Request<B>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return method_not_allowed();
    }
    let asked = Asked::at(request.uri().path());
    let tags = header_text(request.headers(), header::IF_NONE_MATCH);
    match documents.find(asked).await {
        Found::Document(document) => told(document, tags.as_deref()),
        Found::Nothing => text(StatusCode::NOT_FOUND, "not found\n"),
        Found::Unavailable => text(StatusCode::SERVICE_UNAVAILABLE, "not available now\n"),
    }
}

/// All lines of a header, as one.
fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let lines: Result<Vec<_>, _> = lines.into_iter().map(HeaderValue::to_str).collect();
    let lines = lines.ok()?;
    (!lines.is_empty()).then(|| lines.join(","))
}

fn told(document: Document, known: Option<&str>) -> Answer {
    let is_known = known.is_some_and(|known| {
        let mut known = known.split(',').map(str::trim);
        // RFC 9110 §13.1.2: compared weakly.
        known.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == document.tag)
    });
    let tag = HeaderValue::from_str(&document.tag);
    let mut answer = if is_known {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        json(document.body)
    };
    let headers = answer.headers_mut();
    if let Ok(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
    // Kept by nobody in between without asking: a key that was revoked is to be gone at once.
    let caching = HeaderValue::from_static("no-cache");
    headers.insert(header::CACHE_CONTROL, caching);
    answer
}
