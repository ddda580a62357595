//! JWT-SVIDs (JWT-SVID §2, §3) as SPIRE makes them.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData as _};
use sekisho_certs::SpiffeId;
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// The key has ended.
    #[error("the JWT key has expired")]
    Expired,
    /// The library refused.
    #[error("cannot sign a token: {0}")]
    Library(#[from] jsonwebtoken::errors::Error),
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// JWS Compact Serialization.
    pub token: Zeroizing<String>,
    /// When it was made, in whole seconds.
    pub issued_at: SystemTime,
    /// When it ends, in whole seconds.
    pub expires_at: SystemTime,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What a token is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims<'a> {
    /// `sub`.
    pub id: &'a SpiffeId,
    /// `aud`: at least one.
    pub audience: &'a [String],
    /// `iss`, where the site has one.
    pub issuer: Option<&'a str>,
    /// Whether it gets an ID of its own, `jti`.
    pub with_id: bool,
    /// For how long; never longer than the key.
    pub ttl: Duration,
}

/// A JWT authority that can sign: ES256.
pub struct JwtKey {
    id: String,
    key: EncodingKey,
    pair: KeyPair,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl std::fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtKey")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

impl JwtKey {
    /// A P-256 key, known as `id`.
    #[must_use]
    pub fn new(id: String, pair: KeyPair, not_before: SystemTime, not_after: SystemTime) -> Self {
        let pkcs8 = Zeroizing::new(pair.serialize_der());
        Self {
            id,
            key: EncodingKey::from_ec_der(&pkcs8),
            pair,
            not_before,
            not_after,
        }
    }

    /// `kid`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it begins.
    #[must_use]
    pub const fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When it ends.
    #[must_use]
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Its public half: SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// Its private half in PKCS#8, DER.
    #[must_use]
    pub fn private_key(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair.serialize_der())
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When the key has ended, or the library fails.
    pub fn sign(&self, claims: &Claims<'_>, now: SystemTime) -> Result<Token, JwtError> {
        if now >= self.not_after {
            return Err(JwtError::Expired);
        }
        let (issued, expires) = (
            seconds(now),
            seconds((now + claims.ttl).min(self.not_after)),
        );
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| body.insert(name.into(), value);
        put("aud", claims.audience.into());
        put("exp", expires.into());
        put("iat", issued.into());
        put("sub", claims.id.to_string().into());
        if let Some(issuer) = claims.issuer {
            put("iss", issuer.into());
        }
        if claims.with_id {
            put("jti", Uuid::new_v4().to_string().into());
        }
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Ok(Token {
            token: Zeroizing::new(jsonwebtoken::encode(&header, &body, &self.key)?),
            issued_at: at(issued),
            expires_at: at(expires),
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::{DecodingKey, Validation};
    use rcgen::PKCS_ECDSA_P256_SHA256;
    use sekisho_certs::id;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 7)
    }

    fn key() -> JwtKey {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        JwtKey::new("k1".into(), pair, now(), now() + Duration::from_secs(1000))
    }

    fn made(key: &JwtKey, ttl: u64, with_id: bool) -> (Value, Value, Token) {
        let claims = Claims {
            id: &id::parse_workload_id("spiffe://a.example/w").unwrap(),
            audience: &["kafka".into(), "db".into()],
            issuer: with_id.then_some("https://a.example"),
            with_id,
            ttl: Duration::from_secs(ttl),
        };
        let token = key.sign(&claims, now()).unwrap();
        let parts: Vec<_> = token.token.split('.').collect();
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap());
        let (header, body) = (json(parts[0]).unwrap(), json(parts[1]).unwrap());
        (header, body, token)
    }

    #[test]
    fn a_token_says_what_spires_does_and_no_more() {
        let (header, body, token) = made(&key(), 300, false);
        assert_eq!(
            header,
            serde_json::json!({"alg": "ES256", "kid": "k1", "typ": "JWT"})
        );
        let expected = serde_json::json!({
            "aud": ["kafka", "db"], "exp": 1_800_000_300, "iat": 1_800_000_000,
            "sub": "spiffe://a.example/w",
        });
        assert_eq!(body, expected);
        assert_eq!(
            token.expires_at,
            now() + Duration::from_secs(300) - Duration::from_nanos(7)
        );
        let (_, body, _) = made(&key(), 300, true);
        assert_eq!(body["iss"], "https://a.example");
        assert_eq!(body["jti"].as_str().unwrap().len(), 36);
    }

    #[test]
    fn a_token_is_signed_by_its_key_and_does_not_outlive_it() {
        let (own, other) = (key(), key());
        let (_, body, token) = made(&own, 5000, false);
        assert_eq!(body["exp"], 1_800_001_000);
        let verify = |key: &JwtKey| {
            // The last 65 bytes of a P-256 key are its point.
            let spki = key.public_key();
            let decoding = DecodingKey::from_ec_der(&spki[spki.len() - 65..]);
            let mut validation = Validation::new(Algorithm::ES256);
            validation.set_audience(&["kafka"]);
            validation.validate_exp = false;
            jsonwebtoken::decode::<Value>(token.token.as_str(), &decoding, &validation)
        };
        verify(&own).unwrap();
        verify(&other).unwrap_err();
        let claims = Claims {
            id: &id::parse_workload_id("spiffe://a.example/w").unwrap(),
            audience: &[],
            issuer: None,
            with_id: false,
            ttl: Duration::from_secs(1),
        };
        let error = own.sign(&claims, own.not_after()).unwrap_err();
        assert!(matches!(error, JwtError::Expired));
        assert!(!format!("{token:?}").contains("eyJ"));
    }
}
