//! A member's own folder: its key, the name of its recovery key, and what it has said last. The process that
//! owns the site's CA speaks by it, without anybody's help.

mod desk;
mod folder;
mod say;
pub mod statements;

use std::{
    collections::BTreeSet,
    io,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sekisho_certs::{TrustBundle, TrustDomain, members::Service};

use super::{
    continuity::KeySet,
    descriptor::{DescriptorError, Endpoint},
    key::{FileKey, KeyError, PublicKey, Signer as _},
    repository::{LIFE, RepositoryError, Said},
    submit::SubmitError,
};
pub use desk::{Desk, Shown};
pub use folder::{Last, Locked, NEXT, OwnFolder, Word};
use folder::{PREVIOUS, SAID};

/// The member's key.
pub const MEMBER: &str = "member.key";
/// The public half of its recovery key.
const RECOVERY: &str = "recovery.key.pub";
/// For so long a directory may show an older word than the one that it has taken: its host signs every ten
/// minutes. Then it is told so, and said again.
pub const PATIENCE: Duration = Duration::from_secs(1800);

/// Why a member does not speak.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The directory has an older word of us than it has taken.
    #[error(
        "the directory has version {there} of us and has taken {said} before: it was set back, or hides what we say; half an hour after that was said, it is said again after {there}"
    )]
    Back {
        /// The version that is there.
        there: u64,
        /// The one that it has taken.
        said: u64,
    },
    /// What was said last is no descriptor.
    #[error("{}: {error}", path.display())]
    Descriptor {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: DescriptorError,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Somebody else speaks for the member at this moment.
    #[error("{}: another process speaks for this member; it is tried again", .0.display())]
    Locked(PathBuf),
    /// The directory has nothing by our key.
    #[error(
        "the directory has nothing of {0} by this key: it is not admitted yet, it was expelled, or others have taken its place"
    )]
    NotAdmitted(TrustDomain),
    /// The directory does not take it.
    #[error("the directory does not take it: {problem} ({reason})")]
    Refused {
        /// A word for programs.
        reason: String,
        /// The same for people.
        problem: String,
    },
    /// Its folder cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The member has revoked the key that it would speak by.
    #[error(
        "{0} has revoked its key, and nothing is said by it any more: get the name back with `sekisho directory rotate --recovery-key FILE`, and have the registrars admit that"
    )]
    Revoked(TrustDomain),
    /// It cannot be sent.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// There is no version after this one.
    #[error("there is no version after {0}")]
    Version(u64),
}

/// What a member has to say.
#[derive(Clone, Debug, Default)]
pub struct Says {
    /// What may be reached at it.
    pub services: Vec<Service>,
    /// Its bundle endpoints; what it has said before where there are none.
    pub endpoints: Vec<Endpoint>,
}

/// What has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// It is as it was said last, and signed long enough.
    AsBefore,
    /// It was said as this version, and the directory does not show it yet.
    OnItsWay(u64),
    /// It was taken, as this version.
    Taken(u64),
    /// A request for new keys waits for registrars, and what there is to say can wait for that: it would make the
    /// request one of a version that is taken.
    Waits,
}

/// What is there of a member, and by which of its keys.
#[derive(Debug)]
pub struct Found {
    /// The key by which the directory knows it.
    pub key: FileKey,
    /// What is there.
    pub there: Said,
    /// What was said to this directory last, if anything.
    pub word: Option<Word>,
}

/// A member's folder.
#[derive(Clone, Debug)]
pub struct Membership(OwnFolder);

impl Membership {
    /// That folder, if the site has asked to be a member from there (`sekisho directory member request`).
    #[must_use]
    pub fn open(folder: &Path) -> Option<Self> {
        let folder = OwnFolder::new(folder);
        let has_key = [MEMBER, NEXT]
            .iter()
            .any(|name| folder.file(name).is_file());
        let asked = has_key && folder.file(SAID).is_file();
        asked.then_some(Self(folder))
    }

    /// What was said to the directory at an address last.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn word(&self, address: &str) -> Result<Option<Word>, MembershipError> {
        let last = self.0.last()?;
        Ok(last.and_then(|mut last| last.said.remove(address)))
    }

    /// That folder, whatever is in it: for who writes it by hand.
    #[must_use]
    pub const fn at(folder: OwnFolder) -> Self {
        Self(folder)
    }

    /// What is there of us at a directory, by our key, by the next one, or by the one before: each directory
    /// takes new keys in its own time. Once all to which we speak have taken the next one, it becomes ours.
    ///
    /// # Errors
    /// When nothing is there by any of them, none is left that was not revoked, or the directory cannot be asked.
    pub async fn found(
        &self,
        domain: &TrustDomain,
        desk: &Desk<'_>,
        now: SystemTime,
    ) -> Result<Found, MembershipError> {
        let revoked = statements::revoked(self.0.path())?;
        self.found_without(domain, desk, now, &revoked).await
    }

    /// The same, whatever the member has revoked: to have it taken by a directory that has not.
    ///
    /// # Errors
    /// As [`Self::found`].
    pub async fn found_to_revoke(
        &self,
        domain: &TrustDomain,
        desk: &Desk<'_>,
        now: SystemTime,
    ) -> Result<Found, MembershipError> {
        self.found_without(domain, desk, now, &BTreeSet::new())
            .await
    }

    async fn found_without(
        &self,
        domain: &TrustDomain,
        desk: &Desk<'_>,
        now: SystemTime,
        revoked: &BTreeSet<String>,
    ) -> Result<Found, MembershipError> {
        // Of the key that is ours now, or the next: whether one was revoked, and whether one could speak, were
        // it admitted. The one before has had its time.
        let (mut any, mut valid) = (false, false);
        // With the next key by the recovery key, the old one may be lost.
        for name in [MEMBER, NEXT, PREVIOUS] {
            // A host that has seen the request could show what registrars have not admitted.
            if name == NEXT && !desk.can_show_new_keys() {
                continue;
            }
            let Some(key) = self.0.key(name)? else {
                continue;
            };
            let keys = alone(&key)?;
            if revoked.contains(&keys.id()) {
                any |= name != PREVIOUS;
                continue;
            }
            valid |= name != PREVIOUS;
            let Some(there) = desk.said(domain, &keys).await? else {
                continue;
            };
            let word = match desk.address() {
                Some(address) => {
                    self.known_by(address, &keys, &there, now)?;
                    self.word(address)?
                }
                None => None,
            };
            if name == NEXT && self.may_promote(&keys, now)? {
                self.0.promote()?;
                tracing::info!(%domain, "the next key is this member's now");
            }
            return Ok(Found { key, there, word });
        }
        Err(match any && !valid {
            true => MembershipError::Revoked(domain.clone()),
            false => MembershipError::NotAdmitted(domain.clone()),
        })
    }

    fn known_by(
        &self,
        address: &str,
        keys: &KeySet,
        there: &Said,
        now: SystemTime,
    ) -> Result<(), MembershipError> {
        let time = now.duration_since(SystemTime::UNIX_EPOCH);
        let word = Word {
            version: there.version,
            time: time.unwrap_or_default().as_secs(),
            sha256: there.sha256.clone().unwrap_or_default(),
            goal: 0,
            keys: Some(keys.id()),
        };
        self.0.known_by(address, word)
    }

    /// Whether all directories know us by these keys, to which we have spoken while a word is valid: what is
    /// older is of one that we have left.
    fn may_promote(&self, keys: &KeySet, now: SystemTime) -> Result<bool, MembershipError> {
        let said = self.0.last()?.map(|last| last.said).unwrap_or_default();
        let id = Some(keys.id());
        Ok(said
            .values()
            .all(|word| word.keys == id || word.at() + LIFE < now))
    }

    /// Says what the member has to say, if that is another thing than it has said last, or it is time to
    /// sign it again. Files are read anew each time: keys are rotated under a running process.
    ///
    /// # Errors
    /// When it is not said; what was said before stands.
    pub async fn speak(
        &self,
        bundle: &TrustBundle,
        says: &Says,
        desk: &Desk<'_>,
        now: SystemTime,
    ) -> Result<Spoken, MembershipError> {
        let Some(_locked) = self.0.try_lock()? else {
            return Err(MembershipError::Locked(self.0.path().to_owned()));
        };
        let domain = bundle.trust_domain();
        let missing = || self.0.io(SAID, io::ErrorKind::NotFound.into());
        let last = self.0.last()?.ok_or_else(missing)?;
        let before = last.descriptor(domain);
        let before = before.map_err(|error| MembershipError::Descriptor {
            path: self.0.file(SAID),
            error,
        })?;
        let mut descriptor = before;
        descriptor.bundle = std::sync::Arc::new(bundle.clone());
        descriptor.services.clone_from(&says.services);
        if !says.endpoints.is_empty() {
            descriptor.endpoints.clone_from(&says.endpoints);
        }
        descriptor.recovery = Some(PublicKey::read(&self.0.file(RECOVERY))?.id());
        let found = self.found(domain, desk, now).await?;
        if let Some(stands) = self.stands(&descriptor, &found, now)? {
            return Ok(stands);
        }
        let version = self.say(&descriptor, &found, desk, now).await?;
        if self.next_waits(&found)? {
            tracing::warn!(%domain, version, "said while a request for new keys waits: if registrars have not taken it, it has to be made again (sekisho directory rotate)");
        }
        Ok(Spoken::Taken(version))
    }
}

fn alone(key: &FileKey) -> Result<KeySet, KeyError> {
    let keys = KeySet::new(vec![key.public()], NonZeroU64::MIN);
    keys.map_err(|problem| KeyError::Refused(problem.into()))
}

#[cfg(test)]
mod tests;
