//! The directory as a folder of plain files, for those who keep it: institutions with the keys of its
//! root, registrars, members, and whoever hosts it.
//!
//! ```text
//! metadata/N.root.json      institutions, k of n
//! metadata/N.targets.json   institutions, k of n: delegates the bins and the marks to the registrars
//! metadata/N.bin….json      registrars, k of n: who is a member, and by which keys
//! metadata/N.marks.json     registrars, k of n
//! metadata/N.td-NAME.json   the member, over exactly its own descriptor
//! metadata/N.snapshot.json  the host, online: the version of each of them
//! metadata/timestamp.json   the host, online: which snapshot
//! targets/SHA256.NAME.json  descriptors, marks
//! continuity/NAME.json      how a member's keys have followed one another
//! drafts/N.ROLE.json        what does not have enough signatures yet: of no meaning to anybody else
//! ```
//!
//! Beside each file of metadata but the smallest is the same with `.gz`, so that any static server has
//! the small form.

mod accept;
mod ceremony;
mod change;
mod draft;
mod host;
mod init;
mod member;
#[cfg(test)]
mod misuse;
mod placed;
mod registrar;
mod state;
#[cfg(test)]
mod tests;
mod verify;

use std::{
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sekisho_certs::persist;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    continuity::{self, Continuity},
    key::KeyError,
    marks::MarksError,
    metadata::{self, Dated as _, MetadataError, Root, Signed, Targets},
    names,
};
use crate::directory::descriptor::DescriptorError;

pub use ceremony::RootChange;
pub use change::Changes;
pub use draft::{DraftState, Lacking};
pub use host::{Complaint, Hosted, Lives};
pub use init::Init;
pub use member::{Checked, LIFE, MOST, Submission, SubmissionError};
pub(crate) use placed::suspended as suspended_of;
pub use registrar::Standing;
pub use state::{RoleState, Said};
pub use verify::{MemberState, Report};

/// Most bytes of a file of metadata, by what it is.
pub(crate) fn most(role: &str) -> usize {
    match role {
        "timestamp" => 64 * 1024,
        "root" => 1024 * 1024,
        "snapshot" => 8 * 1024 * 1024,
        role if names::member_of(role).is_some() => 64 * 1024,
        _ => 4 * 1024 * 1024,
    }
}

/// From how many bytes on a file has its small form beside it.
const SMALL: usize = 1024;

/// Why a repository cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A descriptor is refused.
    #[error("{member}: {error}")]
    Descriptor {
        /// Whose.
        member: String,
        /// Why.
        error: DescriptorError,
    },
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A key does not sign.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The marks are refused.
    #[error(transparent)]
    Marks(#[from] MarksError),
    /// A file is refused.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// What was asked for is not there.
    #[error("{0}")]
    Missing(String),
    /// It would make no sense.
    #[error("{0}")]
    Refused(String),
    /// What a member has sent is refused.
    #[error(transparent)]
    Submission(#[from] SubmissionError),
}

impl RepositoryError {
    /// The version of the member's role that is there, where what was sent does not follow it.
    pub(crate) fn known(&self) -> Option<u64> {
        match self {
            Self::Submission(error) => error.known(),
            _ => None,
        }
    }
}

/// A directory's folder.
#[derive(Clone, Debug)]
pub struct Repository {
    folder: PathBuf,
}

/// A directory's folder in one hand, until it is dropped.
#[derive(Debug)]
pub struct Locked {
    _file: fs::File,
}

/// The last version of a role that is there, and its bytes.
pub(crate) struct Latest<T> {
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) signed: Signed<T>,
}

impl Repository {
    /// That folder. Nothing is read yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until nobody else on this machine changes the folder, and keeps others waiting: a version
    /// that two have made would be lost.
    ///
    /// # Errors
    /// When the folder cannot be made or written.
    pub fn lock(&self) -> Result<Locked, RepositoryError> {
        let path = self.path(".lock");
        let failed = |error| RepositoryError::Io {
            path: path.clone(),
            error,
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let file = fs::File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(Locked { _file: file })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The bytes of a file; `None` where there is none.
    pub(crate) fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, RepositoryError> {
        let path = self.path(name);
        let failed = |error| RepositoryError::Io {
            path: path.clone(),
            error,
        };
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        file.take(bound).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > most {
            let file = name.into();
            return Err(MetadataError::TooLarge { file, limit: most }.into());
        }
        Ok(Some(bytes))
    }

    /// Replaces a file whole.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
        let path = self.path(name);
        let failed = |error| RepositoryError::Io {
            path: path.clone(),
            error,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        persist::replace(&path, bytes, true).map_err(failed)
    }

    /// Writes a file that clients fetch, with its small form beside it.
    fn publish(&self, name: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
        if bytes.len() >= SMALL {
            // First, so that who finds the large form finds the small one too.
            self.write(&format!("{name}.gz"), &gzip(bytes))?;
        }
        self.write(name, bytes)
    }

    fn is_there(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    fn remove(&self, name: &str) -> Result<(), RepositoryError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RepositoryError::Io { path, error })
            }
            _ => Ok(()),
        }
    }

    /// A version of a role.
    fn version<T: DeserializeOwned>(
        &self,
        role: &str,
        version: u64,
    ) -> Result<Option<Latest<T>>, RepositoryError> {
        let file = versioned(role, version);
        let Some(bytes) = self.read(&file, most(role))? else {
            return Ok(None);
        };
        let signed = metadata::parse(&file, &bytes)?;
        Ok(Some(Latest {
            file,
            bytes,
            signed,
        }))
    }

    /// The highest version of a role from `from` on, which is there. Versions follow one another.
    fn newest(&self, role: &str, from: u64) -> u64 {
        let mut version = from;
        while self.is_there(&versioned(role, version + 1)) {
            version += 1;
        }
        version
    }

    /// The root that counts, and its version's file.
    pub(crate) fn root(&self) -> Result<Latest<Root>, RepositoryError> {
        let version = self.newest("root", 0);
        let root = self.version::<Root>("root", version)?;
        root.ok_or_else(|| {
            RepositoryError::Missing(format!(
                "{}: there is no directory here: metadata/1.root.json is missing (sekisho directory init)",
                self.folder.display()
            ))
        })
    }

    /// The last version of a role of targets that is there. It is found from the snapshot on, where
    /// there is one, since older versions are put away.
    pub(crate) fn targets(&self, role: &str) -> Result<Option<Latest<Targets>>, RepositoryError> {
        let known = self.snapshot_version(role)?;
        let version = self.newest(role, known);
        if version == 0 {
            return Ok(None);
        }
        let found = self.version::<Targets>(role, version)?;
        if let Some(found) = &found {
            metadata::is_version(&found.file, &found.signed.signed, version)?;
        }
        Ok(found)
    }

    /// The same, where it has to be there.
    pub(crate) fn targets_there(&self, role: &str) -> Result<Latest<Targets>, RepositoryError> {
        self.targets(role)?
            .ok_or_else(|| RepositoryError::Missing(format!("metadata/N.{role}.json is missing")))
    }

    /// The statements of a member.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn continuity(
        &self,
        member: &sekisho_certs::TrustDomain,
    ) -> Result<Continuity, RepositoryError> {
        let file = continuity::file_of(member);
        match self.read(&file, continuity::MOST)? {
            None => Ok(Continuity::default()),
            Some(bytes) => Ok(Continuity::read(member, &bytes)?),
        }
    }

    /// Writes a role as the version that it says it has.
    fn put<T: Serialize + metadata::Role>(
        &self,
        role: &str,
        signed: &Signed<T>,
    ) -> Result<(), RepositoryError> {
        let file = versioned(role, signed.signed.number());
        let bytes = serde_json::to_vec(signed).map_err(KeyError::from)?;
        self.publish(&file, &bytes)
    }
}

/// The file of a version of a role.
pub(crate) fn versioned(role: &str, version: u64) -> String {
    format!("metadata/{version}.{role}.json")
}

/// The file of a target, whose name has its hash in front (consistent snapshots, TUF §6.2).
pub(crate) fn target_file(sha256: &str, target: &str) -> String {
    format!("targets/{sha256}.{target}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // A `Vec` takes whatever is written to it.
    let written = encoder.write_all(bytes);
    written.and_then(|()| encoder.finish()).unwrap_or_default()
}
