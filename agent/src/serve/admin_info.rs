//! SPIRE's agent debug API: how the agent is doing.

use std::{sync::Arc, time::UNIX_EPOCH};

use sekisho_spire_api::{
    agent::debug::{GetInfoRequest, GetInfoResponse, debug_server::Debug, get_info_response::Cert},
    types,
};
use tonic::{Request, Response, Status};

use crate::{jwt::Tokens, run::Shared};

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    shared: Shared,
    tokens: Arc<Tokens>,
}

impl Service {
    pub(super) const fn new(shared: Shared, tokens: Arc<Tokens>) -> Self {
        Self { shared, tokens }
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl Debug for Service {
    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        let health = self.shared.health.borrow().clone();
        let state = Arc::clone(&self.shared.state.borrow());
        let now = self.shared.clock.now();
        let since = |time: std::time::SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        let identities = state.identities.values();
        let svids = count(identities.filter(|one| one.valid(now).is_some()).count());
        let uptime = now.duration_since(self.shared.started).unwrap_or_default();
        let own = health.node.map(|(id, ends)| Cert {
            id: Some(types::Spiffeid {
                trust_domain: id.trust_domain().to_string(),
                path: id.path().into(),
            }),
            expires_at: since(ends),
            subject: "O=SPIRE,C=US".into(),
        });
        Ok(Response::new(GetInfoResponse {
            svid_chain: own.into_iter().collect(),
            uptime: i32::try_from(uptime.as_secs()).unwrap_or(i32::MAX),
            svids_count: svids,
            last_sync_success: health.synced.map_or(0, since),
            cached_x509_svids_count: svids,
            cached_jwt_svids_count: count(self.tokens.count()),
            cached_svidstore_x509_svids_count: 0,
        }))
    }
}
