//! The folder of a client: by the address of the directory, not by its place in a list that people edit.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use sekisho_certs::{hex, sha256};

use super::{
    SyncError,
    sync::{is_stored, vouched},
};

/// So many bytes of an address's SHA-256 name its folder.
const NAME: usize = 8;

fn name_of(address: &str) -> String {
    let hash = sha256(address.as_bytes());
    hex(hash.get(..NAME).unwrap_or_default())
}

/// The folder below `data` of the directory at `address`, of which the operator vouches for `root`. Where there is
/// none yet, and one that belongs to none of `all` addresses has followed this root, the directory has
/// another address now: its folder is renamed, and what was seen of its members is not forgotten.
///
/// # Errors
/// When the root is none, or a folder cannot be read or renamed.
pub fn folder_of(
    data: &Path,
    address: &str,
    root: &Path,
    all: &[&str],
) -> Result<PathBuf, SyncError> {
    let folder = data.join(name_of(address));
    if folder.exists() {
        return Ok(folder);
    }
    let failed = |path: &Path, error| SyncError::Folder {
        path: path.to_owned(),
        error,
    };
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(folder),
        Err(error) => return Err(failed(data, error)),
    };
    let theirs: BTreeSet<String> = all.iter().map(|one| name_of(one)).collect();
    let vouched = vouched(root)?;
    for entry in entries {
        let entry = entry.map_err(|error| failed(data, error))?;
        let is_theirs = entry
            .file_name()
            .to_str()
            .is_none_or(|name| theirs.contains(name));
        let before = entry.path();
        if is_theirs || !is_stored(&before, &vouched) {
            continue;
        }
        fs::rename(&before, &folder).map_err(|error| failed(&before, error))?;
        tracing::info!(address, from = %before.display(), "the directory has another address: what was seen of it goes on");
        break;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::fixture::{Federation, client_of};

    #[test]
    fn each_directory_has_its_folder_wherever_it_stands_and_takes_it_along() {
        let data = tempfile::tempdir().unwrap();
        let (one, two) = (Federation::new(1), Federation::new(1));
        let root = |of: &Federation| of.path().join("metadata/1.root.json");
        let all = ["https://one.example/", "https://two.example/"];
        let folder =
            |at: usize, of: &Federation| folder_of(data.path(), all[at], &root(of), &all).unwrap();
        // As they were named by their places in a list.
        drop(client_of(&one, &data.path().join("0")));
        drop(client_of(&two, &data.path().join("1")));
        let second = folder(1, &two);
        assert!(!data.path().join("1").exists() && data.path().join("0").exists());
        let first = folder(0, &one);
        assert_ne!(first, second);
        assert!(first.join("roots/1.json").exists() && second.join("roots/1.json").exists());
        // Their order is nothing to them, and the root of the other is refused.
        assert_eq!((folder(1, &two), folder(0, &one)), (second.clone(), first));
        let moved = "https://new.example/";
        let now = folder_of(data.path(), moved, &root(&two), &[all[0], moved]).unwrap();
        assert!(now.join("roots/1.json").exists() && !second.exists());
        let stranger = Federation::new(1);
        let other = "https://other.example/";
        let fresh = folder_of(data.path(), other, &root(&stranger), &[all[0], other]).unwrap();
        assert!(!fresh.exists(), "of nobody's that it does not know");
        assert!(now.exists());
    }

    #[test]
    fn two_addresses_of_one_directory_take_nothing_from_each_other() {
        let data = tempfile::tempdir().unwrap();
        let one = Federation::new(1);
        let root = one.path().join("metadata/1.root.json");
        let all = ["https://one.example/", "https://mirror.example/"];
        let folder = |at: &str| folder_of(data.path(), at, &root, &all).unwrap();
        let first = folder(all[0]);
        drop(client_of(&one, &first));
        let second = folder(all[1]);
        assert!(!second.exists() && first.join("roots/1.json").exists());
    }
}
