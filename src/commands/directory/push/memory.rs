//! What was pushed, so that nothing else is taken away.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use sekisho_certs::{TrustDomain, persist};
use sekisho_spire_api::types;
use serde::{Deserialize, Serialize};

use super::{super::read_file, digest::digest, plan::Pushed};

const FILE: &str = "pushed.json";
/// Ten thousand of the longest names, with two digests each.
const MOST: usize = 8 * 1024 * 1024;

/// The bundles that are ours at a server.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    kept: Kept,
    /// Of the folder, for as long as this lives.
    _lock: fs::File,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The server's.
    server: String,
    pushed: Pushed,
}

impl Memory {
    /// That of pushes to the server of `own`, in a folder that is made where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be used, is in use, or is of pushes to another server.
    pub(super) fn open(folder: &Path, own: &TrustDomain) -> anyhow::Result<Self> {
        let named = || folder.display().to_string();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).with_context(named)?;
        let mut options = fs::File::options();
        options.create(true).write(true).mode(0o600);
        let lock = options.open(folder.join(".lock")).with_context(named)?;
        if lock.try_lock().is_err() {
            bail!("{}: another push is at work in this folder", named());
        }
        let file = folder.join(FILE);
        let path = || file.display().to_string();
        let bytes = match read_file(&file, MOST) {
            Ok(bytes) => Some(bytes),
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(error),
        };
        let kept: Kept = match bytes {
            Some(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{}: damaged; without it, nothing that was pushed before is taken away",
                    path()
                )
            })?,
            None => Kept {
                server: own.to_string(),
                pushed: BTreeMap::new(),
            },
        };
        if kept.server != own.as_str() {
            bail!(
                "{}: this folder is of pushes to the server of {}, and this one is of {own}",
                named(),
                kept.server
            );
        }
        Ok(Self {
            file,
            kept,
            _lock: lock,
        })
    }

    /// What is ours.
    pub(super) const fn pushed(&self) -> &Pushed {
        &self.kept.pushed
    }

    /// These may be ours from now on: kept before they are set, for what is not remembered would never be
    /// taken away.
    pub(super) fn begin(&mut self, bundles: &[types::Bundle]) -> anyhow::Result<()> {
        self.change(|pushed| {
            for bundle in bundles {
                let digests = pushed.entry(bundle.trust_domain.clone()).or_default();
                digests.insert(digest(bundle));
            }
        })
    }

    /// These were set, and nothing else of these trust domains is ours.
    pub(super) fn done<'a>(
        &mut self,
        bundles: impl IntoIterator<Item = &'a types::Bundle>,
    ) -> anyhow::Result<()> {
        self.change(|pushed| {
            for bundle in bundles {
                let only = [digest(bundle)].into();
                pushed.insert(bundle.trust_domain.clone(), only);
            }
        })
    }

    /// These were refused: what was ours before is ours still.
    pub(super) fn refused<'a>(
        &mut self,
        bundles: impl IntoIterator<Item = &'a types::Bundle>,
    ) -> anyhow::Result<()> {
        self.change(|pushed| {
            for bundle in bundles {
                let name = &bundle.trust_domain;
                let Some(digests) = pushed.get_mut(name) else {
                    continue;
                };
                digests.remove(&digest(bundle));
                if digests.is_empty() {
                    pushed.remove(name);
                }
            }
        })
    }

    /// These are not ours any more.
    pub(super) fn forget<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a String>,
    ) -> anyhow::Result<()> {
        self.change(|pushed| {
            for name in names {
                pushed.remove(name);
            }
        })
    }

    /// Changes it, and writes it where it is another than before.
    fn change(&mut self, change: impl FnOnce(&mut Pushed)) -> anyhow::Result<()> {
        let before = self.kept.pushed.clone();
        change(&mut self.kept.pushed);
        if self.kept.pushed == before {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&self.kept)?;
        let named = || self.file.display().to_string();
        persist::replace(&self.file, &text, false).with_context(named)
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sekisho_certs::id::parse_trust_domain;

    use super::*;

    #[test]
    fn what_was_pushed_is_remembered_for_one_server() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("push");
        let [own, other] =
            ["own.example", "other.example"].map(|it| parse_trust_domain(it).unwrap());
        let mut memory = Memory::open(&folder, &own).unwrap();
        let bundle = |name: &str, sequence_number| types::Bundle {
            trust_domain: name.into(),
            sequence_number,
            ..Default::default()
        };
        let first = ["a.example", "b.example", "c.example"].map(|name| bundle(name, 1));
        memory.begin(&first).unwrap();
        // One was set, one was refused, and of one there was no answer.
        memory.done([&first[0]]).unwrap();
        memory.refused([&first[1]]).unwrap();
        let next = ["a.example", "c.example"].map(|name| bundle(name, 2));
        memory.begin(&next).unwrap();
        memory.refused([&next[0]]).unwrap();
        let busy = Memory::open(&folder, &own).unwrap_err().to_string();
        assert!(busy.contains("at work"), "{busy}");
        drop(memory);
        let memory = Memory::open(&folder, &own).unwrap();
        let both = [digest(&first[2]), digest(&next[1])].into();
        let expected = [
            ("a.example".to_owned(), [digest(&first[0])].into()),
            ("c.example".to_owned(), both),
        ];
        assert_eq!(*memory.pushed(), expected.into());
        let mode = fs::metadata(folder.join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(memory);
        let mut memory = Memory::open(&folder, &own).unwrap();
        memory.done([&next[1]]).unwrap();
        memory.forget([&"a.example".to_owned()]).unwrap();
        let expected = [("c.example".to_owned(), [digest(&next[1])].into())];
        assert_eq!(*memory.pushed(), expected.into());
        drop(memory);
        let error = Memory::open(&folder, &other).unwrap_err().to_string();
        assert!(error.contains("own.example"), "{error}");
        for damaged in ["", "{}", "{\"server\":\"own.example\",\"pushed\":[]}"] {
            fs::write(folder.join(FILE), damaged).unwrap();
            let error = Memory::open(&folder, &own).unwrap_err().to_string();
            assert!(error.contains("damaged"), "{error}");
        }
    }
}
