//! SHA-256 of executables, remembered while they do not change.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};

/// Executables remembered at most.
const MAX_REMEMBERED: usize = 1024;
/// Read at once.
const CHUNK: usize = 64 * 1024;

/// Which content: a file that is written to gets another `ctime`, which its owner cannot set back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
}

/// `None` until the first who asks has read it; others wait for that.
type Slot = Arc<Mutex<Option<String>>>;

/// Digests in lower-case hexadecimal.
#[derive(Debug, Default)]
pub(super) struct Digests {
    known: Mutex<HashMap<Version, Slot>>,
}

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub(super) enum DigestError {
    #[error("it changed while it was read")]
    Changed,
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("it has {size} bytes, more than the {limit} allowed")]
    TooLarge { size: u64, limit: u64 },
}

impl Digests {
    /// The digest of all of `file`, which must be at its start. Blocks while it reads.
    pub(super) fn of(&self, file: &File, limit: Option<u64>) -> Result<String, DigestError> {
        let version = Version::of(file)?;
        if let Some(limit) = limit
            && version.size > limit
        {
            return Err(DigestError::TooLarge {
                size: version.size,
                limit,
            });
        }
        // In a file system in user space, its owner makes up inodes and times.
        if fstatfs(file).map_err(io::Error::from)?.filesystem_type() == FUSE_SUPER_MAGIC {
            return read(file, &version);
        }
        let slot = self.slot(&version);
        let mut digest = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = &*digest {
            return Ok(digest.clone());
        }
        Ok(digest.insert(read(file, &version)?).clone())
    }

    fn slot(&self, version: &Version) -> Slot {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED && !known.contains_key(version) {
            known.clear();
        }
        Arc::clone(known.entry(version.clone()).or_default())
    }
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
        })
    }
}

fn read(file: &File, version: &Version) -> Result<String, DigestError> {
    let mut context = Context::new(&SHA256);
    // A file that grows while it is read is not read for ever.
    let mut rest = file.take(version.size);
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = rest.read(&mut chunk)?;
        let Some(part) = chunk.get(..length).filter(|part| !part.is_empty()) else {
            break;
        };
        context.update(part);
    }
    if rest.limit() != 0 || Version::of(file)? != *version {
        return Err(DigestError::Changed);
    }
    let mut digest = String::with_capacity(64);
    for byte in context.finish().as_ref() {
        // Writing to a string does not fail.
        let _ = write!(digest, "{byte:02x}");
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    // sha256sum of "abc": FIPS 180-4's example.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn is_that_of_the_content_and_of_the_new_content_after_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, "abc").unwrap();
        let digests = Digests::default();
        let of = || digests.of(&File::open(&path).unwrap(), None).unwrap();
        assert_eq!(of(), ABC);
        assert_eq!(of(), ABC);
        assert_eq!(digests.known.lock().unwrap().len(), 1);
        fs::write(&path, "abcd").unwrap();
        assert_ne!(of(), ABC);
    }

    #[test]
    fn one_byte_more_than_allowed_is_not_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcd").unwrap();
        let error = Digests::default().of(&file, Some(3)).unwrap_err();
        assert!(matches!(error, DigestError::TooLarge { size: 4, limit: 3 }));
        use std::io::Seek as _;
        file.rewind().unwrap();
        Digests::default().of(&file, Some(4)).unwrap();
    }

    #[test]
    fn the_memory_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let digests = Digests::default();
        for number in 0..MAX_REMEMBERED + 10 {
            let path = dir.path().join("program");
            fs::write(&path, format!("{number:09}")).unwrap();
            digests.of(&File::open(&path).unwrap(), None).unwrap();
        }
        assert!(digests.known.lock().unwrap().len() <= MAX_REMEMBERED);
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        let version = Version::of(&file).unwrap();
        file.set_len(1).unwrap();
        assert!(matches!(read(&file, &version), Err(DigestError::Changed)));
    }
}
