//! A member's own folder: its key, the name of its recovery key, and what it has said last. The process that
//! owns the site's CA speaks by it, without anybody's help.

pub mod statements;

use std::{
    fs, io,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::SystemTime,
};

use sekisho_certs::{TrustBundle, TrustDomain, members::Service, persist};
use serde::{Deserialize, Serialize};

use super::{
    continuity::KeySet,
    descriptor::{Descriptor, DescriptorError, Endpoint},
    key::{FileKey, KeyError, PublicKey, Signer as _},
    repository::{LIFE, Submission},
    submit::{Hosting, SubmitError},
};

/// The member's key.
pub const MEMBER: &str = "member.key";
/// The public half of its recovery key.
const RECOVERY: &str = "recovery.key.pub";
/// What was said last.
const SAID: &str = "said.json";
/// So many versions are tried at a directory that has more than it shows.
const TRIES: usize = 4;
/// Most bytes of that.
const MOST: u64 = 2 * 1024 * 1024;

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

/// As it is kept.
#[derive(Debug, Deserialize, Serialize)]
struct Last {
    trust_domain: String,
    /// Zero where it was a request.
    version: u64,
    descriptor: String,
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
    /// It was taken, as this version.
    Taken(u64),
}

/// A member's folder.
#[derive(Clone, Debug)]
pub struct Membership(PathBuf);

impl Membership {
    /// That folder, if the site has asked to be a member from there (`sekisho directory member request`).
    #[must_use]
    pub fn open(folder: &Path) -> Option<Self> {
        let asked = folder.join(MEMBER).is_file() && folder.join(SAID).is_file();
        asked.then(|| Self(folder.to_owned()))
    }

    fn io(&self, name: &str, error: io::Error) -> MembershipError {
        MembershipError::Io {
            path: self.0.join(name),
            error,
        }
    }

    fn last(&self) -> Result<Last, MembershipError> {
        use io::Read as _;
        let mut text = Vec::new();
        fs::File::open(self.0.join(SAID))
            .and_then(|file| file.take(MOST).read_to_end(&mut text))
            .map_err(|error| self.io(SAID, error))?;
        serde_json::from_slice(&text).map_err(|error| self.io(SAID, error.into()))
    }

    fn keep(&self, version: u64, descriptor: &Descriptor) -> Result<(), MembershipError> {
        let last = Last {
            trust_domain: descriptor.bundle.trust_domain().to_string(),
            version,
            descriptor: String::from_utf8_lossy(&descriptor.to_json()).into_owned(),
        };
        let text = serde_json::to_vec_pretty(&last).map_err(KeyError::from)?;
        persist::replace(&self.0.join(SAID), &text, false).map_err(|error| self.io(SAID, error))
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
        hosting: &Hosting,
        now: SystemTime,
    ) -> Result<Spoken, MembershipError> {
        let domain = bundle.trust_domain();
        let last = self.last()?;
        let before = Descriptor::read(domain, last.descriptor.as_bytes());
        let before = before.map_err(|error| MembershipError::Descriptor {
            path: self.0.join(SAID),
            error,
        })?;
        let key = FileKey::read(&self.0.join(MEMBER))?;
        let mut descriptor = before.clone();
        descriptor.bundle = std::sync::Arc::new(bundle.clone());
        descriptor.services.clone_from(&says.services);
        if !says.endpoints.is_empty() {
            descriptor.endpoints.clone_from(&says.endpoints);
        }
        descriptor.recovery = Some(PublicKey::read(&self.0.join(RECOVERY))?.id());
        let keys = KeySet::new(vec![key.public()], NonZeroU64::MIN);
        let keys = keys.map_err(|problem| KeyError::Refused(problem.into()))?;
        let there = hosting.said(domain, &keys).await?;
        let there = there.ok_or_else(|| MembershipError::NotAdmitted(domain.clone()))?;
        let left = there.expires.duration_since(now).unwrap_or_default();
        let is_said = there.descriptor.as_ref() == Some(&descriptor);
        if is_said && left > LIFE * 2 / 3 {
            return Ok(Spoken::AsBefore);
        }
        // Each directory counts for itself. What is hosted may be a little behind what was sent: then
        // the directory names the version that it has, and the next is asked for.
        let mut known = there.version;
        for _ in 0..TRIES {
            let version = known.checked_add(1).and_then(NonZeroU64::new);
            let version = version.ok_or(MembershipError::Version(known))?;
            let sent = Submission::new(&descriptor, version, &[&key], now)?;
            let taken = hosting.send(&sent).await?;
            if taken.accepted {
                self.keep(version.get().max(last.version), &descriptor)?;
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
