//! Node attestation: what an agent presents, and what it proves.

pub mod evidence;
pub mod join_token;
pub mod k8s_psat;
pub mod x509pop;

use std::{collections::BTreeSet, time::Duration};

use sekisho_certs::SpiffeId;
use tonic::Status;

use crate::entry::Selector;

/// Which kinds of attestation an authority takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestors {
    /// By join token.
    pub join_token: bool,
    /// By certificate and possession of its key.
    pub x509pop: Option<x509pop::Mode>,
    /// By token of a pod.
    pub k8s_psat: Option<k8s_psat::Setting>,
    /// By several pieces of evidence together.
    pub evidence: Option<evidence::Setting>,
}

impl Default for Attestors {
    /// Join tokens only.
    fn default() -> Self {
        Self {
            join_token: true,
            x509pop: None,
            k8s_psat: None,
            evidence: None,
        }
    }
}

/// What attestation has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// Whose node it is.
    pub id: SpiffeId,
    /// What is true of it.
    pub selectors: BTreeSet<Selector>,
    /// It may attest again under the same ID.
    pub can_reattest: bool,
    /// Lifetime of its agent's SVIDs; the site's where it is `None`.
    pub ttl: Option<Duration>,
    /// After so long it has to attest again, whatever its certificate says.
    pub reattest_in: Option<Duration>,
    /// Whom else it makes: its agent gets their SVIDs too.
    pub aliases: Vec<SpiffeId>,
}

impl Attested {
    /// A node with no more than an ID, by what it can show once.
    #[must_use]
    pub const fn once(id: SpiffeId) -> Self {
        Self {
            id,
            selectors: BTreeSet::new(),
            can_reattest: false,
            ttl: None,
            reattest_in: None,
            aliases: Vec::new(),
        }
    }

    /// A node with no more than an ID, by what it can show again.
    #[must_use]
    pub fn again(id: SpiffeId) -> Self {
        Self {
            can_reattest: true,
            ..Self::once(id)
        }
    }
}

/// Where JSON is wrong. What serde_json would say besides could quote what a stranger has sent, of any
/// length.
fn place(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "not what is expected",
        _ => "not JSON",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

/// Why an agent is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// It proves nothing, or not what it says. The agent ends.
    #[error("{0}")]
    Denied(String),
    /// It cannot be read, or is not known.
    #[error("{0}")]
    Invalid(String),
    /// What was found out makes no sense, or is an error of another's. The agent tries again.
    #[error("{0}")]
    Internal(String),
    /// It cannot be found out now. The agent tries again.
    #[error("{0}")]
    Unavailable(String),
}

impl AttestError {
    /// The answer.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Denied(text) => Status::permission_denied(text),
            Self::Invalid(text) => Status::invalid_argument(text),
            Self::Internal(text) => Status::internal(text),
            Self::Unavailable(text) => Status::unavailable(text),
        }
    }
}

/// The other end of an attestation.
#[tonic::async_trait]
pub trait Challenge: Send {
    /// Sends a challenge and waits for the response to it.
    ///
    /// # Errors
    /// When the agent has gone, or answers something else.
    async fn challenge(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, AttestError>;
}
