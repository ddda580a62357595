//! A member's own folder: its key, the name of its recovery key, and what it has said last. The process that
//! owns the site's CA speaks by it, without anybody's help.

mod folder;
pub mod statements;

use std::{
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
    repository::{LIFE, Said, Submission},
    submit::{Hosting, SubmitError},
};
use folder::SAID;
pub use folder::{Last, Locked, NEXT, OwnFolder, Word};

/// The member's key.
pub const MEMBER: &str = "member.key";
/// The public half of its recovery key.
const RECOVERY: &str = "recovery.key.pub";
/// So many versions are tried at a directory that has more than it shows.
const TRIES: usize = 4;
/// For so long a directory may show an older word than the one that it has taken: its host signs every ten
/// minutes. Then it is told so, and said again.
pub const PATIENCE: Duration = Duration::from_secs(1800);

/// Why a member does not speak.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
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
    #[error("the directory does not take it: {0}")]
    Refused(String),
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

    /// What is there of us, by our key or by the next one, which becomes ours then.
    async fn found(
        &self,
        domain: &TrustDomain,
        hosting: &Hosting,
        shown: Option<u64>,
    ) -> Result<(FileKey, Said), MembershipError> {
        let member = self.0.file(MEMBER);
        // With the next key by the recovery key, the old one may be lost.
        if member.exists() {
            let key = FileKey::read(&member)?;
            if let Some(there) = hosting.said(domain, &alone(&key)?, shown).await? {
                return Ok((key, there));
            }
        }
        if let Some(next) = self.0.next()?
            && let Some(there) = hosting.said(domain, &alone(&next)?, shown).await?
        {
            self.0.promote()?;
            tracing::info!(%domain, "the next key is this member's now");
            return Ok((next, there));
        }
        Err(MembershipError::NotAdmitted(domain.clone()))
    }

    /// Says what the member has to say, if that is another thing than it has said last, or it is time to
    /// sign it again. Files are read anew each time: keys are rotated under a running process. `shown` is the
    /// version that the directory has of us, for who has just followed it; `None`: it is looked for.
    ///
    /// # Errors
    /// When it is not said; what was said before stands.
    pub async fn speak(
        &self,
        bundle: &TrustBundle,
        says: &Says,
        hosting: &Hosting,
        shown: Option<u64>,
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
        let (key, there) = self.found(domain, hosting, shown).await?;
        let address = hosting.address();
        let word = last.said.get(address);
        let said = word.filter(|word| word.version > there.version);
        if let Some(said) = said
            && said.sha256 == folder::sha256(&descriptor)
            && now < SystemTime::UNIX_EPOCH + Duration::from_secs(said.time) + PATIENCE
        {
            return Ok(Spoken::OnItsWay(said.version));
        }
        let left = there.expires.duration_since(now).unwrap_or_default();
        let is_said = there.descriptor.as_ref() == Some(&descriptor);
        if said.is_none() && is_said && left > LIFE * 2 / 3 {
            return Ok(Spoken::AsBefore);
        }
        // Each directory counts for itself. What is hosted may be a little behind what was sent: then
        // the directory names the version that it has, and the next is asked for.
        let mut known = said.map_or(there.version, |said| said.version);
        for _ in 0..TRIES {
            let version = known.checked_add(1).and_then(NonZeroU64::new);
            let version = version.ok_or(MembershipError::Version(known))?;
            let sent = Submission::new(&descriptor, version, &[&key], now)?;
            let taken = hosting.send(&sent).await?;
            if taken.accepted {
                let to = Some((address, now));
                self.0.keep(version.get(), &descriptor, to, false)?;
                return Ok(Spoken::Taken(version.get()));
            }
            if taken.reason.as_deref() != Some("rollback") {
                let problem = taken.problem.or(taken.reason);
                return Err(MembershipError::Refused(problem.unwrap_or_default()));
            }
            known = version.get();
        }
        let problem = "it has a later word of us than it shows; it is tried again";
        Err(MembershipError::Refused(problem.into()))
    }
}

fn alone(key: &FileKey) -> Result<KeySet, KeyError> {
    let keys = KeySet::new(vec![key.public()], NonZeroU64::MIN);
    keys.map_err(|problem| KeyError::Refused(problem.into()))
}

#[cfg(test)]
mod tests;
