//! The key that seals what is kept: in the kernel's keyring, or in a file beside it.

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use linux_keyutils::{KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission};
use sekisho_certs::{hex, persist};
use zeroize::Zeroizing;

/// What a sealed file begins with.
const MAGIC: &[u8; 16] = b"sekisho agent  1";
/// Bytes of the key.
const KEY: usize = 32;

/// Where the key is that seals the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SealKind {
    /// In the keyring that the kernel keeps for this user: whoever steals the disk has nothing, and
    /// a reboot forgets it.
    #[default]
    Keyring,
    /// In a file beside it, mode 0600: weaker, since whoever has the folder has all of it.
    File,
}

impl SealKind {
    /// In words, for the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keyring => "kernel keyring",
            Self::File => "key file beside it (weaker)",
        }
    }
}

/// Why nothing can be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others may read the key file.
    #[error("{}: mode {mode:o}, must be 0600: others can read the key", path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key has another length.
    #[error("{}: {length} bytes, a key has {KEY}", path.display())]
    Length {
        /// Where.
        path: PathBuf,
        /// How long it is.
        length: usize,
    },
    /// The file is not ours, was altered, or sealed by a key that is gone.
    #[error("{}: cannot be opened: altered, or its key is gone (a reboot empties the kernel's keyring)", .0.display())]
    Damaged(PathBuf),
    /// The library refuses.
    #[error("{}: cannot be sealed", .0.display())]
    Seal(PathBuf),
}

/// Seals and opens.
pub(super) struct Seal {
    key: RandomizedNonceKey,
    kind: SealKind,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({:?})", self.kind)
    }
}

impl Seal {
    /// The key for `folder`, made if there is none: in the keyring where that is wanted and the
    /// system has one, else in a file.
    pub(super) fn open(folder: &Path, wanted: SealKind) -> Result<Self, SealError> {
        let in_keyring = match wanted {
            SealKind::Keyring => match from_keyring(folder) {
                Ok(key) => Some(key),
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "no kernel keyring: the cache is sealed by a key in a file, which is weaker"
                    );
                    None
                }
            },
            SealKind::File => None,
        };
        let (key, kind) = match in_keyring {
            Some(key) => (key, SealKind::Keyring),
            None => (from_file(&folder.join("key"))?, SealKind::File),
        };
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*key);
        let key = key.map_err(|_| SealError::Seal(folder.to_owned()))?;
        Ok(Self { key, kind })
    }

    pub(super) const fn kind(&self) -> SealKind {
        self.kind
    }

    pub(super) fn seal(&self, path: &Path, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(plain);
        let sealed = self
            .key
            .seal_in_place_append_tag(Aad::from(MAGIC), &mut body);
        let nonce = sealed.map_err(|_| SealError::Seal(path.to_owned()))?;
        Ok([MAGIC.as_slice(), nonce.as_ref(), &body].concat())
    }

    pub(super) fn unseal(
        &self,
        path: &Path,
        sealed: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let damaged = || SealError::Damaged(path.to_owned());
        let body = sealed.strip_prefix(MAGIC.as_slice()).ok_or_else(damaged)?;
        let (nonce, body) = body.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut plain = Zeroizing::new(body.to_vec());
        let opened = self.key.open_in_place(nonce, Aad::from(MAGIC), &mut plain);
        let length = opened.map_err(|_| damaged())?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

fn new_key() -> io::Result<Zeroizing<[u8; KEY]>> {
    let mut key = Zeroizing::new([0; KEY]);
    rand::fill(&mut *key).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(key)
}

/// The user's keyring outlives the process, and is lost when the machine stops.
fn from_keyring(folder: &Path) -> io::Result<Zeroizing<[u8; KEY]>> {
    let told = |error: linux_keyutils::KeyError| io::Error::other(error.to_string());
    let ring = KeyRing::from_special_id(KeyRingIdentifier::User, false).map_err(told)?;
    let whole = fs::canonicalize(folder)?;
    let name = format!(
        "sekisho agent cache {}",
        hex(whole.as_os_str().as_encoded_bytes())
    );
    match ring.search(&name) {
        Ok(found) => {
            let bytes = Zeroizing::new(found.read_to_vec().map_err(told)?);
            let key = <[u8; KEY]>::try_from(bytes.as_slice());
            return key
                .map(Zeroizing::new)
                .map_err(|_| io::Error::other("the key in the keyring has another length"));
        }
        // Anything else may pass, and a new key would take the place of the one in use.
        Err(linux_keyutils::KeyError::KeyDoesNotExist) => {}
        Err(error) => return Err(told(error)),
    }
    let key = new_key()?;
    let added = ring.add_key(&name, key.as_slice()).map_err(told)?;
    // By default whoever possesses the keyring may do all with it, and its user may look at it:
    // without possession there is nothing to be read.
    let own = Permission::VIEW | Permission::READ | Permission::SEARCH;
    let allowed = KeyPermissionsBuilder::builder()
        .posessor(Permission::ALL)
        .user(own)
        .build();
    added.set_perms(allowed).map_err(told)?;
    Ok(key)
}

fn from_file(path: &Path) -> Result<Zeroizing<[u8; KEY]>, SealError> {
    let failed = |error| SealError::Io {
        path: path.to_owned(),
        error,
    };
    match fs::metadata(path) {
        Ok(about) => {
            let mode = about.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(SealError::Mode {
                    path: path.to_owned(),
                    mode,
                });
            }
            let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
            let key = <[u8; KEY]>::try_from(bytes.as_slice());
            key.map(Zeroizing::new).map_err(|_| SealError::Length {
                path: path.to_owned(),
                length: bytes.len(),
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = new_key().map_err(failed)?;
            persist::replace(path, key.as_slice(), false).map_err(failed)?;
            Ok(key)
        }
        Err(error) => Err(failed(error)),
    }
}
