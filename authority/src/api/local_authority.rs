//! `spire.api.server.localauthority.v1`: our own keys, from preparation to the end of trust.

use std::{sync::Arc, time::SystemTime};

use sekisho_spire_api::server::local_authority::{
    ActivateJwtAuthorityRequest, ActivateJwtAuthorityResponse, ActivateX509AuthorityRequest,
    ActivateX509AuthorityResponse, AuthorityState as Told, GetJwtAuthorityStateRequest,
    GetJwtAuthorityStateResponse, GetX509AuthorityStateRequest, GetX509AuthorityStateResponse,
    PrepareJwtAuthorityRequest, PrepareJwtAuthorityResponse, PrepareX509AuthorityRequest,
    PrepareX509AuthorityResponse, RevokeJwtAuthorityRequest, RevokeJwtAuthorityResponse,
    RevokeX509AuthorityRequest, RevokeX509AuthorityResponse, RevokeX509UpstreamAuthorityRequest,
    RevokeX509UpstreamAuthorityResponse, TaintJwtAuthorityRequest, TaintJwtAuthorityResponse,
    TaintX509AuthorityRequest, TaintX509AuthorityResponse, TaintX509UpstreamAuthorityRequest,
    TaintX509UpstreamAuthorityResponse, local_authority_server::LocalAuthority as Service,
};
use tonic::{Request, Response, Status};

use super::{status, wire};
use crate::{
    ca::{AuthorityState, Step, upstream::RootStep},
    caller::Caller,
    core::Core,
    store::Kind,
};

/// The metadata of a call that is to be done even if sites that fetch our bundle cannot know yet the
/// authority that is to sign. SPIRE has no such thing.
pub const FORCE: &str = "sekisho-force";

/// The service.
#[derive(Clone, Debug)]
pub struct LocalAuthorityService(Arc<Core>);

fn told(state: AuthorityState) -> Told {
    Told {
        authority_id: state.id,
        expires_at: wire::seconds(state.expires_at),
        upstream_authority_subject_key_id: state.upstream_id,
    }
}

fn named(id: String) -> Result<String, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("no authority ID provided"));
    }
    Ok(id)
}

impl LocalAuthorityService {
    /// On the state of an authority.
    #[must_use]
    pub const fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// Takes a step with a root above, and returns its name.
    async fn root_step<T>(
        &self,
        request: &Request<T>,
        step: RootStep,
        root: String,
        what: &str,
    ) -> Result<String, Status> {
        let caller = Caller::of(request)?;
        let ca = &self.0.ca;
        if ca.has_upstream() && root.is_empty() {
            return Err(Status::invalid_argument("no subject key ID provided"));
        }
        let by = self.0.by(caller.name());
        let taken = ca.root_step(by, step, root.clone()).await;
        taken.map_err(|error| status::ca(what, &error))?;
        Ok(root)
    }

    /// Takes a step; `None` where it ends the authority, of which nothing is known after it.
    async fn step<T>(
        &self,
        request: &Request<T>,
        kind: Kind,
        step: Step,
        what: &str,
    ) -> Result<Option<Told>, Status> {
        let caller = Caller::of(request)?;
        let ca = &self.0.ca;
        let (before, bundle) = (ca.slots(kind), Arc::clone(&ca.bundle().borrow()));
        let by = self.0.by(caller.name());
        let taken = if request.metadata().contains_key(FORCE) {
            ca.force(by, kind, step).await
        } else {
            ca.step(by, kind, step).await
        };
        let id = taken.map_err(|error| status::ca(what, &error))?;
        let after = ca.slots(kind);
        let all = [Some(after.active), after.prepared, after.old, before.old];
        let in_slot = all.into_iter().flatten().find(|state| state.id == id);
        // A JWT key may be revoked that stands in none.
        let in_bundle = || {
            let key = bundle.jwt.iter().find(|key| key.key_id == id)?;
            Some(AuthorityState {
                id: id.clone(),
                expires_at: key.expires_at.unwrap_or(SystemTime::UNIX_EPOCH),
                upstream_id: String::new(),
            })
        };
        Ok(in_slot.or_else(in_bundle).map(told))
    }
}

#[tonic::async_trait]
impl Service for LocalAuthorityService {
    async fn get_jwt_authority_state(
        &self,
        _: Request<GetJwtAuthorityStateRequest>,
    ) -> Result<Response<GetJwtAuthorityStateResponse>, Status> {
        let slots = self.0.ca.slots(Kind::Jwt);
        Ok(Response::new(GetJwtAuthorityStateResponse {
            active: Some(told(slots.active)),
            prepared: slots.prepared.map(told),
            old: slots.old.map(told),
        }))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<PrepareJwtAuthorityRequest>,
    ) -> Result<Response<PrepareJwtAuthorityResponse>, Status> {
        let what = "failed to prepare JWT authority";
        let prepared_authority = self.step(&request, Kind::Jwt, Step::Prepare, what).await?;
        Ok(Response::new(PrepareJwtAuthorityResponse {
            prepared_authority,
        }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<ActivateJwtAuthorityRequest>,
    ) -> Result<Response<ActivateJwtAuthorityResponse>, Status> {
        let step = Step::Activate(named(request.get_ref().authority_id.clone())?);
        let what = "failed to activate JWT authority";
        let activated_authority = self.step(&request, Kind::Jwt, step, what).await?;
        Ok(Response::new(ActivateJwtAuthorityResponse {
            activated_authority,
        }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<TaintJwtAuthorityRequest>,
    ) -> Result<Response<TaintJwtAuthorityResponse>, Status> {
        let step = Step::Taint(named(request.get_ref().authority_id.clone())?);
        let what = "failed to taint JWT authority";
        let tainted_authority = self.step(&request, Kind::Jwt, step, what).await?;
        Ok(Response::new(TaintJwtAuthorityResponse {
            tainted_authority,
        }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<RevokeJwtAuthorityRequest>,
    ) -> Result<Response<RevokeJwtAuthorityResponse>, Status> {
        let step = Step::Revoke(named(request.get_ref().authority_id.clone())?);
        let what = "failed to revoke JWT authority";
        let revoked_authority = self.step(&request, Kind::Jwt, step, what).await?;
        Ok(Response::new(RevokeJwtAuthorityResponse {
            revoked_authority,
        }))
    }

    async fn get_x509_authority_state(
        &self,
        _: Request<GetX509AuthorityStateRequest>,
    ) -> Result<Response<GetX509AuthorityStateResponse>, Status> {
        let slots = self.0.ca.slots(Kind::X509);
        Ok(Response::new(GetX509AuthorityStateResponse {
            active: Some(told(slots.active)),
            prepared: slots.prepared.map(told),
            old: slots.old.map(told),
        }))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<PrepareX509AuthorityRequest>,
    ) -> Result<Response<PrepareX509AuthorityResponse>, Status> {
        let what = "failed to prepare X.509 authority";
        let prepared_authority = self.step(&request, Kind::X509, Step::Prepare, what).await?;
        Ok(Response::new(PrepareX509AuthorityResponse {
            prepared_authority,
        }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<ActivateX509AuthorityRequest>,
    ) -> Result<Response<ActivateX509AuthorityResponse>, Status> {
        let step = Step::Activate(named(request.get_ref().authority_id.clone())?);
        let what = "failed to activate X.509 authority";
        let activated_authority = self.step(&request, Kind::X509, step, what).await?;
        Ok(Response::new(ActivateX509AuthorityResponse {
            activated_authority,
        }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<TaintX509AuthorityRequest>,
    ) -> Result<Response<TaintX509AuthorityResponse>, Status> {
        let step = Step::Taint(named(request.get_ref().authority_id.clone())?);
        let what = "failed to taint X.509 authority";
        let tainted_authority = self.step(&request, Kind::X509, step, what).await?;
        Ok(Response::new(TaintX509AuthorityResponse {
            tainted_authority,
        }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        request: Request<TaintX509UpstreamAuthorityRequest>,
    ) -> Result<Response<TaintX509UpstreamAuthorityResponse>, Status> {
        let root = request.get_ref().subject_key_id.clone();
        let what = "failed to taint X.509 upstream authority";
        let root = self
            .root_step(&request, RootStep::Taint, root, what)
            .await?;
        Ok(Response::new(TaintX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id: root,
        }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<RevokeX509AuthorityRequest>,
    ) -> Result<Response<RevokeX509AuthorityResponse>, Status> {
        let step = Step::Revoke(named(request.get_ref().authority_id.clone())?);
        let what = "failed to revoke X.509 authority";
        let revoked_authority = self.step(&request, Kind::X509, step, what).await?;
        Ok(Response::new(RevokeX509AuthorityResponse {
            revoked_authority,
        }))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        request: Request<RevokeX509UpstreamAuthorityRequest>,
    ) -> Result<Response<RevokeX509UpstreamAuthorityResponse>, Status> {
        let root = request.get_ref().subject_key_id.clone();
        let what = "failed to revoke X.509 upstream authority";
        let root = self
            .root_step(&request, RootStep::Revoke, root, what)
            .await?;
        Ok(Response::new(RevokeX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id: root,
        }))
    }
}
