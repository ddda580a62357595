//! `sekisho.federation.admin.v1`: relationships, those of the configuration file too, and how they fare.

use std::sync::Arc;

use sekisho_certs::TrustDomain;
use sekisho_spire_api::federation_admin::{
    AcceptRollbackRequest, AcceptRollbackResponse, ListPeersRequest, ListPeersResponse,
    Origin as ToldOrigin, Peer as Told, RemovePeerRequest, RemovePeerResponse,
    federation_admin_server::FederationAdmin as Service,
};
use tonic::{Request, Response, Status};

use super::{status, wire};
use crate::{
    caller::Caller,
    core::Core,
    store::{EndpointProfile, Origin, Peer, Removal, StoreError},
};

/// The service.
#[derive(Clone, Debug)]
pub struct FederationAdminService(Arc<Core>);

/// Why a relationship of the configuration file is not touched.
pub(super) fn of_file(domain: &TrustDomain) -> Status {
    Status::failed_precondition(format!(
        "{domain} is named in the authority's configuration file: change `federation.peers` there"
    ))
}

impl FederationAdminService {
    /// On the state of an authority.
    #[must_use]
    pub const fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    async fn tell(&self, peer: Peer) -> Result<Told, StoreError> {
        let relationship = peer.relationship;
        let domain = relationship.domain;
        let bundle = self.0.store.bundle(domain.clone()).await?;
        let states = self.0.federation.states();
        let state = states.borrow().get(domain.as_str()).cloned();
        let count = |keys: usize| u32::try_from(keys).unwrap_or(u32::MAX);
        let hint = bundle.as_ref().map(|it| it.refresh_hint.as_secs());
        Ok(Told {
            trust_domain: domain.to_string(),
            bundle_endpoint_url: relationship.url.to_string(),
            endpoint_spiffe_id: match relationship.profile {
                EndpointProfile::Spiffe(id) => id.to_string(),
                EndpointProfile::Web => String::new(),
            },
            origin: match relationship.origin {
                Origin::Api => ToldOrigin::Api,
                Origin::File => ToldOrigin::File,
            }
            .into(),
            confirmed_at: peer.confirmed.map_or(0, wire::seconds),
            tried_at: state
                .as_ref()
                .and_then(|state| state.tried)
                .map_or(0, wire::seconds),
            error: state.and_then(|state| state.error).unwrap_or_default(),
            accepts_rollback: peer.rollback,
            sequence: bundle.as_ref().map(|it| it.sequence),
            x509_authorities: bundle.as_ref().map_or(0, |it| count(it.x509.len())),
            jwt_authorities: bundle.as_ref().map_or(0, |it| count(it.jwt.len())),
            refresh_hint: i64::try_from(hint.unwrap_or_default()).unwrap_or(i64::MAX),
        })
    }
}

#[tonic::async_trait]
impl Service for FederationAdminService {
    async fn list_peers(
        &self,
        _: Request<ListPeersRequest>,
    ) -> Result<Response<ListPeersResponse>, Status> {
        let failed = |error| status::store("failed to list peers", &error);
        let mut all = self.0.store.peers().await.map_err(failed)?;
        all.sort_by(|a, b| a.relationship.domain.cmp(&b.relationship.domain));
        let mut peers = Vec::new();
        for peer in all {
            peers.push(self.tell(peer).await.map_err(failed)?);
        }
        Ok(Response::new(ListPeersResponse { peers }))
    }

    async fn accept_rollback(
        &self,
        request: Request<AcceptRollbackRequest>,
    ) -> Result<Response<AcceptRollbackResponse>, Status> {
        let caller = Caller::of(&request)?;
        let domain = wire::trust_domain(&request.get_ref().trust_domain)?;
        let by = self.0.by(caller.name());
        let accepted = self.0.store.accept_rollback(by, domain).await;
        let accepted =
            accepted.map_err(|error| status::store("failed to accept a rollback", &error))?;
        if !accepted {
            return Err(Status::not_found("federation relationship not found"));
        }
        self.0.federation.changed();
        Ok(Response::new(AcceptRollbackResponse {}))
    }

    async fn remove_peer(
        &self,
        request: Request<RemovePeerRequest>,
    ) -> Result<Response<RemovePeerResponse>, Status> {
        let caller = Caller::of(&request)?;
        let domain = wire::trust_domain(&request.get_ref().trust_domain)?;
        let by = self.0.by(caller.name());
        let removed = self.0.store.remove_peer(by, domain.clone()).await;
        match removed.map_err(|error| status::store("failed to remove a peer", &error))? {
            Removal::Done => {
                self.0.federation.changed();
                Ok(Response::new(RemovePeerResponse {}))
            }
            Removal::Missing => Err(Status::not_found("federation relationship not found")),
            Removal::OfFile => Err(of_file(&domain)),
        }
    }
}
