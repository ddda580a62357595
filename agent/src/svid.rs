//! X.509-SVIDs that an authority has signed for us, with their keys.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData as _, SanType,
};
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sekisho_certs::{SpiffeId, Svid, SvidError, Trust, VerifyError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Why an SVID is not made or not taken.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The library refuses.
    #[error("cannot make a key or a signing request: {0}")]
    Library(#[from] rcgen::Error),
    /// Chain and key do not make an SVID.
    #[error("the answer is not an SVID: {0}")]
    Svid(#[from] SvidError),
    /// It is somebody else's.
    #[error("asked for {wanted}, was given {given}")]
    Foreign {
        /// What was asked for.
        wanted: SpiffeId,
        /// What came.
        given: SpiffeId,
    },
    /// Our own bundle does not verify it.
    #[error("the answer does not verify: {0}")]
    Unverified(#[from] VerifyError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] rustls::Error),
}

/// A new key, and a request to sign it.
pub struct Request {
    key: KeyPair,
    /// PKCS#10, DER.
    pub csr: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

impl Request {
    /// P-256, subject `C=US, O=SPIRE` as SPIRE's agents ask; with an ID as its name, where it is a
    /// workload's.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn new(id: Option<&str>) -> Result<Self, SignedError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CountryName, "US");
        subject.push(DnType::OrganizationName, "SPIRE");
        params.distinguished_name = subject;
        if let Some(id) = id {
            params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        }
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { key, csr })
    }

    /// The key that is to be certified: SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// The answer to it, with its key.
    #[must_use]
    pub fn signed(&self, chain: Vec<Vec<u8>>) -> Held {
        Held {
            chain,
            key: Zeroizing::new(self.key.serialize_der()),
        }
    }
}

/// A chain, leaf first, and its key, in the encodings in which both are handed on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// DER certificates.
    #[serde(with = "crate::cache::list")]
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8, DER.
    #[serde(with = "crate::cache::secret")]
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl Held {
    /// The certificates.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let ders = self.chain.iter();
        ders.map(|der| CertificateDer::from(der.clone())).collect()
    }

    fn svid(&self, provider: &CryptoProvider) -> Result<Svid, SvidError> {
        let key = PrivatePkcs8KeyDer::from(self.key.to_vec());
        Svid::new(self.certificates(), PrivateKeyDer::Pkcs8(key), provider)
    }

    /// For TLS, as the one who has it.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn certified(&self, provider: &CryptoProvider) -> Result<CertifiedKey, SignedError> {
        let key = PrivatePkcs8KeyDer::from(self.key.to_vec());
        let key = provider.key_provider.load_private_key(key.into())?;
        Ok(CertifiedKey::new(self.certificates(), key))
    }
}

/// An SVID that was checked, with the time in which it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What is handed on.
    pub held: Arc<Held>,
    /// Whose it is.
    pub id: SpiffeId,
    /// The leaf's serial number, in hexadecimal.
    pub serial: String,
    /// When it begins.
    pub not_before: SystemTime,
    /// When the first certificate of the chain ends.
    pub not_after: SystemTime,
}

impl Signed {
    /// Checks that it is an SVID of `wanted`, or of anybody where that is `None`, whose key is its
    /// own, and that `trust` has a path for it at `now`, or at the end of its validity that is nearer.
    ///
    /// # Errors
    /// Each of [`SignedError`]'s variants but the first.
    pub fn check(
        held: Held,
        wanted: Option<&SpiffeId>,
        trust: &Trust,
        now: SystemTime,
        provider: &CryptoProvider,
    ) -> Result<Self, SignedError> {
        let svid = held.svid(provider)?;
        if let Some(wanted) = wanted
            && svid.id() != wanted
        {
            return Err(SignedError::Foreign {
                wanted: wanted.clone(),
                given: svid.id().clone(),
            });
        }
        // Whether it may be shown now is asked when it is: one that comes while the clock is wrong is not
        // thrown away.
        let inside = now.max(svid.not_before()).min(svid.not_after());
        trust.verify(svid.chain(), inside)?;
        Ok(Self {
            id: svid.id().clone(),
            serial: svid.serial().to_owned(),
            not_before: svid.not_before(),
            not_after: svid.not_after(),
            held: Arc::new(held),
        })
    }

    /// Whether it may be shown at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whether `trust` still has a path for it. A clock that has jumped is no reason to give it up: time
    /// is looked at when it is handed on.
    #[must_use]
    pub fn has_path(&self, trust: &Trust, now: SystemTime) -> bool {
        let inside = now.max(self.not_before).min(self.not_after);
        trust.verify(&self.held.certificates(), inside).is_ok()
    }

    /// When it is to be replaced: half through its life, or so early that `target` of it is left, by
    /// up to a tenth more or less (`jitter` from 0 to 1).
    #[must_use]
    pub fn renew_at(&self, target: Option<Duration>, jitter: f64) -> SystemTime {
        let whole = self.not_after.duration_since(self.not_before);
        let whole = whole.unwrap_or_default();
        let half = whole.mul_f64(0.45 + 0.1 * jitter.clamp(0.0, 1.0));
        // With a tenth of the time that there is for it, in which to try again.
        let early = target.map(|target| whole.saturating_sub(target).mul_f64(0.9));
        let after = match early {
            Some(early) if !early.is_zero() => half.min(early),
            _ => half,
        };
        self.not_before + after
    }
}

/// One behind the other, as the Workload API has them.
#[must_use]
pub fn concatenated(chain: &[Vec<u8>]) -> Vec<u8> {
    chain.concat()
}
