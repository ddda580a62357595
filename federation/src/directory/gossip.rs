//! What sites tell one another of a directory, between their bundle endpoints: what its host has signed,
//! and what members have signed against keys that were never theirs.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_certs::{SpiffeId, TrustDomain, id::parse_workload_id};
use serde::{Deserialize, Serialize};

use super::{continuity::SignedStatement, descriptor::Endpoint};
use crate::client::EndpointUrl;

/// The path of it at a bundle endpoint.
pub const PATH: &str = "/directory/gossip";
/// Most bytes of it.
pub const MOST: usize = 1024 * 1024;
/// Most statements of members, and of hosts.
const STATEMENTS: usize = 48;
const TIMESTAMPS: usize = 8;

/// Most snapshots of a host that are remembered, to be compared with what others were shown.
pub const SEEN: usize = 64;
/// Most of them of which a neighbour is asked for the proof, at a time.
const DOUBTS: usize = 4;
/// Most hosts of which that is told.
const HOSTS: usize = 8;

/// Where a neighbour has what a host has signed about a snapshot.
#[must_use]
pub fn path_of(snapshot: u64) -> String {
    format!("{PATH}/{snapshot}")
}

/// The snapshot that is asked about; `None` for another path.
#[must_use]
pub fn asked_about(path: &str) -> Option<u64> {
    path.strip_prefix(PATH)?.strip_prefix('/')?.parse().ok()
}

/// What a host has shown to a site: the SHA-256 of its last snapshots, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The name of the host's keys (SHA-256).
    pub host: String,
    /// In hexadecimal.
    pub snapshots: BTreeMap<u64, String>,
}

/// A site that may be asked: a member that names its bundle endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Whose endpoint it is.
    pub domain: TrustDomain,
    /// Its address.
    pub url: EndpointUrl,
    /// Its ID, by `https_spiffe`; `None`: `https_web`.
    pub id: Option<SpiffeId>,
}

impl Neighbour {
    /// An endpoint that a member names; `None` where it is none.
    pub(super) fn of(domain: &TrustDomain, endpoint: &Endpoint) -> Option<Self> {
        let id = match (endpoint.profile.as_str(), &endpoint.endpoint_spiffe_id) {
            ("https_web", _) => None,
            ("https_spiffe", Some(id)) => Some(parse_workload_id(id).ok()?),
            _ => return None,
        };
        Some(Self {
            domain: domain.clone(),
            url: endpoint.url.parse().ok()?,
            id,
        })
    }
}

/// What one site tells another. Nothing of it is believed but what is signed by whom it is about.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Gossip {
    /// The last timestamp of each directory that is followed, as its host has signed it.
    #[serde(default)]
    pub timestamps: Vec<String>,
    /// What each host has shown before. Nobody has signed that: where two sites differ, one asks the other
    /// for what the host has signed ([`path_of`]).
    #[serde(default)]
    pub seen: Vec<Seen>,
    /// Vetoes and revocations of members.
    #[serde(default)]
    pub statements: Vec<SignedStatement>,
}

impl Gossip {
    /// Reads what another site has told.
    ///
    /// # Errors
    /// When it is none, or more than is listened to.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MOST {
            return Err(format!("longer than {MOST} bytes"));
        }
        let mut gossip: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        gossip.timestamps.truncate(TIMESTAMPS);
        gossip.statements.truncate(STATEMENTS);
        gossip.seen.truncate(HOSTS);
        Ok(gossip)
    }

    /// The snapshots of which both have heard different things, the last first: a few at a time.
    #[must_use]
    pub fn doubts(&self, theirs: &Self) -> Vec<u64> {
        let differ = self.seen.iter().flat_map(|ours| {
            let same_host = theirs.seen.iter().filter(|one| one.host == ours.host);
            let others = same_host.flat_map(|one| &one.snapshots);
            others.filter_map(|(number, hash)| {
                let ours = ours.snapshots.get(number)?;
                (ours != hash).then_some(*number)
            })
        });
        let all: BTreeSet<u64> = differ.collect();
        all.into_iter().rev().take(DOUBTS).collect()
    }

    /// As it is told.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, and what was read from JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Adds a statement, if there is room and it is not there.
    pub(super) fn add(&mut self, statement: SignedStatement) {
        // Each is at most 16 KiB: all of them fit.
        if self.statements.len() < STATEMENTS
            && statement.is_small()
            && !self.statements.contains(&statement)
        {
            self.statements.push(statement);
        }
    }
}
