//! `grpc.health.v1` for this host, as SPIRE's server has it: the whole, and nothing in parts.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health as Service,
};

use crate::core::Core;

/// The service.
#[derive(Clone, Debug)]
pub struct HealthService(Arc<Core>);

impl HealthService {
    /// On the state of an authority.
    #[must_use]
    pub const fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// It can read what it needs, and what it signs with is valid.
    async fn is_well(&self) -> bool {
        let core = &self.0;
        let read = core.store.bundle(core.settings.domain.clone()).await;
        if let Err(error) = &read {
            tracing::error!(%error, "not healthy: the store cannot be read");
        }
        let valid = core.ca.x509().not_after() > core.now();
        if !valid {
            tracing::error!("not healthy: the CA has expired");
        }
        read.is_ok() && valid
    }
}

#[tonic::async_trait]
impl Service for HealthService {
    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.into_inner().service.is_empty() {
            return Err(Status::invalid_argument(
                "per-service health is not supported",
            ));
        }
        let status = if self.is_well().await {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        Ok(Response::new(HealthCheckResponse {
            status: status.into(),
        }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watching is not supported"))
    }
}
