//! Keys of the authority on disk: one file each (0600), sealed where a key for that is given.

use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf,
};
use sekisho_certs::persist;
use zeroize::Zeroizing;

/// What a sealed file begins with.
const MAGIC: &[u8; 16] = b"sekisho sealed 1";
/// Least bytes of what files are sealed with: it is no password.
const LEAST: usize = 32;
/// No key is longer: RSA of 8192 bits has under 5 KB.
const MOST: u64 = 64 * 1024;

/// Why a key cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Others may read it.
    #[error("{}: mode {mode:o}, must be 0600: others can read the key", path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is sealed, and there is nothing to open it with.
    #[error("{}: is sealed, and `encrypt` does not say with what", .0.display())]
    Sealed(PathBuf),
    /// It was sealed with another key, or altered.
    #[error("{}: cannot be opened: sealed with another key, or altered", .0.display())]
    Damaged(PathBuf),
    /// What files are to be sealed with is too short.
    #[error(
        "the key that files are sealed with has {0} bytes, at least {LEAST} random ones are expected (openssl rand -base64 32)"
    )]
    Short(usize),
    /// The library refuses.
    #[error("{}: cannot be sealed", .0.display())]
    Seal(PathBuf),
}

/// Seals and opens files.
pub struct Sealing(RandomizedNonceKey);

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealing")
    }
}

impl Sealing {
    /// With a secret of at least 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::Short`].
    pub fn new(secret: &[u8]) -> Result<Self, KeyError> {
        /// What is derived has the length of this cipher's key.
        const INFO: &[&[u8]] = &[b"sekisho authority keys"];
        if secret.len() < LEAST {
            return Err(KeyError::Short(secret.len()));
        }
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, b"").extract(secret);
        let mut key = Zeroizing::new([0; 32]);
        derived
            .expand(INFO, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *key))
            .and_then(|()| RandomizedNonceKey::new(&AES_256_GCM, &*key))
            .map(Self)
            .map_err(|_| KeyError::Short(secret.len()))
    }

    /// `name` is bound to the file, so that none can be put in another's place.
    fn seal(&self, name: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Zeroizing::new(plain.to_vec());
        let aad = Aad::from(name.as_bytes());
        let nonce = self.0.seal_in_place_append_tag(aad, &mut *bytes).ok()?;
        Some([&MAGIC[..], nonce.as_ref(), &bytes].concat())
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, bytes) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(bytes.to_vec());
        let aad = Aad::from(name.as_bytes());
        let length = self.0.open_in_place(nonce, aad, &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

/// The folder with the keys.
#[derive(Debug)]
pub struct KeyFolder {
    path: PathBuf,
    sealing: Option<Sealing>,
}

impl KeyFolder {
    /// Opens the folder, or makes it (0700).
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: &Path, sealing: Option<Sealing>) -> Result<Self, KeyError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path);
        made.map_err(|error| KeyError::Io {
            path: path.into(),
            error,
        })?;
        Ok(Self {
            path: path.into(),
            sealing,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.key"))
    }

    /// Keeps a key, in PKCS#8 DER.
    ///
    /// # Errors
    /// When it cannot be sealed or written.
    pub fn put(&self, name: &str, key: &[u8]) -> Result<(), KeyError> {
        let path = self.file(name);
        let bytes = match &self.sealing {
            Some(sealing) => sealing
                .seal(name, key)
                .ok_or_else(|| KeyError::Seal(path.clone()))?,
            None => key.to_vec(),
        };
        let bytes = Zeroizing::new(bytes);
        persist::replace(&path, &bytes, false).map_err(|error| KeyError::Io { path, error })
    }

    /// The key of this name; `None` if there is none.
    ///
    /// # Errors
    /// When others may read it, or it cannot be read or opened.
    pub fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
        use io::Read as _;
        let path = self.file(name);
        let failed = |error| KeyError::Io {
            path: path.clone(),
            error,
        };
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Mode { path, mode });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        file.take(MOST).read_to_end(&mut bytes).map_err(failed)?;
        match (bytes.strip_prefix(MAGIC), &self.sealing) {
            (None, _) => Ok(Some(bytes)),
            (Some(_), None) => Err(KeyError::Sealed(path)),
            (Some(sealed), Some(sealing)) => {
                let opened = sealing.open(name, sealed);
                opened.map(Some).ok_or(KeyError::Damaged(path))
            }
        }
    }

    /// Forgets a key. It is no error if there is none.
    ///
    /// # Errors
    /// When it stays.
    pub fn remove(&self, name: &str) -> Result<(), KeyError> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(KeyError::Io { path, error })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(secret: Option<&[u8]>, path: &Path) -> KeyFolder {
        KeyFolder::open(path, secret.map(|secret| Sealing::new(secret).unwrap())).unwrap()
    }

    #[test]
    fn a_key_comes_back_and_goes() {
        let place = tempfile::tempdir().unwrap();
        for secret in [None, Some(&[1; 32][..])] {
            let keys = folder(secret, &place.path().join("keys"));
            assert_eq!(keys.get("a").unwrap(), None);
            keys.put("a", b"the key").unwrap();
            assert_eq!(keys.get("a").unwrap().unwrap().as_slice(), b"the key");
            let file = fs::read(place.path().join("keys/a.key")).unwrap();
            assert_eq!(file.windows(7).any(|it| it == b"the key"), secret.is_none());
            keys.remove("a").unwrap();
            keys.remove("a").unwrap();
            assert_eq!(keys.get("a").unwrap(), None);
        }
    }

    #[test]
    fn a_sealed_key_opens_with_its_own_secret_under_its_own_name_only() {
        let place = tempfile::tempdir().unwrap();
        folder(Some(&[1; 32]), place.path())
            .put("a", b"the key")
            .unwrap();
        let error = folder(None, place.path()).get("a").unwrap_err();
        assert!(matches!(error, KeyError::Sealed(_)));
        let error = folder(Some(&[2; 32]), place.path()).get("a").unwrap_err();
        assert!(matches!(error, KeyError::Damaged(_)));
        let own = folder(Some(&[1; 32]), place.path());
        fs::rename(place.path().join("a.key"), place.path().join("b.key")).unwrap();
        assert!(matches!(own.get("b").unwrap_err(), KeyError::Damaged(_)));
        let path = place.path().join("c.key");
        own.put("c", b"the key").unwrap();
        let whole = fs::read(&path).unwrap();
        for length in MAGIC.len()..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(own.get("c").unwrap_err(), KeyError::Damaged(_)));
        }
        assert!(matches!(Sealing::new(&[1; 31]), Err(KeyError::Short(31))));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let keys = folder(None, place.path());
        keys.put("a", b"the key").unwrap();
        let path = place.path().join("a.key");
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = keys.get("a").unwrap_err();
        assert!(matches!(error, KeyError::Mode { mode: 0o640, .. }));
    }
}
