//! CAs that sign whatever they are asked to.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256,
    RsaKeySize, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sekisho_certs::{Svid, TrustBundle, TrustDomain};

use crate::{
    clock::present,
    profile::{BasicConstraints, ExtendedUse, KeyUse, Profile},
};

/// A kind of key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    EcP256,
    /// Ed25519.
    Ed25519,
    /// RSA with 2048 bits.
    Rsa2048,
}

impl KeyKind {
    fn generate(self) -> KeyPair {
        match self {
            Self::EcP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
        .expect("key generation")
    }
}

/// A chain and the key of its leaf.
#[derive(Debug)]
pub struct Issued {
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// In PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Issued {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Issued {
    /// As our own SVID.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn svid(&self) -> Svid {
        let provider = sekisho_certs::tls::provider();
        Svid::new(self.chain.clone(), self.key.clone_key(), &provider).expect("an X.509-SVID")
    }

    /// The chain in PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect()
    }

    /// The key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_der())
    }

    /// Writes chain and key into `folder`, as `name.pem` and `name.key`; returns their paths.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> (std::path::PathBuf, std::path::PathBuf) {
        let cert = folder.join(format!("{name}.pem"));
        let key = folder.join(format!("{name}.key"));
        std::fs::write(&cert, self.chain_pem()).expect("write the certificate");
        std::fs::write(&key, self.key_pem()).expect("write the key");
        (cert, key)
    }
}

/// DER as PEM.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A CA for tests: root or intermediate, and not necessarily one that SPIFFE allows.
#[derive(Debug)]
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    /// What a leaf sends after itself: this CA first. Empty for a root.
    above: Vec<CertificateDer<'static>>,
    present: SystemTime,
}

impl TestCa {
    /// A faultless root of this trust domain, at the host's time.
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self::root(&Profile::ca(domain), KeyKind::default(), present())
    }

    /// A self-signed root; `present` is the time that validity is counted from.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    #[must_use]
    pub fn root(profile: &Profile, key: KeyKind, present: SystemTime) -> Self {
        let key = key.generate();
        let params = params(profile, present);
        let der = params.self_signed(&key).expect("self-sign").der().clone();
        Self {
            issuer: Issuer::new(params, key),
            der,
            above: Vec::new(),
            present,
        }
    }

    /// The same key under another self-signed certificate.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    #[must_use]
    pub fn renewed(&self, profile: &Profile) -> Self {
        let key = KeyPair::try_from(self.issuer.key().serialize_der()).expect("own key");
        let params = params(profile, self.present);
        let der = params.self_signed(&key).expect("self-sign").der().clone();
        Self {
            issuer: Issuer::new(params, key),
            der,
            above: Vec::new(),
            present: self.present,
        }
    }

    /// A CA below this one.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    #[must_use]
    pub fn intermediate(&self, profile: &Profile, key: KeyKind) -> Self {
        let key = key.generate();
        let params = params(profile, self.present);
        let der = self.sign(&params, &key);
        let mut above = vec![der.clone()];
        above.extend(self.above.iter().cloned());
        Self {
            issuer: Issuer::new(params, key),
            der,
            above,
            present: self.present,
        }
    }

    /// This CA's certificate of the key of another, as anybody can make one who has seen that key.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    #[must_use]
    pub fn certify(&self, other: &Self, profile: &Profile) -> CertificateDer<'static> {
        let key = KeyPair::try_from(other.issuer.key().serialize_der()).expect("a key");
        self.sign(&params(profile, self.present), &key)
    }

    /// Issues what the profile says, with a new key of kind P-256.
    #[must_use]
    pub fn issue(&self, profile: &Profile) -> Issued {
        self.issue_with(profile, KeyKind::default())
    }

    /// Issues what the profile says, with a new key.
    ///
    /// # Panics
    /// When the certificate cannot be made.
    #[must_use]
    pub fn issue_with(&self, profile: &Profile, key: KeyKind) -> Issued {
        let key = key.generate();
        let mut chain = vec![self.sign(&params(profile, self.present), &key)];
        chain.extend(self.above.iter().cloned());
        Issued {
            chain,
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }

    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
        let certificate = params.signed_by(key, &self.issuer).expect("sign");
        certificate.der().clone()
    }

    /// The CA's certificate.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The CA's certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// The time that validity is counted from.
    #[must_use]
    pub const fn present(&self) -> SystemTime {
        self.present
    }

    /// A bundle of `domain` with this CA alone.
    ///
    /// # Panics
    /// When the CA may not stand in such a bundle.
    #[must_use]
    pub fn bundle(&self, domain: &str) -> TrustBundle {
        let domain = TrustDomain::new(domain).expect("a trust domain");
        TrustBundle::new(domain, [self.der.clone()]).expect("a bundle")
    }
}

/// `present`, so many seconds later or earlier.
#[must_use]
pub fn shifted(present: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        present - by
    } else {
        present + by
    }
}

fn params(profile: &Profile, present: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, profile.common_name.as_str());
    let uris = profile.uris.iter().map(|uri| SanType::URI(ascii(uri)));
    let names = profile
        .dns_names
        .iter()
        .map(|name| SanType::DnsName(ascii(name)));
    params.subject_alt_names = uris.chain(names).collect();
    params.is_ca = match profile.basic_constraints {
        BasicConstraints::Absent => IsCa::NoCa,
        BasicConstraints::EndEntity => IsCa::ExplicitNoCa,
        BasicConstraints::Ca { path_length } => IsCa::Ca(path_length.map_or(
            rcgen::BasicConstraints::Unconstrained,
            rcgen::BasicConstraints::Constrained,
        )),
    };
    if profile.key_usage_critical {
        params.key_usages = profile
            .key_usage
            .iter()
            .map(|usage| purpose(*usage))
            .collect();
    } else {
        params
            .custom_extensions
            .push(key_usage_extension(&profile.key_usage));
    }
    params.extended_key_usages = profile
        .extended_key_usage
        .iter()
        .map(|usage| match usage {
            ExtendedUse::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedUse::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        })
        .collect();
    if let Some(host) = &profile.permitted_uri_host {
        params.custom_extensions.push(permitted_uri_host(host));
    }
    if profile.unknown_critical_extension {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4, 5], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    }
    params.use_authority_key_identifier_extension = true;
    params.not_before = shifted(present, profile.begins).into();
    params.not_after = shifted(present, profile.ends).into();
    params
}

fn ascii(text: &str) -> rcgen::string::Ia5String {
    text.try_into().expect("names in certificates are ASCII")
}

const fn purpose(usage: KeyUse) -> KeyUsagePurpose {
    match usage {
        KeyUse::CrlSign => KeyUsagePurpose::CrlSign,
        KeyUse::DigitalSignature => KeyUsagePurpose::DigitalSignature,
        KeyUse::KeyCertSign => KeyUsagePurpose::KeyCertSign,
        KeyUse::KeyEncipherment => KeyUsagePurpose::KeyEncipherment,
    }
}

/// RFC 5280 §4.2.1.3, not critical: the library writes critical ones only.
fn key_usage_extension(usages: &[KeyUse]) -> CustomExtension {
    let bits = usages.iter().fold(0_u8, |bits, usage| {
        bits | match usage {
            KeyUse::DigitalSignature => 0x80,
            KeyUse::KeyEncipherment => 0x20,
            KeyUse::KeyCertSign => 0x04,
            KeyUse::CrlSign => 0x02,
        }
    });
    let unused = u8::try_from(bits.trailing_zeros().min(7)).expect("at most seven");
    CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, unused, bits])
}

/// RFC 5280 §4.2.1.10, critical: one permitted subtree, of URI names.
fn permitted_uri_host(host: &str) -> CustomExtension {
    let wrap = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("a short name");
        assert!(length < 0x80, "a short name");
        [&[tag, length], content].concat()
    };
    let subtree = wrap(0x30, &wrap(0x86, host.as_bytes()));
    let content = wrap(0x30, &wrap(0xa0, &subtree));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}
