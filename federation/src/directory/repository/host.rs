//! What the host does: it says which version of each role there is, and nothing else. What does not
//! hold it leaves out, and tells; a stolen key of the host forges nothing.

use std::{
    collections::HashMap,
    num::NonZeroU64,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::{Latest, Repository, RepositoryError, ceremony::next, most, target_file, versioned};
use crate::directory::{
    continuity,
    delta::{self, Delta},
    key::Signer,
    metadata::{
        self, Dated as _, Delegations, Metafile, Root, SPEC, Signed, Snapshot, Targets, Timestamp,
    },
    names,
};

/// How long what the host signs is valid.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// Of the timestamp: for so long a mirror can hide what is new. Default: a day.
    pub timestamp: Duration,
    /// Of the snapshot. Default: seven days.
    pub snapshot: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            timestamp: Duration::from_secs(24 * 3600),
            snapshot: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// What the host has left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// Of which role.
    pub role: String,
    /// What is wrong.
    pub problem: String,
}

/// What the host has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hosted {
    /// The snapshot that counts.
    pub snapshot: u64,
    /// The timestamp that counts.
    pub timestamp: u64,
    /// How many roles have changed since the snapshot before.
    pub changed: usize,
    /// What was left out.
    pub complaints: Vec<Complaint>,
}

/// Old snapshots that stay, for clients that are in the middle of a sync.
const SNAPSHOTS: u64 = 8;
/// Old versions of other roles that stay.
const VERSIONS: u64 = 4;
/// How far behind those what is left over is looked for.
const LOOK_BACK: u64 = 64;

impl Repository {
    /// The last timestamp; `None` before the first.
    pub(crate) fn timestamp(&self) -> Result<Option<Latest<Timestamp>>, RepositoryError> {
        let file = "metadata/timestamp.json".to_owned();
        let Some(bytes) = self.read(&file, most("timestamp"))? else {
            return Ok(None);
        };
        let signed = metadata::parse(&file, &bytes)?;
        Ok(Some(Latest {
            file,
            bytes,
            signed,
        }))
    }

    /// The snapshot of the last timestamp.
    pub(crate) fn snapshot(&self) -> Result<Option<Latest<Snapshot>>, RepositoryError> {
        match self.timestamp()? {
            Some(timestamp) => self.snapshot_of(&timestamp),
            None => Ok(None),
        }
    }

    /// The snapshot that a timestamp names.
    pub(super) fn snapshot_of(
        &self,
        timestamp: &Latest<Timestamp>,
    ) -> Result<Option<Latest<Snapshot>>, RepositoryError> {
        let meta = timestamp.signed.signed.meta.get("snapshot.json");
        match meta {
            Some(meta) => self.version("snapshot", meta.version.get()),
            None => Ok(None),
        }
    }

    /// The version of a role in the last snapshot, or zero.
    pub(crate) fn snapshot_version(&self, role: &str) -> Result<u64, RepositoryError> {
        let snapshot = self.snapshot()?;
        let meta = snapshot.and_then(|found| {
            let meta = found.signed.signed.meta.get(&format!("{role}.json"))?;
            Some(meta.version.get())
        });
        Ok(meta.unwrap_or_default())
    }

    /// Signs a new timestamp, and a new snapshot where a role has changed.
    ///
    /// # Errors
    /// When there is no directory, the key is not the host's, or a file cannot be written.
    pub fn host(
        &self,
        signer: &dyn Signer,
        lives: &Lives,
        now: SystemTime,
    ) -> Result<Hosted, RepositoryError> {
        let root = self.root()?;
        metadata::signed_by_root(&root.file, &root.signed.signed, &root.signed)?;
        if self.host_key()? != signer.public() {
            return Err(RepositoryError::Refused(format!(
                "the key {} is not the one of the host, {}",
                signer.public().id(),
                self.host_key()?.id()
            )));
        }
        let before = self.snapshot()?;
        let known = before.as_ref().map(|found| &found.signed.signed);
        let mut taking = Taking::new(self, known);
        taking.all(&root.signed.signed)?;
        let Taking {
            versions,
            complaints,
            changed,
            ..
        } = taking;
        let due = known.is_none_or(|one| super::init::is_due(one, lives.snapshot, now));
        let signed_before = before.as_ref().is_some_and(|found| {
            metadata::signed_by_root(&found.file, &root.signed.signed, &found.signed).is_ok()
        });
        let snapshot = match &before {
            Some(before) if changed.is_empty() && !due && signed_before => {
                (before.signed.signed.version, before.bytes.clone())
            }
            _ => {
                let version = next(known.map_or(0, |one| one.number()))?;
                let bytes = self.write_snapshot(version, versions, signer, lives, now)?;
                (version, bytes)
            }
        };
        let timestamp = self.write_timestamp(snapshot.0, &snapshot.1, signer, lives, now)?;
        self.put_away(snapshot.0.get(), known, &changed)?;
        Ok(Hosted {
            snapshot: snapshot.0.get(),
            timestamp,
            changed: changed.len(),
            complaints,
        })
    }

    pub(super) fn write_snapshot(
        &self,
        version: NonZeroU64,
        versions: HashMap<String, u64>,
        signer: &dyn Signer,
        lives: &Lives,
        now: SystemTime,
    ) -> Result<Vec<u8>, RepositoryError> {
        let expires = metadata::until(now, lives.snapshot);
        let mut snapshot = Snapshot::new(SPEC.into(), version, expires);
        let versions = versions
            .iter()
            .map(|(role, version)| (role.as_str(), *version));
        snapshot.meta = versions.filter_map(delta::of_role).collect();
        let mut signed = Signed {
            signed: snapshot,
            signatures: Vec::new(),
        };
        metadata::sign(&mut signed, &[signer])?;
        // Sorted, so that it becomes smaller.
        let bytes = metadata::canonical(&signed)?;
        if let Some(before) = self.snapshot()? {
            let before = roles(&before.signed.signed).collect();
            let text = serde_json::to_vec(&Delta::between(&before, &signed))?;
            self.publish(&delta::file_of(version.get()), &text)?;
        }
        self.publish(&versioned("snapshot", version.get()), &bytes)?;
        Ok(bytes)
    }

    pub(super) fn write_timestamp(
        &self,
        snapshot: NonZeroU64,
        bytes: &[u8],
        signer: &dyn Signer,
        lives: &Lives,
        now: SystemTime,
    ) -> Result<u64, RepositoryError> {
        let before = self.timestamp()?;
        let version = next(before.map_or(0, |found| found.signed.signed.number()))?;
        let expires = metadata::until(now, lives.timestamp);
        let mut timestamp = Timestamp::new(SPEC.into(), version, expires);
        let (hashes, length) = metadata::hashes(bytes);
        let meta = Metafile {
            length: Some(length),
            hashes: Some(hashes),
            version: snapshot,
            _extra: HashMap::new(),
        };
        timestamp.meta.insert("snapshot.json".into(), meta);
        let mut signed = Signed {
            signed: timestamp,
            signatures: Vec::new(),
        };
        metadata::sign(&mut signed, &[signer])?;
        let bytes = metadata::canonical(&signed)?;
        self.publish("metadata/timestamp.json", &bytes)?;
        Ok(version.get())
    }

    /// Removes what nobody asks for any more. Roots stay for ever: who was away needs them all.
    fn put_away(
        &self,
        snapshot: u64,
        before: Option<&Snapshot>,
        changed: &[(String, u64)],
    ) -> Result<(), RepositoryError> {
        if let Some(version) = snapshot.checked_sub(SNAPSHOTS).filter(|one| *one > 0) {
            self.remove_both(&versioned("snapshot", version))?;
        }
        let followed = 2 * delta::MOST_FOLLOWED;
        if let Some(version) = snapshot.checked_sub(followed).filter(|one| *one > 0) {
            self.remove_both(&delta::file_of(version))?;
        }
        for (role, current) in changed {
            // Several may have come since the host was here last. What the snapshot before this one
            // names is still asked for.
            let known = before.and_then(|one| one.meta.get(&format!("{role}.json")));
            let known = known.map(|meta| meta.version.get());
            let last = current.saturating_sub(VERSIONS);
            for version in last.saturating_sub(LOOK_BACK).max(1)..=last {
                if Some(version) != known && self.is_there(&versioned(role, version)) {
                    self.put_version_away(role, version, *current)?;
                }
            }
        }
        Ok(())
    }

    /// Removes a version of a role, and a descriptor that no later version names.
    fn put_version_away(
        &self,
        role: &str,
        version: u64,
        current: u64,
    ) -> Result<(), RepositoryError> {
        if let Some(member) = names::member_of(role) {
            let target = names::target_of(&member);
            let of = |version| -> Result<Option<String>, RepositoryError> {
                let found = self.version::<Targets>(role, version)?;
                Ok(found.and_then(|found| {
                    let named = metadata::target(&found.signed.signed, &target)?;
                    Some(sekisho_certs::hex(&named.hashes.sha256))
                }))
            };
            let mut is_named = false;
            let own = of(version)?;
            for later in version + 1..=current {
                is_named |= of(later)? == own;
            }
            if let Some(hash) = own
                && !is_named
            {
                self.remove_both(&target_file(&hash, &target))?;
            }
        }
        self.remove_both(&versioned(role, version))
    }

    fn remove_both(&self, file: &str) -> Result<(), RepositoryError> {
        self.remove(file)?;
        self.remove(&format!("{file}.gz"))
    }
}

/// The versions of a snapshot.
fn roles(snapshot: &Snapshot) -> impl Iterator<Item = (String, u64)> {
    snapshot.meta.iter().filter_map(|(file, meta)| {
        let role = file.strip_suffix(".json")?;
        Some((role.to_owned(), meta.version.get()))
    })
}

/// Takes up what is new since a snapshot.
struct Taking<'a> {
    repository: &'a Repository,
    versions: HashMap<String, u64>,
    changed: Vec<(String, u64)>,
    complaints: Vec<Complaint>,
}

impl<'a> Taking<'a> {
    fn new(repository: &'a Repository, before: Option<&Snapshot>) -> Self {
        let versions = before.map_or_else(HashMap::new, |snapshot| roles(snapshot).collect());
        Self {
            repository,
            versions,
            changed: Vec::new(),
            complaints: Vec::new(),
        }
    }

    fn all(&mut self, root: &Root) -> Result<(), RepositoryError> {
        let targets = self.newest("targets", |found| {
            Ok(metadata::signed_by_root(&found.file, root, &found.signed)?)
        })?;
        let Some(targets) = targets else {
            return Err(RepositoryError::Missing(
                "metadata/1.targets.json is missing: its draft lacks signatures, or was not published".into(),
            ));
        };
        let delegations = targets.delegations.unwrap_or_default();
        for role in &delegations.roles {
            let bin = self.delegated(&delegations, &role.name)?;
            let Some(members) = bin.and_then(|bin| bin.delegations) else {
                continue;
            };
            for member in &members.roles {
                self.delegated(&members, &member.name)?;
            }
        }
        Ok(())
    }

    fn delegated(
        &mut self,
        by: &Delegations,
        role: &str,
    ) -> Result<Option<Targets>, RepositoryError> {
        let repository = self.repository;
        self.newest(role, |found| {
            metadata::signed_by_delegates(&found.file, by, &found.signed, role)?;
            repository.has_targets(role, &found.signed.signed)
        })
    }

    /// The last version of a role that holds; members' roles are read only where they are new.
    fn newest(
        &mut self,
        role: &str,
        check: impl Fn(&Latest<Targets>) -> Result<(), RepositoryError>,
    ) -> Result<Option<Targets>, RepositoryError> {
        let known = self.versions.get(role).copied().unwrap_or_default();
        let mut version = self.repository.newest(role, known);
        let is_member = names::member_of(role).is_some();
        if version == known && (is_member || known == 0) {
            return Ok(None);
        }
        while version > known {
            let found = self.repository.version::<Targets>(role, version);
            let held = found.and_then(|found| {
                let found = found.ok_or_else(|| {
                    RepositoryError::Missing(format!("{} is missing", versioned(role, version)))
                })?;
                metadata::is_version(&found.file, &found.signed.signed, version)?;
                check(&found)?;
                Ok(found.signed.signed)
            });
            match held {
                Ok(held) => {
                    self.versions.insert(role.into(), version);
                    self.changed.push((role.into(), version));
                    return Ok(Some(held));
                }
                Err(error) => self.complaints.push(Complaint {
                    role: role.into(),
                    problem: error.to_string(),
                }),
            }
            version -= 1;
        }
        if is_member || known == 0 {
            return Ok(None);
        }
        let found = self.repository.version::<Targets>(role, known)?;
        Ok(found.map(|found| found.signed.signed))
    }
}

impl Repository {
    /// Whether the targets of a role are there and are what it says.
    pub(super) fn has_targets(&self, role: &str, signed: &Targets) -> Result<(), RepositoryError> {
        if let Some(member) = names::member_of(role) {
            let revoked = continuity::revocation_of(&member, signed).is_some();
            if !revoked && metadata::target(signed, &names::target_of(&member)).is_none() {
                return Err(RepositoryError::Missing(format!(
                    "{role}: it has no descriptor"
                )));
            }
        }
        for (name, target) in &signed.targets {
            let file = target_file(&sekisho_certs::hex(&target.hashes.sha256), name.raw());
            let most = usize::try_from(target.length).unwrap_or(usize::MAX);
            let bytes = self.read(&file, most.min(16 * 1024 * 1024))?;
            let bytes =
                bytes.ok_or_else(|| RepositoryError::Missing(format!("{file} is missing")))?;
            metadata::is_what_was_named(&file, &bytes, Some(&target.hashes), Some(target.length))?;
        }
        Ok(())
    }
}
