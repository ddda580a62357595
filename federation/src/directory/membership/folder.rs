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
    continuity::KeySet,
    descriptor::{Descriptor, DescriptorError},
    key::{FileKey, KeyError},
    metadata,
};

/// What was said last.
pub(super) const SAID: &str = "said.json";
/// The key that follows the member's, until registrars have taken it.
pub const NEXT: &str = "next.key";
/// The one before: by which another directory may know us still.
pub(super) const PREVIOUS: &str = "previous.key";
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
    /// The version that a directory which has gone back is to be brought to, for sites may have seen the one before;
    /// zero or less than it has: none.
    #[serde(default)]
    pub goal: u64,
    /// The ID of the keys by which it knows us.
    #[serde(default)]
    pub keys: Option<String>,
}

impl Word {
    /// This was said as `version`, by these keys, and `goal` is to be reached.
    #[must_use]
    pub fn new(
        descriptor: &Descriptor,
        version: u64,
        goal: u64,
        keys: &KeySet,
        now: SystemTime,
    ) -> Self {
        let time = now.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            version,
            time: time.unwrap_or_default().as_secs(),
            sha256: sha256(descriptor),
            goal,
            keys: Some(keys.id()),
        }
    }

    /// The same, which was a revocation.
    #[must_use]
    pub fn revoked(self) -> Self {
        Self {
            sha256: metadata::sha256(&[]),
            ..self
        }
    }
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

impl Last {
    fn remember(&mut self, address: &str, word: Word) {
        if self.said.len() >= PLACES && !self.said.contains_key(address) {
            let oldest = self.said.iter().min_by_key(|(_, word)| word.time);
            let oldest = oldest.map(|(address, _)| address.clone());
            self.said.remove(&oldest.unwrap_or_default());
        }
        self.said.insert(address.to_owned(), word);
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
    /// what is remembered of that.
    ///
    /// # Errors
    /// When what is there cannot be read, or it cannot be written.
    pub fn keep(
        &self,
        version: u64,
        descriptor: &Descriptor,
        to: Option<(&str, Word)>,
    ) -> Result<(), MembershipError> {
        let domain = descriptor.bundle.trust_domain().to_string();
        let before = self.last()?.filter(|last| last.trust_domain == domain);
        let (highest, said) =
            before.map_or_else(Default::default, |last| (last.version, last.said));
        let mut last = Last {
            trust_domain: domain,
            version: version.max(highest),
            descriptor: String::from_utf8_lossy(&descriptor.to_json()).into_owned(),
            said,
        };
        if let Some((address, word)) = to {
            last.remember(address, word);
        }
        self.write(&last)
    }

    /// Remembers by which keys a directory knows us, and what it has of us where nothing was said to it from
    /// here.
    ///
    /// # Errors
    /// When what is there cannot be read, or it cannot be written.
    pub(super) fn known_by(&self, address: &str, word: Word) -> Result<(), MembershipError> {
        let Some(mut last) = self.last()? else {
            return Ok(());
        };
        match last.said.get_mut(address) {
            Some(said) if said.keys == word.keys => return Ok(()),
            Some(said) => said.keys = word.keys,
            None => last.remember(address, word),
        }
        self.write(&last)
    }

    fn write(&self, last: &Last) -> Result<(), MembershipError> {
        let text = serde_json::to_vec_pretty(last).map_err(KeyError::from)?;
        persist::replace(&self.file(SAID), &text, false).map_err(|error| self.io(SAID, error))
    }

    /// A key of the member, if it is there.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn key(&self, name: &str) -> Result<Option<FileKey>, KeyError> {
        let file = self.file(name);
        if !file.exists() {
            return Ok(None);
        }
        FileKey::read(&file).map(Some)
    }

    /// The next key, if there is one.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn next(&self) -> Result<Option<FileKey>, KeyError> {
        self.key(NEXT)
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
