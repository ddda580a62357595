//! What a member keeps for itself: its keys, and what it has said last.

use std::{
    fs,
    num::NonZeroU64,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use sekisho_certs::{TrustDomain, id::parse_trust_domain};
use sekisho_federation::directory::{
    continuity::KeySet,
    key::{FileKey, KeyError, PublicKey, Signer as _},
    membership::{Last, Locked, MEMBER, Membership, MembershipError, NEXT, OwnFolder, statements},
};

use super::{
    key::{make, public_file},
    wrong,
};

const RECOVERY: &str = "recovery.key";

/// Where a member keeps what is its own.
#[derive(Debug, Args)]
pub(super) struct Data {
    /// The folder of the member's keys, and of what it has said last
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
}

impl Data {
    #[cfg(test)]
    pub(super) fn at(folder: &Path) -> Self {
        Self {
            data: folder.to_owned(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Makes the folder, and the keys that are not there. True where the recovery key is new.
    pub(super) fn begin(&self) -> anyhow::Result<bool> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let named = || self.data.display().to_string();
        builder.create(&self.data).with_context(named)?;
        if !self.file(MEMBER).exists() {
            make(&self.file(MEMBER))?;
        }
        // Its private half is meant to go away.
        let is_new = !public_file(&self.file(RECOVERY)).exists();
        if is_new {
            make(&self.file(RECOVERY))?;
        }
        Ok(is_new)
    }

    /// The member's key.
    pub(super) fn key(&self) -> Result<FileKey, KeyError> {
        FileKey::read(&self.file(MEMBER))
    }

    /// The keys that the member has been known by. Their private half may be lost.
    pub(super) fn known(&self) -> anyhow::Result<KeySet> {
        let public = match self.key() {
            Ok(key) => key.public(),
            Err(_) => PublicKey::read(&public_file(&self.file(MEMBER)))?,
        };
        Ok(alone(public))
    }

    /// The next key, if there is one.
    pub(super) fn next(&self) -> Result<Option<FileKey>, KeyError> {
        self.own().next()
    }

    /// The next key, which is made if there is none.
    pub(super) fn next_or_new(&self) -> anyhow::Result<FileKey> {
        match self.next()? {
            Some(key) => Ok(key),
            None => Ok(make(&self.file(NEXT))?.0),
        }
    }

    /// The same folder for all who write it: this command and the site's authority.
    pub(super) fn own(&self) -> OwnFolder {
        OwnFolder::new(&self.data)
    }

    /// Nobody else speaks for the member until this is dropped.
    pub(super) fn lock(&self) -> Result<Locked, MembershipError> {
        self.own().lock()
    }

    /// The ID of the recovery key.
    pub(super) fn recovery_id(&self) -> anyhow::Result<String> {
        Ok(PublicKey::read(&public_file(&self.file(RECOVERY)))?.id())
    }

    /// Where the recovery key is, if it has not been moved away.
    pub(super) fn recovery_file(&self) -> Option<PathBuf> {
        Some(self.file(RECOVERY)).filter(|file| file.exists())
    }

    /// What was said last, and whose word it was.
    pub(super) fn last(&self) -> anyhow::Result<Option<(TrustDomain, Last)>> {
        let Some(last) = self.own().last()? else {
            return Ok(None);
        };
        let domain = parse_trust_domain(&last.trust_domain);
        let domain = domain.with_context(|| self.data.display().to_string())?;
        Ok(Some((domain, last)))
    }

    /// The same, where it has to be there.
    pub(super) fn last_there(&self) -> anyhow::Result<(TrustDomain, Last)> {
        self.last()?.ok_or_else(|| {
            wrong(format_args!(
                "{}: nothing was asked for from here yet (sekisho directory member request)",
                self.data.display()
            ))
        })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.data
    }
}

impl Data {
    /// The member whose folder it is.
    pub(super) fn membership(&self) -> Membership {
        Membership::at(self.own())
    }

    /// The member's key; where that is lost, the next one.
    pub(super) fn current(&self) -> anyhow::Result<FileKey> {
        if !self.file(MEMBER).exists()
            && let Some(next) = self.next()?
        {
            return Ok(next);
        }
        Ok(self.key()?)
    }

    /// Refuses to go on by a key that the member has revoked itself.
    pub(super) fn not_revoked(&self, domain: &TrustDomain, key: &FileKey) -> anyhow::Result<()> {
        let revoked = statements::revoked(self.folder())?;
        if revoked.contains(&alone(key.public()).id()) {
            return Err(MembershipError::Revoked(domain.clone()).into());
        }
        Ok(())
    }
}

/// The version that comes next.
pub(super) fn next_version(known: u64) -> anyhow::Result<NonZeroU64> {
    let next = known.checked_add(1).and_then(NonZeroU64::new);
    next.context("there is no version after this one")
}

/// One key, which signs alone.
pub(super) fn alone(key: PublicKey) -> KeySet {
    // One of one can sign.
    KeySet::new(vec![key], NonZeroU64::MIN).unwrap_or_else(|_| unreachable!("one of one"))
}
