//! OpenID Connect discovery for JWT-SVIDs (OpenID Connect Discovery 1.0 §3, §4), as SPIRE's
//! oidc-discovery-provider has it: clouds and vaults that know nothing of SPIFFE verify our tokens by it.
//!
//! It serves public keys and nothing else, and has no secret but the key of its own TLS certificate.

mod certificate;
mod door;
mod issuer;
mod jwks;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hyper::{
    Method, Request, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};
use sekisho_certs::Clock;
use serde::Serialize;
use tokio::sync::watch;

use crate::http::{Answer, json, method_not_allowed, text};
pub use certificate::{Certificate, CertificateError};
pub use door::{Door, serve};
pub use issuer::{Issuer, IssuerError};
pub use jwks::{JwksError, MAX_BYTES, jwks};

/// So long a source may be away before this is told as not being ready: as SPIRE's provider has it.
pub const AWAY: Duration = Duration::from_secs(180);

/// Where the documents are, below the issuer.
const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

/// What is known of the site's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The JWK Set; `None` before the source's first word.
    pub jwks: Option<Bytes>,
    /// Since when the source is away; `None` while it is there.
    pub away: Option<SystemTime>,
}

/// What is told.
#[derive(Debug)]
pub struct Provider {
    domains: Vec<String>,
    discovery: Bytes,
    discovery_path: String,
    keys_path: String,
    keys: watch::Receiver<Keys>,
    clock: Arc<dyn Clock>,
}

/// The discovery document, its members in SPIRE's order.
#[derive(Serialize)]
struct Discovery<'a> {
    issuer: &'a str,
    jwks_uri: &'a str,
    // Required by the specification; nobody is sent anywhere.
    authorization_endpoint: &'static str,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 0],
    id_token_signing_alg_values_supported: [&'static str; 3],
}

impl Provider {
    /// Tells of these keys, to who asks for one of `domains` (lower case). Without `jwks_uri` the keys
    /// are said to be where they are served, `ISSUER/keys`.
    #[must_use]
    pub fn new(
        issuer: &Issuer,
        jwks_uri: Option<&str>,
        domains: Vec<String>,
        keys: watch::Receiver<Keys>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let own = format!("{issuer}{KEYS}");
        let document = Discovery {
            issuer: issuer.as_str(),
            jwks_uri: jwks_uri.unwrap_or(&own),
            authorization_endpoint: "",
            response_types_supported: ["id_token"],
            subject_types_supported: [],
            id_token_signing_alg_values_supported: jwks::ALGORITHMS,
        };
        // Text into memory does not fail.
        let discovery = serde_json::to_vec_pretty(&document).unwrap_or_default();
        Self {
            domains,
            discovery: discovery.into(),
            discovery_path: format!("{}{DISCOVERY}", issuer.path()),
            keys_path: format!("{}{KEYS}", issuer.path()),
            keys,
            clock,
        }
    }

    /// The answer to a request, whose body is not looked at.
    #[must_use]
    pub fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        let document = path == self.discovery_path || path == self.keys_path;
        if !document && !matches!(path, "/live" | "/ready") {
            return text(StatusCode::NOT_FOUND, "not found\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed();
        }
        match path {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" => self.ready(),
            // Whoever has another name lead here does not get our documents under it.
            _ if !self.is_ours(request) => {
                text(StatusCode::BAD_REQUEST, "this domain is not served here\n")
            }
            _ if path == self.discovery_path => json(self.discovery.clone()),
            _ => self.key_set(),
        }
    }

    fn key_set(&self) -> Answer {
        let Some(jwks) = self.keys.borrow().jwks.clone() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "no keys are known yet\n");
        };
        let mut answer = json(jwks);
        // As SPIRE's provider: a key that was revoked is to be gone at once.
        let headers = [
            (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
            (header::PRAGMA, "no-cache"),
            (header::EXPIRES, "0"),
        ];
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            answer.headers_mut().insert(name, value);
        }
        answer
    }

    fn ready(&self) -> Answer {
        let keys = self.keys.borrow().clone();
        let away = keys.away.map(|since| {
            let away = self.clock.now().duration_since(since);
            away.unwrap_or_default()
        });
        match (keys.jwks, away) {
            (None, _) => text(StatusCode::SERVICE_UNAVAILABLE, "no keys are known yet\n"),
            (Some(_), Some(away)) if away >= AWAY => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the source of the keys is away: what it told last is served\n",
            ),
            (Some(_), Some(_)) => text(
                StatusCode::OK,
                "ready; the source of the keys has just gone away\n",
            ),
            (Some(_), None) => text(StatusCode::OK, "ready\n"),
        }
    }

    /// Whether the request is for one of our domains: by the only `Host`, or by the target where that
    /// is a whole URL (RFC 9112 §3.2). What a proxy in front says in other headers is not believed.
    fn is_ours<B>(&self, request: &Request<B>) -> bool {
        let host = match request.uri().authority() {
            Some(authority) => Some(authority.as_str()),
            None => only_host(request.headers()),
        };
        let Some(host) = host else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        self.domains
            .iter()
            .any(|domain| domain.eq_ignore_ascii_case(name))
    }
}

fn only_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}
