//! What is told of directories.

use sekisho_federation::directory::{
    client::{self, MemberStatus, Status as Known, SyncError},
    following::Ended,
};
use sekisho_spire_api::federation_admin::{Directory, DirectoryMember, Fault};
use tonic::Status;

fn fault(fault: &client::Fault) -> Fault {
    Fault {
        reason: fault.reason.clone(),
        problem: fault.problem.clone(),
        since: fault.since,
    }
}

fn member(member: &MemberStatus, since: u64) -> DirectoryMember {
    DirectoryMember {
        trust_domain: member.trust_domain.clone(),
        standing: member.standing.into(),
        version: member.version,
        sequence: member.sequence,
        keys: member.keys.clone(),
        pending_keys: member.pending_keys.clone().unwrap_or_default(),
        age: member.age.saturating_add(since),
        used: member.used,
        marks: member.marks.clone(),
        fault: member.fault.as_ref().map(fault),
    }
}

/// A directory as it is told, at `now` in seconds since 1970.
pub(super) fn told(known: &Known, now: u64) -> Directory {
    let broken = known.broken.iter();
    let since = now.saturating_sub(known.at);
    let members = known.members.iter().map(|one| member(one, since));
    Directory {
        source: known.source.clone(),
        root: known.root,
        snapshot: known.snapshot,
        snapshot_sha256: known.snapshot_sha256.clone(),
        age: known.age.map(|age| age.saturating_add(since)),
        roles: known.roles as u64,
        members: members.collect(),
        fault: known.fault.as_ref().map(fault),
        alarm: known.alarm.as_ref().map(fault),
        broken: broken
            .map(|(role, one)| (role.clone(), fault(one)))
            .collect(),
    }
}

/// The process ends.
pub(super) fn ended(ended: Ended) -> Status {
    Status::unavailable(ended.to_string())
}

/// Whether it was kept.
pub(super) fn kept(kept: Result<Result<bool, SyncError>, Ended>) -> Result<bool, Status> {
    let kept = kept.map_err(ended)?;
    kept.map_err(|error| Status::internal(error.to_string()))
}
