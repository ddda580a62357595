//! The metadata that a client has checked, and what may follow it (TUF §5). No network, no disk, no
//! clock: bytes in, and either they hold or they do not.

use std::{
    collections::{HashMap, VecDeque},
    time::SystemTime,
};

use sekisho_certs::hex;

use super::SyncError;
use crate::directory::{
    gossip,
    metadata::{
        self, Dated as _, Delegations, MetadataError, RoleType, Root, Signed, Snapshot, Targets,
        Timestamp,
    },
    names,
    repository::{most, versioned},
};

/// Most roots that are followed in one sync.
pub(super) const ROOTS: u64 = 1024;

/// The statement of a host: which snapshot counts.
#[derive(Clone, Debug)]
pub(super) struct Stated {
    pub(super) version: u64,
    pub(super) end: SystemTime,
    pub(super) snapshot: u64,
    /// The SHA-256 of the snapshot, where the host names it.
    pub(super) sha256: Option<String>,
    pub(super) length: Option<u64>,
    pub(super) bytes: Vec<u8>,
}

/// The versions of a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions {
    pub(super) number: u64,
    pub(super) end: Option<SystemTime>,
    pub(super) sha256: String,
    pub(super) roles: HashMap<Box<str>, u64>,
}

/// What was checked.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) root: Signed<Root>,
    pub(super) timestamp: Option<Stated>,
    pub(super) snapshot: Versions,
    pub(super) targets: Option<Targets>,
    /// What the host has signed about the snapshots that were taken last, the newest last.
    pub(super) recent: VecDeque<Stated>,
    /// About snapshots up to this one the operator knows what the host has shown.
    pub(super) looked_at: u64,
}

/// What a snapshot has made of the one before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Backwards(pub(super) Vec<(String, u64, u64)>);

impl Trusted {
    /// From a root that the operator has given, or that was checked before.
    pub(super) fn new(file: &str, bytes: &[u8]) -> Result<Self, MetadataError> {
        bounded(file, bytes, most("root"))?;
        let root = metadata::parse::<Root>(file, bytes)?;
        metadata::signed_by_root(file, &root.signed, &root)?;
        Ok(Self {
            root,
            timestamp: None,
            snapshot: Versions::default(),
            targets: None,
            recent: VecDeque::new(),
            looked_at: 0,
        })
    }

    /// The version of the root.
    pub(super) fn root_version(&self) -> u64 {
        self.root.signed.number()
    }

    /// Takes the next root (§5.3.3 to §5.3.6). Where it gives the host other keys, what the host said
    /// before counts for nothing (§5.3.11).
    pub(super) fn next_root(&mut self, bytes: &[u8]) -> Result<(), MetadataError> {
        let file = versioned("root", self.root_version().saturating_add(1));
        bounded(&file, bytes, most("root"))?;
        let next = metadata::parse::<Root>(&file, bytes)?;
        metadata::next_root(&file, &self.root.signed, &next)?;
        let before = &self.root.signed;
        let changed = [RoleType::Timestamp, RoleType::Snapshot]
            .iter()
            .any(|role| before.roles.get(role) != next.signed.roles.get(role));
        if changed {
            self.timestamp = None;
            self.snapshot = Versions::default();
            self.recent.clear();
            self.looked_at = 0;
        }
        self.root = next;
        Ok(())
    }

    /// Reads a statement of the host (§5.4.2). Whether it is over, [`in_force`] says.
    pub(super) fn stated(&self, bytes: &[u8]) -> Result<Stated, MetadataError> {
        let file = "metadata/timestamp.json";
        bounded(file, bytes, most("timestamp"))?;
        let signed = metadata::parse::<Timestamp>(file, bytes)?;
        metadata::signed_by_root(file, &self.root.signed, &signed)?;
        let meta = signed.signed.meta.get("snapshot.json");
        let meta = meta.ok_or_else(|| MetadataError::Json {
            file: file.into(),
            problem: "it names no snapshot".into(),
        })?;
        Ok(Stated {
            version: signed.signed.number(),
            end: signed.signed.end(),
            snapshot: meta.version.get(),
            sha256: meta.hashes.as_ref().map(|hashes| hex(&hashes.sha256)),
            length: meta.length,
            bytes: bytes.to_vec(),
        })
    }

    /// Takes a statement of the host, which may not be older than the one before (§5.4.3), nor say
    /// another thing under the same number: that is a host with two faces.
    pub(super) fn take_timestamp(&mut self, stated: Stated) -> Result<(), SyncError> {
        if let Some(before) = &self.timestamp {
            let backwards =
                |what: &'static str, found, known| SyncError::Rollback { what, found, known };
            contradict(before, &stated)?;
            if stated.version < before.version {
                return Err(backwards("timestamp", stated.version, before.version));
            }
            if stated.snapshot < before.snapshot {
                return Err(backwards("snapshot", stated.snapshot, before.snapshot));
            }
        }
        self.timestamp = Some(stated);
        Ok(())
    }

    /// Takes the snapshot that the host has named (§5.5). A role whose version went back, or that is
    /// gone, keeps the version it had: that is the fault of one role and no reason to lose the others. `read`
    /// is what the bytes say, for who knows that already.
    pub(super) fn take_snapshot(
        &mut self,
        bytes: &[u8],
        read: Option<Signed<Snapshot>>,
    ) -> Result<Backwards, SyncError> {
        let Some(stated) = &self.timestamp else {
            return Ok(Backwards::default());
        };
        let file = versioned("snapshot", stated.snapshot);
        bounded(&file, bytes, most("snapshot"))?;
        let sha256 = metadata::sha256(bytes);
        let is_it = stated.sha256.as_ref().is_none_or(|named| *named == sha256)
            && stated
                .length
                .is_none_or(|length| length == bytes.len() as u64);
        if !is_it {
            return Err(MetadataError::Hash { file }.into());
        }
        let snapshot = match read {
            Some(read) => read,
            None => metadata::parse::<Snapshot>(&file, bytes)?,
        };
        metadata::snapshot_signed_by_root(&file, &self.root.signed, &snapshot, bytes)?;
        metadata::is_version(&file, &snapshot.signed, stated.snapshot)?;
        let mut roles = HashMap::with_capacity(snapshot.signed.meta.len());
        for (file, meta) in &snapshot.signed.meta {
            if let Some(role) = file.strip_suffix(".json") {
                roles.insert(role.into(), meta.version.get());
            }
        }
        let mut backwards = Backwards::default();
        for (role, known) in &self.snapshot.roles {
            let found = roles.get(role).copied().unwrap_or_default();
            if found < *known {
                backwards.0.push((role.to_string(), found, *known));
                roles.insert(role.clone(), *known);
            }
        }
        self.snapshot = Versions {
            number: snapshot.signed.number(),
            end: Some(snapshot.signed.end()),
            sha256,
            roles,
        };
        Ok(backwards)
    }

    /// Keeps what the host has signed about a snapshot: the first that it has said of each, and of the last
    /// few. One that names no hash proves nothing.
    pub(super) fn keep_statement(&mut self, stated: Stated) {
        let is_known = |one: &Stated| one.snapshot == stated.snapshot;
        let is_over = stated.snapshot <= self.looked_at;
        if is_over || stated.sha256.is_none() || self.recent.iter().any(is_known) {
            return;
        }
        self.recent.push_back(stated);
        if self.recent.len() > gossip::SEEN {
            self.recent.pop_front();
        }
    }

    /// The name of the host's keys: what two sites have heard of one host is compared.
    pub(super) fn host(&self) -> String {
        let role = self.root.signed.roles.get(&RoleType::Timestamp);
        let mut ids: Vec<String> = role
            .map(|role| role.keyids.iter().map(|id| hex(id)).collect())
            .unwrap_or_default();
        ids.sort_unstable();
        metadata::sha256(ids.join(" ").as_bytes())
    }

    /// Remembers the versions of a snapshot that was taken before, whatever the host says now: whether it is
    /// the one that counts is another question.
    pub(super) fn remember(&mut self, bytes: &[u8]) {
        let file = "snapshot.json";
        let Ok(snapshot) = metadata::parse::<Snapshot>(file, bytes) else {
            return;
        };
        if metadata::snapshot_signed_by_root(file, &self.root.signed, &snapshot, bytes).is_ok() {
            for (file, meta) in &snapshot.signed.meta {
                if let Some(role) = file.strip_suffix(".json") {
                    let known = self.snapshot.roles.entry(role.into()).or_default();
                    *known = meta.version.get().max(*known);
                }
            }
        }
    }

    /// The version that the snapshot has of a role; zero: none.
    pub(super) fn version_of(&self, role: &str) -> u64 {
        self.snapshot.roles.get(role).copied().unwrap_or_default()
    }

    /// Takes the role that delegates to the registrars (§5.6).
    pub(super) fn take_targets(&mut self, bytes: &[u8]) -> Result<(), MetadataError> {
        let version = self.version_of("targets");
        let file = versioned("targets", version);
        bounded(&file, bytes, most("targets"))?;
        let targets = metadata::parse::<Targets>(&file, bytes)?;
        metadata::signed_by_root(&file, &self.root.signed, &targets)?;
        metadata::is_version(&file, &targets.signed, version)?;
        self.targets = Some(targets.signed);
        Ok(())
    }

    /// What the registrars are delegated.
    pub(super) fn delegations(&self) -> Option<&Delegations> {
        self.targets.as_ref()?.delegations.as_ref()
    }

    /// The bin that has a target, by the order of the delegations (§5.6.7).
    pub(super) fn bin_of(&self, target: &str) -> Option<&str> {
        let hash = names::path_hash(target);
        let all = &self.delegations()?.roles;
        let bin = all.iter().find(|role| metadata::has_prefix(role, &hash))?;
        Some(&bin.name)
    }

    /// Reads a role that registrars sign. Whether it is over is for the caller to ask: what is over
    /// says nothing new, and takes nothing away.
    pub(super) fn read_delegated(
        &self,
        role: &str,
        bytes: &[u8],
    ) -> Result<Targets, MetadataError> {
        let version = self.version_of(role);
        let file = versioned(role, version);
        bounded(&file, bytes, most(role))?;
        let found = metadata::parse::<Targets>(&file, bytes)?;
        let nobody = Delegations::default();
        let by = self.delegations().unwrap_or(&nobody);
        metadata::signed_by_delegates(&file, by, &found, role)?;
        metadata::is_version(&file, &found.signed, version)?;
        Ok(found.signed)
    }
}

/// Refuses two statements of the host that cannot both be true.
pub(super) fn contradict(one: &Stated, other: &Stated) -> Result<(), SyncError> {
    let same_number = one.version == other.version;
    let differ = same_number
        && (one.snapshot != other.snapshot || one.sha256 != other.sha256 || one.end != other.end);
    let two_snapshots = one.snapshot == other.snapshot
        && matches!((&one.sha256, &other.sha256), (Some(one), Some(other)) if one != other);
    if differ || two_snapshots {
        return Err(SyncError::SplitView {
            snapshot: one.snapshot,
            statements: Box::new([one.bytes.clone(), other.bytes.clone()]),
        });
    }
    Ok(())
}

fn bounded(file: &str, bytes: &[u8], limit: usize) -> Result<(), MetadataError> {
    if bytes.len() <= limit {
        return Ok(());
    }
    let file = file.into();
    Err(MetadataError::TooLarge { file, limit })
}

/// Whether all that was checked is in force at `now` (§5.3.10, §5.4.4, §5.5.6, §5.6.6): then what it says
/// counts, and is confirmed. What is over may be held, so that nothing older is taken after it.
pub(super) fn in_force(trusted: &Trusted, now: SystemTime) -> Result<(), MetadataError> {
    let over = |file: &str, end: SystemTime| MetadataError::Expired {
        file: file.into(),
        at: metadata::until(end, Default::default()).to_string(),
    };
    let root = versioned("root", trusted.root_version());
    metadata::fresh(&root, &trusted.root.signed, now)?;
    match &trusted.timestamp {
        Some(stated) if stated.end <= now => {
            return Err(over("metadata/timestamp.json", stated.end));
        }
        _ => {}
    }
    match trusted.snapshot.end {
        Some(end) if end <= now => {
            return Err(over(&versioned("snapshot", trusted.snapshot.number), end));
        }
        _ => {}
    }
    match &trusted.targets {
        Some(targets) => metadata::fresh(&versioned("targets", targets.number()), targets, now),
        None => Ok(()),
    }
}
