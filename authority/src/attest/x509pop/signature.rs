//! Signatures that prove possession of a certificate's key: SHA-256 for all curves, and for RSA as PSS.

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPssSaltLength, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::{prelude::X509Certificate, public_key::PublicKey};

/// Most bits of an RSA key: more would cost us more than the agent.
const RSA: usize = 8192;

/// RSA-PSS with a salt as long as the digest, as most make it.
static DIGEST_SALT: RsaParameters = signature::RSA_PSS_2048_8192_SHA256;
/// With the longest salt there is room for: what SPIRE's agents make, by Go's default.
static LONGEST_SALT: RsaParameters =
    signature::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);

/// The public key of a certificate, as far as it can be asked for a proof.
pub(super) struct Key<'a> {
    raw: &'a [u8],
    /// RSA where there is none.
    ecdsa: Option<&'static dyn VerificationAlgorithm>,
}

/// Why it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("unreadable public key")]
    Unreadable,
    #[error("unsupported key: ECDSA P-256, P-384 or P-521, or RSA up to 8192 bits")]
    Unsupported,
}

impl<'a> Key<'a> {
    pub(super) fn of(leaf: &'a X509Certificate<'_>) -> Result<Self, KeyError> {
        let key = leaf.public_key().parsed();
        let raw: &[u8] = leaf.public_key().subject_public_key.data.as_ref();
        let ecdsa: Option<&'static dyn VerificationAlgorithm> =
            match key.map_err(|_| KeyError::Unreadable)? {
                PublicKey::RSA(rsa) if rsa.key_size() <= RSA => None,
                PublicKey::EC(_) => Some(match raw.len() {
                    65 => &signature::ECDSA_P256_SHA256_ASN1,
                    97 => &signature::ECDSA_P384_SHA256_ASN1,
                    133 => &signature::ECDSA_P521_SHA256_ASN1,
                    _ => return Err(KeyError::Unsupported),
                }),
                _ => return Err(KeyError::Unsupported),
            };
        Ok(Self { raw, ecdsa })
    }

    pub(super) const fn is_rsa(&self) -> bool {
        self.ecdsa.is_none()
    }

    /// Whether it has made this signature: ECDSA in DER (RFC 3279 §2.2.3), or RSA-PSS.
    pub(super) fn has_signed(&self, message: &[u8], signed: &[u8]) -> bool {
        if let Some(algorithm) = self.ecdsa {
            let key = UnparsedPublicKey::new(algorithm, self.raw);
            return key.verify(message, signed).is_ok();
        }
        [&DIGEST_SALT, &LONGEST_SALT].into_iter().any(|algorithm| {
            let key = UnparsedPublicKey::new(algorithm, self.raw);
            key.verify(message, signed).is_ok()
        })
    }
}

/// Two big-endian numbers as an ECDSA signature in DER (RFC 3279 §2.2.3).
pub(super) fn der(r: &[u8], s: &[u8]) -> Option<Vec<u8>> {
    /// Of P-521.
    const LONGEST: usize = 66;
    let mut body = Vec::new();
    for number in [r, s] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = number.get(zeros..)?;
        let high = *number.first()? >= 0x80;
        if number.len() > LONGEST {
            return None;
        }
        body.extend([0x02, u8::try_from(number.len()).ok()? + u8::from(high)]);
        body.extend(high.then_some(0));
        body.extend_from_slice(number);
    }
    let length = u8::try_from(body.len()).ok()?;
    let head = if length < 0x80 {
        vec![0x30, length]
    } else {
        vec![0x30, 0x81, length]
    };
    Some([head, body].concat())
}
