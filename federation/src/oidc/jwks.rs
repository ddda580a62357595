//! The JWK Set (RFC 7517 §5) as relying parties get it, from that of a Workload API.

use bytes::Bytes;
use sekisho_certs::{TrustBundle, TrustDomain};
use serde::Serialize;
use serde_json::{Value, json};

/// Most bytes of a set.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Most keys of a set.
const MAX_KEYS: usize = 1000;
/// What JWT-SVIDs are signed with, by SPIRE's servers and ours.
pub(super) const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "ES384"];

/// Why a set is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// A key cannot be used.
    #[error("key {0:?} of the JWK set cannot be used")]
    Key(String),
    /// It is no JWK Set.
    #[error("not a JWK set")]
    NotASet,
    /// It is larger than anybody's.
    #[error("the JWK set is too large")]
    TooLarge,
}

/// A key, its members in the order in which SPIRE's provider has them.
#[derive(Serialize)]
struct Jwk<'a> {
    #[serde(rename = "use")]
    purpose: &'static str,
    kty: &'a str,
    kid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'a str>,
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<&'a str>,
}

#[derive(Serialize)]
struct Set<'a> {
    keys: Vec<Jwk<'a>>,
}

/// The public parts of the keys, with `alg`, and `use` as `sig`. Keys that no JWT-SVID of SPIRE or ours
/// is signed with are left out.
///
/// # Errors
/// Each of [`JwksError`]'s variants: the set is refused whole.
pub fn jwks(domain: &TrustDomain, text: &[u8]) -> Result<Bytes, JwksError> {
    if text.len() > MAX_BYTES {
        return Err(JwksError::TooLarge);
    }
    let set: Value = serde_json::from_slice(text).map_err(|_| JwksError::NotASet)?;
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or(JwksError::NotASet)?;
    if keys.len() > MAX_KEYS {
        return Err(JwksError::TooLarge);
    }
    let mut told = Vec::new();
    for key in keys {
        let Some(jwk) = jwk(key)? else { continue };
        check(domain, &jwk)?;
        told.push(jwk);
    }
    // Text into memory does not fail.
    let text = serde_json::to_vec_pretty(&Set { keys: told });
    Ok(text.unwrap_or_default().into())
}

fn jwk(key: &Value) -> Result<Option<Jwk<'_>>, JwksError> {
    let text = |name| key.get(name).and_then(Value::as_str);
    // Keys of X.509-SVIDs in a SPIFFE bundle, and others of other uses.
    if !matches!(text("use"), None | Some("jwt-svid" | "sig")) {
        return Ok(None);
    }
    let kid = text("kid").filter(|kid| !kid.is_empty());
    let kid = kid.ok_or_else(|| JwksError::Key(String::new()))?;
    let (kty, crv) = (text("kty").unwrap_or_default(), text("crv"));
    let alg = match (kty, crv) {
        ("RSA", _) => "RS256",
        ("EC", Some("P-256")) => "ES256",
        ("EC", Some("P-384")) => "ES384",
        _ => return Ok(None),
    };
    let (point, numbers) = (kty == "EC", kty == "RSA");
    Ok(Some(Jwk {
        purpose: "sig",
        kty,
        kid,
        crv: crv.filter(|_| point),
        alg,
        x: text("x").filter(|_| point),
        y: text("y").filter(|_| point),
        n: text("n").filter(|_| numbers),
        e: text("e").filter(|_| numbers),
    }))
}

/// Whether its numbers are what they should be.
fn check(domain: &TrustDomain, jwk: &Jwk<'_>) -> Result<(), JwksError> {
    let bad = || JwksError::Key(jwk.kid.into());
    let mut value = serde_json::to_value(jwk).map_err(|_| bad())?;
    if let Some(purpose) = value.get_mut("use") {
        *purpose = "jwt-svid".into();
    }
    let bundle = TrustBundle::from_value(domain.clone(), &json!({ "keys": [value] }));
    let keys = bundle.and_then(|bundle| bundle.jwt_keys());
    match keys {
        Ok(keys) if keys.len() == 1 => Ok(()),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use sekisho_certs::id::parse_trust_domain;

    use super::*;

    const X: &str = "ngLYQnlfF6GsojUwqtcEE3WgTNG2RUlsGhK73RNEl5k";
    const Y: &str = "tKbiDSUSsQ3F1P7wteeHNXIcU-cx6CgSbroeQrQHTLM";

    fn read(set: &Value) -> Result<Value, JwksError> {
        let domain = parse_trust_domain("a.example").unwrap();
        let told = jwks(&domain, set.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&told).unwrap())
    }

    fn ec(kid: &str) -> Value {
        json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": X, "y": Y})
    }

    #[test]
    fn a_key_is_told_with_its_use_and_algorithm_and_no_more() {
        let mut with_secrets = ec("k1");
        with_secrets["d"] = X.into();
        with_secrets["more"] = json!({});
        let set = json!({"keys": [with_secrets], "spiffe_sequence": 1});
        let domain = parse_trust_domain("a.example").unwrap();
        let told = jwks(&domain, set.to_string().as_bytes()).unwrap();
        let expected = format!(
            "{{\n  \"keys\": [\n    {{\n      \"use\": \"sig\",\n      \"kty\": \"EC\",\n      \
             \"kid\": \"k1\",\n      \"crv\": \"P-256\",\n      \"alg\": \"ES256\",\n      \
             \"x\": \"{X}\",\n      \"y\": \"{Y}\"\n    }}\n  ]\n}}"
        );
        assert_eq!(String::from_utf8_lossy(&told), expected);
        let rsa = json!({"kty": "RSA", "kid": "r", "n": "w".repeat(342), "e": "AQAB", "x": "no"});
        let told = read(&json!({"keys": [rsa]})).unwrap();
        assert_eq!(told["keys"][0]["alg"], "RS256");
        assert_eq!(told["keys"][0].get("x"), None);
        let p384 = "w".repeat(64);
        let ec = json!({"kty": "EC", "kid": "e", "crv": "P-384", "x": p384, "y": p384});
        let told = read(&json!({"keys": [ec]})).unwrap();
        assert_eq!(told["keys"][0]["alg"], "ES384");
    }

    #[test]
    fn what_signs_no_token_is_left_out_and_what_is_broken_refused_whole() {
        let mut x509 = ec("x");
        x509["use"] = "x509-svid".into();
        let mut p521 = ec("p521");
        p521["crv"] = "P-521".into();
        let okp = json!({"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": X});
        let told = read(&json!({"keys": [x509, p521, okp, ec("k")]})).unwrap();
        assert_eq!(told["keys"].as_array().unwrap().len(), 1);
        assert_eq!(read(&json!({"keys": []})).unwrap(), json!({"keys": []}));
        let mut short = ec("short");
        short["x"] = "AAAA".into();
        let broken = read(&json!({"keys": [ec("k"), short]}));
        assert_eq!(broken, Err(JwksError::Key("short".into())));
        assert_eq!(
            read(&json!({"keys": [ec("")]})),
            Err(JwksError::Key(String::new()))
        );
        assert_eq!(read(&json!([])), Err(JwksError::NotASet));
        assert_eq!(
            read(&json!({"keys": vec![ec("k"); 1001]})),
            Err(JwksError::TooLarge)
        );
        let domain = parse_trust_domain("a.example").unwrap();
        assert_eq!(
            jwks(&domain, &vec![b' '; MAX_BYTES + 1]),
            Err(JwksError::TooLarge)
        );
        assert_eq!(jwks(&domain, b"{"), Err(JwksError::NotASet));
    }
}
