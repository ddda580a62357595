//! Bundles in files: SPIFFE JSON, PEM, Bundle Map.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Map, Value};

use super::{BundleError, BundleSet, TrustBundle, json::MAX_BYTES};
use crate::id::{TrustDomain, parse_trust_domain};

impl TrustBundle {
    /// Reads a bundle as found in a file: SPIFFE JSON, else PEM certificates.
    ///
    /// # Errors
    /// As [`TrustBundle::from_json`] and [`TrustBundle::new`]; PEM without a certificate is an
    /// error, since an empty file is more likely half written than a wish to trust nobody.
    pub fn from_file(domain: TrustDomain, text: &[u8]) -> Result<Self, BundleError> {
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'{') {
            return Self::from_json(domain, text);
        }
        if text.len() > MAX_BYTES {
            return Err(BundleError::TooLarge {
                domain,
                limit: MAX_BYTES,
                what: "bytes",
            });
        }
        let certificates = CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| BundleError::NotABundle)?;
        if certificates.is_empty() {
            return Err(BundleError::NotABundle);
        }
        Self::new(domain, certificates)
    }
}

impl BundleSet {
    /// Reads a SPIFFE Bundle Map: `{"trust_domains": {NAME: bundle}}`
    /// (Trust_Domain_and_Bundle.md §5.1.1).
    ///
    /// # Errors
    /// When a name is no trust domain or stands twice, a bundle is malformed, or two share a key.
    pub fn from_bundle_map(text: &[u8]) -> Result<Self, BundleError> {
        if text.len() > MAX_BYTES {
            return Err(BundleError::Json(format!("more than {MAX_BYTES} bytes")));
        }
        let map: BundleMap =
            serde_json::from_slice(text).map_err(|error| BundleError::Json(error.to_string()))?;
        let mut set = Self::default();
        for (name, bundle) in map.trust_domains.0 {
            let domain = parse_trust_domain(&name)?;
            if set.get(&domain).is_some() {
                return Err(BundleError::Duplicate(domain));
            }
            set.insert(Arc::new(TrustBundle::from_value(domain, &bundle)?))?;
        }
        Ok(set)
    }

    /// Writes the set as a Bundle Map.
    #[must_use]
    pub fn to_bundle_map(&self) -> Value {
        let domains: Map<String, Value> = self
            .iter()
            .map(|bundle| (bundle.trust_domain().to_string(), bundle.to_json()))
            .collect();
        Value::Object(Map::from_iter([(
            "trust_domains".to_owned(),
            Value::Object(domains),
        )]))
    }
}

#[derive(serde::Deserialize)]
struct BundleMap {
    trust_domains: Entries,
}

/// A JSON object as it stands, names that stand twice included: serde_json's own map silently keeps
/// the last.
struct Entries(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of trust domains")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut access: A,
            ) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
