//! `spire.api.server.bundle.v1`: our own bundle, and those of domains that we are federated with.

pub(crate) mod edit;

use std::sync::Arc;

use sekisho_certs::TrustDomain;
use sekisho_spire_api::{
    server::bundle::{
        AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
        BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse,
        BatchSetFederatedBundleRequest, BatchSetFederatedBundleResponse,
        BatchUpdateFederatedBundleRequest, BatchUpdateFederatedBundleResponse, CountBundlesRequest,
        CountBundlesResponse, GetBundleRequest, GetFederatedBundleRequest,
        ListFederatedBundlesRequest, ListFederatedBundlesResponse, PublishJwtAuthorityRequest,
        PublishJwtAuthorityResponse, batch_create_federated_bundle_response,
        batch_delete_federated_bundle_request::Mode, batch_delete_federated_bundle_response,
        batch_set_federated_bundle_response, batch_update_federated_bundle_response,
        bundle_server::Bundle as Service,
    },
    types,
};
use tonic::{Code, Request, Response, Status};

use super::{status, wire};
use crate::{
    caller::Caller,
    core::Core,
    limit::Costly,
    store::{Bundle, Deletion},
};
use edit::{Mask, authorities, federated, jwt_key, jwt_keys, to_bundle, to_key};

/// The service.
#[derive(Clone, Debug)]
pub struct BundleService(Arc<Core>);

impl BundleService {
    /// On the state of an authority.
    #[must_use]
    pub const fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// A trust domain that is not our own.
    fn foreign(&self, sent: &str, doing: &str) -> Result<TrustDomain, Status> {
        let domain = wire::trust_domain(sent)?;
        if domain == self.0.settings.domain {
            return Err(Status::invalid_argument(format!(
                "{doing} a federated bundle for the server's own trust domain is not allowed"
            )));
        }
        Ok(domain)
    }

    /// Stores a bundle that was sent; `edit` is given what is there and says what becomes of it.
    async fn put(
        &self,
        caller: &Caller,
        sent: &types::Bundle,
        doing: &str,
        edit: impl FnOnce(Option<Bundle>, Bundle) -> Result<Bundle, Status> + Send + 'static,
    ) -> Result<Bundle, Status> {
        let domain = self.foreign(&sent.trust_domain, doing)?;
        let new = federated(sent, &domain)?;
        let by = self.0.by(caller.name());
        let stored = self
            .0
            .store
            .edit_bundle(by, domain, move |old| edit(old, new))
            .await;
        stored.map_err(|error| status::store("failed to store bundle", &error))?
    }
}

/// A result of a batch: the same form three times, in three types.
macro_rules! result {
    ($kind:path, $outcome:expr, $mask:expr) => {{
        use $kind as kind;
        match $outcome {
            Ok(bundle) => kind::Result {
                status: status::ok(),
                bundle: Some(to_bundle(&bundle, $mask)),
            },
            Err(refused) => kind::Result {
                status: status::of(&refused),
                bundle: None,
            },
        }
    }};
}

#[tonic::async_trait]
impl Service for BundleService {
    async fn count_bundles(
        &self,
        _: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        let domains = self.0.store.bundle_domains().await;
        let domains = domains.map_err(|error| status::store("failed to count bundles", &error))?;
        let count = i32::try_from(domains.len()).unwrap_or(i32::MAX);
        Ok(Response::new(CountBundlesResponse { count }))
    }

    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let bundle = Arc::clone(&self.0.ca.bundle().borrow());
        let mask = Mask::new(request.into_inner().output_mask);
        Ok(Response::new(to_bundle(&bundle, mask)))
    }

    async fn append_bundle(
        &self,
        request: Request<AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        if request.x509_authorities.is_empty() && request.jwt_authorities.is_empty() {
            return Err(Status::invalid_argument("no authorities to append"));
        }
        let x509 = authorities(&request.x509_authorities, &self.0.settings.domain)?;
        let jwt = jwt_keys(&request.jwt_authorities)?;
        let by = self.0.by(caller.name());
        let bundle = self.0.ca.append(by, x509, jwt).await;
        let bundle = bundle.map_err(|error| status::ca("failed to append bundle", &error))?;
        let mask = Mask::new(request.output_mask);
        Ok(Response::new(to_bundle(&bundle, mask)))
    }

    async fn publish_jwt_authority(
        &self,
        request: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.0
            .limits
            .wait(Costly::Publish, caller.address(), 1)
            .await?;
        let key = request.into_inner().jwt_authority;
        let key = key.ok_or_else(|| Status::invalid_argument("missing JWT authority"))?;
        let key = jwt_key(&key)?;
        let by = self.0.by(caller.name());
        let bundle = self.0.ca.publish_from_below(by, key).await;
        let bundle = bundle.map_err(|error| status::ca("failed to publish JWT key", &error))?;
        Ok(Response::new(PublishJwtAuthorityResponse {
            jwt_authorities: bundle.jwt.iter().map(to_key).collect(),
        }))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        let request = request.into_inner();
        let (after, most) = wire::page(request.page_size, &request.page_token)?;
        let page = self.0.store.bundles(after, most).await;
        let page = page.map_err(|error| status::store("failed to list bundles", &error))?;
        let mask = Mask::new(request.output_mask);
        let own = &self.0.settings.domain;
        // Our own counts for the page and is left out, as in SPIRE.
        let shown = page.items.iter().filter(|bundle| bundle.domain != *own);
        Ok(Response::new(ListFederatedBundlesResponse {
            bundles: shown.map(|bundle| to_bundle(bundle, mask)).collect(),
            next_page_token: wire::next_page(request.page_size, &page),
        }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let request = request.into_inner();
        let domain = self.foreign(&request.trust_domain, "getting")?;
        let bundle = self.0.store.bundle(domain).await;
        let bundle = bundle.map_err(|error| status::store("failed to fetch bundle", &error))?;
        let bundle = bundle.ok_or_else(|| Status::not_found("bundle not found"))?;
        Ok(Response::new(to_bundle(
            &bundle,
            Mask::new(request.output_mask),
        )))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mask = Mask::new(request.output_mask);
        let mut results = Vec::new();
        for sent in &request.bundle {
            let create = |old: Option<Bundle>, new| match old {
                None => Ok(new),
                Some(_) => Err(Status::already_exists("bundle already exists")),
            };
            let outcome = self.put(&caller, sent, "creating", create).await;
            results.push(result!(
                batch_create_federated_bundle_response,
                outcome,
                mask
            ));
        }
        Ok(Response::new(BatchCreateFederatedBundleResponse {
            results,
        }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (input, output) = (
            Mask::new(request.input_mask),
            Mask::new(request.output_mask),
        );
        let mut results = Vec::new();
        for sent in &request.bundle {
            let update = move |old: Option<Bundle>, new| match old {
                Some(old) => Ok(input.apply(old, new)),
                None => Err(Status::not_found("bundle not found")),
            };
            let outcome = self.put(&caller, sent, "updating", update).await;
            results.push(result!(
                batch_update_federated_bundle_response,
                outcome,
                output
            ));
        }
        Ok(Response::new(BatchUpdateFederatedBundleResponse {
            results,
        }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mask = Mask::new(request.output_mask);
        let mut results = Vec::new();
        for sent in &request.bundle {
            let outcome = self.put(&caller, sent, "setting", |_, new| Ok(new)).await;
            results.push(result!(batch_set_federated_bundle_response, outcome, mask));
        }
        Ok(Response::new(BatchSetFederatedBundleResponse { results }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let deletion = match Mode::try_from(request.mode) {
            Ok(Mode::Delete) => Deletion::Delete,
            Ok(Mode::Dissociate) => Deletion::Dissociate,
            Ok(Mode::Restrict) => Deletion::Restrict,
            Err(_) => return Err(Status::invalid_argument("unhandled delete mode")),
        };
        let mut results = Vec::new();
        for sent in request.trust_domains {
            results.push(self.deleted(&caller, sent, deletion).await);
        }
        Ok(Response::new(BatchDeleteFederatedBundleResponse {
            results,
        }))
    }
}

impl BundleService {
    async fn deleted(
        &self,
        caller: &Caller,
        sent: String,
        deletion: Deletion,
    ) -> batch_delete_federated_bundle_response::Result {
        let status = match self.foreign(&sent, "removing") {
            Err(refused) => status::of(&refused),
            Ok(domain) => {
                let by = self.0.by(caller.name());
                match self.0.store.delete_bundle(by, domain, deletion).await {
                    Ok(Some(Ok(()))) => status::ok(),
                    Ok(Some(Err(entries))) => {
                        let count = entries.len();
                        let text = format!(
                            "failed to delete federated bundle: cannot delete bundle; federated with {count} registration entries"
                        );
                        status::item(Code::FailedPrecondition, text)
                    }
                    Ok(None) => status::item(Code::NotFound, "bundle not found"),
                    Err(error) => status::of(&status::store("failed to delete bundle", &error)),
                }
            }
        };
        batch_delete_federated_bundle_response::Result {
            status,
            trust_domain: sent,
        }
    }
}
