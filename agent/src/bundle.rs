//! Trust bundles as an authority tells them: CAs and JWT keys of a trust domain, some of them
//! tainted.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::CertificateDer;
use sekisho_certs::{BundleError, TrustBundle, TrustDomain, id};
use sekisho_spire_api::types;
use serde::{Deserialize, Serialize};
use x509_parser::{
    extensions::ParsedExtension,
    prelude::{FromDer as _, X509Certificate},
    x509::SubjectPublicKeyInfo,
};

/// More keys in one bundle are a mistake: each is tried for nobody.
const MOST_KEYS: usize = 1000;

/// Why a bundle is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnsweredBundleError {
    /// Its name is no trust domain.
    #[error(transparent)]
    Name(#[from] id::IdError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] BundleError),
    /// A JWT key cannot be used.
    #[error("{domain}: JWT key {place}: {problem}")]
    Key {
        /// Whose bundle.
        domain: TrustDomain,
        /// Which key, from 1.
        place: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

/// A CA of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The certificate, DER.
    #[serde(with = "crate::cache::bytes")]
    pub der: Vec<u8>,
    /// SVIDs below it are to be replaced; they still count.
    pub tainted: bool,
}

/// A key that signs JWT-SVIDs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtAuthority {
    /// `kid`.
    pub id: String,
    /// SubjectPublicKeyInfo, DER.
    #[serde(with = "crate::cache::bytes")]
    pub public_key: Vec<u8>,
    /// When it ends; `None`: it does not say.
    pub expires_at: Option<SystemTime>,
    /// Tokens by it are to be replaced; they still count.
    pub tainted: bool,
}

/// The bundle of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Its CAs.
    pub x509: Vec<Authority>,
    /// Its JWT keys.
    pub jwt: Vec<JwtAuthority>,
    /// Rises with every change, where whoever keeps it counts.
    pub sequence: u64,
    /// How often it should be asked for; zero: it does not say.
    pub refresh_hint: Duration,
}

/// Bundles by trust domain, our own among them.
pub type Bundles = BTreeMap<String, Arc<Bundle>>;

impl Bundle {
    /// What an authority has answered, checked.
    ///
    /// # Errors
    /// When a certificate or a key in it cannot be used.
    pub fn from_wire(wire: types::Bundle) -> Result<(TrustDomain, Self), AnsweredBundleError> {
        let name = wire.trust_domain.strip_prefix("spiffe://");
        let domain = id::parse_trust_domain(name.unwrap_or(&wire.trust_domain))?;
        let x509: Vec<Authority> = wire
            .x509_authorities
            .into_iter()
            .map(|ca| Authority {
                der: ca.asn1,
                tainted: ca.tainted,
            })
            .collect();
        let key_error = |place: usize, problem| AnsweredBundleError::Key {
            domain: domain.clone(),
            place: place + 1,
            problem,
        };
        if wire.jwt_authorities.len() > MOST_KEYS {
            return Err(key_error(MOST_KEYS, "there are too many"));
        }
        let mut jwt = Vec::new();
        for (place, key) in wire.jwt_authorities.into_iter().enumerate() {
            if key.key_id.is_empty() {
                return Err(key_error(place, "has no key ID"));
            }
            let whole = SubjectPublicKeyInfo::from_der(&key.public_key);
            if !whole.is_ok_and(|(rest, _)| rest.is_empty()) {
                return Err(key_error(place, "is not a public key"));
            }
            jwt.push(JwtAuthority {
                id: key.key_id,
                public_key: key.public_key,
                expires_at: time(key.expires_at),
                tainted: key.tainted,
            });
        }
        let bundle = Self {
            x509,
            jwt,
            sequence: wire.sequence_number,
            refresh_hint: Duration::from_secs(u64::try_from(wire.refresh_hint).unwrap_or_default()),
        };
        bundle.trust(&domain)?;
        Ok((domain, bundle))
    }

    /// Its CAs, for verifying.
    ///
    /// # Errors
    /// When one of them is no CA of this domain: never after [`Bundle::from_wire`].
    pub fn trust(&self, domain: &TrustDomain) -> Result<TrustBundle, BundleError> {
        TrustBundle::new(domain.clone(), self.certificates())
    }

    /// Its CA certificates.
    pub fn certificates(&self) -> impl Iterator<Item = CertificateDer<'static>> + '_ {
        let ders = self.x509.iter();
        ders.map(|authority| CertificateDer::from(authority.der.clone()))
    }

    /// Its CA certificates, one behind the other, as the Workload API has them.
    #[must_use]
    pub fn concatenated(&self) -> Vec<u8> {
        let ders = self.x509.iter();
        ders.flat_map(|authority| authority.der.iter().copied())
            .collect()
    }

    /// The key with this `kid`.
    #[must_use]
    pub fn jwt_key(&self, kid: &str) -> Option<&JwtAuthority> {
        self.jwt.iter().find(|key| key.id == kid)
    }

    /// Whether a chain, leaf first, ends below a tainted CA.
    #[must_use]
    pub fn taints(&self, chain: &[CertificateDer<'_>]) -> bool {
        let mut tainted = self.x509.iter().filter(|ca| ca.tainted).peekable();
        if tainted.peek().is_none() {
            return false;
        }
        let Some(issuer) = chain.last().and_then(|last| KeyIds::of(last)) else {
            return true;
        };
        tainted.any(|ca| match KeyIds::of(&ca.der) {
            Some(ca) => match (&issuer.authority, &ca.subject) {
                (Some(wanted), Some(key)) => wanted == key,
                _ => issuer.issuer_name == ca.subject_name,
            },
            None => false,
        })
    }
}

/// By what a certificate names its issuer (RFC 5280 §4.2.1.1), and is named itself (§4.2.1.2).
struct KeyIds {
    authority: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
    issuer_name: Vec<u8>,
    subject_name: Vec<u8>,
}

impl KeyIds {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let (mut authority, mut subject) = (None, None);
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    authority = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.to_vec()),
                _ => {}
            }
        }
        Some(Self {
            authority,
            subject,
            issuer_name: certificate.issuer().as_raw().to_vec(),
            subject_name: certificate.subject().as_raw().to_vec(),
        })
    }
}

/// Seconds since 1970 as SPIRE sends them: 0 says nothing.
pub(crate) fn time(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
