//! Bundles as they are sent and as they are stored.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use sekisho_certs::{TrustBundle, TrustDomain};
use sekisho_spire_api::types;
use tonic::Status;
use x509_parser::{prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use super::wire;
use crate::store::{Bundle, JwtAuthority, X509Authority};

/// Which fields of a bundle: all where none is named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mask(Option<types::BundleMask>);

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
    let parsed = SubjectPublicKeyInfo::from_der(&sent.public_key);
    let known = parsed.is_ok_and(|(rest, key)| rest.is_empty() && key.parsed().is_ok());
    if !known {
        return Err(Status::invalid_argument(format!(
            "invalid JWT authority {:?}: a public key (PKIX, DER) is expected",
            sent.key_id
        )));
    }
    Ok(JwtAuthority {
        key_id: sent.key_id.clone(),
        public_key: sent.public_key.clone(),
        expires_at: wire::time(sent.expires_at),
        tainted: false,
    })
}

/// A whole bundle of another domain.
pub(super) fn federated(sent: &types::Bundle, domain: &TrustDomain) -> Result<Bundle, Status> {
    let jwt: Vec<_> = sent
        .jwt_authorities
        .iter()
        .map(jwt_key)
        .collect::<Result<_, _>>()?;
    Ok(Bundle {
        x509: authorities(&sent.x509_authorities, domain)?,
        jwt,
        refresh_hint: Duration::from_secs(u64::try_from(sent.refresh_hint).unwrap_or_default()),
        sequence: sent.sequence_number,
        ..Bundle::empty(domain.clone())
    })
}

/// A bundle as it is told: the fields of a mask, its domain always.
pub(super) fn to_bundle(bundle: &Bundle, mask: Mask) -> types::Bundle {
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
