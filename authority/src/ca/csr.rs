//! What a certificate signing request asks for (RFC 2986), as far as anything here reads it.

use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
    public_key::PublicKey,
};

/// Most bytes of a request: one with an RSA key of 8192 bits and some names has under 4 KB.
const MOST: usize = 16 * 1024;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// There is none.
    #[error("missing CSR")]
    Missing,
    /// It is not one.
    #[error("malformed CSR")]
    Malformed,
    /// Whoever asks does not have the key.
    #[error("invalid CSR signature")]
    Signature,
    /// A key that nobody should use, or that the library cannot certify.
    #[error(
        "unsupported key: ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits is expected"
    )]
    Key,
}

/// A request whose signature is that of its own key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// URI names, as they stand there.
    pub uris: Vec<String>,
    /// DNS names, as they stand there.
    pub dns_names: Vec<String>,
    /// The subject, in DER.
    pub subject: Vec<u8>,
}

impl Request {
    /// Reads a request, DER.
    ///
    /// # Errors
    /// Each of [`CsrError`]'s variants.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.is_empty() {
            return Err(CsrError::Missing);
        }
        if der.len() > MOST {
            return Err(CsrError::Malformed);
        }
        let (rest, csr) =
            X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        let info = &csr.certification_request_info;
        let supported = match info.subject_pki.parsed() {
            Ok(PublicKey::RSA(key)) => (2048..=8192).contains(&key.key_size()),
            Ok(PublicKey::EC(point)) => matches!(point.key_size(), 256 | 384),
            // Ed25519 has no form of its own there; others are refused with their signature.
            Ok(PublicKey::Unknown(_)) => true,
            _ => false,
        };
        if !supported {
            return Err(CsrError::Key);
        }
        csr.verify_signature().map_err(|_| CsrError::Signature)?;
        let mut request = Self {
            public_key: info.subject_pki.raw.to_vec(),
            uris: Vec::new(),
            dns_names: Vec::new(),
            subject: info.subject.as_raw().to_vec(),
        };
        for extension in csr.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::URI(uri) => request.uris.push((*uri).into()),
                            GeneralName::DNSName(name) => request.dns_names.push((*name).into()),
                            _ => {}
                        }
                    }
                }
                ParsedExtension::ParseError { .. } => return Err(CsrError::Malformed),
                _ => {}
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, SignatureAlgorithm};

    use super::*;

    fn request(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::URI("spiffe://a.example/w".try_into().unwrap()),
            SanType::DnsName("w.a.example".try_into().unwrap()),
        ];
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_key_are_read() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ] {
            let request = Request::parse(&request(algorithm)).unwrap();
            assert_eq!(request.uris, ["spiffe://a.example/w"]);
            assert_eq!(request.dns_names, ["w.a.example"]);
            rcgen::SubjectPublicKeyInfo::from_der(&request.public_key).unwrap();
        }
    }

    #[test]
    fn whoever_lacks_the_key_is_refused() {
        let (one, other) = (
            request(&rcgen::PKCS_ECDSA_P256_SHA256),
            request(&rcgen::PKCS_ECDSA_P256_SHA256),
        );
        let mut altered = one.clone();
        let at = altered.windows(8).position(|it| it == b"a.exampl").unwrap();
        altered[at] = b'b';
        assert_eq!(Request::parse(&altered).unwrap_err(), CsrError::Signature);
        assert_ne!(
            Request::parse(&one).unwrap(),
            Request::parse(&other).unwrap()
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(Request::parse(&[]).unwrap_err(), CsrError::Missing);
        let whole = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        for length in 1..whole.len() {
            assert_eq!(
                Request::parse(&whole[..length]).unwrap_err(),
                CsrError::Malformed
            );
        }
        let more = [&whole[..], &[0]].concat();
        assert_eq!(Request::parse(&more).unwrap_err(), CsrError::Malformed);
        assert_eq!(
            Request::parse(&[0x30; 20_000]).unwrap_err(),
            CsrError::Malformed
        );
    }

    #[test]
    fn weak_and_strange_keys_are_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        assert_eq!(Request::parse(csr.der()).unwrap_err(), CsrError::Key);
    }
}
