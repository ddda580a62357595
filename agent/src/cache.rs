//! What outlives the agent: its own certificate, bundles, entries and SVIDs, sealed on disk.
//!
//! An agent that is started while the authority is away goes on from here. The key that seals is not
//! beside the file where the system offers another place (see [`SealKind`]).

mod seal;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use sekisho_certs::{TrustDomain, persist};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{bundle::Bundles, entry::Entry, members::ask::kept::KeptMember, svid::Held};

use seal::Seal;
pub use seal::{SealError, SealKind};

/// The form of what is written.
const FORM: u32 = 1;
/// A larger file is not ours.
const MOST: u64 = 1 << 30;

/// Why nothing is kept, or what was kept is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// It cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It was opened, and makes no sense.
    #[error("{}: {problem}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another process has it.
    #[error("{}: another agent uses this folder", .0.display())]
    Locked(PathBuf),
}

impl CacheError {
    /// Whether the file itself is of no use, and not only out of reach.
    #[must_use]
    pub const fn is_of_the_content(&self) -> bool {
        matches!(
            self,
            Self::Content { .. } | Self::Seal(SealError::Damaged(_))
        )
    }
}

/// The agent's own certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptNode {
    /// Certificate and key.
    pub held: Held,
    /// Whether it may attest again when this is over.
    pub reattestable: bool,
}

/// An SVID, and the state of its entry when it was signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptSvid {
    /// Certificate and key.
    pub held: Arc<Held>,
    /// Revision and time of making.
    pub of: (i64, i64),
}

/// What is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub(crate) form: u32,
    pub(crate) domain: String,
    /// The agent's own certificate.
    pub node: Option<KeptNode>,
    /// Bundles, our own among them.
    pub bundles: Bundles,
    /// Entries.
    pub entries: Vec<Arc<Entry>>,
    /// SVIDs by the name of their entry.
    pub svids: BTreeMap<String, KeptSvid>,
    /// The authority has put this node out, and it has not come back since.
    #[serde(default)]
    pub put_out: bool,
    /// What is known of other sites.
    #[serde(default)]
    pub(crate) members: Vec<KeptMember>,
}

impl Kept {
    /// Of this domain.
    #[must_use]
    pub fn new(domain: &TrustDomain) -> Self {
        Self {
            form: FORM,
            domain: domain.to_string(),
            node: None,
            bundles: Bundles::new(),
            entries: Vec::new(),
            svids: BTreeMap::new(),
            put_out: false,
            members: Vec::new(),
        }
    }
}

/// The folder of an agent, which no other process uses.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    domain: TrustDomain,
    seal: Seal,
    _lock: fs::File,
}

impl Cache {
    /// Opens or makes `folder`, for an agent of `domain`.
    ///
    /// # Errors
    /// When the system refuses, another agent is there, or no key for sealing is to be had.
    pub fn open(folder: &Path, domain: TrustDomain, wanted: SealKind) -> Result<Self, CacheError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| CacheError::Io { path, error }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed(folder))?;
        let lock_path = folder.join("lock");
        let lock = fs::File::create(&lock_path).map_err(failed(&lock_path))?;
        if lock.try_lock().is_err() {
            return Err(CacheError::Locked(folder.to_owned()));
        }
        let seal = Seal::open(folder, wanted)?;
        Ok(Self {
            folder: folder.to_owned(),
            domain,
            seal,
            _lock: lock,
        })
    }

    /// What seals it.
    #[must_use]
    pub const fn seal(&self) -> SealKind {
        self.seal.kind()
    }

    fn path(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// What was kept; `None` if nothing was.
    ///
    /// # Errors
    /// When it cannot be read, opened or understood.
    pub fn load(&self) -> Result<Option<Kept>, CacheError> {
        let path = self.path();
        let sealed = match fs::metadata(&path).and_then(|about| {
            if about.len() > MOST {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            fs::read(&path)
        }) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CacheError::Io { path, error }),
        };
        let plain = self.seal.unseal(&path, sealed)?;
        let content = |problem: String| CacheError::Content {
            path: path.clone(),
            problem,
        };
        let kept: Kept =
            serde_json::from_slice(&plain).map_err(|error| content(error.to_string()))?;
        if kept.form != FORM {
            return Err(content(format!("form {}, {FORM} is expected", kept.form)));
        }
        if kept.domain != self.domain.as_str() {
            let problem = format!("of {}, and the site is {}", kept.domain, self.domain);
            return Err(content(problem));
        }
        Ok(Some(kept))
    }

    /// Keeps this in place of what was kept.
    ///
    /// # Errors
    /// When it cannot be sealed or written; then what was kept before is still there.
    pub fn save(&self, kept: &Kept) -> Result<(), CacheError> {
        let path = self.path();
        let mut plain = Zeroizing::new(Vec::with_capacity(1024 + kept.svids.len() * 4096));
        serde_json::to_writer(&mut *plain, kept).map_err(|error| CacheError::Content {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        let sealed = self.seal.seal(&path, &plain)?;
        persist::replace(&path, &sealed, false).map_err(|error| CacheError::Io { path, error })
    }

    /// Puts away what was kept: this node has been put out.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn clear(&self) -> Result<(), CacheError> {
        let path = self.path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CacheError::Io { path, error })
            }
            _ => Ok(()),
        }
    }

    /// Puts a file that cannot be used beside, for whoever wants to know why.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_aside(&self) -> Result<PathBuf, CacheError> {
        let (path, aside) = (self.path(), self.folder.join("cache.unusable"));
        let moved = fs::rename(&path, &aside);
        moved.map_err(|error| CacheError::Io { path, error })?;
        Ok(aside)
    }
}

/// Bytes as base64.
pub(crate) mod bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD
            .decode(String::deserialize(from)?)
            .map_err(D::Error::custom)
    }
}

/// A list of bytes as base64.
pub(crate) mod list {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| STANDARD.encode(bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let decoded = texts.into_iter().map(|text| STANDARD.decode(text));
        decoded.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

/// A key as base64, every copy of it wiped.
pub(crate) mod secret {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Zeroizing<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Zeroizing::new(STANDARD.encode(bytes.as_slice())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        let decoded = STANDARD.decode(text.as_str()).map(Zeroizing::new);
        decoded.map_err(D::Error::custom)
    }
}
