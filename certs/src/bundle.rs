//! Trust bundles: the CAs of one trust domain, and sets of them that are never merged.
//!
//! Follows SPIFFE_Trust_Domain_and_Bundle.md §4 and X509-SVID.md §6.

use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::{id::TrustDomain, x509::CertificateInfo};

pub mod file;
pub mod json;
pub mod jwk;
mod set;

pub use set::BundleSet;

/// The most CAs one bundle may hold: SPIRE's users reached a few dozen.
pub const MAX_AUTHORITIES: usize = 256;

/// What is wrong with a bundle.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BundleError {
    /// A CA certificate cannot be used.
    #[error("CA certificate {index} of {domain}: {problem}")]
    Authority {
        /// The trust domain.
        domain: TrustDomain,
        /// Counted from 1.
        index: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The JSON is not a SPIFFE bundle.
    #[error("not a SPIFFE bundle: {0}")]
    Json(String),
    /// Bundle Map §5.1.1: each trust domain once.
    #[error("trust domain {0} stands twice in the bundle map")]
    Duplicate(TrustDomain),
    /// The text is neither JSON nor PEM with certificates.
    #[error("neither a SPIFFE bundle in JSON nor PEM certificates")]
    NotABundle,
    /// A name in a bundle map is not a trust domain.
    #[error(transparent)]
    TrustDomain(#[from] crate::id::IdError),
    /// Two trust domains must not share a CA: either could speak for the other.
    #[error("{second} delivers a CA key that already belongs to {first}")]
    SharedKey {
        /// Who had it.
        first: TrustDomain,
        /// Who brought it again.
        second: TrustDomain,
    },
    /// More CAs than [`MAX_AUTHORITIES`], or a file larger than the bound.
    #[error("{domain}: more than {limit} {what}")]
    TooLarge {
        /// The trust domain.
        domain: TrustDomain,
        /// The bound.
        limit: usize,
        /// What there is too much of.
        what: &'static str,
    },
}

/// One CA of a bundle, parsed once.
#[derive(Clone, Debug)]
pub struct Authority {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) info: CertificateInfo,
}

impl Authority {
    /// The certificate.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate in PEM (RFC 7468).
    #[must_use]
    pub fn to_pem(&self) -> String {
        crate::x509::pem(&self.der)
    }

    /// SHA-256 of the certificate, in hexadecimal: what two people compare.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        crate::x509::hex(&crate::x509::sha256(&self.der))
    }

    /// When it stops being valid.
    #[must_use]
    pub const fn not_after(&self) -> SystemTime {
        self.info.not_after
    }

    /// SHA-256 of its public key (SubjectPublicKeyInfo): no two trust domains have the same.
    #[must_use]
    pub const fn key_sha256(&self) -> [u8; 32] {
        self.info.spki_sha256
    }

    /// Whether the certificate shows that `domain` has its key: signed by that key itself, and with the URI
    /// name of that trust domain. Anybody can have a certificate made for a key that somebody else has
    /// announced; one like this is made by whoever has it. Costs a signature's verification.
    #[must_use]
    pub fn proves_possession(&self, domain: &TrustDomain) -> bool {
        self.info.names(domain) && crate::x509::is_self_signed(&self.der)
    }

    /// Its serial number, in hexadecimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.info.serial
    }
}

/// The same as [`Authority::proves_possession`] of a certificate that stands in no bundle here. False for what
/// is no certificate.
#[must_use]
pub fn proves_possession(domain: &TrustDomain, der: &[u8]) -> bool {
    let info = CertificateInfo::parse(der);
    info.is_ok_and(|info| info.names(domain)) && crate::x509::is_self_signed(der)
}

/// The CAs of one trust domain.
#[derive(Clone, Debug)]
pub struct TrustBundle {
    domain: TrustDomain,
    authorities: Vec<Authority>,
    /// The same, in the same order, as path building takes them: prepared once for every endpoint
    /// and every change of other domains.
    anchors: Vec<TrustAnchor<'static>>,
    /// Keys with `use: jwt-svid`, kept as they came so that a bundle is passed on whole.
    jwt_keys: Vec<serde_json::Value>,
    sequence: Option<u64>,
    refresh_hint: Option<Duration>,
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.domain == other.domain
            && self.sequence == other.sequence
            && self.refresh_hint == other.refresh_hint
            && self.jwt_keys == other.jwt_keys
            && self.ders().eq(other.ders())
    }
}

impl TrustBundle {
    /// A bundle of these CA certificates. None at all means: trust nobody of this domain
    /// (Trust_Domain_and_Bundle.md §4.1.3).
    ///
    /// # Errors
    /// When a certificate is not a CA that may sign (X509-SVID §4), names another trust domain, or
    /// there are more than [`MAX_AUTHORITIES`].
    pub fn new(
        domain: TrustDomain,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        let (mut authorities, mut anchors) = (Vec::new(), Vec::new());
        for (index, der) in certificates.into_iter().enumerate() {
            if index >= MAX_AUTHORITIES {
                return Err(BundleError::TooLarge {
                    domain,
                    limit: MAX_AUTHORITIES,
                    what: "CA certificates",
                });
            }
            let (authority, anchor) =
                authority(&domain, der).map_err(|problem| BundleError::Authority {
                    domain: domain.clone(),
                    index: index + 1,
                    problem,
                })?;
            authorities.push(authority);
            anchors.push(anchor);
        }
        Ok(Self {
            domain,
            authorities,
            anchors,
            jwt_keys: Vec::new(),
            sequence: None,
            refresh_hint: None,
        })
    }

    /// The trust domain.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The CAs, in the order they were delivered.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// The CAs as path building takes them.
    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// `spiffe_sequence`: rises with every change (§4.1.1).
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// `spiffe_refresh_hint`: how often to ask again (§4.1.2).
    #[must_use]
    pub const fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// The same with a sequence number and a refresh hint.
    #[must_use]
    pub const fn with_hints(mut self, sequence: Option<u64>, refresh: Option<Duration>) -> Self {
        self.sequence = sequence;
        self.refresh_hint = refresh;
        self
    }

    fn ders(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.authorities.iter().map(|authority| &authority.der)
    }
}

fn authority(
    domain: &TrustDomain,
    der: CertificateDer<'static>,
) -> Result<(Authority, TrustAnchor<'static>), &'static str> {
    let info = CertificateInfo::parse(&der).map_err(|_| "is not an X.509 certificate")?;
    if !info.is_ca {
        return Err("is not a CA (basic constraints)");
    }
    if !info.key_usage.is_some_and(|usage| usage.cert_sign) {
        return Err("lacks the key usage keyCertSign (X509-SVID §4.3)");
    }
    match info.uris.as_slice() {
        [] => {}
        [uri] => {
            let id =
                crate::id::parse_any_id(uri).map_err(|_| "carries a URI that is no SPIFFE ID")?;
            if id.trust_domain() != domain {
                return Err("carries the SPIFFE ID of another trust domain");
            }
        }
        _ => return Err("carries more than one URI name"),
    }
    if info.unknown_critical {
        return Err("carries a critical extension that is not known here");
    }
    let anchor = webpki::anchor_from_trusted_cert(&der)
        .map_err(|_| "cannot be used as a trust anchor")?
        .to_owned();
    Ok((Authority { der, info }, anchor))
}
