//! Making certificates: CAs and SVIDs by the profile of X509-SVID §4.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::{
    id::{SpiffeId, TrustDomain},
    x509::{CertificateInfo, sha256},
};

/// Issuers backdate by this much, since verifiers show no tolerance (design.md §5).
pub const BACKDATE: Duration = Duration::from_secs(10);

/// Why a CA cannot be used, or a certificate not made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The CA's key belongs to another certificate: what it signs nobody could verify.
    #[error("the CA's key does not belong to its certificate")]
    KeyMismatch,
    /// The library refused.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
}

/// A CA: its certificate and its key.
pub struct Ca {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").finish_non_exhaustive()
    }
}

impl Ca {
    /// Makes a self-signed CA of `domain` with a new P-256 key, valid from 10 s before `now`.
    ///
    /// # Errors
    /// When the library fails.
    pub fn generate(
        domain: &TrustDomain,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "sekisho");
        params
            .distinguished_name
            .push(DnType::CommonName, domain.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
        validity(&mut params, now, now + lifetime);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Takes up a CA from its certificate and key in PEM.
    ///
    /// # Errors
    /// When either cannot be read, the two do not belong together, or the library cannot issue by
    /// them.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IssueError> {
        use rustls_pki_types::pem::PemObject as _;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let key = KeyPair::from_pem(key)?;
        let certified = CertificateInfo::parse(&der)
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?
            .spki_sha256;
        if certified != sha256(&key.subject_public_key_info()) {
            return Err(IssueError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { der, issuer })
    }

    /// The CA's certificate.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The CA's key in PKCS#8 PEM. The caller wipes it.
    #[must_use]
    pub fn key_pem(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Issues an SVID with a new P-256 key: valid from 10 s before `now`, for `lifetime` from now.
    ///
    /// # Errors
    /// When the library fails.
    pub fn issue(
        &self,
        id: &SpiffeId,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "sekisho");
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        // Emitted though it is the default: some SPIFFE clients require it on leaves.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, now + lifetime);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(key)))
    }
}

fn validity(params: &mut CertificateParams, now: SystemTime, until: SystemTime) {
    params.not_before = OffsetDateTime::from(now - BACKDATE);
    params.not_after = OffsetDateTime::from(until);
}
