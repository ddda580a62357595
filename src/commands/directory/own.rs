//! What a member keeps for itself: its keys, and what it has said last.

use std::{
    fs,
    num::NonZeroU64,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use sekisho_certs::{TrustDomain, id::parse_trust_domain, persist};
use sekisho_federation::directory::{
    continuity::KeySet,
    descriptor::Descriptor,
    key::{FileKey, KeyError, PublicKey, Signer as _},
};
use serde::{Deserialize, Serialize};

use super::{
    key::{make, public_file},
    read_file, wrong,
};

/// Most bytes of what was said last: a descriptor, and a little.
const MOST: usize = 2 * 1024 * 1024;
const MEMBER: &str = "member.key";
const RECOVERY: &str = "recovery.key";
const NEXT: &str = "next.key";
const SAID: &str = "said.json";

/// Where a member keeps what is its own.
#[derive(Debug, Args)]
pub(super) struct Data {
    /// The folder of the member's keys, and of what it has said last
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
}

/// What a member has said last.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    trust_domain: String,
    /// The version that was published last; zero before the first.
    pub(super) version: u64,
    descriptor: String,
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
    pub(super) fn next(&self) -> anyhow::Result<Option<FileKey>> {
        let file = self.file(NEXT);
        if !file.exists() {
            return Ok(None);
        }
        Ok(Some(FileKey::read(&file)?))
    }

    /// The next key, which is made if there is none.
    pub(super) fn next_or_new(&self) -> anyhow::Result<FileKey> {
        match self.next()? {
            Some(key) => Ok(key),
            None => Ok(make(&self.file(NEXT))?.0),
        }
    }

    /// Makes the next key the member's. The one before stays as `previous.key`.
    pub(super) fn promote(&self) -> anyhow::Result<()> {
        for (from, to) in [(MEMBER, "previous.key"), (NEXT, MEMBER)] {
            for public in [false, true] {
                let file = |name: &str| {
                    let file = self.file(name);
                    if public { public_file(&file) } else { file }
                };
                match fs::rename(file(from), file(to)) {
                    // The private half of the old one may be lost.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    done => done.with_context(|| file(from).display().to_string())?,
                }
            }
        }
        Ok(())
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
        let file = self.file(SAID);
        if !file.exists() {
            return Ok(None);
        }
        let bytes = read_file(&file, MOST)?;
        let named = || file.display().to_string();
        let last: Last = serde_json::from_slice(&bytes).with_context(named)?;
        let domain = parse_trust_domain(&last.trust_domain).with_context(named)?;
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

    /// Keeps what is said now.
    pub(super) fn keep(&self, version: u64, descriptor: &Descriptor) -> anyhow::Result<()> {
        let last = Last {
            trust_domain: descriptor.bundle.trust_domain().to_string(),
            version,
            descriptor: String::from_utf8(descriptor.to_json())?,
        };
        let file = self.file(SAID);
        let text = serde_json::to_vec_pretty(&last)?;
        persist::replace(&file, &text, false).with_context(|| file.display().to_string())
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.data
    }
}

impl Last {
    /// The descriptor.
    pub(super) fn descriptor(&self, domain: &TrustDomain) -> anyhow::Result<Descriptor> {
        Ok(Descriptor::read(domain, self.descriptor.as_bytes())?)
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
