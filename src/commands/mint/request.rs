//! A new key, and the request to sign it.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, Error, KeyPair, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// Longest common name (RFC 5280, appendix A.1, ub-common-name).
const LONGEST_NAME: usize = 64;

/// A P-256 key, and a PKCS#10 request for it.
pub(super) struct Request {
    key: KeyPair,
    /// DER.
    pub(super) csr: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

impl Request {
    /// For this ID and these DNS names, with the subject by which `spire-server x509 mint` asks.
    ///
    /// # Errors
    /// When the library refuses.
    pub(super) fn new(id: &str, dns_names: &[String]) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CountryName, "US");
        subject.push(DnType::OrganizationName, "SPIRE");
        if let Some(first) = dns_names.first()
            && first.len() <= LONGEST_NAME
        {
            subject.push(DnType::CommonName, first.as_str());
        }
        params.distinguished_name = subject;
        params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        for name in dns_names {
            let name = SanType::DnsName(name.as_str().try_into()?);
            params.subject_alt_names.push(name);
        }
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { key, csr })
    }

    /// The key, PKCS#8.
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// The key, PKCS#8 in PEM.
    pub(super) fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }
}

/// Reads a DNS name; whether it may be in an SVID only the authority says.
pub(super) fn dns_name(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.is_ascii() {
        return Err("expected a DNS name in ASCII (xn--… for others)".into());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_a_key_of_its_own_and_its_names() {
        let id = "spiffe://a.example/w";
        let names = ["w.a.example".to_owned()];
        let (one, other) = (
            Request::new(id, &names).unwrap(),
            Request::new(id, &[]).unwrap(),
        );
        assert_ne!(one.key_pem(), other.key_pem());
        let holds = |der: &[u8], text: &str| {
            der.windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        assert!(holds(&one.csr, id) && holds(&other.csr, id));
        assert!(holds(&one.csr, "w.a.example") && !holds(&other.csr, "w.a.example"));
        assert!(dns_name("é.example").is_err() && dns_name("").is_err());
    }
}
