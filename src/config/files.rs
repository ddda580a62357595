//! Which files there are, and their text.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::{Problem, Report},
    location::Location,
};

/// A file larger than this is not a configuration.
const LARGEST: usize = 1 << 20;
/// More files than this in one folder are not a configuration.
const MOST: usize = 1_000;

/// The text of one file.
#[derive(Debug)]
pub(super) struct Source {
    /// The file, as named.
    pub(super) file: Arc<Path>,
    /// All of it, without a byte order mark.
    pub(super) text: String,
}

/// Reads `path`, or the `*.yaml` and `*.yml` files in it, by name, if it is a folder.
pub(super) fn read(path: &Path, report: &mut Report) -> Vec<Source> {
    let files = match list(path) {
        Ok(files) => files,
        Err(error) => {
            let problem = Problem::Unreadable(error.to_string());
            report.push(&Location::whole(path), "", problem);
            return Vec::new();
        }
    };
    if files.is_empty() || files.len() > MOST {
        let problem = Problem::Expected {
            expected: format!("one to {MOST} files *.yaml or *.yml in this folder"),
            found: files.len().to_string(),
        };
        report.push(&Location::whole(path), "", problem);
        return Vec::new();
    }
    files
        .iter()
        .filter_map(|file| source(file, report))
        .collect()
}

fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        // Hidden: what editors and Kubernetes keep beside the files that are meant.
        let hidden = name.starts_with(b".");
        let yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn source(path: &Path, report: &mut Report) -> Option<Source> {
    let whole = Location::whole(path);
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.push(&whole, "", Problem::Unreadable(error.to_string()));
            return None;
        }
    };
    if bytes.len() > LARGEST {
        let problem = Problem::Expected {
            expected: "a file of at most 1 MiB".into(),
            found: "a larger one".into(),
        };
        report.push(&whole, "", problem);
        return None;
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let good = String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default());
            let (_, last) = good.rsplit_once('\n').unwrap_or(("", &good));
            let at = Location {
                line: good.matches('\n').count() + 1,
                column: last.chars().count() + 1,
                ..whole
            };
            report.push(&at, "", Problem::Syntax("a byte that is not UTF-8".into()));
            return None;
        }
    };
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.into(),
        None => text,
    };
    Some(Source {
        file: path.into(),
        text,
    })
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(LARGEST).unwrap_or(u64::MAX) + 1;
    File::open(path)?.take(bound).read_to_end(&mut bytes)?;
    Ok(bytes)
}
