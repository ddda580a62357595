//! What we read out of a certificate ourselves; signatures and paths are rustls-webpki's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::EndEntityCert;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
    x509::SubjectPublicKeyInfo,
};

/// Bits of the key usage extension that SPIFFE speaks of (X509-SVID §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyUsage {
    pub(crate) critical: bool,
    pub(crate) digital_signature: bool,
    pub(crate) cert_sign: bool,
    pub(crate) crl_sign: bool,
}

/// Extended key usages, where the extension is there (X509-SVID §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtendedKeyUsage {
    pub(crate) server_auth: bool,
    pub(crate) client_auth: bool,
}

/// A certificate's fields that identity depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateInfo {
    /// Every URI name, in order.
    pub(crate) uris: Vec<String>,
    pub(crate) is_ca: bool,
    /// Most intermediates below a CA, where it says so.
    pub(crate) path_length: Option<u32>,
    /// An extension is critical and not understood here (RFC 5280 §4.2).
    pub(crate) unknown_critical: bool,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// Lower-case hexadecimal, without separators.
    pub(crate) serial: String,
    pub(crate) spki_sha256: [u8; 32],
}

/// The bytes are not one certificate, or an extension in it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a readable X.509 certificate")]
pub(crate) struct Malformed;

impl CertificateInfo {
    /// Parses a DER certificate. Anything left over, repeated or unreadable is an error: what is
    /// skipped here would be decided elsewhere.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, Malformed> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Malformed)?;
        if !rest.is_empty() {
            return Err(Malformed);
        }
        let mut uris = Vec::new();
        let mut is_ca = false;
        let mut path_length = None;
        let mut unknown_critical = false;
        let mut key_usage = None;
        let mut extended_key_usage = None;
        // The map refuses an extension that stands twice.
        certificate.extensions_map().map_err(|_| Malformed)?;
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                            GeneralName::Invalid(..) => return Err(Malformed),
                            _ => {}
                        }
                    }
                }
                ParsedExtension::BasicConstraints(constraints) => {
                    is_ca = constraints.ca;
                    path_length = constraints.path_len_constraint;
                }
                ParsedExtension::KeyUsage(usage) => {
                    key_usage = Some(KeyUsage {
                        critical: extension.critical,
                        digital_signature: usage.digital_signature(),
                        cert_sign: usage.key_cert_sign(),
                        crl_sign: usage.crl_sign(),
                    });
                }
                ParsedExtension::ExtendedKeyUsage(usage) => {
                    extended_key_usage = Some(ExtendedKeyUsage {
                        server_auth: usage.server_auth,
                        client_auth: usage.client_auth,
                    });
                }
                ParsedExtension::ParseError { .. } => return Err(Malformed),
                ParsedExtension::UnsupportedExtension { .. } => {
                    unknown_critical |= extension.critical;
                }
                _ => {}
            }
        }
        let validity = certificate.validity();
        Ok(Self {
            uris,
            is_ca,
            path_length,
            unknown_critical,
            key_usage,
            extended_key_usage,
            not_before: system_time(validity.not_before.timestamp()),
            not_after: system_time(validity.not_after.timestamp()),
            serial: hex(certificate.raw_serial()),
            spki_sha256: sha256(certificate.public_key().raw),
        })
    }
}

impl CertificateInfo {
    /// Whether its one URI name is a SPIFFE ID of this trust domain.
    pub(crate) fn names(&self, domain: &crate::id::TrustDomain) -> bool {
        let [uri] = self.uris.as_slice() else {
            return false;
        };
        crate::id::parse_any_id(uri).is_ok_and(|id| id.trust_domain() == domain)
    }

    /// The public key as the JWK members that RFC 7517 asks for, as SPIRE writes them: for EC and
    /// RSA keys, and as RFC 8037 asks for Ed25519. Other keys have `kty` alone; readers of SPIFFE
    /// bundles take the key from `x5c`.
    pub(crate) fn jwk(der: &[u8]) -> serde_json::Map<String, serde_json::Value> {
        let parsed = X509Certificate::from_der(der).ok();
        Self::jwk_of(parsed.as_ref().map(|(_, parsed)| parsed.public_key()))
    }

    /// The same of a public key.
    pub(crate) fn jwk_of(
        spki: Option<&SubjectPublicKeyInfo<'_>>,
    ) -> serde_json::Map<String, serde_json::Value> {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
        use x509_parser::{oid_registry::OID_SIG_ED25519, public_key::PublicKey};

        let mut key = serde_json::Map::new();
        let mut put = |name: &str, value: String| key.insert(name.into(), value.into());
        match spki.and_then(|spki| spki.parsed().ok()) {
            Some(PublicKey::EC(point)) => {
                let bytes = point.data();
                // Uncompressed point, X9.62 §4.3.6: 0x04, then two coordinates of equal length.
                let coordinates = bytes.get(1..).unwrap_or_default();
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                put("kty", "EC".into());
                put("crv", curve.into());
                put("x", BASE64.encode(x));
                put("y", BASE64.encode(y));
            }
            Some(PublicKey::RSA(rsa)) => {
                let strip = |bytes: &[u8]| {
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    BASE64.encode(bytes.get(zeros..).unwrap_or_default())
                };
                put("kty", "RSA".into());
                put("n", strip(rsa.modulus));
                put("e", strip(rsa.exponent));
            }
            _ => {
                put("kty", "OKP".into());
                // RFC 8410 §3: the key itself.
                if let Some(spki) = spki
                    && spki.algorithm.algorithm == OID_SIG_ED25519
                {
                    let bytes = &spki.subject_public_key.data;
                    put("crv", "Ed25519".into());
                    put("x", BASE64.encode(bytes));
                }
            }
        }
        key
    }
}

/// Whether a certificate is signed by the key in it. What is signed says so itself: the name of the issuer
/// proves nothing.
pub(crate) fn is_self_signed(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return false;
    };
    let whole = CertificateDer::from(der);
    let Ok(by) = EndEntityCert::try_from(&whole) else {
        return false;
    };
    let message = certificate.tbs_certificate.as_ref();
    let signature = certificate.signature_value.as_ref();
    // Those of other kinds of keys refuse at once.
    let verifies = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        by.verify_signature(*algorithm, message, signature).is_ok()
    };
    webpki::ALL_VERIFICATION_ALGS.iter().any(verifies)
}

fn system_time(seconds: i64) -> SystemTime {
    u64::try_from(seconds).map_or(UNIX_EPOCH, |seconds| {
        UNIX_EPOCH + Duration::from_secs(seconds)
    })
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// A certificate in PEM (RFC 7468).
pub(crate) fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines + "-----END CERTIFICATE-----\n"
}
