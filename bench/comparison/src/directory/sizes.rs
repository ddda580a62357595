//! How large the files of a directory are.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path};

use serde::Serialize;

/// Files of one kind. Where a file has no small form, it counts as itself there.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Kind {
    files: u64,
    bytes: u64,
    gzip: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Sizes {
    /// The newest of each role, and the targets that are there.
    kinds: BTreeMap<&'static str, Kind>,
    /// Of all files, old versions and small forms included.
    files: u64,
    bytes: u64,
    /// What they take of the disk.
    allocated: u64,
}

fn kind(folder: &str, name: &str) -> &'static str {
    match folder {
        "targets" if name.ends_with(".marks.json") => "marks",
        "targets" => "descriptors",
        "continuity" => "continuity",
        _ if name == "timestamp.json" => "timestamp",
        _ => match name.split_once('.').map_or("", |(_, role)| role) {
            role if role.starts_with("td-") => "members",
            role if role.starts_with("bin") => "bins",
            "snapshot.json" => "snapshot",
            "targets.json" => "targets",
            "root.json" => "root",
            _ => "marks",
        },
    }
}

impl Sizes {
    pub(super) fn of(folder: &Path) -> anyhow::Result<Self> {
        let mut sizes = Self {
            kinds: BTreeMap::new(),
            files: 0,
            bytes: 0,
            allocated: 0,
        };
        for below in ["metadata", "targets", "continuity"] {
            let path = folder.join(below);
            if path.is_dir() {
                sizes.add(below, &path)?;
            }
        }
        Ok(sizes)
    }

    fn add(&mut self, below: &str, path: &Path) -> anyhow::Result<()> {
        let mut lengths = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            self.files += 1;
            self.bytes += meta.len();
            self.allocated += meta.blocks() * 512;
            let name = entry.file_name().to_string_lossy().into_owned();
            lengths.insert(name, meta.len());
        }
        // The newest version of each role.
        let mut newest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
        for name in lengths.keys().filter(|name| name.ends_with(".json")) {
            let (version, role) = match name.split_once('.') {
                Some((digits, role)) if below == "metadata" && digits.parse::<u64>().is_ok() => {
                    (digits.parse().unwrap_or_default(), role)
                }
                _ => (0, name.as_str()),
            };
            let known = newest.entry(role).or_insert((version, name));
            if version >= known.0 {
                *known = (version, name);
            }
        }
        for (_, name) in newest.values() {
            let length = lengths.get(*name).copied().unwrap_or_default();
            let small = lengths.get(&format!("{name}.gz")).copied();
            let kind = self.kinds.entry(kind(below, name)).or_default();
            kind.files += 1;
            kind.bytes += length;
            kind.gzip += small.unwrap_or(length);
        }
        Ok(())
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let kibi = |bytes: u64| {
            let tenths = bytes * 10 / 1024;
            format!("{}.{} KiB", tenths / 10, tenths % 10)
        };
        let mut all = vec![format!(
            "| on disk, old versions and small forms included | {} files, {}, {} of the disk |",
            self.files,
            kibi(self.bytes),
            kibi(self.allocated)
        )];
        all.extend(self.kinds.iter().map(|(name, kind)| {
            let each = kind.files.max(1);
            let which = match *name {
                "descriptors" => "all that are there",
                _ => "the newest of each",
            };
            format!(
                "| {name}: {which}, plain and gzip | {} files, {}, {}; each {} B, {} B |",
                kind.files,
                kibi(kind.bytes),
                kibi(kind.gzip),
                kind.bytes / each,
                kind.gzip / each
            )
        }));
        all
    }
}
