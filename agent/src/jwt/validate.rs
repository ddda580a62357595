//! Verifies JWT-SVIDs (JWT-SVID §2 to §6), with the words of SPIRE's agent for what is wrong.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use sekisho_certs::SpiffeId;
use serde_json::{Map, Value};

use super::jwks::{Parts, with_parts};
use crate::bundle::Bundle;

/// Longest token.
const MOST: usize = 64 * 1024;

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// Not a JWS in compact form, or with headers that it may not have.
    #[error("unable to parse JWT token: {0}")]
    Parse(String),
    /// It does not name its key.
    #[error("token header missing key id")]
    NoKeyId,
    /// It names nobody.
    #[error("token missing subject claim")]
    NoSubject,
    /// It does not end.
    #[error("token missing exp claim")]
    NoExpiry,
    /// It names no SPIFFE ID.
    #[error("token has in invalid subject claim: {0}")]
    Subject(String),
    /// Of a trust domain that the caller is not federated with.
    #[error("no keys found for trust domain {0:?}")]
    Domain(String),
    /// By a key that its trust domain does not have.
    #[error("public key {0:?} not found in trust domain {1:?}")]
    Key(String, String),
    /// Somebody else has signed it.
    #[error("token signature is not valid")]
    Signature,
    /// It has ended.
    #[error("token has expired")]
    Expired,
    /// Its time has not come.
    #[error("token is not valid yet")]
    NotYet,
    /// It was made for somebody else.
    #[error("expected audience in {expected} (audience={found})")]
    Audience {
        /// For whom it should be.
        expected: String,
        /// For whom it is.
        found: String,
    },
}

/// A token that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// `sub`.
    pub id: SpiffeId,
    /// All claims.
    pub claims: Map<String, Value>,
}

fn parse(text: impl ToString) -> ValidateError {
    ValidateError::Parse(text.to_string())
}

/// Base64 without padding, with Go's word for the place of what is wrong.
fn decode(part: &str) -> Result<Vec<u8>, ValidateError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|error| {
        use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
        let place = match error {
            InvalidByte(place, _) => place,
            InvalidLastSymbol { .. } | InvalidLength(_) | InvalidPadding => part.len(),
        };
        parse(format_args!("illegal base64 data at input byte {place}"))
    })
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, ValidateError> {
    serde_json::from_slice(bytes).map_err(parse)
}

/// Verifies `token` for `audience` by these bundles, by trust domain, at `now`.
///
/// # Errors
/// Each of [`ValidateError`]'s variants.
pub fn validate(
    token: &str,
    audience: &str,
    bundles: &BTreeMap<String, Arc<Bundle>>,
    now: SystemTime,
) -> Result<Valid, ValidateError> {
    if token.len() > MOST {
        return Err(parse("too long"));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [head, body, signature] = parts.as_slice() else {
        // Go's library looks at the first part before it counts them.
        decode(parts.first().unwrap_or(&""))?;
        return Err(parse(
            "go-jose/go-jose: compact JWS format must have three parts",
        ));
    };
    let header = object(&decode(head)?)?;
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    let algorithm = algorithm(text("alg").unwrap_or_default())?;
    if let Some(other) = header
        .keys()
        .find(|name| !matches!(name.as_str(), "alg" | "kid" | "typ"))
    {
        return Err(parse(format_args!("header {other:?} is not allowed")));
    }
    if let Some(kind) = header.get("typ")
        && !matches!(kind.as_str(), Some("JWT" | "JOSE"))
    {
        return Err(parse("token header type not equal to either JWT or JOSE"));
    }
    let key_id = text("kid").filter(|id| !id.is_empty());
    let key_id = key_id.ok_or(ValidateError::NoKeyId)?;
    let claims = object(&decode(body)?)?;
    let subject = claims.get("sub").and_then(Value::as_str);
    let subject = subject.filter(|text| !text.is_empty());
    let subject = subject.ok_or(ValidateError::NoSubject)?;
    let expires = claims.get("exp").and_then(Value::as_f64);
    let expires = expires.ok_or(ValidateError::NoExpiry)?;
    let id = SpiffeId::new(subject).map_err(|error| ValidateError::Subject(error.to_string()))?;
    let domain = id.trust_domain().to_string();
    let bundle = bundles
        .get(&domain)
        .ok_or_else(|| ValidateError::Domain(domain.clone()))?;
    let key = bundle
        .jwt_key(key_id)
        .ok_or_else(|| ValidateError::Key(key_id.into(), domain))?;
    let key = decoding_key(&key.public_key, algorithm).ok_or(ValidateError::Signature)?;
    let signed = token.len() - signature.len() - 1;
    let message = token.get(..signed).unwrap_or_default().as_bytes();
    match jsonwebtoken::crypto::verify(signature, message, &key, algorithm) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(ValidateError::Signature),
    }
    times(&claims, expires, now)?;
    let found = audiences(&claims);
    if !found.iter().any(|one| one == audience) {
        return Err(ValidateError::Audience {
            expected: quoted(&[audience.to_owned()]),
            found: quoted(&found),
        });
    }
    Ok(Valid { id, claims })
}

/// JWT-SVID §2.1.
fn algorithm(name: &str) -> Result<Algorithm, ValidateError> {
    Ok(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        other => {
            return Err(parse(format_args!(
                "signature algorithm {other:?} is not supported"
            )));
        }
    })
}

fn decoding_key(der: &[u8], algorithm: Algorithm) -> Option<DecodingKey> {
    use Algorithm::{ES256, ES384};
    with_parts(der, |parts| match (parts, algorithm) {
        (Parts::Ec("P-256", point), ES256) | (Parts::Ec("P-384", point), ES384) => {
            Some(DecodingKey::from_ec_der(point))
        }
        (Parts::Rsa(modulus, exponent), algorithm) if !matches!(algorithm, ES256 | ES384) => {
            Some(DecodingKey::from_rsa_raw_components(modulus, exponent))
        }
        _ => None,
    })?
}

/// A token holds up to a second after its end no more; not before its time.
fn times(claims: &Map<String, Value>, expires: f64, now: SystemTime) -> Result<(), ValidateError> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs_f64();
    if now >= expires {
        return Err(ValidateError::Expired);
    }
    let begins = claims.get("nbf").and_then(Value::as_f64);
    if begins.is_some_and(|begins| now < begins) {
        return Err(ValidateError::NotYet);
    }
    Ok(())
}

/// `aud` is a text or a list of them (RFC 7519 §4.1.3).
fn audiences(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => {
            let texts = all.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// As Go prints a list of strings.
fn quoted(all: &[String]) -> String {
    let each: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
    format!("[{}]", each.join(" "))
}
