//! Public keys of JWT authorities: from JWK (RFC 7517, RFC 7518 §6) to what is stored and sent
//! elsewhere, SubjectPublicKeyInfo in DER (RFC 5280 §4.1, RFC 5480 §2.1, RFC 8017 §A.1.1).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use x509_parser::{prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use super::{BundleError, TrustBundle};
use crate::x509::CertificateInfo;

/// A JWT authority of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtKey {
    /// `kid`, never empty.
    pub key_id: String,
    /// SubjectPublicKeyInfo, DER. Its numbers are not checked: a point may be off its curve.
    pub public_key: Vec<u8>,
}

impl TrustBundle {
    /// The JWT authorities, in the order they were delivered. Keys of a type or on a curve that we
    /// do not know are left out (Trust_Domain_and_Bundle.md §4.2).
    ///
    /// # Errors
    /// When a number of an EC or RSA key is missing, no base64url, or of another length than its
    /// curve asks for.
    pub fn jwt_keys(&self) -> Result<Vec<JwtKey>, BundleError> {
        let mut keys = Vec::new();
        for jwk in self.jwt_keys.iter().filter_map(Value::as_object) {
            let key_id = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
            let key = public_key(jwk).map_err(|what| {
                BundleError::Json(format!("jwt-svid key {key_id:?}: {what} cannot be used"))
            })?;
            keys.extend(key.map(|public_key| JwtKey {
                key_id: key_id.into(),
                public_key,
            }));
        }
        Ok(keys)
    }

    /// The same with these JWT keys in place of those it has. One of a kind that JWT-SVIDs do not have is
    /// left out (JWT-SVID §2.1).
    #[must_use]
    pub fn with_jwt_keys<'a>(mut self, keys: impl IntoIterator<Item = &'a JwtKey>) -> Self {
        let keys = keys.into_iter().filter_map(|key| {
            let (_, spki) = SubjectPublicKeyInfo::from_der(&key.public_key).ok()?;
            let mut jwk = CertificateInfo::jwk_of(Some(&spki));
            let signs = matches!(jwk.get("kty")?.as_str()?, "EC" | "RSA");
            jwk.insert("use".into(), "jwt-svid".into());
            jwk.insert("kid".into(), key.key_id.clone().into());
            signs.then_some(Value::Object(jwk))
        });
        self.jwt_keys = keys.collect();
        self
    }
}

/// `ecPublicKey` and the curve's own name, as the whole AlgorithmIdentifier; bytes of a coordinate.
const CURVES: [(&str, &[u8], usize); 3] = [
    (
        "P-256",
        &[
            0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3,
            1, 7,
        ],
        32,
    ),
    (
        "P-384",
        &[
            0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 5, 0x2b, 0x81, 4, 0, 34,
        ],
        48,
    ),
    (
        "P-521",
        &[
            0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 0x06, 5, 0x2b, 0x81, 4, 0, 35,
        ],
        66,
    ),
];
/// `rsaEncryption` with its NULL.
const RSA: &[u8] = &[
    0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0,
];

fn public_key(jwk: &Map<String, Value>) -> Result<Option<Vec<u8>>, &'static str> {
    let text = |name| jwk.get(name).and_then(Value::as_str);
    let number = |name: &'static str| {
        let decoded = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        decoded.filter(|bytes| !bytes.is_empty()).ok_or(name)
    };
    let (algorithm, bits) = match text("kty") {
        Some("EC") => {
            let known = CURVES.iter().find(|(name, ..)| text("crv") == Some(name));
            let Some((_, algorithm, length)) = known else {
                return Ok(None);
            };
            let (x, y) = (number("x")?, number("y")?);
            if x.len() != *length || y.len() != *length {
                return Err("the length of its point");
            }
            (*algorithm, [&[4], x.as_slice(), &y].concat())
        }
        Some("RSA") => {
            let numbers = [integer(&number("n")?), integer(&number("e")?)].concat();
            (RSA, tlv(0x30, &numbers))
        }
        _ => return Ok(None),
    };
    // A bit string begins with the count of bits that are not used: none.
    let bits = [&[0], bits.as_slice()].concat();
    let parts = [tlv(0x30, algorithm), tlv(0x03, &bits)].concat();
    Ok(Some(tlv(0x30, &parts)))
}

/// A number that is not negative, in as few bytes as it has.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let begin = bytes.iter().position(|byte| *byte != 0);
    let digits = begin.and_then(|begin| bytes.get(begin..)).unwrap_or(&[0]);
    let sign: &[u8] = if digits.first().is_some_and(|first| *first >= 0x80) {
        &[0]
    } else {
        &[]
    };
    tlv(0x02, &[sign, digits].concat())
}

/// DER: a tag, the length of what follows, and that.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let zeroes = length.iter().take_while(|byte| **byte == 0).count();
            let digits = length.get(zeroes..).unwrap_or_default();
            // At most eight.
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            out.extend(digits);
        }
    }
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData as _};
    use serde_json::json;

    use super::*;
    use crate::id::parse_trust_domain;

    fn keys(jwks: &Value) -> Result<Vec<JwtKey>, BundleError> {
        let domain = parse_trust_domain("b.example").unwrap();
        TrustBundle::from_value(domain, &json!({ "keys": jwks }))?.jwt_keys()
    }

    fn jwk(mut of: Value) -> Value {
        of["use"] = "jwt-svid".into();
        of["kid"] = "k".into();
        of
    }

    #[test]
    fn keys_of_both_types_come_out_as_a_library_writes_them() {
        for (curve, algorithm) in [
            ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
            ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
            ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
        ] {
            let spki = KeyPair::generate_for(algorithm)
                .unwrap()
                .subject_public_key_info();
            let length = CURVES.iter().find(|known| known.0 == curve).unwrap().2;
            let (x, y) = spki[spki.len() - 2 * length..].split_at(length);
            let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
            let sent = jwk(json!({"kty": "EC", "crv": curve, "x": x, "y": y}));
            let read = keys(&json!([sent])).unwrap();
            let expected = JwtKey {
                key_id: "k".into(),
                public_key: spki,
            };
            assert_eq!(read, [expected]);
        }
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let spki = pair.subject_public_key_info();
        // …, INTEGER n with a zero in front (257 bytes), INTEGER 65537.
        let n = &spki[spki.len() - 5 - 256..spki.len() - 5];
        let sent = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": "AQAB"});
        let read = keys(&json!([jwk(sent)])).unwrap();
        assert_eq!(read[0].public_key, spki);
    }

    #[test]
    fn keys_are_read_back_as_they_were_written() {
        let spki = |algorithm| {
            let pair = KeyPair::generate_for(algorithm).unwrap();
            pair.subject_public_key_info()
        };
        let all = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
            // Not for JWT-SVIDs.
            &rcgen::PKCS_ED25519,
        ];
        let all: Vec<_> = (0..)
            .zip(all)
            .map(|(at, algorithm)| JwtKey {
                key_id: format!("k{at}"),
                public_key: spki(algorithm),
            })
            .collect();
        let domain = parse_trust_domain("b.example").unwrap();
        let bundle = TrustBundle::new(domain.clone(), []).unwrap();
        let text = bundle.with_jwt_keys(&all).to_json().to_string();
        let read = TrustBundle::from_json(domain, text.as_bytes()).unwrap();
        assert_eq!(read.jwt_keys().unwrap(), all[..3]);
        assert!(!text.contains("\"d\""));
    }

    #[test]
    fn what_is_unknown_is_left_out_and_what_is_broken_refused() {
        let unknown = json!([
            jwk(json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"})),
            jwk(json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"})),
            jwk(json!({})),
        ]);
        assert_eq!(keys(&unknown).unwrap(), []);
        for broken in [
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "crv": "P-256", "x": "AA"}),
            json!({"kty": "EC", "crv": "P-256", "x": "%", "y": "AA"}),
            json!({"kty": "RSA", "n": "", "e": "AQAB"}),
            json!({"kty": "RSA", "n": "AQAB"}),
        ] {
            keys(&json!([jwk(broken)])).unwrap_err();
        }
    }
}
