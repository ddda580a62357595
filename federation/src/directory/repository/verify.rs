//! All of a directory checked at once, from its files alone: by whoever holds a copy of them.

use std::{path::Path, time::SystemTime};

use sekisho_certs::TrustDomain;
use serde::Serialize;

use super::{Complaint, Latest, Repository, RepositoryError, Standing, most, versioned};
use crate::directory::{
    continuity::{self, KeySet},
    descriptor::{self, Descriptor},
    metadata::{self, Dated as _, Root, Targets},
    names,
};

/// A member, as the files say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberState {
    /// Its name.
    pub trust_domain: String,
    /// How it stands.
    pub standing: Standing,
    /// The beginning of the name of its keys, for two people to compare.
    pub keys: String,
    /// The version of its role; zero where it has none.
    pub version: u64,
    /// When what it has signed ends, in seconds since 1970.
    pub expires: u64,
    /// The marks that it has.
    pub marks: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of the root.
    pub root: u64,
    /// Of the targets.
    pub targets: u64,
    /// Of the snapshot.
    pub snapshot: u64,
    /// Of the timestamp.
    pub timestamp: u64,
    /// The SHA-256 of the snapshot: what two sites compare that ask whether they see the same.
    pub snapshot_sha256: String,
    /// The members.
    pub members: Vec<MemberState>,
    /// What is wrong.
    pub complaints: Vec<Complaint>,
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

impl Repository {
    /// Checks every file that counts: from this root on, or from the first one in the folder, which is
    /// then taken for granted.
    ///
    /// # Errors
    /// When what all others hang on is not there, or does not hold. What is wrong with one member is
    /// in the report.
    pub fn verify(&self, root: Option<&Path>, now: SystemTime) -> Result<Report, RepositoryError> {
        let root = self.follow_roots(root)?;
        let mut complaints = Vec::new();
        let mut complain = |role: &str, problem: &dyn ToString| {
            complaints.push(Complaint {
                role: role.into(),
                problem: problem.to_string(),
            });
        };
        if let Err(error) = metadata::fresh(&root.file, &root.signed.signed, now) {
            complain("root", &error);
        }
        let keys = &root.signed.signed;
        let timestamp = self
            .timestamp()?
            .ok_or_else(|| RepositoryError::Missing("metadata/timestamp.json is missing".into()))?;
        metadata::signed_by_root(&timestamp.file, keys, &timestamp.signed)?;
        if let Err(error) = metadata::fresh(&timestamp.file, &timestamp.signed.signed, now) {
            complain("timestamp", &error);
        }
        // By the timestamp that was read: a host may write the next one meanwhile.
        let snapshot = self.snapshot_of(&timestamp)?.ok_or_else(|| {
            RepositoryError::Missing("the snapshot that the timestamp names is missing".into())
        })?;
        let meta = timestamp.signed.signed.meta.get("snapshot.json");
        let (hashes, length) =
            meta.map_or((None, None), |meta| (meta.hashes.as_ref(), meta.length));
        metadata::is_what_was_named(&snapshot.file, &snapshot.bytes, hashes, length)?;
        metadata::signed_by_root(&snapshot.file, keys, &snapshot.signed)?;
        if let Err(error) = metadata::fresh(&snapshot.file, &snapshot.signed.signed, now) {
            complain("snapshot", &error);
        }
        let version = |role: &str| {
            let meta = snapshot.signed.signed.meta.get(&format!("{role}.json"));
            meta.map_or(0, |meta| meta.version.get())
        };
        let role = |role: &str| -> Result<Latest<Targets>, RepositoryError> {
            let file = versioned(role, version(role));
            let found = self.version::<Targets>(role, version(role))?;
            let missing = || RepositoryError::Missing(format!("{file} is missing"));
            let found = found.ok_or_else(missing)?;
            metadata::is_version(&found.file, &found.signed.signed, version(role))?;
            Ok(found)
        };
        let targets = role("targets")?;
        metadata::signed_by_root(&targets.file, keys, &targets.signed)?;
        if let Err(error) = metadata::fresh(&targets.file, &targets.signed.signed, now) {
            complain("targets", &error);
        }
        let delegations = targets
            .signed
            .signed
            .delegations
            .clone()
            .unwrap_or_default();
        let marks = self.marks();
        if let Err(error) = &marks {
            complain(names::MARKS, error);
        }
        let marks = marks.unwrap_or_default();
        let mut members = Vec::new();
        for bin in &delegations.roles {
            let found = role(&bin.name).and_then(|found| {
                let name = &bin.name;
                metadata::signed_by_delegates(&found.file, &delegations, &found.signed, name)?;
                self.has_targets(name, &found.signed.signed)?;
                Ok(found)
            });
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    complain(&bin.name, &error);
                    continue;
                }
            };
            if let Err(error) = metadata::fresh(&found.file, &found.signed.signed, now) {
                complain(&bin.name, &error);
            }
            let suspended = super::placed::suspended(&found.signed.signed);
            let there = found.signed.signed.delegations.unwrap_or_default();
            for (all, standing) in [
                (&there, Standing::Member),
                (&suspended, Standing::Suspended),
            ] {
                for one in &all.roles {
                    let Some(domain) = names::member_of(&one.name) else {
                        complain(&one.name, &"its name is no member's");
                        continue;
                    };
                    let held = role(&one.name).and_then(|held| {
                        if !metadata::is_exactly(one, &names::target_of(&domain)) {
                            let text = "it is delegated other targets than its own";
                            return Err(RepositoryError::Refused(text.into()));
                        }
                        metadata::signed_by_delegates(&held.file, all, &held.signed, &one.name)?;
                        metadata::fresh(&held.file, &held.signed.signed, now)?;
                        self.has_targets(&one.name, &held.signed.signed)?;
                        self.describes(&domain, &held.signed.signed)?;
                        Ok(held.signed.signed)
                    });
                    let keys = KeySet::of_role(all, one);
                    let given = marks.of(&domain);
                    members.push(MemberState {
                        trust_domain: domain.to_string(),
                        standing,
                        keys: keys
                            .map(|keys| continuity::fingerprint(&keys))
                            .unwrap_or_default(),
                        version: version(&one.name),
                        expires: held.as_ref().map_or(0, |held| seconds(held.end())),
                        marks: given.iter().map(ToString::to_string).collect(),
                    });
                    if let Err(error) = held {
                        complain(&one.name, &error);
                    }
                }
            }
        }
        members.sort_by(|one, other| one.trust_domain.cmp(&other.trust_domain));
        Ok(Report {
            root: root.signed.signed.number(),
            targets: targets.signed.signed.number(),
            snapshot: snapshot.signed.signed.number(),
            timestamp: timestamp.signed.signed.number(),
            snapshot_sha256: metadata::sha256(&snapshot.bytes),
            members,
            complaints,
        })
    }

    fn describes(&self, domain: &TrustDomain, role: &Targets) -> Result<(), RepositoryError> {
        let Some(named) = metadata::target(role, &names::target_of(domain)) else {
            return Ok(());
        };
        let hash = sekisho_certs::hex(&named.hashes.sha256);
        let file = super::target_file(&hash, &names::target_of(domain));
        let bytes = self.read(&file, descriptor::MOST)?.unwrap_or_default();
        let read = Descriptor::read(domain, &bytes);
        read.map(|_| ())
            .map_err(|error| RepositoryError::Descriptor {
                member: domain.to_string(),
                error,
            })
    }

    /// The root that counts, every step to it checked (TUF §5.3).
    fn follow_roots(&self, first: Option<&Path>) -> Result<Latest<Root>, RepositoryError> {
        let mut root = match first {
            Some(path) => {
                let file = path.display().to_string();
                let bytes = std::fs::read(path).map_err(|error| RepositoryError::Io {
                    path: path.to_owned(),
                    error,
                })?;
                let signed = metadata::parse::<Root>(&file, &bytes)?;
                Latest {
                    file,
                    bytes,
                    signed,
                }
            }
            None => self.version::<Root>("root", 1)?.ok_or_else(|| {
                RepositoryError::Missing("metadata/1.root.json is missing".into())
            })?,
        };
        metadata::signed_by_root(&root.file, &root.signed.signed, &root.signed)?;
        while let Some(next) =
            self.version::<Root>("root", root.signed.signed.number().saturating_add(1))?
        {
            metadata::next_root(&next.file, &root.signed.signed, &next.signed)?;
            root = next;
        }
        debug_assert!(root.bytes.len() <= most("root"));
        Ok(root)
    }
}
