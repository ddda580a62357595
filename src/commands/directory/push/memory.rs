//! What was pushed, so that nothing else is taken away.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use sekisho_certs::{TrustDomain, persist};
use serde::{Deserialize, Serialize};

use super::super::read_file;

const FILE: &str = "pushed.json";
/// Ten thousand names of the longest.
const MOST: usize = 4 * 1024 * 1024;

/// The trust domains whose bundles are ours at a server.
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
    pushed: BTreeSet<String>,
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
                pushed: BTreeSet::new(),
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
    pub(super) const fn pushed(&self) -> &BTreeSet<String> {
        &self.kept.pushed
    }

    /// These will be ours: kept before they are set, for what is not remembered would never be taken
    /// away.
    pub(super) fn begin<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let before = self.kept.pushed.len();
        let names = names.into_iter().map(ToOwned::to_owned);
        self.kept.pushed.extend(names);
        self.keep_if(before)
    }

    /// These are not ours any more.
    pub(super) fn forget<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let before = self.kept.pushed.len();
        for name in names {
            self.kept.pushed.remove(name);
        }
        self.keep_if(before)
    }

    /// Writes it where it is not as long as before.
    fn keep_if(&self, before: usize) -> anyhow::Result<()> {
        if self.kept.pushed.len() == before {
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
        memory.begin(["a.example", "b.example"]).unwrap();
        memory.begin(["b.example"]).unwrap();
        memory.forget(["a.example", "c.example"]).unwrap();
        let busy = Memory::open(&folder, &own).unwrap_err().to_string();
        assert!(busy.contains("at work"), "{busy}");
        drop(memory);
        let memory = Memory::open(&folder, &own).unwrap();
        assert_eq!(memory.pushed().iter().collect::<Vec<_>>(), ["b.example"]);
        let mode = fs::metadata(folder.join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(memory);
        let error = Memory::open(&folder, &other).unwrap_err().to_string();
        assert!(error.contains("own.example"), "{error}");
        for damaged in ["", "{}", "{\"server\":\"own.example\",\"pushed\":[1]}"] {
            fs::write(folder.join(FILE), damaged).unwrap();
            let error = Memory::open(&folder, &own).unwrap_err().to_string();
            assert!(error.contains("damaged"), "{error}");
        }
    }
}
