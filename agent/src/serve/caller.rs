//! Who calls: the process is attested for each call anew.

use std::{collections::BTreeSet, sync::Arc};

use tonic::{Extensions, Status};

use super::door::Connection;
use crate::{
    run::Shared,
    selector::Selector,
    state::State,
    workload::{Peer, WorkloadAttestors, WorkloadError},
};

/// What is true of a process.
pub(super) type Selectors = Arc<BTreeSet<Selector>>;

/// Finds out who calls.
#[derive(Debug)]
pub(super) struct Callers {
    shared: Shared,
    attestors: WorkloadAttestors,
}

impl Callers {
    pub(super) const fn new(shared: Shared, attestors: WorkloadAttestors) -> Self {
        Self { shared, attestors }
    }

    pub(super) const fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What the agent knows now.
    ///
    /// # Errors
    /// `Unavailable` before it knows anything (SPIFFE_Workload_Endpoint.md §6).
    pub(super) fn state(&self) -> Result<Arc<State>, Status> {
        let state = Arc::clone(&self.shared.state.borrow());
        if state.known {
            Ok(state)
        } else {
            Err(Status::unavailable(
                "the agent has not been told anything yet",
            ))
        }
    }

    /// What is true of the process that calls.
    ///
    /// # Errors
    /// When it is not known, or has ended, or cannot be attested now.
    pub(super) async fn attest(&self, extensions: &Extensions) -> Result<Selectors, Status> {
        let connection = extensions.get::<Connection>();
        match connection.map(|connection| connection.who.as_ref()) {
            Some(Ok(peer)) => self.attest_peer(peer).await,
            Some(Err(error)) => {
                tracing::warn!(%error, "caller not known");
                Err(Status::unavailable("workload attestation failed"))
            }
            None => Err(Status::internal("connection is not known")),
        }
    }

    /// The same of any process.
    ///
    /// # Errors
    /// When it has ended, or cannot be attested now.
    pub(super) async fn attest_peer(&self, peer: &Peer) -> Result<Selectors, Status> {
        match self.attestors.attest(peer).await {
            Ok(selectors) => Ok(Arc::new(selectors)),
            Err(error) => {
                tracing::warn!(pid = peer.pid(), %error, "workload attestation failed");
                Err(match error {
                    WorkloadError::Peer(_) => Status::permission_denied("no identity issued"),
                    _ => Status::unavailable("workload attestation failed"),
                })
            }
        }
    }
}
