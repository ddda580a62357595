//! `spire.api.server.trustdomain.v1`: from where the bundles of other domains are fetched
//! (spire-api.md §9).

use std::sync::Arc;

use sekisho_certs::{TrustDomain, id};
use sekisho_federation::client::EndpointUrl;
use sekisho_spire_api::{
    server::trust_domain::{
        BatchCreateFederationRelationshipRequest, BatchCreateFederationRelationshipResponse,
        BatchDeleteFederationRelationshipRequest, BatchDeleteFederationRelationshipResponse,
        BatchUpdateFederationRelationshipRequest, BatchUpdateFederationRelationshipResponse,
        GetFederationRelationshipRequest, ListFederationRelationshipsRequest,
        ListFederationRelationshipsResponse, RefreshBundleRequest,
        batch_create_federation_relationship_response as created,
        batch_delete_federation_relationship_response as deleted,
        batch_update_federation_relationship_response as updated,
        trust_domain_server::TrustDomain as Service,
    },
    types::{
        FederationRelationship, FederationRelationshipMask as Mask, HttpsWebProfile,
        HttpsspiffeProfile, federation_relationship::BundleEndpointProfile,
    },
};
use tonic::{Code, Request, Response, Status};

use super::{
    bundle::edit::{Mask as BundleMask, federated, to_bundle},
    federation_admin::of_file,
    status, wire,
};
use crate::{
    caller::Caller,
    core::Core,
    store::{Bundle, EndpointProfile, Origin, Relationship, StoreError},
};

/// The service.
#[derive(Clone, Debug)]
pub struct TrustDomainService(Arc<Core>);

/// Every field, where no mask was sent.
const ALL: Mask = Mask {
    bundle_endpoint_url: true,
    bundle_endpoint_profile: true,
    trust_domain_bundle: true,
};

impl TrustDomainService {
    /// On the state of an authority.
    #[must_use]
    pub const fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// A relationship that was sent, and the bundle that came with it. Everything is looked at,
    /// whatever a mask says.
    fn parse(
        &self,
        sent: &FederationRelationship,
    ) -> Result<(Relationship, Option<Bundle>), Status> {
        let converted = self.convert(sent);
        converted.map_err(|error| {
            let what = "failed to convert federation relationship";
            Status::new(error.code(), format!("{what}: {}", error.message()))
        })
    }

    fn convert(
        &self,
        sent: &FederationRelationship,
    ) -> Result<(Relationship, Option<Bundle>), Status> {
        let domain = wire::trust_domain(&sent.trust_domain)?;
        if domain == self.0.settings.domain {
            return Err(Status::invalid_argument(
                "a federation relationship with the server's own trust domain is not allowed",
            ));
        }
        let url = sent.bundle_endpoint_url.parse::<EndpointUrl>();
        let url = url.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let profile = match &sent.bundle_endpoint_profile {
            Some(BundleEndpointProfile::HttpsWeb(_)) => EndpointProfile::Web,
            Some(BundleEndpointProfile::HttpsSpiffe(profile)) => {
                let id = id::parse_workload_id(&profile.endpoint_spiffe_id);
                EndpointProfile::Spiffe(id.map_err(|error| {
                    Status::invalid_argument(format!("endpoint SPIFFE ID is not valid: {error}"))
                })?)
            }
            None => {
                return Err(Status::invalid_argument(
                    "bundle endpoint profile is missing: https_web or https_spiffe",
                ));
            }
        };
        let bundle = match &sent.trust_domain_bundle {
            None => None,
            Some(bundle) => {
                if wire::trust_domain(&bundle.trust_domain)? != domain {
                    return Err(Status::invalid_argument(format!(
                        "trust domain bundle ({:?}) must match the trust domain of the federation relationship (\"{domain}\")",
                        bundle.trust_domain
                    )));
                }
                Some(federated(bundle, &domain)?)
            }
        };
        let relationship = Relationship {
            origin: Origin::Api,
            domain,
            url,
            profile,
        };
        Ok((relationship, bundle))
    }

    /// As it is told: the fields of a mask, its domain always.
    async fn tell(
        &self,
        relationship: Relationship,
        mask: Option<Mask>,
    ) -> Result<FederationRelationship, StoreError> {
        let mask = mask.unwrap_or(ALL);
        let mut told = FederationRelationship {
            trust_domain: relationship.domain.to_string(),
            ..Default::default()
        };
        if mask.bundle_endpoint_url {
            told.bundle_endpoint_url = relationship.url.to_string();
        }
        if mask.bundle_endpoint_profile {
            told.bundle_endpoint_profile = Some(match relationship.profile {
                EndpointProfile::Web => BundleEndpointProfile::HttpsWeb(HttpsWebProfile {}),
                EndpointProfile::Spiffe(id) => {
                    BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile {
                        endpoint_spiffe_id: id.to_string(),
                    })
                }
            });
        }
        if mask.trust_domain_bundle {
            let bundle = self.0.store.bundle(relationship.domain).await?;
            told.trust_domain_bundle = bundle.map(|it| to_bundle(&it, BundleMask::default()));
        }
        Ok(told)
    }

    async fn create(
        &self,
        caller: &Caller,
        sent: &FederationRelationship,
        mask: Option<Mask>,
    ) -> Result<FederationRelationship, Status> {
        const WHAT: &str = "failed to create federation relationship";
        let failed = |error: StoreError| status::store(WHAT, &error);
        let (relationship, bundle) = self.parse(sent)?;
        self.may_change(&relationship.domain, WHAT).await?;
        let by = self.0.by(caller.name());
        let created = self
            .0
            .store
            .create_relationship(by, relationship.clone(), bundle);
        if !created.await.map_err(failed)? {
            // As SPIRE answers.
            return Err(Status::internal(format!("{WHAT}: it exists already")));
        }
        self.0.federation.changed();
        self.tell(relationship, mask).await.map_err(failed)
    }

    async fn update(
        &self,
        caller: &Caller,
        sent: &FederationRelationship,
        input: Option<Mask>,
        output: Option<Mask>,
    ) -> Result<FederationRelationship, Status> {
        const WHAT: &str = "failed to update federation relationship";
        let failed = |error: StoreError| status::store(WHAT, &error);
        let (new, bundle) = self.parse(sent)?;
        self.may_change(&new.domain, WHAT).await?;
        let input = input.unwrap_or(ALL);
        let bundle = bundle.filter(|_| input.trust_domain_bundle);
        let edit = {
            let new = new.clone();
            move |old: &mut Relationship| {
                if input.bundle_endpoint_url {
                    old.url = new.url;
                }
                if input.bundle_endpoint_profile {
                    old.profile = new.profile;
                }
            }
        };
        let by = self.0.by(caller.name());
        let updated = self
            .0
            .store
            .update_relationship(by, new.domain, bundle, edit);
        let Some(updated) = updated.await.map_err(failed)? else {
            // As SPIRE answers.
            return Err(Status::internal(format!("{WHAT}: it does not exist")));
        };
        self.0.federation.changed();
        self.tell(updated, output).await.map_err(failed)
    }

    async fn delete(&self, caller: &Caller, sent: &str) -> Result<(), Status> {
        if sent.is_empty() {
            return Err(Status::invalid_argument("missing trust domain"));
        }
        const WHAT: &str = "failed to delete federation relationship";
        let domain = wire::trust_domain(sent)?;
        self.may_change(&domain, WHAT).await?;
        let by = self.0.by(caller.name());
        let gone = self.0.store.delete_relationship(by, domain).await;
        let gone = gone.map_err(|error| status::store(WHAT, &error))?;
        if !gone {
            return Err(missing());
        }
        self.0.federation.changed();
        Ok(())
    }

    /// What the configuration file names is changed there only.
    async fn may_change(&self, domain: &TrustDomain, what: &str) -> Result<(), Status> {
        let known = self.find(domain.clone(), what).await?;
        match known.is_some_and(|known| known.origin == Origin::File) {
            true => Err(of_file(domain)),
            false => Ok(()),
        }
    }

    async fn find(&self, domain: TrustDomain, what: &str) -> Result<Option<Relationship>, Status> {
        let found = self.0.store.relationship(domain).await;
        found.map_err(|error| status::store(what, &error))
    }
}

fn missing() -> Status {
    Status::not_found("federation relationship not found")
}

#[tonic::async_trait]
impl Service for TrustDomainService {
    async fn list_federation_relationships(
        &self,
        request: Request<ListFederationRelationshipsRequest>,
    ) -> Result<Response<ListFederationRelationshipsResponse>, Status> {
        let failed = |error| status::store("failed to list federation relationships", &error);
        let request = request.into_inner();
        let (after, most) = wire::page(request.page_size, &request.page_token)?;
        let page = self.0.store.relationships(after, most).await;
        let page = page.map_err(failed)?;
        let next_page_token = wire::next_page(request.page_size, &page);
        let mut federation_relationships = Vec::new();
        for relationship in page.items {
            let told = self.tell(relationship, request.output_mask).await;
            federation_relationships.push(told.map_err(failed)?);
        }
        Ok(Response::new(ListFederationRelationshipsResponse {
            federation_relationships,
            next_page_token,
        }))
    }

    async fn get_federation_relationship(
        &self,
        request: Request<GetFederationRelationshipRequest>,
    ) -> Result<Response<FederationRelationship>, Status> {
        const WHAT: &str = "failed to fetch federation relationship";
        let request = request.into_inner();
        let domain = wire::trust_domain(&request.trust_domain)?;
        let found = self.find(domain, WHAT).await?.ok_or_else(missing)?;
        let told = self.tell(found, request.output_mask).await;
        let told = told.map_err(|error| status::store(WHAT, &error))?;
        Ok(Response::new(told))
    }

    async fn batch_create_federation_relationship(
        &self,
        request: Request<BatchCreateFederationRelationshipRequest>,
    ) -> Result<Response<BatchCreateFederationRelationshipResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let mut results = Vec::new();
        for sent in &request.federation_relationships {
            let outcome = self.create(&caller, sent, request.output_mask).await;
            results.push(created::Result {
                status: status::of_outcome(&outcome),
                federation_relationship: outcome.ok(),
            });
        }
        Ok(Response::new(BatchCreateFederationRelationshipResponse {
            results,
        }))
    }

    async fn batch_update_federation_relationship(
        &self,
        request: Request<BatchUpdateFederationRelationshipRequest>,
    ) -> Result<Response<BatchUpdateFederationRelationshipResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (input, output) = (request.input_mask, request.output_mask);
        let mut results = Vec::new();
        for sent in &request.federation_relationships {
            let outcome = self.update(&caller, sent, input, output).await;
            results.push(updated::Result {
                status: status::of_outcome(&outcome),
                federation_relationship: outcome.ok(),
            });
        }
        Ok(Response::new(BatchUpdateFederationRelationshipResponse {
            results,
        }))
    }

    async fn batch_delete_federation_relationship(
        &self,
        request: Request<BatchDeleteFederationRelationshipRequest>,
    ) -> Result<Response<BatchDeleteFederationRelationshipResponse>, Status> {
        let caller = Caller::of(&request)?;
        let mut results = Vec::new();
        for trust_domain in request.into_inner().trust_domains {
            let outcome = self.delete(&caller, &trust_domain).await;
            results.push(deleted::Result {
                status: status::of_outcome(&outcome),
                trust_domain,
            });
        }
        Ok(Response::new(BatchDeleteFederationRelationshipResponse {
            results,
        }))
    }

    async fn refresh_bundle(
        &self,
        request: Request<RefreshBundleRequest>,
    ) -> Result<Response<()>, Status> {
        const WHAT: &str = "failed to refresh bundle";
        let sent = request.into_inner().trust_domain;
        let domain = wire::trust_domain(&sent)?;
        let found = self.find(domain, WHAT).await?;
        let relationship = found.ok_or_else(|| {
            Status::not_found(format!("no relationship with trust domain {sent:?}"))
        })?;
        match self.0.refresh(&relationship).await {
            Ok(_) => Ok(Response::new(())),
            Err(error) => {
                tracing::warn!(domain = %relationship.domain, %error, "bundle not refreshed");
                Err(Status::new(Code::Internal, format!("{WHAT}: {error}")))
            }
        }
    }
}
