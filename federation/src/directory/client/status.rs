//! What may be told of a directory's client.

use std::time::SystemTime;

use sekisho_certs::TrustDomain;
use serde::Serialize;

use super::{Client, Fault, record::seconds};
use crate::directory::{continuity, membership::Shown, names};

/// A member, for whoever looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// Its name.
    pub trust_domain: String,
    /// `member`, `suspended`, `expelled` or `revoked`.
    pub standing: &'static str,
    /// The version of what it has said.
    pub version: u64,
    /// `spiffe_sequence` of its bundle.
    pub sequence: Option<u64>,
    /// The beginning of the name of its keys.
    pub keys: String,
    /// That of keys which the directory names, and nobody who could know confirms.
    pub pending_keys: Option<String>,
    /// How long ago the directory last confirmed it, in seconds.
    pub age: u64,
    /// Whether its bundle is used: it is not when it is too old.
    pub used: bool,
    /// Its marks.
    pub marks: Vec<String>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// A directory, for whoever looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// When this was so, in seconds since 1970: ages are those of then.
    pub at: u64,
    /// Where it is.
    pub source: String,
    /// The version of its root.
    pub root: u64,
    /// Of its snapshot.
    pub snapshot: u64,
    /// The SHA-256 of the snapshot, to compare with other sites.
    pub snapshot_sha256: String,
    /// How long ago it was last in force, in seconds; `None`: never.
    pub age: Option<u64>,
    /// How many roles the snapshot names.
    pub roles: usize,
    /// The members that are known.
    pub members: Vec<MemberStatus>,
    /// What is wrong with the directory as a whole.
    pub fault: Option<Fault>,
    /// What the host has said that cannot both be true.
    pub alarm: Option<Fault>,
    /// The version that it shows of us; zero: none.
    pub own: u64,
    /// What it has of us by files that were checked; `None`: that is not known.
    pub shown: Option<Shown>,
    /// What is wrong with roles of no member that is known. With our own: `behind`, where it shows an older word
    /// of us than it has taken.
    pub broken: Vec<(String, Fault)>,
}

fn age(now: SystemTime, confirmed: SystemTime) -> u64 {
    now.duration_since(confirmed).unwrap_or_default().as_secs()
}

pub(super) fn of(client: &Client) -> Status {
    let now = client.clock.now();
    let one = |known: &super::Known| {
        let used = client
            .members
            .get(&known.domain)
            .is_some_and(|member| member.bundle().is_some());
        let record = &known.record;
        MemberStatus {
            trust_domain: known.domain.to_string(),
            standing: record.standing.as_str(),
            version: record.version,
            sequence: known.descriptor.bundle.sequence(),
            keys: continuity::fingerprint(&record.keys),
            pending_keys: record
                .pending
                .as_ref()
                .map(|pending| continuity::fingerprint(&pending.keys)),
            age: age(now, client.confirmed_at(known)),
            used,
            marks: marks(client, &known.domain),
            fault: record.fault.clone(),
        }
    };
    let mut broken: Vec<_> = client
        .broken
        .iter()
        .map(|(role, fault)| (role.to_string(), fault.clone()))
        .collect();
    let own = names::role_of(&client.settings.own);
    broken.extend(client.behind().map(|fault| (own, fault)));
    broken.sort_by(|one, other| one.0.cmp(&other.0));
    Status {
        at: seconds(now),
        source: client.settings.source.name(),
        root: client.trusted.root_version(),
        snapshot: client.trusted.snapshot.number,
        snapshot_sha256: client.trusted.snapshot.sha256.clone(),
        age: (seconds(client.confirmed) > 0).then(|| age(now, client.confirmed)),
        roles: client.trusted.snapshot.roles.len(),
        members: client.known.values().map(one).collect(),
        fault: client.fault.clone(),
        alarm: client.alarm.clone(),
        own: client.shown_of_us(),
        shown: client.admitted.clone(),
        broken,
    }
}

fn marks(client: &Client, domain: &TrustDomain) -> Vec<String> {
    client
        .marks
        .of(domain)
        .iter()
        .map(ToString::to_string)
        .collect()
}
