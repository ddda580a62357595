//! Verifies JWT-SVIDs (JWT-SVID §2 to §6), with the words of SPIRE's agent for what is wrong.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
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
    let signed = token.len() - signature.len() - 1;
    let message = token.get(..signed).unwrap_or_default().as_bytes();
    if !algorithm.verifies(&key.public_key, message, signature) {
        return Err(ValidateError::Signature);
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

/// How a token is signed.
#[derive(Clone, Copy)]
enum Signed {
    By(Algorithm),
    /// Which `jsonwebtoken` does not have.
    Es512,
}

/// JWT-SVID §2.1.
fn algorithm(name: &str) -> Result<Signed, ValidateError> {
    Ok(Signed::By(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "ES512" => return Ok(Signed::Es512),
        other => {
            return Err(parse(format_args!(
                "signature algorithm {other:?} is not supported"
            )));
        }
    }))
}

impl Signed {
    /// Whether `signature`, base64, is that of this key (SubjectPublicKeyInfo, DER). A key of another kind
    /// than the algorithm's verifies nothing.
    fn verifies(self, der: &[u8], message: &[u8], signature: &str) -> bool {
        let algorithm = match self {
            Self::By(algorithm) => algorithm,
            Self::Es512 => return verifies_es512(der, message, signature),
        };
        let verified = decoding_key(der, algorithm)
            .map(|key| jsonwebtoken::crypto::verify(signature, message, &key, algorithm));
        matches!(verified, Some(Ok(true)))
    }
}

/// RFC 7518 §3.4: both halves of the signature, 132 bytes.
fn verifies_es512(der: &[u8], message: &[u8], signature: &str) -> bool {
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else {
        return false;
    };
    let verified = with_parts(der, |parts| match parts {
        Parts::Ec("P-521", point) => UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point)
            .verify(message, &signature)
            .is_ok(),
        _ => false,
    });
    verified.unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer as _,
        rand::SystemRandom,
        signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };

    use super::*;
    use crate::bundle::JwtAuthority;

    fn key() -> (EcdsaKeyPair, Vec<u8>) {
        let key = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        let der = key.public_key().as_der().unwrap().as_ref().to_vec();
        (key, der)
    }

    #[test]
    fn a_token_by_a_key_of_p_521_is_verified() {
        let (key, der) = key();
        let claims = r#"{"sub":"spiffe://a.example/w","aud":"kafka","exp":2000000000}"#;
        let signed =
            [r#"{"alg":"ES512","kid":"k"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let signed = signed.join(".");
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_900_000_000);
        let ask = |public_key| {
            let bundle = Bundle {
                x509: Vec::new(),
                jwt: vec![JwtAuthority {
                    id: "k".into(),
                    public_key,
                    expires_at: None,
                    tainted: false,
                }],
                sequence: 1,
                refresh_hint: std::time::Duration::ZERO,
            };
            let bundles = [("a.example".to_owned(), Arc::new(bundle))].into();
            validate(&token, "kafka", &bundles, now)
        };
        assert_eq!(ask(der).unwrap().id.to_string(), "spiffe://a.example/w");
        let another = ask(self::key().1).unwrap_err();
        assert_eq!(another, ValidateError::Signature);
    }
}
