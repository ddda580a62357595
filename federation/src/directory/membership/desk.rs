//! Where a member speaks to a directory: the place that hosts it, or its folder.

use std::time::SystemTime;

use sekisho_certs::TrustDomain;
use serde::Serialize;

use super::MembershipError;
use crate::directory::{
    continuity::KeySet,
    repository::{Repository, RepositoryError, Said, Submission},
    submit::{Hosting, Taken},
};

/// What a directory has of us by files that were checked, for who has just followed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The version of our role; zero: none.
    pub version: u64,
    /// The ID of the keys that our bin has for us; `None`: we are no member.
    pub keys: Option<String>,
}

/// One directory, for its member.
#[derive(Clone, Debug)]
pub enum Desk<'a> {
    /// The place that hosts it, of which nothing was checked: it is believed as far as our own signature goes, and
    /// which of our keys are admitted.
    Asked(&'a Hosting),
    /// Its folder, which somebody else's process may serve.
    Folder(&'a Repository),
    /// The place that hosts it, and what it has of us by files that were checked; `None`: that is not known at this
    /// moment. Then it is asked, and no new key is taken up by what it answers.
    Web(&'a Hosting, Option<Shown>),
}

/// Admitted, and the first word was lost.
const fn nothing(version: u64) -> Said {
    Said {
        version,
        expires: SystemTime::UNIX_EPOCH,
        descriptor: None,
        sha256: None,
    }
}

impl Desk<'_> {
    /// Its address, by which it is remembered what was said; a folder has none.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Folder(_) => None,
            Self::Asked(hosting) | Self::Web(hosting, _) => Some(hosting.address()),
        }
    }

    /// Whether it can be believed that it has admitted new keys of ours.
    pub(super) const fn can_show_new_keys(&self) -> bool {
        !matches!(self, Self::Web(_, None))
    }

    /// What is there of us by these keys; `None` where there is nothing by them.
    pub(super) async fn said(
        &self,
        domain: &TrustDomain,
        keys: &KeySet,
    ) -> Result<Option<Said>, MembershipError> {
        match self {
            Self::Folder(repository) => {
                let known = repository.member(domain)?;
                if known.is_none_or(|(known, _)| known.id() != keys.id()) {
                    return Ok(None);
                }
                let said = repository.said(domain)?;
                Ok(Some(said.unwrap_or(nothing(0))))
            }
            Self::Asked(hosting) | Self::Web(hosting, None) => {
                Ok(hosting.said(domain, keys, None).await?)
            }
            // A host may show what was never admitted; registrars have signed the bin.
            Self::Web(_, Some(shown)) if shown.keys.as_ref() != Some(&keys.id()) => Ok(None),
            Self::Web(_, Some(shown)) if shown.version == 0 => Ok(Some(nothing(0))),
            Self::Web(hosting, Some(shown)) => {
                let said = hosting.said(domain, keys, Some(shown.version)).await?;
                Ok(Some(said.unwrap_or_else(|| nothing(shown.version))))
            }
        }
    }

    /// Sends a word, and says whether it was taken.
    ///
    /// # Errors
    /// When it cannot be sent. A refusal is an answer.
    pub async fn send(&self, sent: &Submission, now: SystemTime) -> Result<Taken, MembershipError> {
        let repository = match self {
            Self::Asked(hosting) | Self::Web(hosting, _) => return Ok(hosting.send(sent).await?),
            Self::Folder(repository) => repository,
        };
        let _locked = repository.lock()?;
        match repository.accept(sent, now) {
            Ok(_) => Ok(Taken::yes()),
            Err(RepositoryError::Submission(error)) => {
                Ok(Taken::no(error.reason(), error.to_string(), error.known()))
            }
            Err(error) => Err(error.into()),
        }
    }
}
