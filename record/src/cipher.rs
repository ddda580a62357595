//! One direction's AEAD key.

use std::fmt;

use aws_lc_rs::aead as lc;
use ring::aead as rg;
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroizing;

use crate::{Backend, RecordError, TAG};

/// The cipher suites of TLS 1.3 that are spoken here (RFC 8446 §B.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `TLS_AES_128_GCM_SHA256`.
    Aes128Gcm,
    /// `TLS_AES_256_GCM_SHA384`.
    Aes256Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256`.
    ChaCha20Poly1305,
}

/// A traffic key and its IV (RFC 8446 §7.3). Wiped when dropped.
pub struct TrafficKey {
    /// Whose it is.
    pub suite: Suite,
    /// The key.
    pub key: Zeroizing<Vec<u8>>,
    /// The IV that sequence numbers are mixed into.
    pub iv: Zeroizing<[u8; 12]>,
}

impl fmt::Debug for TrafficKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficKey")
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

impl TrafficKey {
    /// Takes what rustls hands out.
    ///
    /// # Errors
    /// For suites that TLS 1.3 does not have.
    pub fn from_rustls(secrets: &ConnectionTrafficSecrets) -> Result<Self, RecordError> {
        use ConnectionTrafficSecrets as Secrets;
        let (suite, key, iv) = match secrets {
            Secrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
            Secrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
            Secrets::Chacha20Poly1305 { key, iv } => (Suite::ChaCha20Poly1305, key, iv),
            _ => {
                return Err(RecordError::Schedule(
                    "a suite that is not known here".into(),
                ));
            }
        };
        let iv = iv
            .as_ref()
            .try_into()
            .map_err(|_| RecordError::Schedule("an IV of another length".into()))?;
        Ok(Self {
            suite,
            key: Zeroizing::new(key.as_ref().to_vec()),
            iv: Zeroizing::new(iv),
        })
    }
}

/// A key at work, in one of two libraries.
enum Key {
    AwsLc(lc::LessSafeKey),
    // Its schedule lies in it, and is small beside what a connection has otherwise.
    Ring(Box<rg::LessSafeKey>),
}

/// Seals or opens the records of one direction under one key. The nonce is the IV mixed with the
/// sequence number (§5.3), which never repeats: it only counts up, and a key has its own count.
pub(crate) struct Cipher {
    key: Key,
    iv: Zeroizing<[u8; 12]>,
    sequence: u64,
    /// Where `sequence` began: 0, or what the handshake left.
    first: u64,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = match self.key {
            Key::AwsLc(_) => Backend::AwsLc,
            Key::Ring(_) => Backend::Ring,
        };
        f.debug_struct("Cipher")
            .field("backend", &backend)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Cipher {
    pub(crate) fn new(
        key: &TrafficKey,
        sequence: u64,
        backend: Backend,
    ) -> Result<Self, RecordError> {
        let refused = || RecordError::Schedule("a key of another length".into());
        let at_work = match backend {
            Backend::AwsLc => {
                let algorithm = match key.suite {
                    Suite::Aes128Gcm => &lc::AES_128_GCM,
                    Suite::Aes256Gcm => &lc::AES_256_GCM,
                    Suite::ChaCha20Poly1305 => &lc::CHACHA20_POLY1305,
                };
                let unbound = lc::UnboundKey::new(algorithm, &key.key).map_err(|_| refused())?;
                Key::AwsLc(lc::LessSafeKey::new(unbound))
            }
            Backend::Ring => {
                let algorithm = match key.suite {
                    Suite::Aes128Gcm => &rg::AES_128_GCM,
                    Suite::Aes256Gcm => &rg::AES_256_GCM,
                    Suite::ChaCha20Poly1305 => &rg::CHACHA20_POLY1305,
                };
                let unbound = rg::UnboundKey::new(algorithm, &key.key).map_err(|_| refused())?;
                Key::Ring(Box::new(rg::LessSafeKey::new(unbound)))
            }
        };
        Ok(Self {
            key: at_work,
            iv: key.iv.clone(),
            sequence,
            first: sequence,
        })
    }

    /// Records protected under this key.
    pub(crate) const fn records(&self) -> u64 {
        self.sequence.wrapping_sub(self.first)
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = *self.iv;
        for (byte, count) in nonce.iter_mut().skip(4).zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        nonce
    }

    /// §5.3: a sequence number must not wrap.
    fn advance(&mut self) -> Result<(), RecordError> {
        self.sequence = self
            .sequence
            .checked_add(1)
            .ok_or(RecordError::KeyExhausted)?;
        Ok(())
    }

    /// Encrypts `text` where it lies and returns its tag.
    pub(crate) fn seal(
        &mut self,
        header: [u8; 5],
        text: &mut [u8],
    ) -> Result<[u8; TAG], RecordError> {
        let nonce = self.nonce();
        self.advance()?;
        let mut tag = [0; TAG];
        match &self.key {
            Key::AwsLc(key) => {
                let nonce = lc::Nonce::assume_unique_for_key(nonce);
                let sealed = key.seal_in_place_separate_tag(nonce, lc::Aad::from(header), text);
                tag.copy_from_slice(sealed.map_err(|_| too_much())?.as_ref());
            }
            Key::Ring(key) => {
                let nonce = rg::Nonce::assume_unique_for_key(nonce);
                let sealed = key.seal_in_place_separate_tag(nonce, rg::Aad::from(header), text);
                tag.copy_from_slice(sealed.map_err(|_| too_much())?.as_ref());
            }
        }
        Ok(tag)
    }

    /// Decrypts `sealed` (text and tag) where it lies, and returns the length of the text.
    pub(crate) fn open(
        &mut self,
        header: [u8; 5],
        sealed: &mut [u8],
    ) -> Result<usize, RecordError> {
        let nonce = self.nonce();
        self.advance()?;
        let bad = RecordError::BadRecordMac;
        match &self.key {
            Key::AwsLc(key) => {
                let nonce = lc::Nonce::assume_unique_for_key(nonce);
                let opened = key.open_in_place(nonce, lc::Aad::from(header), sealed);
                opened.map(|text| text.len()).map_err(|_| bad)
            }
            Key::Ring(key) => {
                let nonce = rg::Nonce::assume_unique_for_key(nonce);
                let opened = key.open_in_place(nonce, rg::Aad::from(header), sealed);
                opened.map(|text| text.len()).map_err(|_| bad)
            }
        }
    }
}

/// Sealing fails only where a text is longer than the AEAD takes: no record is.
fn too_much() -> RecordError {
    RecordError::KeyExhausted
}
