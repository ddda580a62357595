//! The SPIFFE bundle format: a JWK set (Trust_Domain_and_Bundle.md §4, RFC 7517).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};

use super::{BundleError, TrustBundle};
use crate::{id::TrustDomain, x509::CertificateInfo};

/// Most bytes a bundle document may have: SPIRE's users reached 4 MB.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Most keys of one bundle that are looked at.
const MAX_KEYS: usize = 1024;

fn bad(text: impl Into<String>) -> BundleError {
    BundleError::Json(text.into())
}

impl TrustBundle {
    /// Reads a SPIFFE bundle document.
    ///
    /// Keys without `use` or with one we do not know are ignored (§4.2), as are `x509-svid` keys
    /// without `x5c` (X509-SVID §6.2); `x5c` with more than one certificate is refused, as SPIRE
    /// does. `keys` may be empty: nobody of the domain is trusted then (§4.1.3).
    ///
    /// # Errors
    /// When it is no JSON, `keys` is missing, a known key is malformed, or a bound is exceeded.
    pub fn from_json(domain: TrustDomain, text: &[u8]) -> Result<Self, BundleError> {
        if text.len() > MAX_BYTES {
            return Err(BundleError::TooLarge {
                domain,
                limit: MAX_BYTES,
                what: "bytes",
            });
        }
        let value = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        Self::from_value(domain, &value)
    }

    /// As [`TrustBundle::from_json`], of a document that is parsed already.
    ///
    /// # Errors
    /// The same.
    pub fn from_value(domain: TrustDomain, value: &Value) -> Result<Self, BundleError> {
        let object = value.as_object().ok_or_else(|| bad("expected an object"))?;
        let keys = object
            .get("keys")
            .ok_or_else(|| bad("`keys` is missing (it may be empty, not absent)"))?
            .as_array()
            .ok_or_else(|| bad("`keys` must be an array"))?;
        if keys.len() > MAX_KEYS {
            return Err(BundleError::TooLarge {
                domain,
                limit: MAX_KEYS,
                what: "keys",
            });
        }
        let mut certificates = Vec::new();
        let mut jwt_keys = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let key = key
                .as_object()
                .ok_or_else(|| bad(format!("keys[{index}] must be an object")))?;
            match key.get("use").and_then(Value::as_str) {
                Some("x509-svid") => certificates.extend(certificate(index, key)?),
                Some("jwt-svid") => jwt_keys.push(jwt_key(index, key)?),
                _ => {}
            }
        }
        let mut bundle = Self::new(domain, certificates)?;
        bundle.jwt_keys = jwt_keys;
        Ok(bundle.with_hints(
            unsigned(object, "spiffe_sequence")?,
            unsigned(object, "spiffe_refresh_hint")?.map(Duration::from_secs),
        ))
    }

    /// Writes the bundle as a SPIFFE bundle document. Only `x509-svid` and `jwt-svid` keys are
    /// ever written: SPIRE refuses a whole bundle over a `use` it does not know.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut keys: Vec<Value> = self
            .authorities
            .iter()
            .map(|ca| {
                let mut key = CertificateInfo::jwk(&ca.der);
                key.insert("use".into(), json!("x509-svid"));
                key.insert("x5c".into(), json!([STANDARD.encode(&ca.der)]));
                Value::Object(key)
            })
            .collect();
        keys.extend(self.jwt_keys.iter().cloned());
        let mut object = Map::new();
        object.insert("keys".into(), Value::Array(keys));
        if let Some(sequence) = self.sequence {
            object.insert("spiffe_sequence".into(), json!(sequence));
        }
        if let Some(hint) = self.refresh_hint {
            object.insert("spiffe_refresh_hint".into(), json!(hint.as_secs()));
        }
        Value::Object(object)
    }
}

/// The one certificate of an `x509-svid` key; `None` where the key has none and is skipped.
fn certificate(
    index: usize,
    key: &Map<String, Value>,
) -> Result<Option<CertificateDer<'static>>, BundleError> {
    let Some(chain) = key.get("x5c") else {
        return Ok(None);
    };
    let wrong = || {
        bad(format!(
            "keys[{index}].x5c must hold exactly one base64 certificate"
        ))
    };
    let chain = chain.as_array().ok_or_else(wrong)?;
    match chain.as_slice() {
        [] => Ok(None),
        [one] => {
            let text = one.as_str().ok_or_else(wrong)?;
            let der = STANDARD.decode(text).map_err(|_| wrong())?;
            Ok(Some(der.into()))
        }
        _ => Err(wrong()),
    }
}

fn jwt_key(index: usize, key: &Map<String, Value>) -> Result<Value, BundleError> {
    match key.get("kid").and_then(Value::as_str) {
        Some(kid) if !kid.is_empty() => Ok(Value::Object(key.clone())),
        _ => Err(bad(format!("keys[{index}]: a jwt-svid key needs a `kid`"))),
    }
}

fn unsigned(object: &Map<String, Value>, name: &str) -> Result<Option<u64>, BundleError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| bad(format!("`{name}` must be a whole number"))),
    }
}
