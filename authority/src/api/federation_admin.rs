//! `sekisho.federation.admin.v1`: relationships, those of the configuration file too, and how they fare.

use std::sync::Arc;

use sekisho_certs::TrustDomain;
use sekisho_federation::directory::following::Handle;
use sekisho_spire_api::federation_admin::{
    AcceptRekeyRequest, AcceptRekeyResponse, AcceptRollbackRequest, AcceptRollbackResponse,
    EndAlarmsRequest, EndAlarmsResponse, ListDirectoriesRequest, ListDirectoriesResponse,
    ListPeersRequest, ListPeersResponse, Origin as ToldOrigin, Peer as Told,
    RefreshDirectoriesRequest, RefreshDirectoriesResponse, RemovePeerRequest, RemovePeerResponse,
    federation_admin_server::FederationAdmin as Service,
};
use tonic::{Request, Response, Status};

use super::{directories, status, wire};
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
            // One that the directory has, then.
            return self
                .directory_rollback(caller, &request.get_ref().trust_domain)
                .await;
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

    async fn list_directories(
        &self,
        _: Request<ListDirectoriesRequest>,
    ) -> Result<Response<ListDirectoriesResponse>, Status> {
        let status = self.0.followed().map(Handle::status).unwrap_or_default();
        let now = u64::try_from(wire::seconds(self.0.now())).unwrap_or_default();
        let directories = status
            .iter()
            .map(|one| directories::told(one, now))
            .collect();
        Ok(Response::new(ListDirectoriesResponse { directories }))
    }

    async fn refresh_directories(
        &self,
        _: Request<RefreshDirectoriesRequest>,
    ) -> Result<Response<RefreshDirectoriesResponse>, Status> {
        let followed = self.handle()?.refresh().await.map_err(directories::ended)?;
        let problems = followed.into_iter();
        let problems = problems.map(|one| one.err().unwrap_or_default()).collect();
        Ok(Response::new(RefreshDirectoriesResponse { problems }))
    }

    async fn accept_rekey(
        &self,
        request: Request<AcceptRekeyRequest>,
    ) -> Result<Response<AcceptRekeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let sent = request.into_inner();
        let domain = wire::trust_domain(&sent.trust_domain)?;
        let handle = self.handle()?;
        let object = format!("{domain} {}", sent.fingerprint);
        self.note(caller, "directory.rekey", object).await?;
        let taken = handle.accept_rekey(domain, sent.fingerprint).await;
        if !directories::kept(taken)? {
            return Err(Status::not_found(
                "no keys of this name wait for this member: sekisho federation directory shows those that do",
            ));
        }
        Ok(Response::new(AcceptRekeyResponse {}))
    }

    async fn end_alarms(
        &self,
        request: Request<EndAlarmsRequest>,
    ) -> Result<Response<EndAlarmsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let handle = self.handle()?;
        self.note(caller, "directory.alarms", String::new()).await?;
        handle.quiet().await;
        Ok(Response::new(EndAlarmsResponse {}))
    }
}

impl FederationAdminService {
    fn handle(&self) -> Result<&Handle, Status> {
        let none =
            || Status::failed_precondition("no directory is followed: `federation.directory`");
        self.0.followed().ok_or_else(none)
    }

    /// Before it is done.
    async fn note(
        &self,
        caller: Caller,
        action: &'static str,
        object: String,
    ) -> Result<(), Status> {
        let noted = self
            .0
            .store
            .note(self.0.by(caller.name()), action, object)
            .await;
        noted.map_err(|error| status::store("failed to write the audit log", &error))
    }

    async fn directory_rollback(
        &self,
        caller: Caller,
        domain: &str,
    ) -> Result<Response<AcceptRollbackResponse>, Status> {
        let missing = || {
            Status::not_found(
                "neither a relationship nor a known member of a directory has this name",
            )
        };
        let handle = self.0.followed().ok_or_else(missing)?;
        let domain = wire::trust_domain(domain)?;
        self.note(caller, "directory.rollback", domain.to_string())
            .await?;
        if !directories::kept(handle.accept_rollback(domain).await)? {
            return Err(missing());
        }
        Ok(Response::new(AcceptRollbackResponse {}))
    }
}
