//! `spire.api.server.debug.v1` for administrators of this host.

use std::{sync::Arc, time::SystemTime};

use sekisho_spire_api::{
    server::debug::{
        GetInfoRequest, GetInfoResponse, debug_server::Debug as DebugApi, get_info_response,
    },
    types,
};
use tonic::{Request, Response, Status};

use super::{status, wire};
use crate::{
    core::Core,
    store::{EntryFilter, NodeFilter},
};

/// The service `Debug`.
#[derive(Clone, Debug)]
pub struct DebugService {
    core: Arc<Core>,
    started: SystemTime,
}

impl DebugService {
    /// On the state of an authority, which starts now.
    #[must_use]
    pub fn new(core: Arc<Core>) -> Self {
        let started = core.now();
        Self { core, started }
    }
}

#[tonic::async_trait]
impl DebugApi for DebugService {
    async fn get_info(
        &self,
        _: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        let failed = |error| status::store("failed to get information", &error);
        let store = &self.core.store;
        let count = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
        let nodes = store
            .nodes(NodeFilter::default(), 0, usize::MAX)
            .await
            .map_err(failed)?;
        let entries = store
            .entries(EntryFilter::default(), 0, usize::MAX)
            .await
            .map_err(failed)?;
        let domains = self.core.federated_domains().await.map_err(failed)?;
        let uptime = self
            .core
            .now()
            .duration_since(self.started)
            .unwrap_or_default();
        let ca = self.core.ca.x509();
        let domain = &self.core.settings.domain;
        Ok(Response::new(GetInfoResponse {
            svid_chain: vec![get_info_response::Cert {
                id: Some(types::Spiffeid {
                    trust_domain: domain.to_string(),
                    path: "/spire/server".into(),
                }),
                expires_at: wire::seconds(ca.not_after()),
                subject: "O=SPIRE,C=US".into(),
            }],
            uptime: i32::try_from(uptime.as_secs()).unwrap_or(i32::MAX),
            agents_count: count(nodes.items.len()),
            entries_count: count(entries.items.len()),
            federated_bundles_count: count(domains.len()),
        }))
    }
}
