//! Bundles as they are sent and as they are stored.

use std::{collections::HashSet, time::Duration};

use rustls_pki_types::CertificateDer;
use sekisho_certs::{
    BundleError, TrustBundle, TrustDomain,
    bundle::{Authority, jwk::JwtKey},
};
use sekisho_spire_api::types;
use tonic::Status;
use x509_parser::{prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use super::wire;
use crate::store::{Bundle, JwtAuthority, X509Authority};

/// Which fields of a bundle: all where none is named.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::api) struct Mask(Option<types::BundleMask>);

impl Mask {
    pub(super) const fn new(sent: Option<types::BundleMask>) -> Self {
        Self(sent)
    }

    fn has(self, field: impl FnOnce(types::BundleMask) -> bool) -> bool {
        self.0.is_none_or(field)
    }

    /// The fields of the mask from `new`, the others from `old`.
    pub(super) fn apply(self, mut old: Bundle, new: Bundle) -> Bundle {
        if self.has(|mask| mask.x509_authorities) {
            old.x509 = new.x509;
        }
        if self.has(|mask| mask.jwt_authorities) {
            old.jwt = new.jwt;
        }
        if self.has(|mask| mask.refresh_hint) {
            old.refresh_hint = new.refresh_hint;
        }
        if self.has(|mask| mask.sequence_number) {
            old.sequence = new.sequence;
        }
        old
    }
}

/// Certificates of a bundle, each of which may sign: one that cannot be read would fail the whole
/// sync of every agent that gets it.
pub(super) fn authorities(
    sent: &[types::X509Certificate],
    domain: &TrustDomain,
) -> Result<Vec<X509Authority>, Status> {
    let ders = sent
        .iter()
        .map(|one| CertificateDer::from(one.asn1.clone()));
    TrustBundle::new(domain.clone(), ders).map_err(|error| {
        Status::invalid_argument(format!("unable to parse X.509 authority: {error}"))
    })?;
    let one = |sent: &types::X509Certificate| X509Authority {
        der: sent.asn1.clone(),
        // Only `taint` says so.
        tainted: false,
        above: false,
    };
    Ok(sent.iter().map(one).collect())
}

/// A key that agents can use.
pub(super) fn jwt_key(sent: &types::JwtKey) -> Result<JwtAuthority, Status> {
    if sent.key_id.is_empty() {
        return Err(Status::invalid_argument(
            "invalid JWT authority: missing key ID",
        ));
    }
    let key = JwtAuthority {
        key_id: sent.key_id.clone(),
        public_key: sent.public_key.clone(),
        expires_at: wire::time(sent.expires_at),
        tainted: false,
    };
    if !is_usable_key(&key) {
        return Err(Status::invalid_argument(format!(
            "invalid JWT authority {:?}: a public key (PKIX, DER) is expected",
            sent.key_id
        )));
    }
    Ok(key)
}

/// Whether agents can use a key.
pub(crate) fn is_usable_key(key: &JwtAuthority) -> bool {
    let parsed = SubjectPublicKeyInfo::from_der(&key.public_key);
    !key.key_id.is_empty() && parsed.is_ok_and(|(rest, key)| rest.is_empty() && is_usable(&key))
}

/// Whether agents can load a key: an RSA key, or a point on a curve that it names. One that cannot be
/// read fails the whole sync of every agent that gets it.
fn is_usable(key: &SubjectPublicKeyInfo<'_>) -> bool {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1,
        EcdsaVerificationAlgorithm, ParsedPublicKey,
    };
    use x509_parser::{
        oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521},
        public_key::PublicKey,
    };
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => (2048..=8192).contains(&rsa.key_size()),
        Ok(PublicKey::EC(point)) => {
            let named = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.as_oid().ok());
            let curve: &'static EcdsaVerificationAlgorithm = match named {
                Some(oid) if oid == OID_EC_P256 => &ECDSA_P256_SHA256_ASN1,
                Some(oid) if oid == OID_NIST_EC_P384 => &ECDSA_P384_SHA384_ASN1,
                Some(oid) if oid == OID_NIST_EC_P521 => &ECDSA_P521_SHA512_ASN1,
                _ => return false,
            };
            ParsedPublicKey::new(curve, point.data()).is_ok()
        }
        _ => false,
    }
}

/// Keys that agents can use, each name once. The same key twice is no matter; another key by the same
/// name is: one of them would be lost.
pub(in crate::api) fn jwt_keys(sent: &[types::JwtKey]) -> Result<Vec<JwtAuthority>, Status> {
    let mut keys: Vec<JwtAuthority> = Vec::new();
    for key in sent {
        let key = jwt_key(key)?;
        match keys.iter().find(|known| known.key_id == key.key_id) {
            None => keys.push(key),
            Some(known) if known.public_key == key.public_key => {}
            Some(_) => {
                return Err(Status::invalid_argument(format!(
                    "invalid JWT authority {:?}: the key ID is there twice, with different keys",
                    key.key_id
                )));
            }
        }
    }
    Ok(keys)
}

/// A whole bundle of another domain.
pub(in crate::api) fn federated(
    sent: &types::Bundle,
    domain: &TrustDomain,
) -> Result<Bundle, Status> {
    // What is stored is signed.
    if i64::try_from(sent.sequence_number).is_err() {
        return Err(Status::invalid_argument(format!(
            "invalid sequence number {}: more than 2^63-1",
            sent.sequence_number
        )));
    }
    let mut x509 = authorities(&sent.x509_authorities, domain)?;
    let mut seen = HashSet::new();
    x509.retain(|authority| seen.insert(authority.der.clone()));
    Ok(Bundle {
        x509,
        jwt: jwt_keys(&sent.jwt_authorities)?,
        refresh_hint: Duration::from_secs(u64::try_from(sent.refresh_hint).unwrap_or_default()),
        sequence: sent.sequence_number,
        ..Bundle::empty(domain.clone())
    })
}

/// A fetched bundle, held to what one that is sent is held to.
pub(crate) fn fetched(bundle: &TrustBundle) -> Result<Bundle, Status> {
    let bad = |error: BundleError| Status::invalid_argument(error.to_string());
    let domain = bundle.trust_domain();
    let x509 = |authority: &Authority| types::X509Certificate {
        asn1: authority.der().to_vec(),
        tainted: false,
    };
    let jwt = |key: JwtKey| types::JwtKey {
        public_key: key.public_key,
        key_id: key.key_id,
        ..Default::default()
    };
    let hint = bundle.refresh_hint().unwrap_or_default().as_secs();
    let sent = types::Bundle {
        trust_domain: domain.to_string(),
        x509_authorities: bundle.authorities().iter().map(x509).collect(),
        jwt_authorities: bundle
            .jwt_keys()
            .map_err(bad)?
            .into_iter()
            .map(jwt)
            .collect(),
        refresh_hint: i64::try_from(hint).unwrap_or(i64::MAX),
        sequence_number: bundle.sequence().unwrap_or_default(),
    };
    federated(&sent, domain)
}

/// A bundle as it is told: the fields of a mask, its domain always.
pub(in crate::api) fn to_bundle(bundle: &Bundle, mask: Mask) -> types::Bundle {
    let mut told = types::Bundle {
        trust_domain: bundle.domain.to_string(),
        ..Default::default()
    };
    if mask.has(|mask| mask.x509_authorities) {
        let one = |own: &X509Authority| types::X509Certificate {
            asn1: own.der.clone(),
            tainted: own.tainted,
        };
        told.x509_authorities = bundle.x509.iter().map(one).collect();
    }
    if mask.has(|mask| mask.jwt_authorities) {
        told.jwt_authorities = bundle.jwt.iter().map(to_key).collect();
    }
    if mask.has(|mask| mask.refresh_hint) {
        told.refresh_hint = i64::try_from(bundle.refresh_hint.as_secs()).unwrap_or(i64::MAX);
    }
    if mask.has(|mask| mask.sequence_number) {
        told.sequence_number = bundle.sequence;
    }
    told
}

/// A key as it is told.
pub(super) fn to_key(key: &JwtAuthority) -> types::JwtKey {
    types::JwtKey {
        public_key: key.public_key.clone(),
        key_id: key.key_id.clone(),
        expires_at: key.expires_at.map_or(0, wire::seconds),
        tainted: key.tainted,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData as _};

    use super::*;

    fn key(public_key: Vec<u8>) -> types::JwtKey {
        types::JwtKey {
            public_key,
            key_id: "k".into(),
            ..Default::default()
        }
    }

    #[test]
    fn only_keys_that_agents_can_load_are_taken() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let spki = KeyPair::generate_for(algorithm)
                .unwrap()
                .subject_public_key_info();
            jwt_key(&key(spki)).unwrap();
        }
        let good = KeyPair::generate().unwrap().subject_public_key_info();
        let mut off_the_curve = good.clone();
        *off_the_curve.last_mut().unwrap() ^= 1;
        let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        for bad in [
            off_the_curve,
            ed25519.subject_public_key_info(),
            vec![1],
            good[1..].to_vec(),
        ] {
            jwt_key(&key(bad)).unwrap_err();
        }
        let unnamed = types::JwtKey {
            key_id: String::new(),
            ..key(good)
        };
        jwt_key(&unnamed).unwrap_err();
    }
}
