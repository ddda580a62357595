//! JWT keys as a JWK Set (RFC 7517), in the form in which SPIRE's agent has it: no `use`, no members
//! of SPIFFE.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::Serialize;
use x509_parser::{prelude::FromDer as _, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use crate::bundle::Bundle;

/// A key, its members in SPIRE's order.
#[derive(Serialize)]
struct Jwk<'a> {
    kty: &'static str,
    kid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
}

#[derive(Serialize)]
struct Set<'a> {
    keys: Vec<Jwk<'a>>,
}

/// The keys of a bundle. One of a kind that JWT-SVIDs do not have is left out (JWT-SVID §2.1).
#[must_use]
pub fn jwks(bundle: &Bundle) -> Vec<u8> {
    let keys = bundle.jwt.iter();
    let keys = keys
        .filter_map(|key| jwk(&key.id, &key.public_key))
        .collect();
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut to = serde_json::Serializer::with_formatter(&mut text, indent);
    // Text into memory does not fail.
    let _ = Set { keys }.serialize(&mut to);
    text
}

/// What a public key is made of.
pub(super) enum Parts<'a> {
    /// Modulus and exponent, without leading zeros.
    Rsa(&'a [u8], &'a [u8]),
    /// The curve and the uncompressed point.
    Ec(&'static str, &'a [u8]),
}

/// Takes a SubjectPublicKeyInfo apart.
pub(super) fn with_parts<T>(der: &[u8], then: impl FnOnce(Parts<'_>) -> T) -> Option<T> {
    fn strip(bytes: &[u8]) -> &[u8] {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..).unwrap_or_default()
    }
    let (_, spki) = SubjectPublicKeyInfo::from_der(der).ok()?;
    match spki.parsed().ok()? {
        PublicKey::RSA(rsa) => Some(then(Parts::Rsa(strip(rsa.modulus), strip(rsa.exponent)))),
        PublicKey::EC(point) => {
            let curve = match point.data().len() {
                65 => "P-256",
                97 => "P-384",
                133 => "P-521",
                _ => return None,
            };
            Some(then(Parts::Ec(curve, point.data())))
        }
        _ => None,
    }
}

fn jwk<'a>(kid: &'a str, der: &[u8]) -> Option<Jwk<'a>> {
    with_parts(der, |parts| {
        let (mut n, mut e, mut crv, mut x, mut y) = (None, None, None, None, None);
        let kty = match parts {
            Parts::Rsa(modulus, exponent) => {
                n = Some(BASE64.encode(modulus));
                e = Some(BASE64.encode(exponent));
                "RSA"
            }
            Parts::Ec(curve, point) => {
                // X9.62 §4.3.6: 0x04, then two coordinates of equal length.
                let both = point.get(1..).unwrap_or_default();
                let (first, second) = both.split_at(both.len() / 2);
                crv = Some(curve);
                x = Some(BASE64.encode(first));
                y = Some(BASE64.encode(second));
                "EC"
            }
        };
        Jwk {
            kty,
            kid,
            crv,
            n,
            e,
            x,
            y,
        }
    })
}
