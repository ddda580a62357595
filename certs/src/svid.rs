//! An X.509-SVID with its key.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{
    id::SpiffeId,
    verify::{Leaf, VerifyError},
    x509::CertificateInfo,
};

/// What is wrong with an SVID of our own.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SvidError {
    /// There is no certificate.
    #[error("no certificate")]
    Empty,
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    KeyMismatch,
    /// The key cannot be used for TLS.
    #[error(
        "the private key cannot be used: ECDSA P-256 or P-384, Ed25519 or RSA in PKCS#8, SEC1 or PKCS#1 is expected"
    )]
    UnusableKey,
    /// The leaf is not an X.509-SVID.
    #[error(transparent)]
    Leaf(#[from] VerifyError),
    /// An intermediate certificate cannot be read.
    #[error("certificate {0} of the chain is not a readable X.509 certificate")]
    Intermediate(usize),
}

/// A chain, leaf first, and the key that the leaf certifies.
///
/// The key lives inside aws-lc, which wipes it when the SVID is dropped; the encoding it came in is
/// wiped when it is loaded ([`crate::tls::provider`]).
#[derive(Clone)]
pub struct Svid {
    id: SpiffeId,
    certified: Arc<CertifiedKey>,
    info: CertificateInfo,
    /// The earliest end of validity in the chain.
    not_after: SystemTime,
    hint: Option<String>,
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id.to_string())
            .field("serial", &self.info.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Svid {
    /// The same chain (and so the same key) under the same hint.
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert && self.hint == other.hint
    }
}

impl Svid {
    /// Checks that the leaf is an X.509-SVID (X509-SVID §4, §5.2) and the key is its own. Says
    /// nothing of validity in time or of who issued it: an SVID may be loaded before or after.
    ///
    /// # Errors
    /// Each of [`SvidError`]'s variants.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, SvidError> {
        let leaf = chain.first().ok_or(SvidError::Empty)?;
        let leaf = Leaf::parse(leaf)?;
        let mut not_after = leaf.info.not_after;
        for (index, der) in chain.iter().enumerate().skip(1) {
            let info =
                CertificateInfo::parse(der).map_err(|_| SvidError::Intermediate(index + 1))?;
            not_after = not_after.min(info.not_after);
        }
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|_| SvidError::UnusableKey)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => {}
            // A key that cannot show its public half is not taken on trust.
            Err(_) => return Err(SvidError::KeyMismatch),
        }
        Ok(Self {
            id: leaf.id,
            certified: Arc::new(certified),
            info: leaf.info,
            not_after,
            hint: None,
        })
    }

    /// The same with the hint a Workload API gave it (Workload_API.md §5.2.1).
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.filter(|hint| !hint.is_empty());
        self
    }

    /// Whose it is.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The hint it was delivered with.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The leaf's serial number, in hexadecimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.info.serial
    }

    /// When the leaf becomes valid.
    #[must_use]
    pub const fn not_before(&self) -> SystemTime {
        self.info.not_before
    }

    /// When the first certificate of the chain expires.
    #[must_use]
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether it may be presented at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.info.not_before <= now && now <= self.not_after
    }

    /// The chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Chain and key for TLS.
    #[must_use]
    pub const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}
