//! What a snapshot changes of the one before: beside it in the repository, for clients that have that one.
//! A snapshot of ten thousand members is a hundred kilobytes even in its small form, and in ten minutes a
//! few dozen of its lines change.
//!
//! A delta is believed by nobody: with it a client builds the snapshot byte by byte, as the host has
//! written it (OLPC's canonical JSON), and then checks it as one that was fetched whole.

use std::{collections::HashMap, num::NonZeroU64};

use serde::{Deserialize, Serialize};

use super::metadata::{self, Metafile, SPEC, Signature, Signed, Snapshot};

/// Most bytes of one.
pub(crate) const MOST: usize = 1024 * 1024;
/// So many are followed; whoever was away for longer fetches the snapshot whole.
pub(crate) const MOST_FOLLOWED: u64 = 32;

/// Most roles that come of them: a snapshot that can be read has fewer.
pub(crate) const MOST_ROLES: usize = 200_000;

/// What a snapshot changes.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delta {
    /// The roles that are new or have another version.
    pub(crate) roles: HashMap<String, u64>,
    expires: jiff::Timestamp,
    signatures: Vec<Signature>,
}

/// The file of the delta to this snapshot.
pub(crate) fn file_of(snapshot: u64) -> String {
    format!("metadata/{snapshot}.snapshot-delta.json")
}

impl Delta {
    /// From the versions of the snapshot before to this one. No role ever goes.
    pub(crate) fn between(before: &HashMap<String, u64>, now: &Signed<Snapshot>) -> Self {
        let roles = now.signed.meta.iter().filter_map(|(file, meta)| {
            let role = file.strip_suffix(".json")?;
            let version = meta.version.get();
            (before.get(role) != Some(&version)).then(|| (role.to_owned(), version))
        });
        Self {
            roles: roles.collect(),
            expires: now.signed.expires,
            signatures: now.signatures.clone(),
        }
    }

    /// The snapshot of this number with these versions, and as the host has written it.
    pub(crate) fn snapshot<'a>(
        self,
        number: NonZeroU64,
        versions: impl Iterator<Item = (&'a str, u64)>,
    ) -> Result<(Vec<u8>, Signed<Snapshot>), serde_json::Error> {
        let mut all: Vec<(String, u64)> = versions
            .filter(|(_, version)| *version > 0)
            .map(|(role, version)| (format!("{role}.json"), version))
            .collect();
        all.sort_unstable();
        let mut signed = Signed {
            signed: Snapshot::new(SPEC.into(), number, self.expires),
            signatures: self.signatures,
        };
        let bytes = with_lines(&metadata::canonical(&signed)?, &all);
        signed.signed.meta = all.into_iter().filter_map(line).collect();
        Ok((bytes, signed))
    }
}

/// Puts the lines of a snapshot into one without any: what the general way to canonical JSON does, in a
/// tenth of its time. Whether it is right, the hash says that the host has signed.
fn with_lines(empty: &[u8], lines: &[(String, u64)]) -> Vec<u8> {
    const META: &[u8] = b"\"meta\":{";
    let at = empty.windows(META.len()).position(|here| here == META);
    let (before, after) = empty.split_at(at.map_or(0, |at| at + META.len()));
    let mut bytes = Vec::with_capacity(empty.len() + lines.len() * 64);
    bytes.extend_from_slice(before);
    for (place, (name, version)) in lines.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let line = format!("{comma}\"{name}\":{{\"version\":{version}}}");
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes.extend_from_slice(after);
    bytes
}

fn line((name, version): (String, u64)) -> Option<(String, Metafile)> {
    let meta = Metafile {
        length: None,
        hashes: None,
        version: NonZeroU64::new(version)?,
        _extra: HashMap::new(),
    };
    Some((name, meta))
}

/// The line of a role in a snapshot; none of version zero, which is no version.
pub(crate) fn of_role((role, version): (&str, u64)) -> Option<(String, Metafile)> {
    line((format!("{role}.json"), version))
}
