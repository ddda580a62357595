//! The folder of a member, which its authority and its administrators' commands write: one at a time.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use sekisho_certs::{TrustDomain, persist};
use serde::{Deserialize, Serialize};

use super::{MEMBER, MembershipError};
use crate::directory::{
    descriptor::{Descriptor, DescriptorError},
    key::{FileKey, KeyError},
    metadata,
};

/// What was said last.
pub(super) const SAID: &str = "said.json";
/// The key that follows the member's, until registrars have taken it.
pub const NEXT: &str = "next.key";
/// The one before.
const PREVIOUS: &str = "previous.key";
/// Whose turn it is.
const LOCK: &str = ".lock";
/// Most bytes of what was said last.
const MOST: u64 = 2 * 1024 * 1024;
/// To so many directories it is remembered what was said.
const PLACES: usize = 16;

/// What was said to one directory last.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// As which version.
    pub version: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// The SHA-256 of the descriptor; of nothing, with a revocation.
    pub sha256: String,
}

/// What was said last.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// Whose word it is.
    pub trust_domain: String,
    /// The highest version of all; zero where it was a request.
    pub version: u64,
    descriptor: String,
    /// To each directory, by its address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub said: BTreeMap<String, Word>,
}

impl Last {
    /// The descriptor.
    ///
    /// # Errors
    /// When it is none of `domain`.
    pub fn descriptor(&self, domain: &TrustDomain) -> Result<Descriptor, DescriptorError> {
        Descriptor::read(domain, self.descriptor.as_bytes())
    }
}

/// The folder in one hand, until it is dropped.
#[derive(Debug)]
pub struct Locked {
    _file: fs::File,
}

/// The SHA-256 of a descriptor as it is said.
pub(super) fn sha256(descriptor: &Descriptor) -> String {
    metadata::sha256(&descriptor.to_json())
}

/// A member's own folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFolder(PathBuf);

impl OwnFolder {
    /// That one. Nothing is read yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn io(&self, name: &str, error: io::Error) -> MembershipError {
        MembershipError::Io {
            path: self.file(name),
            error,
        }
    }

    fn lock_file(&self) -> Result<fs::File, MembershipError> {
        let mut options = fs::File::options();
        let opened = options.create(true).write(true).truncate(false);
        opened
            .open(self.file(LOCK))
            .map_err(|error| self.io(LOCK, error))
    }

    /// Waits until nobody else on this machine speaks for the member, and keeps others waiting.
    ///
    /// # Errors
    /// When the folder is not there, or cannot be written.
    pub fn lock(&self) -> Result<Locked, MembershipError> {
        let file = self.lock_file()?;
        file.lock().map_err(|error| self.io(LOCK, error))?;
        Ok(Locked { _file: file })
    }

    /// The same without waiting; `None` while somebody else has it.
    ///
    /// # Errors
    /// When the folder is not there, or cannot be written.
    pub fn try_lock(&self) -> Result<Option<Locked>, MembershipError> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Locked { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(self.io(LOCK, error)),
        }
    }

    /// What was said last; `None` where nothing was ever asked for from here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last(&self) -> Result<Option<Last>, MembershipError> {
        use io::Read as _;
        let failed = |error| self.io(SAID, error);
        let file = match fs::File::open(self.file(SAID)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text).map_err(failed)?;
        let last = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
        Ok(Some(last))
    }

    /// Keeps what is said now, as this version. `to`: the address of the directory which has taken it, and
    /// when that was. With `revoked`, what it has taken is that the keys are revoked.
    ///
    /// # Errors
    /// When what is there cannot be read, or it cannot be written.
    pub fn keep(
        &self,
        version: u64,
        descriptor: &Descriptor,
        to: Option<(&str, SystemTime)>,
        revoked: bool,
    ) -> Result<(), MembershipError> {
        let domain = descriptor.bundle.trust_domain().to_string();
        let before = self.last()?.filter(|last| last.trust_domain == domain);
        let (highest, mut said) =
            before.map_or_else(Default::default, |last| (last.version, last.said));
        if let Some((address, time)) = to {
            let time = time.duration_since(SystemTime::UNIX_EPOCH);
            let word = Word {
                version,
                time: time.unwrap_or_default().as_secs(),
                sha256: if revoked {
                    metadata::sha256(&[])
                } else {
                    sha256(descriptor)
                },
            };
            if said.len() >= PLACES && !said.contains_key(address) {
                let oldest = said.iter().min_by_key(|(_, word)| word.time);
                let oldest = oldest.map(|(address, _)| address.clone());
                said.remove(&oldest.unwrap_or_default());
            }
            said.insert(address.to_owned(), word);
        }
        let last = Last {
            trust_domain: domain,
            version: version.max(highest),
            descriptor: String::from_utf8_lossy(&descriptor.to_json()).into_owned(),
            said,
        };
        let text = serde_json::to_vec_pretty(&last).map_err(KeyError::from)?;
        persist::replace(&self.file(SAID), &text, false).map_err(|error| self.io(SAID, error))
    }

    /// The next key, if there is one.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn next(&self) -> Result<Option<FileKey>, KeyError> {
        let file = self.file(NEXT);
        if !file.exists() {
            return Ok(None);
        }
        FileKey::read(&file).map(Some)
    }

    /// Makes the next key the member's. The one before stays as `previous.key`.
    ///
    /// # Errors
    /// When a file cannot be renamed.
    pub fn promote(&self) -> Result<(), MembershipError> {
        for (from, to) in [(MEMBER, PREVIOUS), (NEXT, MEMBER)] {
            for end in ["", ".pub"] {
                let name = format!("{from}{end}");
                match fs::rename(self.file(&name), self.file(&format!("{to}{end}"))) {
                    // The private half of the old one may be lost.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => done.map_err(|error| self.io(&name, error))?,
                }
            }
        }
        Ok(())
    }
}
