//! Keys that sign a directory's files: on disk now, behind an interface that hardware can implement.

use std::{fmt, io, path::Path};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sekisho_certs::{hex, persist};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::metadata::{Decoded, Hex, Key};

/// Most bytes of a key's file.
const MOST: u64 = 16 * 1024;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be made.
    #[error("a key cannot be made: {0}")]
    Generate(&'static str),
    /// What is to be signed cannot be written as JSON.
    #[error("cannot be signed: {0}")]
    Json(#[from] serde_json::Error),
    /// The file holds no key that signs.
    #[error("{file}: an Ed25519 key as PKCS#8 in PEM is expected")]
    NotAKey {
        /// Which.
        file: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {error}")]
    Io {
        /// Which.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// The file holds no public key.
    #[error(
        "{file}: a public key is expected, as `sekisho directory key new` writes to FILE.pub: {problem}"
    )]
    NotPublic {
        /// Which.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// Hardware has not signed.
    #[error("not signed: {0}")]
    Refused(String),
}

/// A public key of TUF, whose ID is the SHA-256 of it (TUF §4.2).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct PublicKey(pub(crate) Key);

/// A public key as it is given to others: with its ID, for those who compare.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Given {
    id: String,
    key: PublicKey,
}

impl PublicKey {
    /// Reads one from a file, as [`Self::to_json`] writes it.
    ///
    /// # Errors
    /// When the file cannot be read, or its ID is not that of the key in it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        use io::Read as _;
        let file = || path.display().to_string();
        let not_public = |problem: String| KeyError::NotPublic {
            file: file(),
            problem,
        };
        let mut text = Zeroizing::new(Vec::with_capacity(1024));
        let opened = std::fs::File::open(path);
        let read = opened.and_then(|opened| opened.take(MOST).read_to_end(&mut text));
        read.map_err(|error| KeyError::Io {
            file: file(),
            error,
        })?;
        let given: Given =
            serde_json::from_slice(&text).map_err(|error| not_public(error.to_string()))?;
        if given.id == given.key.id() {
            return Ok(given.key);
        }
        let problem = format!("its ID is {}, and it says {}", given.key.id(), given.id);
        Err(not_public(problem))
    }

    /// As it is given to others.
    #[must_use]
    pub fn to_json(&self) -> String {
        let given = Given {
            id: self.id(),
            key: self.clone(),
        };
        // Strings alone: nothing that could not be written.
        serde_json::to_string_pretty(&given).unwrap_or_default() + "\n"
    }

    pub(crate) fn keyid(&self) -> Decoded<Hex> {
        // JSON of a few strings: there is nothing in it that could not be written.
        self.0.key_id().unwrap_or_else(|_| Vec::<u8>::new().into())
    }

    /// Its ID, in hexadecimal: what two people compare.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.keyid())
    }
}

/// What signs.
pub trait Signer: fmt::Debug + Send + Sync {
    /// By which its signatures are checked.
    fn public(&self) -> PublicKey;

    /// Signs a message.
    ///
    /// # Errors
    /// When it cannot, or will not.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// An Ed25519 key (RFC 8032) in a file.
pub struct FileKey(Ed25519KeyPair);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileKey").field(&self.public().id()).finish()
    }
}

impl FileKey {
    /// A new one, in memory alone.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate()
            .map(Self)
            .map_err(|_| KeyError::Generate("no randomness"))
    }

    /// Reads one: PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it too.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no such key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        use io::Read as _;
        let file = || path.display().to_string();
        let mut text = Zeroizing::new(Vec::with_capacity(1024));
        std::fs::File::open(path)
            .and_then(|opened| opened.take(MOST).read_to_end(&mut text))
            .map_err(|error| KeyError::Io {
                file: file(),
                error,
            })?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&text)
            .map_err(|_| KeyError::NotAKey { file: file() })?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| KeyError::NotAKey { file: file() })
    }

    /// Writes it, to a file of its owner alone that is not there yet.
    ///
    /// # Errors
    /// When there is one already, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let failed = |error| KeyError::Io {
            file: path.display().to_string(),
            error,
        };
        if path.symlink_metadata().is_ok() {
            let there = io::Error::new(io::ErrorKind::AlreadyExists, "there is a file already");
            return Err(failed(there));
        }
        let der: Pkcs8V1Der<'_> = AsDer::<Pkcs8V1Der<'_>>::as_der(&self.0)
            .map_err(|_| KeyError::Generate("it cannot be written as PKCS#8"))?;
        let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
        let mut text = Zeroizing::new(String::with_capacity(512));
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        for line in body.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END PRIVATE KEY-----\n");
        persist::replace(path, text.as_bytes(), false).map_err(failed)
    }
}

impl Signer for FileKey {
    fn public(&self) -> PublicKey {
        use tough::schema::key::{Ed25519Key, Ed25519Scheme};
        PublicKey(Key::Ed25519 {
            keyval: Ed25519Key {
                public: self.0.public_key().as_ref().to_vec().into(),
                _extra: Default::default(),
            },
            scheme: Ed25519Scheme::Ed25519,
            _extra: Default::default(),
        })
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let key = FileKey::generate().unwrap();
        key.write(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = FileKey::read(&path).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().id().len(), 64);
        let error = key.write(&path).unwrap_err().to_string();
        assert!(error.contains("there is a file already"), "{error}");
        let public = folder.path().join("a.key.pub");
        std::fs::write(&public, key.public().to_json()).unwrap();
        assert_eq!(PublicKey::read(&public).unwrap(), key.public());
        let other = FileKey::generate().unwrap().public();
        let lies = key
            .public()
            .to_json()
            .replace(&key.public().id(), &other.id());
        std::fs::write(&public, lies).unwrap();
        let error = PublicKey::read(&public).unwrap_err().to_string();
        assert!(error.contains("its ID is"), "{error}");
        let error = PublicKey::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("FILE.pub") && !error.contains("BEGIN"),
            "{error}"
        );
        std::fs::write(&path, "nothing").unwrap();
        let error = FileKey::read(&path).unwrap_err().to_string();
        assert!(error.contains("Ed25519"), "{error}");
    }
}
