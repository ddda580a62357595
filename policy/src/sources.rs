//! The files of a policy directory.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Limits, LoadError, MAX_FILE_BYTES, MAX_FILES, MAX_FOLDER_DEPTH, MAX_SOURCE_BYTES};

/// A file as read.
#[derive(Debug)]
pub(crate) struct Text {
    /// Its path relative to the policy's directory, with `/`.
    pub(crate) file: String,
    /// What stands in it.
    pub(crate) text: String,
}

impl Text {
    /// Whether it is there for `sekisho policy test` alone.
    pub(crate) fn is_test(&self) -> bool {
        is_test(&self.file)
    }

    /// The names of the folders it lies in, from the policy's directory down.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &str> {
        let folders = self
            .file
            .rsplit_once('/')
            .map_or("", |(folders, _)| folders);
        folders.split('/').filter(|name| !name.is_empty())
    }
}

pub(crate) fn is_test(file: &str) -> bool {
    file.ends_with("_test.rego")
}

/// What a policy directory holds, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// `*.rego`, tests included.
    pub(crate) rego: Vec<Text>,
    /// `*.json`.
    pub(crate) data: Vec<Text>,
}

impl Sources {
    /// Reads every `*.rego` and `*.json` at or below `dir`. Names with a leading dot are left out,
    /// as OPA does: Kubernetes keeps the real files of a mounted ConfigMap in such a folder.
    pub(crate) fn read(dir: &Path, limits: &Limits) -> Result<Self, LoadError> {
        let mut reader = Reader {
            dir,
            limits,
            found: Self::default(),
            seen: BTreeSet::new(),
            files: 0,
            rego_bytes: 0,
            data_bytes: 0,
        };
        reader.folder(dir, &mut Vec::new())?;
        if reader.found.rego.iter().all(Text::is_test) {
            return Err(LoadError::Empty { dir: dir.into() });
        }
        Ok(reader.found)
    }
}

struct Reader<'a> {
    dir: &'a Path,
    limits: &'a Limits,
    found: Sources,
    /// Folders read already, by their real path: a link may lead back up.
    seen: BTreeSet<PathBuf>,
    files: usize,
    rego_bytes: usize,
    data_bytes: usize,
}

impl Reader<'_> {
    fn folder(&mut self, folder: &Path, names: &mut Vec<String>) -> Result<(), LoadError> {
        let failed = |source: io::Error| LoadError::Read {
            path: folder.into(),
            source,
        };
        if names.len() > MAX_FOLDER_DEPTH {
            return Err(self.too_large(folder, "folders deep", MAX_FOLDER_DEPTH));
        }
        if !self.seen.insert(folder.canonicalize().map_err(failed)?) {
            return Ok(());
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            self.files += 1;
            if self.files > MAX_FILES {
                return Err(self.too_large(self.dir, "files", MAX_FILES));
            }
            entries.push(
                entry
                    .map_err(failed)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        entries.sort_unstable();
        for name in entries.into_iter().filter(|name| !name.starts_with('.')) {
            let path = folder.join(&name);
            let kind = fs::metadata(&path).map_err(|source| LoadError::Read {
                path: path.clone(),
                source,
            })?;
            names.push(name);
            if kind.is_dir() {
                self.folder(&path, names)?;
            } else if kind.is_file() {
                self.file(&path, names.join("/"))?;
            }
            names.pop();
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, file: String) -> Result<(), LoadError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rego") => {
                let text = self.text(path, "bytes in one Rego file", MAX_FILE_BYTES)?;
                self.rego_bytes += text.len();
                if self.rego_bytes > MAX_SOURCE_BYTES {
                    return Err(self.too_large(self.dir, "bytes of Rego", MAX_SOURCE_BYTES));
                }
                self.found.rego.push(Text { file, text });
            }
            Some("json") => {
                let limit = self.limits.data_bytes;
                let text = self.text(path, "bytes of data", limit)?;
                self.data_bytes += text.len();
                if self.data_bytes > limit {
                    return Err(self.too_large(self.dir, "bytes of data", limit));
                }
                self.found.data.push(Text { file, text });
            }
            Some("yaml" | "yml") if path.file_stem().is_some_and(|stem| stem == "data") => {
                return Err(LoadError::DataYaml { file });
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&self, path: &Path, what: &'static str, limit: usize) -> Result<String, LoadError> {
        use io::Read as _;
        let mut text = String::new();
        let read = fs::File::open(path).and_then(|file| {
            // One byte more tells a file at the bound from one past it.
            let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
            file.take(bound).read_to_string(&mut text)
        });
        match read {
            Ok(length) if length > limit => Err(self.too_large(path, what, limit)),
            // A character cut by the bound reads as bad UTF-8.
            Err(_) if text.len() > limit => Err(self.too_large(path, what, limit)),
            Ok(_) => Ok(text),
            Err(source) => Err(LoadError::Read {
                path: path.into(),
                source,
            }),
        }
    }

    fn too_large(&self, path: &Path, what: &'static str, limit: usize) -> LoadError {
        LoadError::TooLarge {
            path: path.into(),
            what,
            limit,
        }
    }
}
