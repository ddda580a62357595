//! What sites tell one another of a directory, between their bundle endpoints: what its host has signed,
//! and what members have signed against keys that were never theirs.

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
        Ok(gossip)
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
