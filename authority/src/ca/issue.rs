//! Certificates by SPIRE's profile (X509-SVID §4): the CA's own, those of workloads and agents, and
//! those of servers below.

use std::time::{Duration, SystemTime};

use aws_lc_rs::{digest, rand};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SubjectPublicKeyInfo, string::PrintableString,
};
use rustls_pki_types::CertificateDer;
use sekisho_certs::{SpiffeId, TrustDomain, hex, issue::BACKDATE};
use time::OffsetDateTime;
use x509_parser::{
    prelude::{FromDer as _, X509Certificate},
    x509::X509Name,
};

/// `serialNumber` of a distinguished name (X.520 §6.2.9).
const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The authority's own certificate ends before this one would begin.
    #[error("the authority's certificate has expired")]
    Expired,
    /// The key belongs to another certificate.
    #[error("the authority's key does not belong to its certificate")]
    KeyMismatch,
    /// The library refused.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
    /// No random numbers.
    #[error("no random numbers")]
    Random,
    /// A certificate of ours cannot be read.
    #[error("the authority's certificate cannot be read")]
    Unreadable,
}

/// A certificate that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// DER: the certificate, then those between it and a root, never the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Serial number, decimal.
    pub serial: String,
    /// The end of its validity, in whole seconds.
    pub not_after: SystemTime,
}

/// What a certificate is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// Whose it is.
    pub id: &'a SpiffeId,
    /// The first is the common name.
    pub dns_names: &'a [String],
    /// SubjectPublicKeyInfo, DER.
    pub public_key: &'a [u8],
    /// For how long; never longer than the authority's own.
    pub ttl: Duration,
}

/// An X.509 authority that can sign.
pub struct X509Ca {
    /// Its certificate, then those between it and a root, never the root.
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, KeyPair>,
    id: String,
    upstream_id: String,
    self_signed: bool,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl std::fmt::Debug for X509Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Ca")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A random serial number of up to 128 bits, with its decimal form.
fn serial() -> Result<(SerialNumber, String), IssueError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| IssueError::Random)?;
    // Never zero, and positive (RFC 5280 §4.1.2.2): the library puts a zero byte before a high bit.
    let number = u128::from_be_bytes(bytes).max(1);
    Ok((
        SerialNumber::from_slice(&number.to_be_bytes()),
        number.to_string(),
    ))
}

/// SHA-1 of the key's bits (RFC 5280 §4.2.1.2, method 1): a name for the key, no protection.
fn key_id(public_key: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, public_key)
        .as_ref()
        .to_vec()
}

/// The name of the authority that a certificate is of; `None` where it cannot be read.
pub(super) fn authority_id(der: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(hex(&key_id(&parsed.public_key().subject_public_key.data)))
}

/// When a certificate ends; `None` where it cannot be read.
pub(super) fn not_after(der: &[u8]) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn printable(text: &str) -> Result<DnValue, rcgen::Error> {
    Ok(DnValue::PrintableString(PrintableString::try_from(text)?))
}

fn named(organization: &str) -> Result<DistinguishedName, rcgen::Error> {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, printable("US")?);
    name.push(DnType::OrganizationName, printable(organization)?);
    Ok(name)
}

/// A subject in DER as the library writes one; `None` for one without any part.
fn distinguished_name(subject: &[u8]) -> Result<Option<DistinguishedName>, IssueError> {
    let (_, name) = X509Name::from_der(subject).map_err(|_| IssueError::Unreadable)?;
    let mut parts = DistinguishedName::new();
    let mut some = false;
    for attribute in name.iter_attributes() {
        let oid = attribute
            .attr_type()
            .iter()
            .map(Iterator::collect::<Vec<u64>>);
        let (Some(oid), Ok(text)) = (oid, attribute.as_str()) else {
            return Err(IssueError::Unreadable);
        };
        parts.push(DnType::from_oid(&oid), text);
        some = true;
    }
    Ok(some.then_some(parts))
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn authority_params(domain: &TrustDomain) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
    Ok(params)
}

/// A signing request for a CA of a trust domain (PKCS#10, DER).
pub(super) fn request(domain: &TrustDomain, key: &KeyPair) -> Result<Vec<u8>, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("SPIFFE")?;
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
    Ok(params.serialize_request(key)?.der().to_vec())
}

impl X509Ca {
    /// Makes an authority that nobody has signed but itself.
    ///
    /// # Errors
    /// When the library fails.
    pub fn self_signed(
        domain: &TrustDomain,
        key: KeyPair,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Self, IssueError> {
        let (number, decimal) = serial()?;
        let mut params = authority_params(domain)?;
        params.distinguished_name = named("SPIFFE")?;
        let of_its_own = DnType::CustomDnType(SERIAL_NUMBER.into());
        params
            .distinguished_name
            .push(of_its_own, printable(&decimal)?);
        params.serial_number = Some(number);
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id(key.der_bytes()));
        params.not_before = OffsetDateTime::from(whole_seconds(now - BACKDATE));
        params.not_after = OffsetDateTime::from(whole_seconds(now + ttl));
        let certificate = params.self_signed(&key)?.der().clone();
        Self::restore(vec![certificate], key)
    }

    /// Takes up an authority from its chain (its own certificate first) and its key.
    ///
    /// # Errors
    /// When the two do not belong together, or the certificate cannot be read.
    pub fn restore(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Result<Self, IssueError> {
        let own = chain.first().ok_or(IssueError::Unreadable)?;
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| IssueError::Unreadable)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(IssueError::KeyMismatch);
        }
        let at = |time: x509_parser::time::ASN1Time| {
            let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let validity = parsed.validity();
        // The name alone does not say so: others make CAs that have their issuer's.
        let self_signed = parsed.subject().as_raw() == parsed.issuer().as_raw()
            && parsed.verify_signature(None).is_ok();
        let (not_before, not_after) = (at(validity.not_before), at(validity.not_after));
        let id = hex(&key_id(key.der_bytes()));
        let issuer = Issuer::from_ca_cert_der(own, key)?;
        Ok(Self {
            issuer,
            id,
            upstream_id: String::new(),
            self_signed,
            not_before,
            not_after,
            chain,
        })
    }

    /// The same below a root of this name.
    #[must_use]
    pub fn with_upstream(mut self, id: String) -> Self {
        self.upstream_id = id;
        self
    }

    /// The name of the root above: its subject key identifier; empty where there is none.
    #[must_use]
    pub fn upstream_id(&self) -> &str {
        &self.upstream_id
    }

    /// Its name: the subject key identifier, in lower-case hexadecimal.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its certificate, and those above it up to a root, which is not among them.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
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

    /// Its key in PKCS#8, DER.
    #[must_use]
    pub fn key(&self) -> zeroize::Zeroizing<Vec<u8>> {
        zeroize::Zeroizing::new(self.issuer.key().serialize_der())
    }

    /// The certificates that go behind one that it has signed.
    fn above(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let roots = usize::from(self.self_signed);
        self.chain.iter().skip(roots)
    }

    fn until(&self, now: SystemTime, ttl: Duration) -> Result<SystemTime, IssueError> {
        if now >= self.not_after {
            return Err(IssueError::Expired);
        }
        Ok(whole_seconds(now + ttl).min(self.not_after))
    }

    /// Signs the certificate of a workload, an agent or a server, valid from 10 s before `now`.
    ///
    /// # Errors
    /// When the authority has expired, or the library fails.
    pub fn leaf(&self, leaf: &Leaf<'_>, now: SystemTime) -> Result<Issued, IssueError> {
        let mut params = Self::leaf_params(leaf)?;
        let (serial, decimal) = serial()?;
        params.serial_number = Some(serial);
        self.sign(params, decimal, leaf.public_key, now, leaf.ttl)
    }

    fn leaf_params(leaf: &Leaf<'_>) -> Result<CertificateParams, IssueError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("SPIRE")?;
        for name in leaf.dns_names {
            let name = name.as_str().try_into()?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        if let Some(first) = leaf.dns_names.first() {
            params
                .distinguished_name
                .push(DnType::CommonName, first.as_str());
        }
        let uri = leaf.id.to_string().try_into()?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Ok(params)
    }

    /// The same with the subject of a signing request, in DER. Its common name gives way to the first DNS
    /// name, as in SPIRE.
    ///
    /// # Errors
    /// When the subject cannot be read, the authority has expired, or the library fails.
    pub fn minted(
        &self,
        leaf: &Leaf<'_>,
        subject: &[u8],
        now: SystemTime,
    ) -> Result<Issued, IssueError> {
        let mut params = Self::leaf_params(leaf)?;
        if let Some(mut name) = distinguished_name(subject)? {
            if let Some(first) = leaf.dns_names.first() {
                name.push(DnType::CommonName, first.as_str());
            }
            params.distinguished_name = name;
        }
        let (serial, decimal) = serial()?;
        params.serial_number = Some(serial);
        self.sign(params, decimal, leaf.public_key, now, leaf.ttl)
    }

    /// Signs the certificate of an authority below: `number` tells those of one server apart.
    ///
    /// # Errors
    /// When the authority has expired, or the library fails.
    pub fn downstream(
        &self,
        domain: &TrustDomain,
        public_key: &[u8],
        number: u64,
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Issued, IssueError> {
        let mut params = authority_params(domain)?;
        params.distinguished_name = named("SPIFFE")?;
        let unit = printable(&format!("DOWNSTREAM-{number}"))?;
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, unit);
        // As in one that has signed itself. Without it one below one below would have its issuer's
        // name, and seem to have signed itself.
        let (serial, decimal) = serial()?;
        let of_its_own = DnType::CustomDnType(SERIAL_NUMBER.into());
        params
            .distinguished_name
            .push(of_its_own, printable(&decimal)?);
        params.serial_number = Some(serial);
        self.sign(params, decimal, public_key, now, ttl)
    }

    /// With the serial number that is in `params`, and in decimal beside them.
    fn sign(
        &self,
        mut params: CertificateParams,
        serial: String,
        public_key: &[u8],
        now: SystemTime,
        ttl: Duration,
    ) -> Result<Issued, IssueError> {
        let not_after = self.until(now, ttl)?;
        let key = SubjectPublicKeyInfo::from_der(public_key)?;
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id(key.der_bytes()));
        params.use_authority_key_identifier_extension = true;
        params.not_before = OffsetDateTime::from(whole_seconds(now - BACKDATE));
        params.not_after = OffsetDateTime::from(not_after);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above().cloned());
        Ok(Issued {
            chain,
            serial,
            not_after,
        })
    }
}

#[cfg(test)]
mod tests;
